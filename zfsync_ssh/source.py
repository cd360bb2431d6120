"""The end that sends: one interface over ZFS on this machine, which is here, and behind agents (`remote_source`)."""

from __future__ import annotations

import asyncio
import time
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Callable, Sequence
from typing import Protocol

from . import complaint, filters, lzc, zfs
from .concurrency import both, end_process
from .dataset import Host, Inventory
from .errors import ZfsError
from .holds import RUN_LOCK, lock_name
from .listing import InventoryParser, Lines, listing_problem, missing
from .lock import Lock, sweep
from .messages import Operation, Result
from .operations import Operations
from .recall import UNKNOWN, list_changed, list_rest, unknown
from .remembered import Recall, Remembered, recalling
from .sending import LocalSending, Sending, start, start_sending
from .tree import Tree

READ_BYTES = 128 << 10


class Source(Protocol):
    """What a run needs of the end that sends."""

    @property
    def host(self) -> Host:
        """Where it is."""
        ...

    @property
    def root(self) -> str:
        """The dataset at the top of the tree."""
        ...

    @property
    def lost(self) -> bool:
        """Whether the way there has gone."""
        ...

    @property
    def filters(self) -> Sequence[str]:
        """Those of `zfsync_ssh.filters` that it has; known once the `inventory` is."""
        ...

    @property
    def by_library(self) -> bool:
        """Streams of one snapshot need no process there; known once the `inventory` is."""
        ...

    async def inventory(
        self, recursive: bool, *, holds: str = "", creation: bool = False, remembered: Remembered | None = None
    ) -> Inventory:
        """Every dataset, snapshot and bookmark of the tree; `ZfsError` when it cannot be listed.

        ``holds`` and ``creation`` are as in `zfsync_ssh.messages.Inventory`. With what is ``remembered``, and learned
        for the next time, the snapshots of datasets that have not changed are not listed.
        """
        ...

    async def query(self, kind: str, names: Sequence[str]) -> list[str]:
        """The lines that a kind of `zfsync_ssh.zfs.QUERIES` has for ``names``, full ones; what has gone is left out."""
        ...

    async def apply(self, operations: Sequence[Operation]) -> list[Result]:
        """Carry out ``operations``, in order; a result each."""
        ...

    async def lock(self, run: str) -> Result:
        """Let it be known, as long as this run lives, that its holds are not stale; or why that cannot be."""
        ...

    def open_ahead(self, count: int) -> None:
        """Make ready for so many streams at once."""
        ...

    async def send(self, stream: zfs.Stream) -> Sending:
        """Start `zfs send`; `ZfsError`, `AgentError` or `ConnectError` when it cannot be started."""
        ...

    async def close(self) -> None:
        """Give it up. Never fails."""
        ...


def no_such_dataset(root: str, host: Host) -> ZfsError:
    """The error for the root of a tree that is not there."""
    return ZfsError(f"There is no dataset {root} on {host}: 'zfs list' shows those there are.", "missing")


class LocalSource:
    """The source that is this machine. ``command`` runs zfs."""

    host = Host()
    lost = False

    def __init__(self, root: str, command: tuple[str, ...] = ("zfs",)) -> None:
        self.root = root
        self._command = command
        self._operations = Operations(Tree(root, "", command))
        self._lock: Lock | None = None

    @property
    def filters(self) -> Sequence[str]:
        """See `Source`."""
        return filters.installed()

    @property
    def by_library(self) -> bool:
        """See `Source`."""
        return lzc.load(self._command) is not None

    async def inventory(
        self, recursive: bool, *, holds: str = "", creation: bool = False, remembered: Remembered | None = None
    ) -> Inventory:
        """See `Source`."""

        async def listed(recall: Recall) -> Inventory:
            return await self._inventory(recursive, holds, creation, recall)

        return await recalling(listed, remembered if recursive else None)

    async def _inventory(self, recursive: bool, holds: str, creation: bool, recall: Recall) -> Inventory:
        root, at, spared = self.root, int(time.time()), False
        parser = InventoryParser(root, holds=bool(holds), creation=creation, changes=recall.changes)
        if recall.lines:
            lines: list[str] = []

            def both_take(line: str) -> None:
                lines.append(line)
                parser.feed(line)

            ends = [await self._list(list_rest((root,), holds), both_take)]
            commands, spared = list_changed(lines, recall.lines, (root,))
            ends += [await self._list(command, parser.feed) for command in commands]
        else:
            ends = list(
                await both(
                    self._list(zfs.list_datasets((root,), recursive, holds, recall.changes), parser.feed),
                    self._list(zfs.list_snapshots((root,), recursive, creation), parser.feed),
                )
            )
        for status, stderr in ends:
            if unknown(stderr):
                raise ZfsError(f"ZFS on this machine knows no {zfs.CHANGED_PROPERTY}.", UNKNOWN)
            if root in missing(stderr):
                raise no_such_dataset(root, self.host)
            problem = listing_problem(status, stderr)
            if problem:
                raise ZfsError(
                    f"{root} cannot be listed on this machine: {complaint.reason(problem)}.",
                    complaint.classify(problem),
                )
        if spared:
            parser.recall(recall.lines)
        return parser.finish(at=at)

    async def query(self, kind: str, names: Sequence[str]) -> list[str]:
        """See `Source`."""
        lines: list[str] = []
        for batch in zfs.batches(names):
            await self._list(zfs.QUERIES[kind](batch), lines.append)
        return lines

    async def apply(self, operations: Sequence[Operation]) -> list[Result]:
        """See `Source`."""
        work = asyncio.ensure_future(asyncio.to_thread(self._operations.apply, operations))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            await asyncio.wait((work,))  # a thread goes on: what comes next must not overtake it
            raise

    async def lock(self, run: str) -> Result:
        """See `Source`."""
        sweep(RUN_LOCK)
        self._lock = Lock(lock_name(run))
        try:
            holder = self._lock.acquire_own(run)
        except OSError as error:
            return Result(False, "lock", f"cannot lock {self._lock.path}: {error.strerror}")
        return Result(True) if holder is None else Result(False, "locked", holder)

    def open_ahead(self, count: int) -> None:
        """See `Source`."""

    async def send(self, stream: zfs.Stream) -> LocalSending:
        """See `Source`."""
        return await start_sending(self._command, stream)

    async def close(self) -> None:
        """See `Source`."""
        if self._lock is not None:
            self._lock.release()

    async def _list(self, arguments: tuple[str, ...], take: Callable[[str], object]) -> tuple[int, str]:
        process = await start((*self._command, *arguments), DEVNULL, PIPE)
        assert process.stdout is not None
        assert process.stderr is not None
        stderr = asyncio.create_task(process.stderr.read())
        lines = Lines()
        try:
            while chunk := await process.stdout.read(READ_BYTES):
                for line in lines.feed(chunk):
                    take(line)
            return await process.wait(), (await stderr).decode("utf-8", "replace")
        except (ValueError, IndexError) as error:
            raise ZfsError(f"zfs list on this machine printed a line that cannot be read: {error}.") from error
        finally:
            end_process(process.pid, process.returncode)
            await process.wait()
            stderr.cancel()
