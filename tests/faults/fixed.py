"""The cells that every run of the tests plays: the worst, with each kind of fault at least once."""

from __future__ import annotations

from .cells import Cell
from .steps import Step


def _cell(direction: str, scenario: str, fault: str, label: str, nth: int, library: str, number: int = 0) -> Cell:
    return Cell(direction, scenario, fault, Step(label, nth, nth), library == "library", number)


FIXED = (
    _cell("push", "plain", "kill zfsync", "to target:Data", 9, "library"),
    _cell("push", "plain", "kill zfsync", "zfs hold after", 1, "command"),
    _cell("push", "moved", "kill target's agent", "zfs set after", 1, "library", 1),
    _cell("push", "aside", "kill zfsync", "event:Cleaned", 1, "library"),
    _cell("push", "plain", "kill zfs send", "to target:Sync", 2, "command"),
    _cell("push", "plain", "kill zfs receive", "to target:Data", 9, "command"),
    _cell("push", "plain", "cut", "to target:Data", 9, "command"),
    _cell("push", "plain", "far off", "zfs rename after", 1, "library"),
    _cell("push", "plain", "pool full", "event:SendStarted", 1, "library"),
    _cell("push", "plain", "source snapshot gone", "event:Connected", 1, "library", 2),
    _cell("push", "sealed", "far off", "zfs destroy after", 1, "command"),
    _cell("push", "sealed", "kill zfsync", "to target:Sync", 4, "library"),
    _cell("pull", "plain", "suspended", "zfs destroy before", 1, "command"),
    _cell("pull", "plain", "kill source's agent", "to target:Data", 9, "library"),
    _cell("pull", "plain", "here off", "to target:End", 2, "library"),
    _cell("pull", "plain", "second run", "to target:Stream", 1, "library"),
)
