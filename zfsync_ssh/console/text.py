"""Numbers and lines as people read them. Pure."""

from __future__ import annotations

from ..events import Changed, Ended, Outcome, Status


def printable(text: str) -> str:
    """``text`` on one line and without control characters: much of what is shown was said by another machine."""
    return "".join(char if char.isprintable() else " " for char in text)


def printable_lines(text: str) -> str:
    """``text`` without control characters, but for the ends of its lines."""
    return "\n".join(printable(line) for line in text.split("\n"))


def size(count: float) -> str:
    """``1536`` -> ``1.5 KiB``."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB", "PiB"):
        if round(count, 1) < 1024 or unit == "PiB":
            break
        count /= 1024
    return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"


def duration(seconds: float) -> str:
    """``75.2`` -> ``1:15``; below a minute ``8.3 s``."""
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def line(outcome: Outcome) -> str:
    """One dataset's outcome on one line, without its message."""
    head = f"{outcome.source} -> {outcome.target}: "
    if outcome.status is Status.SENT:
        return f"{head}sent {outcome.what}, {size(outcome.bytes)} in {duration(outcome.seconds)}"
    if outcome.status is Status.PLANNED:
        but = f"; but {outcome.message}" if outcome.message else ""
        return f"{head}would send {outcome.what}, about {size(outcome.estimate)} ({outcome.why}{but})"
    if outcome.status is Status.FAILED:
        return f"{head}FAILED: {outcome.message}"
    if outcome.status is Status.DIFFERENT:
        return f"{head}DIFFERENT: {outcome.message}"
    return f"{head}{WORDS[outcome.status]}"


def changed(event: Changed) -> str:
    """A change at the target on one line."""
    if event.problem:
        return f"{event.target}: FAILED: that it {event.words}: {event.problem}"
    lost = f"; lost: {event.loss}" if event.loss else ""
    return f"{'would be done: ' if event.planned else ''}{event.target} {event.words}{lost}"


def summary(ended: Ended) -> str:
    """The run on one line."""
    if not ended.counts:
        return "nothing to do" if ended.exit_code == 0 else "failed"
    parts = [f"{ended.counts[status]} {WORDS[status]}" for status in Status if ended.counts.get(status)]
    sent = f"; {size(ended.bytes)} in {duration(ended.seconds)}" if ended.bytes else f"; {duration(ended.seconds)}"
    return ", ".join(parts) + sent


WORDS = {
    Status.SENT: "sent",
    Status.UP_TO_DATE: "up to date",
    Status.NO_SNAPSHOTS: "without a snapshot",
    Status.FAILED: "failed",
    Status.PLANNED: "to send",
    Status.RENAMED: "renamed into place",
    Status.EQUAL: "equal",
    Status.DIFFERENT: "different",
}
