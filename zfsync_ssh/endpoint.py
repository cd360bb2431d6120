"""The two ends of a run: the source, ZFS on this machine, and the target, ZFS behind agents."""

from __future__ import annotations

import asyncio
import os
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Sequence
from typing import Protocol

from . import zfs
from .agent import AgentClient
from .channel import Channel, ChannelRefused
from .concurrency import both
from .dataset import Inventory
from .errors import ZfsError
from .listing import InventoryParser, Lines, listing_problem, missing, parse_written
from .messages import Data, Hello
from .process import enlarge_pipe, environment, not_runnable
from .remote_agent import PIPE_BYTES

CHUNK_BYTES = 128 << 10
"""Read from `zfs send` at a time: four SSH packets."""


class ChannelOpener(Protocol):
    """The way to the target's host: SSH, or processes on this machine."""

    @property
    def lost(self) -> bool:
        """Whether no channel can ever be opened again."""
        ...

    @property
    def cipher(self) -> str:
        """What protects the way, for the display; empty for none."""
        ...

    async def open(self) -> Channel:
        """A channel to a new python that waits for its agent; `ChannelRefused` when there can be no more."""
        ...

    async def close(self) -> None:
        """Give the way up. Never fails."""
        ...


class Source(Protocol):
    """What a run needs of the end that sends."""

    async def inventory(self, root: str, recursive: bool) -> Inventory:
        """Every dataset, snapshot and bookmark of the tree; `ZfsError` when it cannot be listed."""
        ...

    async def written(self, snapshots: Sequence[str]) -> dict[str, int]:
        """Bytes that each of ``snapshots``, full names, has written; those that have gone are left out."""
        ...

    async def send(self, stream: zfs.Stream) -> Sending:
        """Start `zfs send`; `ZfsError` when it cannot be started."""
        ...


class Sending:
    """A running `zfs send`, whose stream is pumped into an agent's channel."""

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
        """Begin to feed the stream to ``client`` as `Data`; the future is done at the stream's end.

        The pump runs in the event loop's callbacks, not in a task: a task switch per chunk would halve its speed.
        """
        self._client = client
        os.set_blocking(self._fd, False)
        client.channel.on_resume = self._resume
        self._resume()
        return self._ended

    async def finish(self) -> str:
        """Wait for the end of `zfs send`; empty when it ended well, else what it said."""
        self._stop()
        status = await self._process.wait()
        stderr = await self._stderr
        if status == 0:
            return ""
        return stderr.strip() or f"zfs send ended with status {status}"

    async def kill(self) -> None:
        """End `zfs send` now, if it still runs."""
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

    def __init__(self, command: tuple[str, ...] = ("zfs",)) -> None:
        self._command = command

    async def inventory(self, root: str, recursive: bool) -> Inventory:
        """See `Source`."""
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
            sizes.update(parse_written(stdout.decode("utf-8")))
        return sizes

    async def send(self, stream: zfs.Stream) -> Sending:
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
        return Sending(process, reader)

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

    async def _start(self, arguments: tuple[str, ...], stdout: int) -> Process:
        argv = (*self._command, *arguments)
        try:
            return await asyncio.create_subprocess_exec(
                *argv, stdin=DEVNULL, stdout=stdout, stderr=PIPE, env=environment()
            )
        except OSError as error:
            raise ZfsError(f"This machine has no working zfs: {not_runnable(argv, error)}.", "no-zfs") from error


class AgentTarget:
    """The target: ZFS behind agents, each on a channel of its own. The first one is the control agent."""

    def __init__(self, opener: ChannelOpener, host: str, root: str, buffer: str, command: tuple[str, ...]) -> None:
        self.host = host
        self.root = root
        self.buffer = buffer
        self._opener = opener
        self._command = command
        self._clients: list[AgentClient] = []

    async def open(self) -> tuple[AgentClient, Hello]:
        """Open a channel with an agent on it; `ChannelRefused` when there can be no more."""
        client = AgentClient(await self._opener.open(), self.host)
        self._clients.append(client)
        hello = await client.start()
        await client.begin(self.root, self.buffer, self._command)
        return client, hello

    async def open_many(self, count: int) -> list[AgentClient]:
        """Open up to ``count`` channels at once; those that could not be opened, or have no agent, are left out.

        Whatever else went wrong is raised only when none could be opened.
        """
        opened = await asyncio.gather(*(self.open() for _ in range(count)), return_exceptions=True)
        clients = [result[0] for result in opened if not isinstance(result, BaseException)]
        for result in opened:
            if isinstance(result, BaseException) and not (clients or isinstance(result, ChannelRefused)):
                raise result
        return clients

    @property
    def lost(self) -> bool:
        """Whether the way there has gone."""
        return self._opener.lost

    @property
    def cipher(self) -> str:
        """What protects the way there."""
        return self._opener.cipher

    async def close(self) -> None:
        """End all agents, and the way to them. Never fails."""
        await asyncio.gather(*(client.close() for client in self._clients))
        await self._opener.close()
