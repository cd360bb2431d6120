"""Small operations of ZFS on many names at once: hold, release, bookmark, destroy, snapshot, exists, rename.

Two drivers do them: `CliDriver` runs the `zfs` command, `zfsync_ssh.libzfs.LibDriver` asks the kernel through OpenZFS's
own library, where its Python binding is there. `choose` takes the better one; one suite of tests holds for both
(tests/lab/test_driver.py). Nothing is listed or received here.

Also shipped to the far end: standard library only, Python >= 3.8.
"""

from __future__ import annotations

from typing import Callable, Collection, Dict, Iterable, Iterator, List, Optional, Protocol, Sequence, Set, Tuple

from . import complaint, libzfs, zfs
from .blame import Failed, Refusal, all_undone, by_pool, dataset_of, lineage, narrow, trees
from .errors import ZfsError
from .listing import parse_numbers
from .lzc import wanted
from .process import Completed, run, run_all

AT_ONCE = 8
"""Commands that run at the same time. Each waits for a transaction group, which they then share."""

MIN_TREE = 4
"""Snapshots of a tree from which on they are held by one recursive command."""


class Driver(Protocol):
    """What both drivers do. Names are full names; the answer is the names that could not be done, all others are."""

    temporary_holds: bool
    """Holds go with this process, however it ends."""

    def hold(self, snapshots: Sequence[str], tag: str) -> List[Failed]:
        """Hold ``snapshots``; one that has a hold of this tag already is no failure."""

    def release(self, snapshots: Sequence[str], tag: str) -> List[Failed]:
        """Give holds back. What is not there is no failure, but told as missing where its hold would outlive us: it may
        have been renamed."""

    def bookmark(self, marks: Sequence[Tuple[str, str]]) -> List[Failed]:
        """Make bookmarks, ``(bookmark, snapshot)``; one that is there already, of that snapshot, is no failure."""

    def destroy_bookmarks(self, names: Sequence[str]) -> List[Failed]:
        """Destroy bookmarks; one that is not there is no failure."""

    def destroy_snapshots(self, names: Sequence[str]) -> List[Failed]:
        """Destroy snapshots, but not those that are held or have clones; one that is not there is no failure."""

    def snapshot(self, names: Sequence[str], properties: Sequence[Tuple[str, str]] = ()) -> List[Failed]:
        """Take snapshots, with user properties: of a pool all or none, and in one transaction group."""

    def exists(self, name: str) -> bool:
        """Whether there is such a dataset, snapshot or bookmark; `ZfsError` when that cannot be found out."""

    def rename(self, old: str, new: str, kind: str) -> Optional[Failed]:
        """Rename a filesystem or volume, as ``kind`` says, and mount nothing."""


def choose(command: Sequence[str]) -> Driver:
    """The driver to use where ``command`` runs zfs."""
    cli = CliDriver(command)
    binding = libzfs.load() if wanted(command) else None
    return cli if binding is None else libzfs.LibDriver(binding, cli.other_bookmarks)


