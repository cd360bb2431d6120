"""A case: contestants that take turns, round by round, after a warm-up; and its results as values."""

from __future__ import annotations

import itertools
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from .rig import ContestantFailed, Needs, Rig, Sample


@dataclass(frozen=True, slots=True)
class Entry:
    """A contestant in a case. ``script`` may be another each time; ``prepare`` comes before, and is not measured."""

    name: str
    title: str
    script: Callable[[], str]
    prepare: Callable[[], None] = lambda: None
    rounds: int = 0
    """Of a contestant that takes minutes, and has no warm-up; 0 for as many as the others, and a warm-up."""
    until: str = ""
    """What it prints when the time that counts is over."""
    series: bool = False
    """Keep how its memory went."""


@dataclass(slots=True)
class Result:
    """What was measured in one case."""

    case: str
    about: str
    """What was done, in words."""
    values: dict[str, int | float] = field(default_factory=dict)
    """What else tells this from other results of the case, e.g. the number of datasets."""
    titles: dict[str, str] = field(default_factory=dict)
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    needs: dict[str, Needs] = field(default_factory=dict)
    series: dict[str, Any] = field(default_factory=dict)
    load: list[float] = field(default_factory=list)
    """Of this machine over one minute, at the beginning and at the end."""
    failed: dict[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """To be written down; `from_json` reads it."""
        return asdict(self)

    @classmethod
    def from_json(cls, written: dict[str, Any]) -> Result:
        """The opposite of `as_json`."""
        read = cls(**written)
        read.samples = {name: [Sample(**sample) for sample in samples] for name, samples in written["samples"].items()}
        read.needs = {name: Needs(**needs) for name, needs in written["needs"].items()}
        return read

    def median(self, name: str, what: str = "seconds") -> float:
        """Of one figure of all rounds of a contestant."""
        return float(statistics.median(getattr(sample, what) for sample in self.samples[name]))

    def ratios(self, name: str, to: str = "zfsync", what: str = "seconds") -> list[float]:
        """Round by round, how many times as much of something ``name`` took as ``to``."""
        pairs = zip(self.samples.get(name, ()), self.samples.get(to, ()), strict=False)
        return [getattr(one, what) / getattr(other, what) for one, other in pairs if getattr(other, what)]


def compete(rig: Rig, result: Result, entries: Sequence[Entry], rounds: int, *, warm_up: bool = True) -> Result:
    """Run all ``entries`` in turn. The warm-up is the run in which memory and commands are seen."""
    result.load.append(os.getloadavg()[0])
    for entry in entries:
        result.titles[entry.name] = entry.title
        if warm_up and not entry.rounds:
            _attempt(rig, result, entry, warm_up=True)
    for number in range(rounds):
        for entry in entries:
            if number < (entry.rounds or rounds) and entry.name not in result.failed:
                _attempt(rig, result, entry)
    result.load.append(os.getloadavg()[0])
    return result


def _attempt(rig: Rig, result: Result, entry: Entry, warm_up: bool = False) -> None:
    started = time.monotonic()
    try:
        entry.prepare()
        if warm_up:
            result.needs[entry.name], series = rig.needs(entry.script())
            if entry.series:
                result.series[entry.name] = series
            words = str(result.needs[entry.name])
        else:
            sample = rig.measure(entry.script(), until=entry.until)
            result.samples.setdefault(entry.name, []).append(sample)
            words = f"{sample.seconds:.2f} s"
    except ContestantFailed as error:
        result.failed[entry.name] = words = str(error)
    values = ", ".join(f"{key}={value}" for key, value in result.values.items())
    say(f"{result.case} {values}: {entry.name}: {words} ({time.monotonic() - started:.1f} s in all)")


def say(words: str) -> None:
    """Tell how far it is."""
    print(time.strftime("%H:%M:%S"), words, file=sys.stderr, flush=True)


class Names:
    """Names of snapshots, each newer than the one before, and which one that was."""

    def __init__(self, first: str) -> None:
        self._numbers = itertools.count(1)
        self.base = self.last = first

    def next(self) -> str:
        """A new one."""
        self.base, self.last = self.last, f"c{next(self._numbers):04}"
        return self.last
