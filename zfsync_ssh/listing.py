"""Reads what `zfs list` prints into an `Inventory`. Pure.

Also shipped to the far end: standard library only, Python >= 3.8.
"""

from __future__ import annotations

from typing import Dict, Iterable, Iterator, List, Mapping, Optional, Tuple

from .buffer import PATH_PROPERTY, child_waiting
from .dataset import Bookmark, Dataset, Inventory, Snapshot, child_of, is_component
from .recall import key_of
from .zfs import (
    ASIDE_MARK,
    ASIDE_PROPERTY,
    CHANGED_PROPERTY,
    DATASET_COLUMNS,
    EXCLUDE_PROPERTY,
    GONE_PROPERTY,
    PLACEHOLDER_PROPERTY,
    STREAM_PROPERTY,
)

MAX_LINE_BYTES = 256 << 10
"""The longest are entries of `zfsync_ssh.entry`: a path and a link's target of 4 KiB each, escaped."""
MAX_SHARED_NAMES = 4096
"""Names of snapshots that are looked for in every dataset. Where there are more, most are in one dataset only, and a
table of them all would take a fifth of the memory of the inventory."""


_MAX_NUMBER = (1 << 64) - 1


def missing(stderr: str) -> List[str]:
    """The datasets of which `zfs list` says that they do not exist; other complaints are not looked at."""
    prefix, suffix = "cannot open '", "': dataset does not exist"
    return [
        line[len(prefix) : -len(suffix)]
        for line in stderr.splitlines()
        if line.startswith(prefix) and line.endswith(suffix)
    ]


def listing_problem(status: int, stderr: str) -> str:
    """What a listing complains of, other than datasets that are not there; empty when all is well.

    `zfs list -r` ends with 0 also when it could not read on, "cannot iterate filesystems: I/O error" say: what it did
    not come to must not be taken for gone.
    """
    absent = set(missing(stderr))
    others = [
        line for line in stderr.splitlines() if not any("'%s'" % name in line for name in absent) and line.strip()
    ]
    if status == 0:
        return "\n".join(line for line in others if line.startswith(("cannot ", "internal error")))
    if others or not absent:
        return "\n".join(others) or "zfs list ended with status %d" % status
    return ""


class _Rows:
    """What has been read of one dataset so far."""

    __slots__ = ("bookmarks", "dataset", "snapshots")

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self.snapshots: List[Snapshot] = []
        self.bookmarks: List[Bookmark] = []

    def finish(self) -> Dataset:
        self.snapshots.sort(key=lambda snapshot: snapshot.createtxg)
        self.bookmarks.sort(key=lambda bookmark: bookmark.createtxg)
        return self.dataset._replace(snapshots=tuple(self.snapshots), bookmarks=tuple(self.bookmarks))


