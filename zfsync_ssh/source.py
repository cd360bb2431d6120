"""The end that sends: ZFS on this machine, or behind agents on another host. One interface over both."""

from __future__ import annotations

import asyncio
import os
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Sequence
from typing import Protocol

from . import zfs
from .agent import AgentClient
from .channel import ChannelRefused
from .concurrency import both
from .dataset import Host, Inventory, child_of
from .endpoint import Endpoint
from .errors import AgentError, ZfsError
from .listing import InventoryParser, Lines, listing_problem, missing, parse_numbers
from .messages import Data, Result, Send
from .process import PIPE_BYTES, enlarge_pipe, environment, not_runnable

CHUNK_BYTES = 128 << 10
"""Read from `zfs send` at a time: four SSH packets."""


class Sending(Protocol):
    """A running `zfs send`."""

    @property
    def length(self) -> int:
        """Bytes of the stream so far."""
        ...

    def pump_into(self, client: AgentClient) -> asyncio.Future[None]:
        """Begin to feed the stream to ``client`` as `Data`; the future is done at the stream's end."""
        ...

    async def finish(self) -> str:
        """After the stream's end: empty when `zfs send` ended well, else what it said."""
        ...

    async def kill(self) -> None:
        """End `zfs send` now, if it still runs."""
        ...


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

    async def inventory(self, recursive: bool) -> Inventory:
        """Every dataset, snapshot and bookmark of the tree; `ZfsError` when it cannot be listed."""
        ...

    async def written(self, snapshots: Sequence[str]) -> dict[str, int]:
        """Bytes that each of ``snapshots``, full names, has written; those that have gone are left out."""
        ...

    async def send(self, stream: zfs.Stream) -> Sending:
        """Start `zfs send`; `ZfsError`, or `AgentError`, when it cannot be started."""
        ...

    async def close(self) -> None:
        """Give it up. Never fails."""
        ...


def no_such_source(root: str, host: Host) -> ZfsError:
    """The error for a source that does not exist."""
    return ZfsError(f"There is no dataset {root} on {host}: 'zfs list' shows those there are.", "missing")


class LocalSending:
    """A `zfs send` on this machine; see `Sending`."""

    def __init__(self, process: Process, fd: int) -> None:
        self._process = process
        self._fd = fd
        self._loop = asyncio.get_running_loop()
        self._stderr = asyncio.create_task(self._read_stderr())
        self._client: AgentClient | None = None
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self.length = 0
        """Bytes read of the stream so far."""

    def pump_into(self, client: AgentClient) -> asyncio.Future[None]:
        """See `Sending`.

        The pump runs in the event loop's callbacks, not in a task: a task switch per chunk would halve its speed.
        """
        self._client = client
        os.set_blocking(self._fd, False)
        client.channel.on_resume = self._resume
        self._resume()
        return self._ended

    async def finish(self) -> str:
        """See `Sending`."""
        self._stop()
        status = await self._process.wait()
        stderr = await self._stderr
        if status == 0:
            return ""
        return stderr.strip() or f"zfs send ended with status {status}"

    async def kill(self) -> None:
        """See `Sending`."""
        self._stop()
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        await self._stderr

    def _readable(self) -> None:
        assert self._client is not None  # or it would not be read
        try:
            data = os.read(self._fd, CHUNK_BYTES)
        except BlockingIOError:
            return
        if not data:
            self._stop()
            return
        self.length += len(data)
        self._client.tell(Data(data))
        if self._client.channel.paused:
            self._loop.remove_reader(self._fd)

    def _resume(self) -> None:
        if self._fd >= 0 and self._client is not None and not self._client.channel.paused:
            self._loop.add_reader(self._fd, self._readable)

    def _stop(self) -> None:
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1
        if self._client is not None:
            self._client.channel.on_resume = None
        if not self._ended.done():
            self._ended.set_result(None)

    async def _read_stderr(self) -> str:
        assert self._process.stderr is not None
        return (await self._process.stderr.read()).decode("utf-8", "replace")


