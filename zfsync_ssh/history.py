"""What became of each run of each job, and what each target has: a small SQLite file, and all of its SQL.

Several runs may write at once: each change is one short transaction, for which others wait; the locks are the kernel's,
so none is ever stale. WAL is not used: it leaves two more files beside this one, and at a few rows a run there is
nothing to gain. A file that is broken is set aside and begun anew, for no backup may fail for want of its history; who
prunes has to ask `History.aside` then, for what targets have that cannot be reached is not known any more.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from .errors import UsageError
from .state import make_private

_T = TypeVar("_T")

RUNS_KEPT = 1000
"""Of each job and target, and the newest that was well, however long ago."""
OUTCOMES_KEPT = 50
"""Of each job, target and dataset, and the newest that was well."""
MAX_MESSAGE_CHARS = 2000
_BUSY_SECONDS = 10.0
_VERSION = 1

_SCHEMA = """
CREATE TABLE run (
    id INTEGER PRIMARY KEY,
    job TEXT NOT NULL, target TEXT NOT NULL,
    started REAL NOT NULL, ended REAL NOT NULL,
    exit_code INTEGER NOT NULL, bytes INTEGER NOT NULL, message TEXT NOT NULL
);
CREATE INDEX run_of ON run (job, target, id);
CREATE TABLE outcome (
    id INTEGER PRIMARY KEY,
    job TEXT NOT NULL, target TEXT NOT NULL, dataset TEXT NOT NULL,
    ended REAL NOT NULL, failed INTEGER NOT NULL, bytes INTEGER NOT NULL,
    source_newest TEXT NOT NULL, target_newest TEXT NOT NULL, message TEXT NOT NULL
);
CREATE INDEX outcome_of ON outcome (job, target, dataset, id);
CREATE TABLE base (
    job TEXT NOT NULL, target TEXT NOT NULL, dataset TEXT NOT NULL,
    snapshot TEXT NOT NULL,
    PRIMARY KEY (job, target, dataset)
);
"""
_ADD_RUN = "INSERT INTO run (job, target, started, ended, exit_code, bytes, message) VALUES (?, ?, ?, ?, ?, ?, ?)"
_ADD_OUTCOME = (
    "INSERT INTO outcome (job, target, dataset, ended, failed, bytes, source_newest, target_newest, message) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_TRIM_RUNS = (
    "DELETE FROM run WHERE job = :job AND target = :target AND id NOT IN "
    "(SELECT id FROM run WHERE job = :job AND target = :target ORDER BY id DESC LIMIT :kept) "
    "AND id != (SELECT ifnull(max(id), 0) FROM run WHERE job = :job AND target = :target AND exit_code = 0)"
)
_TRIM_OUTCOMES = (
    "DELETE FROM outcome WHERE job = :job AND target = :target AND dataset = :dataset AND id NOT IN (SELECT id "
    "FROM outcome WHERE job = :job AND target = :target AND dataset = :dataset ORDER BY id DESC LIMIT :kept) AND id != "
    "(SELECT ifnull(max(id), 0) FROM outcome "
    "WHERE job = :job AND target = :target AND dataset = :dataset AND NOT failed)"
)
_AMEND = "UPDATE run SET exit_code = ?, message = ? WHERE job = ? AND target = ? AND started = ? AND exit_code = 0"
_RUNS = "SELECT job, target, started, ended, exit_code, bytes, message FROM run WHERE job = ? ORDER BY id DESC"
_LAST_OUTCOMES = (
    "SELECT job, target, dataset, ended, failed, bytes, source_newest, target_newest, message FROM outcome WHERE id IN "
    "(SELECT max(id) FROM outcome WHERE job = ? AND failed <= ? GROUP BY target, dataset) ORDER BY target, dataset"
)
_NAMES = "SELECT DISTINCT source_newest FROM outcome WHERE job = ? AND source_newest != ''"
_SET_BASE = "INSERT OR REPLACE INTO base (job, target, dataset, snapshot) VALUES (?, ?, ?, ?)"
_BASES = "SELECT target, dataset, snapshot FROM base WHERE job = ?"
_OTHER_BASES = (
    "SELECT DISTINCT dataset, snapshot FROM base WHERE job != ? AND EXISTS "
    "(SELECT 1 FROM run WHERE run.job = base.job AND run.target = base.target AND ended > ?)"
)
_FORGET = ("DELETE FROM run WHERE job = ?", "DELETE FROM outcome WHERE job = ?", "DELETE FROM base WHERE job = ?")


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a job to one target. Times as `time.time`."""

    job: str
    target: str
    started: float
    ended: float
    exit_code: int
    bytes: int = 0
    message: str = ""


@dataclass(frozen=True, slots=True)
class DatasetRun:
    """What a run did about one dataset. The newest snapshots are names, empty for none or not known."""

    job: str
    target: str
    dataset: str
    ended: float
    failed: bool
    bytes: int = 0
    source_newest: str = ""
    target_newest: str = ""
    message: str = ""


