"""The cells that every run of the tests plays: a dozen of the worst, one for each kind of fault."""

from __future__ import annotations

from .cells import Cell, Steps
from .steps import Step

_FIXED = (
    # direction, scenario, fault, label, which (-1: the last), library, number
    ("push", "plain", "kill zfsync", "to target:Data", 9, True, 0),
    ("push", "plain", "kill zfsync", "zfs rename before", 1, False, 0),
    ("push", "moved", "kill target's agent", "zfs set after", 1, True, 1),
    ("push", "aside", "kill zfsync", "event:Cleaned", 1, True, 0),
    ("push", "plain", "kill zfs send", "to target:Sync", 2, False, 0),
    ("push", "plain", "kill zfs receive", "to target:Data", 9, True, 0),
    ("push", "plain", "cut", "to target:Data", 9, False, 0),
    ("push", "plain", "far off", "zfs rename after", 1, True, 0),
    ("push", "plain", "here off", "event:SendEnded", 2, False, 0),
    ("push", "plain", "pool full", "event:SendStarted", 1, True, 0),
    ("pull", "plain", "kill source's agent", "to target:Data", 9, True, 0),
    ("pull", "plain", "here off", "to target:End", 2, True, 0),
    ("pull", "moved", "silent", "from source:Output of Send", 9, True, 0),
    ("pull", "plain", "second run", "to target:Stream", 1, True, 0),
)


def fixed_cells(steps: Steps) -> list[Cell]:
    """The fixed cells, as far as their direction and scenario were prepared."""
    return [
        Cell(direction, scenario, fault, Step(label, nth, nth), library, number)
        for direction, scenario, fault, label, nth, library, number in _FIXED
        if (direction, scenario) in steps
    ]