class CliDriver:
    """Runs ``command``, ``("zfs",)`` or one with sudo before it."""

    temporary_holds = False

    def __init__(self, command: Sequence[str]) -> None:
        self._command = tuple(command)
        self._trees: Dict[str, Dict[str, Set[str]]] = {}
        """By tag, the tops of the trees that were held recursively, and which of their snapshots we asked for."""

    def hold(self, snapshots: Sequence[str], tag: str) -> List[Failed]:
        """See `Driver`. A whole tree is held at once, where that is faster: then too many are held, until the release.

        `zfs hold` waits for a transaction group for each of its arguments, but for one only with -r.
        """
        done, single = self._in_trees(snapshots, lambda top: zfs.hold(tag, [top], recursive=True))
        holds = self._numbers(zfs.list_holds, [name for names in done.values() for name in names])
        held = self._trees.setdefault(tag, {})
        for top, names in done.items():  # -r passes over what is not there
            held[top] = {name for name in names if holds.get(name)}
            single += [name for name in names if name not in held[top]]
        for name in single:  # it may be in a tree that was held before, which must not be released without it
            for top in held.keys() & set(lineage(name)):
                held[top].add(name)
        return self._each(_shares(single), lambda batch: zfs.hold(tag, batch), ("exists",))

    def release(self, snapshots: Sequence[str], tag: str) -> List[Failed]:
        """See `Driver`. A tree is released with the last of its snapshots that was asked for."""
        held = self._trees.get(tag)
        if held is None:  # what another process held, perhaps recursively: so is it released
            _, single = self._in_trees(snapshots, lambda top: zfs.release(tag, [top], recursive=True))
        else:
            left = set(snapshots)
            ended = [top for top, names in held.items() if names <= left]
            for top, done in zip(ended, self._run_all(zfs.release(tag, [top], recursive=True) for top in ended)):
                names = held.pop(top)
                left -= names if done.status == 0 else set()
            for names in held.values():
                names -= left
            single = [name for name in snapshots if name in left]
        return self._each(_shares(single), lambda batch: zfs.release(tag, batch))

    def bookmark(self, marks: Sequence[Tuple[str, str]]) -> List[Failed]:
        """See `Driver`."""
        source = dict(marks)
        failures = self._each([[name] for name in source], lambda batch: zfs.bookmark(source[batch[0]], batch[0]))
        there = [(failed.name, source[failed.name]) for failed in failures if failed.code == "exists"]
        return [failed for failed in failures if failed.code != "exists"] + self.other_bookmarks(there)

    def other_bookmarks(self, marks: Sequence[Tuple[str, str]]) -> List[Failed]:
        """Those of ``marks``, bookmarks that are there, which are not of the snapshot that they should be of."""
        guids = self._numbers(zfs.list_guids, [name for mark in marks for name in mark])
        return [
            Failed(mark, "exists", "there is a bookmark of that name, but not of %s" % snapshot)
            for mark, snapshot in marks
            if mark not in guids or guids[mark] != guids.get(snapshot)
        ]

    def destroy_bookmarks(self, names: Sequence[str]) -> List[Failed]:
        """See `Driver`."""
        single = [[name] for name in dict.fromkeys(names)]
        return self._each(single, lambda batch: zfs.destroy_bookmark(batch[0]), ("missing",))

    def destroy_snapshots(self, names: Sequence[str]) -> List[Failed]:
        """See `Driver`. One command for the snapshots of a dataset."""
        datasets: Dict[str, List[str]] = {}
        for name in dict.fromkeys(names):
            datasets.setdefault(dataset_of(name), []).append(name)
        batches = [batch for snapshots in datasets.values() for batch in zfs.batches(snapshots)]
        return self._each(batches, zfs.destroy_snapshots, ("missing",))

    def snapshot(self, names: Sequence[str], properties: Sequence[Tuple[str, str]] = ()) -> List[Failed]:
        """See `Driver`. More than fit on a command line are taken in several transaction groups."""
        failures: List[Failed] = []
        for pool in by_pool(names):
            made: List[str] = []
            for batch in zfs.batches(pool):
                done = self._run(zfs.snapshot(batch, properties))
                if done.status != 0:
                    failures += all_undone(pool, _refusal(batch, done))
                    self.destroy_snapshots(made)  # what has just been made here, and nothing else
                    break
                made += batch
        return failures

    def exists(self, name: str) -> bool:
        """See `Driver`."""
        done = self._run(zfs.list_any(name))
        code = complaint.classify(done.stderr)
        if done.status != 0 and code != "missing":
            raise ZfsError("cannot find out whether %s exists: %s" % (name, complaint.reason(done.stderr)), code)
        return done.status == 0

    def rename(self, old: str, new: str, kind: str) -> Optional[Failed]:
        """See `Driver`."""
        done = self._run(zfs.rename(old, new, kind))
        return None if done.status == 0 else Failed(old, *complaint.meaning(done.stderr))

    def _in_trees(
        self, snapshots: Sequence[str], argv: Callable[[str], Tuple[str, ...]]
    ) -> Tuple[Dict[str, List[str]], List[str]]:
        """Do the larger trees among ``snapshots`` by a command for each: those that are done, and what is left."""
        whole = trees(snapshots)
        single = [name for names in whole.values() if len(names) < MIN_TREE for name in names]
        large = {top: names for top, names in whole.items() if len(names) >= MIN_TREE}
        done = {}
        for (top, names), ended in zip(large.items(), self._run_all(map(argv, large))):
            if ended.status == 0:
                done[top] = names
            else:  # somewhere below there is no permission, or a hold of this tag
                single += names
        return done, single

    def _numbers(self, argv: Callable[[List[str]], Tuple[str, ...]], names: List[str]) -> Dict[str, int]:
        """What a listing says of ``names``; nothing of those that are not there."""
        found: Dict[str, int] = {}
        for batch in zfs.batches(names):
            found.update(parse_numbers(self._run(argv(batch)).lines))
        return found

    def _each(
        self,
        batches: Iterable[List[str]],
        argv: Callable[[List[str]], Tuple[str, ...]],
        fine: Collection[str] = (),
    ) -> List[Failed]:
        """Do all names of ``batches``, each batch by a command, several of them at once."""

        def attempt(tried: List[List[str]]) -> Iterator[Optional[Refusal]]:
            commands = [argv(batch) for batch in tried]  # all of them, or a bad name is refused before any is run
            for batch, done in zip(tried, self._run_all(commands)):
                ended_well = done.status == 0 or complaint.NOTHING_TO_DESTROY in done.stderr
                yield None if ended_well else _refusal(batch, done)

        return narrow(batches, attempt, fine)

    def _run(self, arguments: Tuple[str, ...]) -> Completed:
        return run((*self._command, *arguments))

    def _run_all(self, commands: Iterable[Tuple[str, ...]]) -> Iterator[Completed]:
        return run_all(((*self._command, *arguments) for arguments in commands), AT_ONCE)


def _refusal(batch: List[str], done: Completed) -> Refusal:
    return Refusal(complaint.blamed(batch, done.stderr), *complaint.meaning(done.stderr))


def _shares(names: Iterable[str]) -> List[List[str]]:
    """``names`` dealt out to as many commands as may run at once."""
    once = list(dict.fromkeys(names))
    return [batch for start in range(AT_ONCE) for batch in zfs.batches(once[start::AT_ONCE])]
