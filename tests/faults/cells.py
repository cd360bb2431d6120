"""Cells: a fault at a step. Which there are, which are drawn, and how one is played."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field

from tests.lab.driver import LabError

from . import checks
from .checks import Ends, Expected
from .faults import BY_NAME, FAULTS, Fault
from .field import DIRECTIONS, Field, Look
from .steps import AT_SOURCE, COLUMNS, Step
from .strikes import disarm
from .trees import SCENARIOS, Scenario

Steps = dict[tuple[str, str], list[Step]]
"""The steps of each direction and scenario."""
WEIGHTS = {"plain": 6, "moved": 2, "aside": 2, "sealed": 3}


@dataclass(frozen=True)
class Cell:
    """One fault at one step of one kind of run. ``number`` decides what the fault leaves open."""

    direction: str
    scenario: str
    fault: str
    step: Step
    library: bool
    number: int

    def __str__(self) -> str:
        how = "library" if self.library else "command"
        return f"{self.direction} {self.scenario}, {self.fault} at {self.step} ({how}, {self.number})"


@dataclass
class Verdict:
    """What came of a cell. ``landed``: the step was reached and the fault did happen; else it says nothing."""

    cell: Cell
    landed: bool = False
    wrong: list[str] = field(default_factory=list)
    code: int | None = None
    seconds: float = 0.0

    @property
    def counts(self) -> bool:
        """Whether it says something: the fault happened, or something was wrong all the same."""
        return self.landed or bool(self.wrong)

    def __str__(self) -> str:
        how = "FAILED" if self.wrong else "passed" if self.landed else "missed"
        return f"{how} exit {self.code}, {self.seconds:.1f} s: {self.cell}" + "".join(f"\n    {w}" for w in self.wrong)


@dataclass(frozen=True)
class Before:
    """What was at both ends before any fault, in one direction and scenario."""

    expected: Expected
    may_go: frozenset[str]
    """GUIDs that the run may destroy at the target, because it is asked to."""


def before(field: Field, direction: str, name: str) -> Before:
    """Look at what was prepared."""
    scenario = SCENARIOS[name]
    field.reset(direction, name, scenario.options, library=False)
    source, target = field.look(contents=True, source_contents=True)
    there = set(source.snapshots.values())
    old = {guid for full, guid in target.snapshots.items() if full.startswith(field.target) and guid not in there}
    return Before(Expected(source.contents, target.contents), frozenset(old if scenario.loses else ()))


def prepare(field: Field) -> tuple[dict[tuple[str, str], Before], Steps]:
    """Of every direction and scenario: what there is before, and the steps of a faultless run."""
    found, steps = {}, {}
    for direction in DIRECTIONS:
        for name in SCENARIOS:
            found[direction, name] = before(field, direction, name)
            field.reset(direction, name, SCENARIOS[name].options, library=False)  # to look has loaded keys
            steps[direction, name] = field.steps()
    return found, steps


def draw(steps: Steps, seed: int, count: int) -> list[Cell]:
    """``count`` cells at random: each fault with each column in turn, shuffled, so that the table fills evenly."""
    chance = random.Random(seed)
    pairs = [
        (direction, fault, column)
        for direction in DIRECTIONS
        for fault in FAULTS
        for column in COLUMNS
        if direction in fault.directions and column in fault.columns
    ]
    cells: list[Cell] = []
    while len(cells) < count:
        chance.shuffle(pairs)
        for direction, fault, column in pairs:
            cell = _draw_one(steps, chance, direction, fault, column)
            if cell is not None and len(cells) < count:
                cells.append(cell)
    return cells


def _draw_one(steps: Steps, chance: random.Random, direction: str, fault: Fault, column: str) -> Cell | None:
    fitting = {
        name: [step for step in steps.get((direction, name), []) if step.column == column] for name in fault.scenarios
    }
    names = [name for name, found in fitting.items() if found]
    if not names:
        return None
    (name,) = chance.choices(names, [WEIGHTS[name] for name in names])
    labels = sorted({step.label for step in fitting[name]})
    label = chance.choice(labels)
    step = chance.choice([step for step in fitting[name] if step.label == label])
    library = chance.random() < 0.5 and not needs_command(step, fault)
    return Cell(direction, name, fault.name, step, library, chance.randrange(1000))


def needs_command(step: Step, fault: Fault) -> bool:
    """Whether a step, or what is struck, is only there when zfsync uses the command and not the library."""
    by_library = (*AT_SOURCE, "receive")
    return fault.needs_command or (step.label.startswith("zfs ") and step.label.split()[1] in by_library)


def play(field: Field, cell: Cell, before: Before) -> Verdict:
    """Make a run, strike at its step, take the cause away, run again, and judge."""
    fault, scenario = BY_NAME[cell.fault], SCENARIOS[cell.scenario]
    verdict, began = Verdict(cell), time.monotonic()
    try:
        for machine in (field.here, field.far):  # a cell that went wrong may have left one switched off
            field.power_on(machine)
        _play(field, verdict, fault, scenario, before)
    except LabError as error:
        verdict.wrong.append(f"the lab: {error}")
        verdict.landed = True
    except AssertionError as error:
        verdict.wrong.append(str(error))
        verdict.landed = True
    verdict.seconds = time.monotonic() - began
    return verdict


def _play(field: Field, verdict: Verdict, fault: Fault, scenario: Scenario, before: Before) -> None:
    cell, wrong = verdict.cell, verdict.wrong
    field.reset(cell.direction, cell.scenario, scenario.options, library=cell.library)
    ends, expected = Ends(field.source, field.target), before.expected
    fault.ready(field)
    field.start(cell.step.label, cell.step.nth, keepalive=fault.keepalive, silence=fault.silence)
    pid = field.wait_reached()
    untouched = field.look()[1] if pid and fault.tampers else None
    if pid:
        fault.strike(field, cell.number)
        field.go_on(pid)
    first = field.wait_ended()
    verdict.landed = bool(pid) and fault.landed(field)
    fault.mend(field)
    disarm(field)  # what has not found anything to kill by now is not to find the next run's
    if first is None:
        wrong.append("the run does not end")
        return
    verdict.code = first.code
    source, target = field.look_when_quiet()
    wrong += [f"the first run's {line} lives on" for line in source.processes + target.processes]
    if pid:
        # To be stopped (SIGSTOP) ends a small send through the library, and with it that dataset (docs/libzfs.md).
        codes = {*fault.codes, 3} if cell.library and fault.codes else fault.codes
        wrong += checks.first_run(first, codes)
    gone = _destroyed(untouched, target) if untouched and fault.name.startswith("target") else frozenset()
    if not fault.tampers:
        wrong += checks.claims(first, source, target, ends)
    again = field.run()
    if again.code == 3 and fault.advice and checks.asks_for(again, " ".join(fault.advice)):
        again = field.run(*fault.advice)
    if again.code != 0:
        wrong.append(f"the run after it failed: {again}")
    source, target = field.look_when_quiet(contents=True)
    wrong += checks.equal(source, target, ends, Expected(expected.source, expected.target, gone))
    wrong += checks.kept(target, expected, before.may_go | gone)
    wrong += checks.left_at_target(target, ends) + checks.left(source, target, again)


def _destroyed(before: Look, after: Look) -> frozenset[str]:
    """GUIDs that somebody destroyed at the target."""
    return frozenset(set(before.snapshots.values()) - set(after.snapshots.values()))
