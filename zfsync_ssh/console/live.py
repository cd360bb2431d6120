"""The live display of a terminal, on rich: a line per channel, a total, and a closing table."""

from __future__ import annotations

import collections
import contextlib
import time

from rich.console import Console, Group, OverflowMethod, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ..events import (
    Answered,
    Changed,
    Cleaned,
    Connected,
    Ended,
    Event,
    Finished,
    Notice,
    Opened,
    Outcome,
    Planned,
    Progress,
    Question,
    SendEnded,
    SendStarted,
    Started,
    Status,
)
from .text import WORDS, changed, duration, printable, printable_lines, size, summary

MAX_TABLE_ROWS = 40
REFRESHES_PER_SECOND = 5
RATE_SECONDS = 5.0
"""The rate shown is that of about the last so many seconds."""

_STYLES = {
    Status.SENT: "green",
    Status.UP_TO_DATE: "dim",
    Status.NO_SNAPSHOTS: "yellow",
    Status.FAILED: "bold red",
    Status.PLANNED: "cyan",
    Status.RENAMED: "green",
    Status.EQUAL: "dim",
    Status.DIFFERENT: "bold red",
}


class Rate:
    """Bytes per second over the last `RATE_SECONDS`."""

    def __init__(self, now: float) -> None:
        self._samples = collections.deque([(now, 0)])

    def update(self, count: int, now: float) -> None:
        """``count`` bytes have been sent by ``now``, in all."""
        self._samples.append((now, count))
        while len(self._samples) > 2 and self._samples[1][0] < now - RATE_SECONDS:
            self._samples.popleft()

    @property
    def per_second(self) -> float:
        """The rate; 0 when nothing is known yet."""
        (since, before), (now, count) = self._samples[0], self._samples[-1]
        return (count - before) / (now - since) if now > since else 0.0


class _Lane:
    """What one channel does."""

    def __init__(self) -> None:
        self.current: SendStarted | None = None
        self.bytes = 0
        self.rate = Rate(0.0)


