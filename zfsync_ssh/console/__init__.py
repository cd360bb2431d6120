"""Shows a run: three observers of the same events, and the thread that they live in."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import queue
import sys
import threading
from collections.abc import Iterator

from ..events import Answered, Event, Observer, Progress, Question, Started

MAX_WAITING_EVENTS = 10_000
"""Beyond so many that a stopped terminal has not taken, progress is left out; nothing else ever is."""


def choose(*, json: bool, quiet: bool, verbose: bool) -> Observer:
    """The observer for this output: NDJSON when asked for, the live display on a terminal, plain lines elsewhere."""
    if json:
        from .ndjson import NdjsonConsole

        return NdjsonConsole(sys.stdout)
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr: not every terminal has what a name is made of
    if sys.stdout.isatty() and not quiet:
        from .live import LiveConsole

        return LiveConsole(verbose=verbose)
    from .plain import PlainConsole

    return PlainConsole(sys.stdout, sys.stderr, quiet=quiet, verbose=verbose)


def choose_unattended(*, json: bool, quiet: bool, verbose: bool) -> Observer:
    """The observer for runs that follow each other, and that cron starts: it shows nothing where nobody looks on."""

    def make() -> Observer:
        return choose(json=json, quiet=quiet, verbose=verbose)

    if not json and (quiet or not (verbose or sys.stdout.isatty())):
        return lambda event: None
    shown = make()

    def show(event: Event) -> None:
        nonlocal shown
        if isinstance(event, Started):
            shown = make()
        shown(event)

    return show


async def ask(text: str, observe: Observer) -> bool:
    """Ask ``text`` at the terminal, through the display; whether the answer is yes."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[str] = loop.create_future()
    observe(Question(text))

    def take() -> None:
        if not answer.done():
            answer.set_result(sys.stdin.readline())

    loop.add_reader(sys.stdin, take)
    try:
        yes = (await answer).strip().lower() in ("y", "yes")
    finally:
        loop.remove_reader(sys.stdin)
    observe(Answered(yes))
    return yes


@contextlib.contextmanager
def threaded(observer: Observer) -> Iterator[Observer]:
    """An observer that hands every event to ``observer`` in a thread of its own, and never blocks or fails.

    So a terminal that is stopped, a pipe that nobody reads, or a defect in a display cannot hold up a transfer. On
    leaving, all events have been shown.
    """
    events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()

    def show() -> None:
        broken = False
        while (event := events.get()) is not None:
            if not broken:
                try:
                    observer(event)
                except BrokenPipeError:
                    broken = True
                    discard_stdout()
                except Exception as error:
                    broken = True
                    with contextlib.suppress(Exception):
                        sys.stderr.write(f"zfsync: the display failed and is off: {error!r}\n")

    def put(event: Event) -> None:
        if not (isinstance(event, Progress) and events.qsize() > MAX_WAITING_EVENTS):
            events.put(event)

    thread = threading.Thread(target=show, name="console", daemon=True)
    thread.start()
    try:
        yield put
    finally:
        events.put(None)
        thread.join()


def discard_stdout() -> None:
    """After its reader has gone, or Python would complain of what is still to be written when it ends."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