class InventoryParser:
    """Builds an `Inventory` out of the lines of `list_datasets` and `list_snapshots`, in any order of the two.

    ``holds``, ``creation`` and ``changes`` tell that there is this column too. ``ValueError`` for a line that is
    neither.
    """

    def __init__(
        self, root: str, buffer: str = "", *, holds: bool = False, creation: bool = False, changes: bool = False
    ) -> None:
        more = (*(["holds"] if holds else ()), *([CHANGED_PROPERTY] if changes else ()))
        self._columns = (*DATASET_COLUMNS[1:], *more)
        self._numbers = 3 if creation else 2
        self._root = root
        self._buffer = buffer
        self._rows: Dict[str, _Rows] = {}
        self._names: Dict[str, str] = {}
        self._late: List[str] = []

    def feed(self, line: str) -> None:
        """Take one line, without its end."""
        name, *values = line.split("\t")
        dataset, mark, short = name.partition("@" if "@" in name else "#")
        if not mark:
            self._add_dataset(name, values)
            return
        rows = self._rows.get(dataset)
        if rows is None:
            self._late.append(line)
        elif len(values) != self._numbers and (mark == "@" or len(values) != len(self._columns)):
            raise ValueError("a row of %d columns, not %d" % (len(values) + 1, self._numbers + 1))
        else:
            self._add_snapshot(rows, mark, short, values)

    def _add_dataset(self, name: str, values: List[str]) -> None:
        if len(values) != len(self._columns):
            raise ValueError("a row of %d columns, not %d" % (len(values) + 1, len(self._columns) + 1))
        if not all(map(is_component, name.split("/"))):
            raise ValueError("%r, which no dataset can be called" % name)
        row = dict(zip(self._columns, _unset(values)))
        self._rows[name] = _Rows(
            Dataset(
                name,
                row["type"],
                _number(row["guid"]),
                _number(row["used"] or "0"),
                row["receive_resume_token"],
                row["origin"],
                encrypted=row["encryption"] not in ("", "off"),
                compressed=row["compression"] not in ("", "off"),
                placeholder=row[PLACEHOLDER_PROPERTY] == name,  # what lies below inherits it, but not that it fits
                excluded=row[EXCLUDE_PROPERTY] == "on",
                path=row[PATH_PROPERTY],
                written=_number(row["written"] or "0"),
                available=_number(row["available"] or "0"),
                encryption_root=row["encryptionroot"],
                key_loaded=row["keystatus"] == "available",
                stream=row[STREAM_PROPERTY],
                # By its name too, and what is below it: one above it may have been renamed since.
                aside=row[ASIDE_PROPERTY] == name or ASIDE_MARK in name[len(self._root) :],
                gone=row[GONE_PROPERTY],
                holds=row.get("holds", ""),
                version=key_of(row["guid"], row.get(CHANGED_PROPERTY, ""), row["origin"]),
            )
        )

    def _add_snapshot(self, rows: _Rows, mark: str, short: str, values: List[str]) -> None:
        known = self._names.get(short)
        if known is None and not is_component(short):
            raise ValueError("%r, which no snapshot can be called" % (rows.dataset.name + mark + short))
        guid, createtxg = _number(values[0]), _number(values[1])
        if mark == "#":
            rows.bookmarks.append(Bookmark(short, guid, createtxg))
            return
        if known is None and len(self._names) < MAX_SHARED_NAMES:
            self._names[short] = short
        creation = _number(values[2]) if self._numbers > 2 else 0
        # Recursive snapshots have one name in every dataset: keep it once. (And _make is quicker than a call.)
        rows.snapshots.append(Snapshot._make((known or short, guid, createtxg, 0, creation)))

    def recall(self, remembered: Mapping[str, str]) -> None:
        """Give the datasets whose version is in ``remembered`` the listed snapshots from there."""
        for rows in self._rows.values():
            for line in remembered.get(rows.dataset.version, "").splitlines():
                short, *values = line.split("\t")
                self._add_snapshot(rows, "@", short, values)

    def finish(
        self, ancestors: Tuple[str, ...] = (), available: int = 0, encrypted: bool = False, at: int = 0
    ) -> Inventory:
        """The inventory of all lines fed. A snapshot whose dataset is in no line has gone meanwhile."""
        late, self._late = self._late, []
        for line in late:
            self.feed(line)
        self._late.clear()
        buffer: Optional[Dataset] = None
        datasets: Dict[str, Dataset] = {}
        buffered: Dict[str, Dataset] = {}
        for name in sorted(self._rows, key=lambda name: name.split("/")):
            dataset = self._rows[name].finish()
            waiting = child_waiting(self._root, self._buffer, name, dataset.path) if self._buffer else None
            if waiting is not None:
                buffered[waiting] = dataset
            elif name == self._buffer:
                buffer = dataset
            elif not self._buffer or child_of(self._buffer, name) is None:  # else somebody else's, in the buffer
                child = child_of(self._root, name)
                if child is not None:
                    datasets[child] = dataset
        return Inventory(self._root, datasets, buffered, buffer, ancestors, available, encrypted, at)


def _number(text: str) -> int:
    """An unsigned 64-bit number as `zfs list -p` writes it; ``ValueError`` for what `int` takes beside it."""
    if text.isdigit() and text.isascii() and len(text) <= 20:
        number = int(text)
        if number <= _MAX_NUMBER:
            return number
    raise ValueError("%.40r, which is no number of ZFS's" % text)


def _unset(values: List[str]) -> Iterator[str]:
    """`zfs list` writes ``-`` for what is not set."""
    return ("" if value == "-" else value for value in values)


def parse_numbers(lines: Iterable[str]) -> Dict[str, int]:
    """Lines of a full name and a number, holds say, or a GUID. What has no number is left out."""
    rows = (line.rpartition("\t") for line in lines)
    return {name: int(text) for name, _, text in rows if _is_number(text)}


def parse_sizes(lines: Iterable[str]) -> Tuple[Dict[str, int], Dict[str, int]]:
    """The output of `list_written`: bytes written and bytes referred to, each by full name.

    A confined source of another version may tell the first alone.
    """
    written: Dict[str, int] = {}
    referenced: Dict[str, int] = {}
    for line in lines:
        name, *numbers = line.split("\t")
        for sizes, text in zip((written, referenced), numbers):
            if _is_number(text):
                sizes[name] = int(text)
    return written, referenced


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 20


class Lines:
    """Cuts chunks of bytes into lines of text, whatever the chunks' ends."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> List[str]:
        """The lines that ``chunk`` completes; ``ValueError`` for one that is no text, or has no end."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > MAX_LINE_BYTES:
            raise ValueError("a line of more than %d KiB" % (MAX_LINE_BYTES >> 10))
        return [line.decode("utf-8") for line in lines]

    @property
    def rest(self) -> Optional[bytes]:
        """What came after the last line's end, or None."""
        return self._rest or None