class LiveConsole:
    """Shows events on the terminal while they come."""

    def __init__(self, *, verbose: bool = False, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)
        self._verbose = verbose
        self._live: Live | None = None
        self._lanes: dict[int, _Lane] = {}
        self._outcomes: dict[str, Outcome] = {}
        self._status = "connecting"
        self._title = ""
        self._planned = Planned(0, 0, 0)
        self._expected = 0
        """Bytes of the whole run: the plan's estimate, with the true number for each dataset that is done."""
        self._in_flight: dict[str, int] = {}
        """Bytes of datasets that were sent and have no outcome yet."""
        self._done_bytes = 0
        self._done = 0
        self._total_rate = Rate(0.0)
        self._dry_run = False

    def __call__(self, event: Event) -> None:
        """Show one event."""
        try:
            self._show(event)
        except Exception:
            self._give_up()
            raise

    def _show(self, event: Event) -> None:
        if isinstance(event, Started):
            self._begin(event)
        elif isinstance(event, Ended):
            self._end(event)
        elif isinstance(event, Notice):
            if self._verbose or not event.verbose:
                self._say(event.text, "yellow")
        elif isinstance(event, Changed):
            self._say(changed(event), "red" if event.problem else "magenta")
        elif isinstance(event, Question):
            self._close()
            self._console.print(Text(printable_lines(event.text), style="bold"), end="")
        elif isinstance(event, Answered):
            self._open()
        elif isinstance(event, Finished):
            self._finished(event.outcome)
        else:
            self._advance(event)
        if self._live is not None:
            self._live.update(self._picture())

    def _begin(self, event: Started) -> None:
        self._title = f"{event.source} -> {event.target}"
        self._dry_run = event.dry_run
        self._open()

    def _open(self) -> None:
        """Put the moving part on the screen."""
        self._live = Live(
            self._picture(),
            console=self._console,
            refresh_per_second=REFRESHES_PER_SECOND,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start()

    def _end(self, event: Ended) -> None:
        self._close()
        if not event.counts and event.exit_code:
            return  # the error that is printed after this says it all
        table = self._closing_table()
        if table.row_count:
            self._console.print(table)
        self._say(f"{self._title}: {summary(event)}", "green" if event.exit_code == 0 else "bold red")

    def _say(self, text: str, style: str) -> None:
        self._console.print(Text(printable(text), style=style))

    def _close(self) -> None:
        """Take the moving part off the screen."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _give_up(self) -> None:
        """Give the cursor back, without drawing once more what could not be drawn."""
        if self._live is not None:
            self._live.update("")
            with contextlib.suppress(Exception):
                with self._console.capture():
                    pass  # takes what is still to be drawn out of rich's hands
                self._close()

    def _finished(self, outcome: Outcome) -> None:
        before = self._outcomes.get(outcome.source)
        self._in_flight.pop(outcome.source, None)
        self._outcomes[outcome.source] = outcome
        if outcome.status in (Status.FAILED, Status.DIFFERENT):
            self._say(f"{outcome.source}: {outcome.message}", "red")
        if outcome.status is Status.FAILED and not self._lanes:
            return  # refused by the plan: not one of those that are to be sent
        if before is None and outcome.status in (Status.SENT, Status.FAILED, Status.EQUAL, Status.DIFFERENT):
            self._done += 1
            self._done_bytes += outcome.bytes
            if outcome.estimate:  # may have been far off, where a stream was compressed on its way
                self._expected += outcome.bytes - outcome.estimate

    def _advance(self, event: Event) -> None:
        now = time.monotonic()
        if isinstance(event, Connected):
            self._status = "listing"
            if self._verbose:
                cipher = f", {event.cipher}" if event.cipher else ""
                self._say(f"connected to {event.host} (python {event.python}{cipher})", "dim")
        elif isinstance(event, Planned):
            self._planned = event
            self._expected = event.bytes
            self._status = "opening channels" if event.to_send else "nothing to send"
        elif isinstance(event, Opened):
            self._status = event.doing
            self._lanes = {index: _Lane() for index in range(event.channels)}
            self._total_rate = Rate(now)
        elif isinstance(event, SendStarted):
            lane = self._lanes.setdefault(event.channel, _Lane())
            lane.current, lane.bytes, lane.rate = event, 0, Rate(now)
        elif isinstance(event, Progress):
            lane = self._lanes.setdefault(event.channel, _Lane())
            lane.bytes = event.bytes
            lane.rate.update(event.bytes, now)
            self._total_rate.update(self._sent_bytes, now)
        elif isinstance(event, SendEnded):
            lane = self._lanes[event.channel]
            lane.current = None
            self._in_flight[event.source] = lane.bytes
        elif isinstance(event, Cleaned) and event.renamed and self._verbose:
            self._say(f"{event.renamed} datasets renamed out of the buffer", "dim")

    @property
    def _sent_bytes(self) -> int:
        sending = sum(lane.bytes for lane in self._lanes.values() if lane.current)
        return self._done_bytes + sum(self._in_flight.values()) + sending

    def _picture(self) -> RenderableType:
        title = Text.assemble((self._title, "bold"), "  ", (self._status, "dim"))
        if not self._lanes:
            return title
        grid = Table.grid(padding=(0, 1), expand=True)
        overflow: OverflowMethod = "crop" if self._console.options.ascii_only else "ellipsis"  # which is no ASCII
        grid.add_column(ratio=5, no_wrap=True, overflow=overflow)
        grid.add_column(ratio=4, no_wrap=True, overflow=overflow)
        grid.add_column(ratio=2, min_width=8)
        for least in (20, 11, 7):
            grid.add_column(justify="right", no_wrap=True, overflow=overflow, min_width=least)
        for index, lane in sorted(self._lanes.items()):
            number = Text(f"{index + 1} ", style="dim")
            if lane.current is None:
                grid.add_row(number)
                continue
            name = Text.assemble(
                number, printable(lane.current.source), (" (buffered)" if lane.current.buffered else "", "dim")
            )
            what = Text(printable(lane.current.what), style="cyan")
            grid.add_row(name, what, *_gauge(lane.bytes, lane.current.estimate, lane.rate))
        done = Text(f"{self._done} of {self._planned.to_send} datasets", style="bold")
        total = Text("  total", style="bold")
        grid.add_row(total, done, *_gauge(self._sent_bytes, self._expected, self._total_rate))
        return Group(title, grid)

    def _closing_table(self) -> Table:
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
        table.add_column("dataset", overflow="fold")
        table.add_column("to send" if self._dry_run else "result")
        table.add_column("snapshots", overflow="fold")
        table.add_column("size", justify="right")
        table.add_column("why" if self._dry_run else "time", justify="left" if self._dry_run else "right")
        rows = [
            outcome for outcome in self._outcomes.values() if outcome.status not in (Status.UP_TO_DATE, Status.EQUAL)
        ]
        rows.sort(key=lambda outcome: (outcome.status is not Status.FAILED, outcome.source.split("/")))
        for outcome in rows[:MAX_TABLE_ROWS]:
            bytes_shown = outcome.estimate if outcome.status is Status.PLANNED else outcome.bytes
            table.add_row(
                escape(printable(outcome.source)),
                Text(WORDS[outcome.status], style=_STYLES[outcome.status]),
                escape(printable(outcome.what)),
                size(bytes_shown) if outcome.what else "",
                outcome.why if self._dry_run else duration(outcome.seconds) if outcome.seconds else "",
            )
        if len(rows) > MAX_TABLE_ROWS:
            table.add_row(f"... and {len(rows) - MAX_TABLE_ROWS} more", "", "", "", "")
        return table


def _gauge(count: int, estimate: int, rate: Rate) -> tuple[RenderableType, str, str, str]:
    """Bar, bytes of the estimate, rate, time left."""
    total = max(count, estimate, 1)
    left = (total - count) / rate.per_second if rate.per_second > 0 and estimate else 0.0
    return (
        ProgressBar(total=total, completed=count),
        f"{size(count)} of {size(max(count, estimate))}" if estimate else size(count),
        f"{size(rate.per_second)}/s" if rate.per_second else "",
        duration(left) if left else "",
    )