class History:
    """The history in one directory, which is made when it is first written to. `UsageError` when it cannot be.

    Only one that ``mends`` sets a broken file aside: who merely looks would lose in silence what a run is to tell.
    """

    def __init__(self, directory: Path, *, mends: bool = True) -> None:
        self.path = directory / "history.sqlite"
        self.aside: Path | None = None
        """Where the file is that was broken, once it was set aside."""
        self._mends = mends

    def add(self, run: Run, outcomes: Iterable[DatasetRun] = ()) -> None:
        """Note a run with its datasets, and forget the oldest of its kind."""
        rows = list(outcomes)

        def change(database: sqlite3.Connection) -> None:
            database.execute(_ADD_RUN, _cut(astuple(run)))
            database.executemany(_ADD_OUTCOME, (_cut(astuple(row)) for row in rows))
            database.execute(_TRIM_RUNS, {"job": run.job, "target": run.target, "kept": RUNS_KEPT})
            bases = [(row.job, row.target, row.dataset, row.target_newest) for row in rows if row.target_newest]
            database.executemany(_SET_BASE, bases)
            trims = (
                {"job": row.job, "target": row.target, "dataset": row.dataset, "kept": OUTCOMES_KEPT} for row in rows
            )
            database.executemany(_TRIM_OUTCOMES, trims)

        self._do(change)

    def amend(self, run: Run) -> None:
        """Note how a run ended that was noted as well, by what came after it. One that failed keeps its reason."""
        values = (*_cut((run.exit_code, run.message)), run.job, run.target, run.started)
        self._do(lambda database: database.execute(_AMEND, values))

    def forget(self, job: str) -> bool:
        """Forget all of a job that is no more; whether there was something."""
        if not self.path.exists():
            return False
        return self._do(lambda database: sum(database.execute(one, (job,)).rowcount for one in _FORGET)) > 0

    def runs(self, job: str) -> tuple[Run, ...]:
        """All runs of a job that are remembered, newest first."""
        return tuple(Run(*row) for row in self._rows(_RUNS, (job,)))

    def datasets(self, job: str, *, well: bool = False) -> tuple[DatasetRun, ...]:
        """What the last run that knew of it did about each dataset and target; or the last that was ``well`` for it."""
        rows = (DatasetRun(*row) for row in self._rows(_LAST_OUTCOMES, (job, not well)))
        return tuple(replace(row, failed=bool(row.failed)) for row in rows)

    def bases(self, job: str) -> Mapping[tuple[str, str], str]:
        """The newest snapshot that was known to be at both ends, by target and dataset, however long ago."""
        return {(target, dataset): snapshot for target, dataset, snapshot in self._rows(_BASES, (job,))}

    def bases_of_others(self, job: str, since: float) -> tuple[tuple[str, str], ...]:
        """Datasets, each with the newest snapshot of it at some target to which another job has run ``since`` then."""
        return tuple((dataset, snapshot) for dataset, snapshot in self._rows(_OTHER_BASES, (job, since)))

    def snapshot_names(self, job: str) -> tuple[str, ...]:
        """Names of snapshots that the job has sent, which may be at a target still."""
        return tuple(str(name) for (name,) in self._rows(_NAMES, (job,)))

    # -- the file --

    def _rows(self, query: str, values: tuple[object, ...]) -> list[Any]:
        if not self.path.exists():
            return []
        return self._do(lambda database: database.execute(query, values).fetchall())

    def _do(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Do it to the file; once more to a new one when the file is broken, wherever in it that is found out."""
        try:
            file = _inode(self.path)
            try:
                return self._once(work)
            except sqlite3.DatabaseError as error:
                if not self._mends or not _is_broken(error):
                    raise
            if _inode(self.path) == file:  # else another run has set it aside while this one waited
                self.aside = self.path.with_suffix(f".broken-{time.time():.0f}")
                self.path.rename(self.aside)
            return self._once(work)
        except (sqlite3.Error, OSError) as error:
            raise UsageError(f"The history of runs, {self.path}, cannot be used: {error}.") from error

    def _once(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        with self._transaction() as database:
            return work(database)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """The file, for one change that is done as a whole or not at all."""
        with contextlib.closing(self._begin()) as database:
            yield database
            database.execute("COMMIT")

    def _begin(self) -> sqlite3.Connection:
        """Open the file, which is made if it is not there, and begin a change."""
        make_private(self.path.parent)
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        database = sqlite3.connect(self.path, timeout=_BUSY_SECONDS, isolation_level=None)
        try:
            database.execute("BEGIN IMMEDIATE")
            ((version,),) = database.execute("PRAGMA user_version")
            if version == 0:
                for statement in _SCHEMA.split(";"):
                    database.execute(statement)
                database.execute(f"PRAGMA user_version = {_VERSION}")
            elif version != _VERSION:
                raise UsageError(f"The history of runs, {self.path}, is of another version of zfsync: move it away.")
        except BaseException:
            database.close()
            raise
        return database


def _cut(values: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(value[:MAX_MESSAGE_CHARS] if isinstance(value, str) else value for value in values)


def _inode(path: Path) -> int | None:
    return path.stat().st_ino if path.exists() else None


def _is_broken(error: sqlite3.DatabaseError) -> bool:
    # What Python's own part of sqlite3 raises has no code. The low byte: there are several kinds of SQLITE_CORRUPT.
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
