"""The end that sends: ZFS on this machine, or behind agents on another host. One interface over both."""

from __future__ import annotations

import asyncio
import contextlib
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from . import complaint, filters, lzc, zfs
from .agent import AgentClient
from .channel import ChannelRefused
from .concurrency import both, end_process
from .dataset import Host, Inventory, child_of
from .endpoint import Endpoint
from .errors import AgentError, ZfsError
from .holds import RUN_LOCK, lock_name
from .listing import InventoryParser, Lines, listing_problem, missing
from .lock import Lock, sweep
from .messages import Data, Operation, Result, Send
from .messages import Lock as LockQuestion
from .operations import Operations
from .recall import UNKNOWN, list_changed, list_rest, unknown
from .remembered import Recall, Remembered, recalling
from .sending import LocalSending, Sending, start, start_sending
from .throttle import Throttle
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


def no_such_source(root: str, host: Host) -> ZfsError:
    """The error for a source that does not exist."""
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
            ends = [await self._list(list_rest((root,), holds), lines.append)]
            for line in lines:
                parser.feed(line)
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
                raise ZfsError(
                    f"There is no dataset {root} on this machine: 'zfs list' shows those there are.", "missing"
                )
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
            process = await self._start(zfs.QUERIES[kind](batch))
            stdout, _ = await process.communicate()
            lines += stdout.decode("utf-8").splitlines()
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
            self._lock.acquire_own(run)
        except OSError as error:
            return Result(False, "lock", f"cannot lock {self._lock.path}: {error.strerror}")
        return Result(True)

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
        process = await self._start(arguments)
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

    async def _start(self, arguments: tuple[str, ...]) -> Process:
        return await start((*self._command, *arguments), DEVNULL, PIPE)


class AgentSending:
    """A `zfs send` that an agent runs; see `Sending`. Its agent is free again after `finish`, and gone after `kill`."""

    def __init__(self, source: AgentSource, client: AgentClient, question: Send) -> None:
        self._source = source
        self._client = client
        self._question = question
        self._result: asyncio.Future[Result] | None = None
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.length = 0

    def pump_into(self, client: AgentClient, throttle: Throttle | None) -> asyncio.Future[None]:
        """See `Sending`."""

        def hand_on(piece: bytes) -> bool:
            if self._ended.done():  # killed, and the stream with it
                return False
            self.length += len(piece)
            client.tell(Data(piece))
            return True

        async def relay(payload: bytes) -> None:
            if throttle is None:
                hand_on(payload)
            else:
                await throttle.pass_on(payload, hand_on)
            if client.channel.paused:
                await client.channel.drain()

        self._result = asyncio.ensure_future(self._client.send_stream(self._question, relay))
        self._result.add_done_callback(self._stop)
        return self._ended

    def _stop(self, _: asyncio.Future[Result]) -> None:
        if not self._ended.done():
            self._ended.set_result(None)

    def waits_for(self, since: float) -> str:
        """See `Sending`."""
        if self._client.heard > since:
            return f"zfs send gave nothing more on {self._client.host}, where the agent answers"
        return f"the agent on {self._client.host} was not heard of"

    async def finish(self) -> str:
        """See `Sending`."""
        assert self._result is not None  # pump_into came first
        try:
            result = await self._result
        except AgentError as error:
            self._source.release(None)
            return str(error)
        self._source.release(self._client)
        if result.ok and result.length != self.length:
            return f"{self._client.host} says that it has sent {result.length} bytes, and {self.length} have arrived"
        return "" if result.ok else result.message

    async def kill(self) -> None:
        """See `Sending`."""
        self._client.channel.close()
        if self._result is not None:
            self._result.cancel()  # its listener may be held up by a target that takes nothing
            await asyncio.wait((self._result,))
        self._source.release(None)


class AgentSource:
    """The source on another host. Streams go through agents of their own, as many at once as there can be."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self.host = endpoint.host
        self.root = endpoint.root
        self._control: AgentClient | None = None
        self._idle: list[AgentClient] = []
        self._busy = 0
        """Agents that are at work now, or being started."""
        self._free = asyncio.Event()

    @property
    def lost(self) -> bool:
        """See `Source`."""
        return self._endpoint.lost

    @property
    def filters(self) -> Sequence[str]:
        """See `Source`."""
        return self._endpoint.filters

    @property
    def by_library(self) -> bool:
        """See `Source`."""
        return self._endpoint.by_library

    async def inventory(
        self, recursive: bool, *, holds: str = "", creation: bool = False, remembered: Remembered | None = None
    ) -> Inventory:
        """See `Source`."""
        if self._control is None or self._control.error is not None:
            self._control, _ = await self._endpoint.open()
            self._idle.append(self._control)
        inventory = await self._endpoint.inventory(
            self._control, recursive, holds=holds, creation=creation, remembered=remembered
        )
        if "" not in inventory:
            raise no_such_source(self.root, self.host)
        return inventory

    async def query(self, kind: str, names: Sequence[str]) -> list[str]:
        """See `Source`."""
        with self._borrowed(await self._take()) as client:
            return await client.query(kind, [name[len(self.root) :] for name in names])

    async def apply(self, operations: Sequence[Operation]) -> list[Result]:
        """See `Source`."""
        with self._borrowed(await self._take()) as client:
            return await client.apply(operations)

    async def lock(self, run: str) -> Result:
        """See `Source`."""
        assert self._control is not None  # the inventory came first
        return await self._control.result(LockQuestion(run))

    def open_ahead(self, count: int) -> None:
        """See `Source`."""
        self._endpoint.open_ahead(count)

    async def send(self, stream: zfs.Stream) -> AgentSending:
        """See `Source`."""
        child = child_of(self.root, stream.dataset)
        assert child is not None  # the plan has only datasets of the tree
        client = await self._take(sends=True)
        return AgentSending(self, client, Send(child, *stream[1:]))

    async def close(self) -> None:
        """See `Source`."""
        await self._endpoint.close()

    def release(self, client: AgentClient | None) -> None:
        """Give an agent back that has sent its stream; None for one that has gone."""
        if client is not None:
            self._idle.append(client)
        self._busy -= 1
        self._free.set()

    @contextlib.contextmanager
    def _borrowed(self, client: AgentClient) -> Iterator[AgentClient]:
        try:
            yield client
        finally:
            self.release(client if client.error is None else None)

    async def _take(self, *, sends: bool = False) -> AgentClient:
        """An agent that is free, or a new one; when there can be no more, wait for one.

        With the control agent go the run's lock and, where the library makes them, its holds; and one that ``sends``
        may be hung up on. So it does that only where there is no other.
        """
        refused: ChannelRefused | None = None
        while True:
            self._idle = [client for client in self._idle if client.error is None]
            others = [client for client in self._idle if client is not self._control]
            alone = refused is not None and not self._busy and not others
            fit = others if sends and not alone else self._idle
            if fit:
                client = max(fit, key=lambda client: client is self._control)
                self._idle.remove(client)
                self._busy += 1
                return client
            if refused is None:
                try:
                    await self._start()
                except ChannelRefused as error:
                    refused = error
            elif self._busy:
                self._free.clear()
                await self._free.wait()
                refused = None
            else:
                raise refused

    async def _start(self) -> None:
        """Start another agent. Others may wait for it meanwhile."""
        self._busy += 1
        try:
            client = await self._endpoint.next()
        finally:
            self._busy -= 1
            if not self._busy:
                self._free.set()  # there is none any more that could be waited for
        self._idle.append(client)