class LocalSource:
    """The source that is this machine. ``command`` runs zfs."""

    host = Host()
    lost = False

    def __init__(self, root: str, command: tuple[str, ...] = ("zfs",)) -> None:
        self.root = root
        self._command = command

    async def inventory(self, recursive: bool) -> Inventory:
        """See `Source`."""
        root = self.root
        parser = InventoryParser(root)
        ends = await both(
            self._list(zfs.list_datasets((root,), recursive), parser),
            self._list(zfs.list_snapshots((root,), recursive), parser),
        )
        for status, stderr in ends:
            if root in missing(stderr):
                raise ZfsError(
                    f"There is no dataset {root} on this machine: 'zfs list' shows those there are.", "missing"
                )
            problem = listing_problem(status, stderr)
            if problem:
                raise ZfsError(
                    f"{root} cannot be listed on this machine: {zfs.reason(problem)}.", zfs.classify(problem)
                )
        return parser.finish()

    async def written(self, snapshots: Sequence[str]) -> dict[str, int]:
        """See `Source`."""
        sizes: dict[str, int] = {}
        for names in zfs.batches(snapshots):
            process = await self._start(zfs.list_written(names), PIPE)
            stdout, _ = await process.communicate()
            sizes.update(parse_numbers(stdout.decode("utf-8")))
        return sizes

    async def send(self, stream: zfs.Stream) -> LocalSending:
        """See `Source`."""
        reader, writer = os.pipe()
        try:
            enlarge_pipe(reader, PIPE_BYTES)
            process = await self._start(zfs.send(stream), writer)
        except BaseException:
            os.close(reader)
            raise
        finally:
            os.close(writer)
        return LocalSending(process, reader)

    async def close(self) -> None:
        """See `Source`."""

    async def _list(self, arguments: tuple[str, ...], parser: InventoryParser) -> tuple[int, str]:
        process = await self._start(arguments, PIPE)
        assert process.stdout is not None
        assert process.stderr is not None
        stderr = asyncio.create_task(process.stderr.read())
        lines = Lines()
        try:
            while chunk := await process.stdout.read(CHUNK_BYTES):
                for line in lines.feed(chunk):
                    parser.feed(line)
            return await process.wait(), (await stderr).decode("utf-8", "replace")
        except (ValueError, IndexError) as error:
            raise ZfsError(f"zfs list on this machine printed a line that cannot be read: {error}.") from error
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
            stderr.cancel()

    async def _start(self, arguments: tuple[str, ...], stdout: int) -> Process:
        argv = (*self._command, *arguments)
        try:
            return await asyncio.create_subprocess_exec(
                *argv, stdin=DEVNULL, stdout=stdout, stderr=PIPE, env=environment()
            )
        except OSError as error:
            raise ZfsError(f"This machine has no working zfs: {not_runnable(argv, error)}.", "no-zfs") from error


class AgentSending:
    """A `zfs send` that an agent runs; see `Sending`. Its agent is free again after `finish`, and gone after `kill`."""

    def __init__(self, source: AgentSource, client: AgentClient, question: Send) -> None:
        self._source = source
        self._client = client
        self._question = question
        self._result: asyncio.Future[Result] | None = None
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.length = 0

    def pump_into(self, client: AgentClient) -> asyncio.Future[None]:
        """See `Sending`."""

        def take(payload: bytes) -> None:
            self.length += len(payload)
            client.tell(Data(payload))

        self._result = asyncio.ensure_future(self._client.send_stream(self._question, take, client.channel))
        self._result.add_done_callback(self._stop)
        return self._ended

    def _stop(self, _: asyncio.Future[Result]) -> None:
        if not self._ended.done():
            self._ended.set_result(None)

    async def finish(self) -> str:
        """See `Sending`."""
        assert self._result is not None  # pump_into came first
        try:
            result = await self._result
        except AgentError as error:
            self._source.release(None)
            return str(error)
        self._source.release(self._client)
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
        """Agents that send now."""
        self._free = asyncio.Event()

    @property
    def lost(self) -> bool:
        """See `Source`."""
        return self._endpoint.lost

    async def inventory(self, recursive: bool) -> Inventory:
        """See `Source`."""
        self._control, _ = await self._endpoint.open()
        self._idle.append(self._control)
        inventory = await self._endpoint.inventory(self._control, recursive)
        if "" not in inventory:
            raise no_such_source(self.root, self.host)
        return inventory

    async def written(self, snapshots: Sequence[str]) -> dict[str, int]:
        """See `Source`."""
        assert self._control is not None  # the inventory came first
        names = [child_of(self.root, name.partition("@")[0]) or "" for name in snapshots]
        short = [f"{child}@{name.partition('@')[2]}" for child, name in zip(names, snapshots, strict=True)]
        return parse_numbers("\n".join(await self._control.query("written", short)))

    async def send(self, stream: zfs.Stream) -> AgentSending:
        """See `Source`."""
        child = child_of(self.root, stream.dataset)
        assert child is not None  # the plan has only datasets of the tree
        client = await self._take()
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

    async def _take(self) -> AgentClient:
        """An agent that is free, or a new one; when there can be no more, wait for one."""
        self._idle = [client for client in self._idle if client.error is None]
        while not self._idle:
            try:
                client, _ = await self._endpoint.open()
                self._idle.append(client)
            except ChannelRefused as error:
                if not self._busy:
                    raise AgentError(f"{self.host} opens no channel to send over: {error}.") from error
                self._free.clear()
                await self._free.wait()
        self._busy += 1
        return self._idle.pop()
