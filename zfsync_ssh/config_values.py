"""The tables of a configuration file, and what its values may be: readers that take what TOML gave. Pure.

A reader returns the value, or raises `ValueError` or `UsageError` with what is wrong.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from .dataset import check_name
from .errors import UsageError
from .location import Location, parse_location
from .retention import Class, Keep, parse_keep
from .schedule import Schedule, parse_schedule
from .selection import Selection
from .throttle import parse_rate
from .units import parse_bytes, parse_span

_T = TypeVar("_T")
_U = TypeVar("_U")
_NO_HINTS: Mapping[str, str] = MappingProxyType({})
_NO_COMMA = re.compile(r"=\s*\w+\s*[\s;:]\s*\w+\s*=")
MAX_NAMES_TOLD = 8
"""Where more than so many words are known, those that are nearest to a wrong one are told."""


class ConfigError(UsageError):
    """Everything that is wrong with a configuration: a sentence each, on a line of its own."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self._problems = tuple(problems)

    @property
    def problems(self) -> tuple[str, ...]:
        """See `ZfsyncError`."""
        return self._problems


class Problems:
    """What is wrong, and where: the path of a key, and a sentence without its full stop."""

    def __init__(self) -> None:
        self.found: list[tuple[tuple[str, ...], str]] = []

    def check_options(self) -> None:
        """`ConfigError` for all that was found, each with the option that it would be on a command line."""
        if self.found:
            raise ConfigError([f"{'.'.join(f'--{key}' for key in where)}: {what}." for where, what in self.found])


class Table:
    """One table of the file, whose keys are taken one by one; those that nobody takes are unknown."""

    def __init__(self, values: object, path: tuple[str, ...], problems: Problems) -> None:
        self._path = path
        self._problems = problems
        self._known: list[str] = []
        self._values: Mapping[str, object] = values if isinstance(values, dict) else {}
        self._there = isinstance(values, dict)
        if not self._there:
            self.problem("", f"it has to be a table, which begins with [{'.'.join(path)}]")

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def problem(self, key: str, what: str) -> None:
        """Note that ``key``, or the whole table if it is empty, is wrong."""
        self._problems.found.append(((*self._path, key) if key else self._path, what))

    def take(self, key: str, read: Callable[[object], _T], default: _U) -> _T | _U:
        """The value of ``key``, or ``default`` when it is not there or wrong."""
        self._known.append(key)
        if key not in self._values:
            return default
        try:
            return read(self._values[key])
        except (ValueError, UsageError) as error:
            self.problem(key, str(error).removesuffix("."))
            return default

    def required(self, key: str, read: Callable[[object], _T]) -> _T | None:
        """The value of ``key``; None when it is not there, which is a problem, or wrong."""
        if key not in self._values and self._there:
            self.problem("", f"it has no {key}")
        return self.take(key, read, None)

    def inner(self, key: str) -> Table:
        """The table ``key`` in this one; an empty one when it is not there."""
        self._known.append(key)
        return Table(self._values.get(key, {}), (*self._path, key), self._problems)

    def end(self, hints: Mapping[str, str] = _NO_HINTS) -> None:
        """All keys that there can be have been taken: the others are problems, of which ``hints`` may tell more."""
        for key in self._values:
            if key not in self._known:
                self.problem(key, hints.get(key) or f"it is not known here: {nearest(key, self._known)}")


def nearest(word: str, known: Iterable[str]) -> str:
    """Which of the ``known`` words may have been meant; all of them when none is near and they are few."""
    known = tuple(known)
    found = difflib.get_close_matches(word, known, n=1)
    if found:
        return f"did you mean {found[0]}"
    if len(known) <= MAX_NAMES_TOLD:
        return f"there is {', '.join(known)}"
    found = difflib.get_close_matches(word, known, n=3, cutoff=0.4)
    return f"the nearest there are: {', '.join(found)}" if found else f"it is like none of the {len(known)} there are"


# ---- readers ---------------------------------------------------------------------------------------------------------


def as_text(value: object) -> str:
    """A text that is not empty."""
    if not isinstance(value, str) or not value or not value.isprintable():
        raise ValueError('it has to be a text, as in "text"')
    return value


def as_flag(value: object) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise ValueError(f"it has to be true or false{_unquoted(value in ('true', 'false'))}")
    return value


