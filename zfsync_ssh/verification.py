"""Compares what two ends say of the contents of a snapshot, entry by entry, as it comes. Pure, and in bounded memory.

Both ends send their entries in the same order, so that the two can be merged: the one that comes first is there only,
or they are the same path and have to be the same in everything.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable, Iterator

from .entry import DIRECTORY, RANGE, UNKNOWN, VOLUME, Entry, order

MAX_NAMED = 20
"""Differences that are told one by one; the others are counted."""

_WORDS = (
    ("mode", "mode"),
    ("uid", "owner"),
    ("gid", "group"),
    ("size", "size"),
    ("mtime", "time of change"),
    ("points_to", "target"),
    ("links", "hard links"),
    ("xattrs", "extended attributes"),
    ("acl", "ACLs"),
    ("digest", "contents"),
)
"""The fields that may differ, and what they are called."""
_MAY_BE_UNKNOWN = ("xattrs", "acl")


class Verification:
    """What has been compared so far. `feed` entries of either end, 0 or 1, and `end` it."""

    def __init__(self, names: tuple[str, str]) -> None:
        self._names = names
        self._waiting: tuple[collections.deque[Entry], ...] = (collections.deque(), collections.deque())
        self._last: list[list[bytes] | None] = [None, None]
        self._ended = [False, False]
        self._alone: tuple[str | None, int] = (None, 0)
        """The last directory that only one end can tell of, and which end: what is in it goes without saying."""
        self._range = (-1, -1)
        """The last range of a volume that differs: one that follows it is the same difference."""
        self._named: list[str] = []
        self.differences = 0
        self.unreadable = 0
        """How many entries an end could not read; they are among the differences."""
        self.entries = 0
        self.bytes = 0
        """Of contents that were read at both ends and are the same."""
        self.not_compared: set[str] = set()
        """What one end has and the other cannot tell: ``extended attributes``, ``ACLs``."""

    def wants(self, end: int) -> bool:
        """Whether nothing can be compared before more comes from this end."""
        return not self._waiting[end] and not self._ended[end]

    def feed(self, end: int, entries: Iterable[Entry]) -> None:
        """Take entries, and compare what can be; ``ValueError`` when they are not in order."""
        for entry in entries:
            place = order(entry.path)
            if entry.kind == RANGE and not entry.path.isdigit():
                raise ValueError("a range without a place")
            last = self._last[end]
            if last is not None and not last < place:
                raise ValueError("entries that are not in order")
            self._last[end] = place
            self._waiting[end].append(entry)
        self._compare()

    def end(self, end: int) -> None:
        """There is no more of this end."""
        self._ended[end] = True
        self._compare()

    @property
    def words(self) -> str:
        """The differences, as the end of a sentence; empty when there are none."""
        if not self.differences:
            return ""
        more = self.differences - len(self._named)
        return "; ".join(self._named) + (f"; and {more} more" if more else "")

    def _compare(self) -> None:
        one, two = self._waiting
        while (one or self._ended[0]) and (two or self._ended[1]) and (one or two):
            if one and two and one[0].path == two[0].path:
                self._pair(one.popleft(), two.popleft())
            elif not two or (one and order(one[0].path) < order(two[0].path)):
                self._single(one.popleft(), 0)
            else:
                self._single(two.popleft(), 1)

    def _pair(self, one: Entry, two: Entry) -> None:
        self.entries += 1
        if one.problem or two.problem or one.kind != two.kind:
            self._alone = (one.path, 1 if one.problem or one.kind != DIRECTORY else 0)
        problems = [
            f"{problem} in {name}"
            for name, problem in zip(self._names, (one.problem, two.problem), strict=True)
            if problem
        ]
        if problems:
            self.unreadable += 1
            self._differ(one if one.problem else two, f"cannot be read: {' and '.join(problems)}")
        elif one.kind != two.kind:
            self._differ(one, f"{one.kind} and {two.kind}")
        else:
            different = list(self._different(one, two))
            if different:
                self._differ(one, ", ".join(different))
            elif one.digest:
                self.bytes += one.size

    def _different(self, one: Entry, two: Entry) -> Iterator[str]:
        for field, word in _WORDS:
            here, there = getattr(one, field), getattr(two, field)
            if field == "xattrs" and UNKNOWN in (here, there):  # what cannot have ACLs has none, but these it may have
                self.not_compared.add(word)
                continue
            if here == there:
                continue
            if field in _MAY_BE_UNKNOWN and UNKNOWN in (here, there):
                if here not in ("", UNKNOWN) or there not in ("", UNKNOWN):
                    self.not_compared.add(word)
            elif field == "mode":
                yield f"{word} {here:o} and {there:o}"
            elif field in ("uid", "gid", "size"):
                yield f"{word} {here} and {there}"
            else:
                yield word

    def _single(self, entry: Entry, end: int) -> None:
        self.entries += 1
        if entry.problem:
            self.unreadable += 1
            self._differ(entry, f"cannot be read: {entry.problem} in {self._names[end]}")
            return
        above, where = self._alone
        if above is not None and where == end and (not above or entry.path.startswith(above + "/")):
            return
        if entry.kind == DIRECTORY:
            self._alone = (entry.path, end)
        # A range that is not there is all zeros there.
        self._differ(entry, "contents" if entry.kind == RANGE else f"only in {self._names[end]}")

    def _differ(self, entry: Entry, what: str) -> None:
        if entry.kind == RANGE and not entry.problem:
            self._differ_in_range(int(entry.path), int(entry.path) + entry.size)
        else:
            self._tell(what if entry.kind == VOLUME else f"{_place(entry)}: {what}")

    def _differ_in_range(self, first: int, past: int) -> None:
        if first != self._range[1]:
            self._range = (first, past)
            self._tell(_range_words(first, past))
            return
        self._range = (self._range[0], past)
        if self.differences == len(self._named):  # or it is one of those that are only counted
            self._named[-1] = _range_words(*self._range)

    def _tell(self, words: str) -> None:
        self.differences += 1
        if len(self._named) < MAX_NAMED:
            self._named.append(words)


def _place(entry: Entry) -> str:
    if entry.kind == RANGE:
        return _range_words(int(entry.path), int(entry.path) + entry.size)
    return shown(entry.path)


def _range_words(first: int, past: int) -> str:
    return f"bytes {first} to {past - 1}"


def shown(path: str) -> str:
    """A path on one line: what cannot be shown is escaped, as in Python."""
    if not path:
        return "/"
    return "".join(_shown(char) for char in path)


def _shown(char: str) -> str:
    if char.isprintable() and char != "\\":
        return char
    if "\udc80" <= char <= "\udcff":
        return f"\\x{ord(char) - 0xDC00:02x}"
    return char.encode("unicode_escape").decode("ascii")
