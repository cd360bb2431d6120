"""Plain lines, one per dataset, without control characters: for pipes, files and cron."""

from __future__ import annotations

from typing import TextIO

from ..events import Changed, Cleaned, Connected, Ended, Event, Finished, Notice, Opened, Question, Started, Status
from .text import changed, line, printable, printable_lines, summary


class PlainConsole:
    """Failures and notices go to ``err``, all else to ``out``; with ``quiet`` only failures are told."""

    def __init__(self, out: TextIO, err: TextIO, *, quiet: bool, verbose: bool) -> None:
        self._out = out
        self._err = err
        self._quiet = quiet
        self._verbose = verbose

    def __call__(self, event: Event) -> None:
        """Show one event."""
        if isinstance(event, Finished):
            failed = event.outcome.status in (Status.FAILED, Status.DIFFERENT)
            if failed or not self._quiet:
                self._line(line(event.outcome), failed)
        elif isinstance(event, Changed) and event.problem:
            self._line(changed(event), True)
        elif isinstance(event, Question):
            self._err.write(printable_lines(event.text))
            self._err.flush()
        elif self._quiet:
            return
        elif isinstance(event, Changed):
            self._line(changed(event))
        elif isinstance(event, Notice):
            if self._verbose or not event.verbose:
                self._line(event.text, True)
        elif isinstance(event, Started):
            self._line(f"{event.source} -> {event.target}{' (dry run)' * event.dry_run}")
        elif isinstance(event, Ended):
            if event.counts or not event.exit_code:
                self._line(summary(event))
        elif self._verbose:
            if isinstance(event, Connected):
                secured = f", {event.cipher}" if event.cipher else ""
                self._line(f"connected to {event.host} (python {event.python}{secured})")
            elif isinstance(event, Opened):
                self._line(f"{event.channels} channels")
            elif isinstance(event, Cleaned):
                self._line(f"{event.renamed} datasets renamed out of the buffer")

    def _line(self, text: str, to_err: bool = False) -> None:
        stream = self._err if to_err else self._out
        stream.write(printable(text) + "\n")
        stream.flush()