def as_count(low: int, high: int) -> Callable[[object], int]:
    """A whole number from ``low`` to ``high``."""

    def read(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            quoted = isinstance(value, str) and value.isdecimal()
            raise ValueError(f"it has to be a number from {low} to {high}{_unquoted(quoted)}")
        return value

    return read


def _unquoted(quoted: bool) -> str:
    return ", without quotes" if quoted else ""


def as_one_of(words: tuple[str, ...]) -> Callable[[object], str]:
    """One of ``words``."""

    def read(value: object) -> str:
        if not isinstance(value, str) or value not in words:
            raise ValueError(f"it has to be one of {', '.join(words)}")
        return value

    return read


def as_path(value: object) -> Path:
    """The path of a file, in full or from the user's home directory on."""
    text = as_text(value)
    path = Path(text).expanduser() if text.startswith("~/") else Path(text)
    if not path.is_absolute():
        raise ValueError("it has to begin with / or ~/, for cron starts jobs in a directory of its own")
    return path


def as_span(value: object, example: str = "10m") -> timedelta:
    """A span of time, such as ``15m``; the ``example`` is for the message."""
    if not isinstance(value, str):
        raise ValueError(f'it has to be a span of time in quotes, as in "{example}"')
    return parse_span(as_text(value))


def as_limit(value: object) -> timedelta:
    """A span of time within which something can be done."""
    limit = as_span(value)
    if not limit:
        raise ValueError("it has to be at least 1s")
    return limit


def as_rate(value: object) -> int:
    """Bytes per second, such as ``50M``."""
    return parse_rate(str(value) if isinstance(value, int) else as_text(value))


def as_bytes(value: object) -> int:
    """A number of bytes, such as ``8M``."""
    return parse_bytes(str(value) if isinstance(value, int) else as_text(value))


def as_keep(at_least: int, *, takes: bool) -> Callable[[object], Keep]:
    """What to keep, with this floor; where snapshots are taken by it, there has to be a class that is ever due."""

    def read(value: object) -> Keep:
        if not isinstance(value, str) or not value:
            raise ValueError('it has to be counts in quotes, as in "hourly=24,daily=30"')
        if _NO_COMMA.search(value):
            raise ValueError(f"{value!r} has no comma between its counts: write it as in hourly=24,daily=30")
        keep = parse_keep(as_text(value), at_least)
        if takes and Class.SECONDLY in keep.counts:
            raise ValueError("a job takes no secondly snapshots, and leaves alone those that there are: leave it out")
        if takes and not keep.classes:
            raise ValueError("it names no class to take snapshots of: give one a count, as in daily=30")
        return keep

    return read


def as_schedule(value: object) -> Schedule:
    """When to run."""
    return parse_schedule(as_text(value))


def as_dataset(value: object) -> str:
    """A dataset's full name."""
    return check_name(as_text(value))


def as_place(value: object) -> Location:
    """A tree, here or on another host."""
    return parse_location(as_text(value))


def as_places(value: object) -> tuple[Location, ...]:
    """One tree or a list of them."""
    places = tuple(as_place(text) for text in (value if isinstance(value, list) else [value]))
    if not places:
        raise ValueError("it names no target")
    if len(set(places)) < len(places):
        raise ValueError("it names a target twice")
    return places


def as_list(value: object, what: str = "texts", example: str = '["a", "b"]') -> tuple[str, ...]:
    """A list of texts; ``what`` they are, with an example, is for the message."""
    if not isinstance(value, list) or not all(isinstance(text, str) and text.isprintable() for text in value):
        raise ValueError(f"it has to be a list of {what}, as in {example}")
    return tuple(value)


def as_patterns(value: object) -> tuple[str, ...]:
    """A list of patterns of names of datasets."""
    return Selection(include=as_list(value, "patterns", '["tmp", "*/cache"]')).include  # which checks them


def as_snapshot_patterns(value: object) -> tuple[str, ...]:
    """Likewise of snapshots."""
    return Selection(snapshots=as_list(value, "patterns", '["weekly-*"]')).snapshots


def as_command(value: object) -> tuple[str, ...]:
    """A command, as a list of its words."""
    words = value if isinstance(value, list) else []
    if not words or not all(isinstance(word, str) and "\0" not in word for word in words) or not words[0]:
        raise ValueError('it has to be a command as a list of words, as in ["/usr/bin/psql", "-c", "CHECKPOINT"]')
    return tuple(words)
