"""A running `zfs send`: what a run needs of one, and the one on this machine, whose stream may go through a filter."""

from __future__ import annotations

import asyncio
import contextlib
import os
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Sequence
from typing import Protocol

from . import filters, lzc, zfs
from .agent import AgentClient
from .concurrency import end_process, whole
from .errors import ZfsError
from .process import PIPE_BYTES, Completed, enlarge_pipe, environment, not_runnable
from .protocol import HEADER
from .throttle import MAX_TURN_BYTES, Throttle

PIECE_BYTES = (128 << 10) - HEADER.size
"""Read from `zfs send` at a time: with its header, four SSH packets."""


class Sending(Protocol):
    """A running `zfs send`, with the filter that its stream goes through, if it goes through one."""

    @property
    def length(self) -> int:
        """Bytes of the stream so far, after compression."""
        ...

    def pump_into(self, client: AgentClient, throttle: Throttle | None) -> asyncio.Future[None]:
        """Begin to feed the stream to ``client`` as `Data`, as fast as ``throttle`` allows.

        The future is done at the stream's end.
        """
        ...

    def waits_for(self, since: float) -> str:
        """Whom a stream waits for that has given nothing ``since`` then, by `time.monotonic`: a clause."""
        ...

    async def finish(self) -> str:
        """After the stream's end: empty when `zfs send` and the filter ended well, else what was said."""
        ...

    async def kill(self) -> None:
        """End it now, if it still runs."""
        ...


class _Command:
    """A process of this machine whose stderr is read while it runs."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._stderr = asyncio.create_task(self._read_stderr())

    async def wait(self) -> Completed:
        """Wait for its end."""
        return Completed(await self._process.wait(), "", await self._stderr)

    async def kill(self) -> None:
        """End it, if it still runs, and wait for that."""
        end_process(self._process.pid, self._process.returncode)
        await self.wait()

    async def _read_stderr(self) -> str:
        assert self._process.stderr is not None
        return (await self._process.stderr.read()).decode("utf-8", "replace")


class _Call:
    """A call of the library, as a `_Command`."""

    def __init__(self, library: lzc.Library, stream: zfs.Stream, writer: int) -> None:
        loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()

        def ended() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has been closed: nobody waits any more
                loop.call_soon_threadsafe(self._ended.set)

        self._call = lzc.Call(lambda: library.send(stream, writer), writer, ended)

    async def wait(self) -> Completed:
        """Wait for its end."""
        await self._ended.wait()
        return self._call.wait()

    async def kill(self) -> None:
        """End it, if it still runs, and wait for that."""
        self._call.interrupt()
        await self.wait()


class LocalSending:
    """A `zfs send` on this machine, and the filter behind it if there is one; see `Sending`.

    ``fd`` is where the stream comes out.
    """

    def __init__(self, send: _Command | _Call, fd: int, behind: _Command | None = None, filter_name: str = "") -> None:
        self._send = send
        self._fd = fd
        self._filter = behind
        self._filter_name = filter_name
        self._loop = asyncio.get_running_loop()
        self._client: AgentClient | None = None
        self._throttle: Throttle | None = None
        self._frame = memoryview(bytearray(HEADER.size + MAX_TURN_BYTES))
        self._in_line = False
        """The stream has more, and waits for its turn at the throttle."""
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self.length = 0
        """Bytes read of the stream so far."""

    def pump_into(self, client: AgentClient, throttle: Throttle | None) -> asyncio.Future[None]:
        """See `Sending`.

        The pump runs in the event loop's callbacks, not in a task: a task switch per chunk would halve its speed.
        """
        self._client = client
        self._throttle = throttle
        os.set_blocking(self._fd, False)
        client.channel.on_resume = self._resume
        self._resume()
        return self._ended

    def waits_for(self, since: float) -> str:
        """See `Sending`."""
        behind = f", or {self._filter_name} behind it," if self._filter else ""
        return f"zfs send{behind} gave nothing more on this machine"

    async def finish(self) -> str:
        """See `Sending`."""
        self._stop()
        sent = await self._send.wait()
        broken = filters.complaint(await self._filter.wait(), self._filter_name) if self._filter else ""
        if broken:  # first, since `zfs send` cannot end well either then
            return broken
        if sent.status == 0:
            return ""
        return sent.stderr.strip() or f"zfs send ended with status {sent.status}"

    async def kill(self) -> None:
        """See `Sending`."""
        self._stop()
        await self._send.kill()
        if self._filter is not None:
            await self._filter.kill()

    def _readable(self) -> None:
        if self._client is not None and self._client.channel.paused:
            self._loop.remove_reader(self._fd)
        elif self._throttle is None:
            self._read(PIECE_BYTES)
        elif not self._throttle.ask(self._take_turn):
            self._in_line = True
            self._loop.remove_reader(self._fd)

    def _take_turn(self, allowed: int) -> int:
        if not self._in_line:
            return self._read(allowed)
        self._in_line = False
        if self._fd < 0 or self._client is None or self._client.channel.paused:
            return 0  # stopped, or held up, since it asked
        self._loop.add_reader(self._fd, self._readable)
        return self._read(allowed)

    def _read(self, limit: int) -> int:
        assert self._client is not None  # or it would not be read
        try:
            length = os.readv(self._fd, [self._frame[HEADER.size : HEADER.size + limit]])
        except BlockingIOError:
            return 0
        if not length:
            self._stop()
            return 0
        self.length += length
        self._client.tell_data(self._frame[: HEADER.size + length])
        if self._client.channel.paused:
            self._loop.remove_reader(self._fd)
        return length

    def _resume(self) -> None:
        if self._fd >= 0 and not self._in_line and self._client is not None and not self._client.channel.paused:
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


async def start_sending(command: Sequence[str], stream: zfs.Stream) -> LocalSending:
    """Start `zfs send`, by ``command`` if the library cannot, and the stream's filter; `ZfsError` when it cannot be."""
    library = lzc.load(command) if lzc.sends(stream) else None
    reader, writer = _pipe()
    if library is not None:
        return LocalSending(_Call(library, stream, writer), reader)
    try:
        send = _Command(await start((*command, *zfs.send(stream)), DEVNULL, writer))
    except BaseException:
        os.close(reader)
        raise
    finally:
        os.close(writer)
    if not stream.filter:
        return LocalSending(send, reader)
    outlet, inlet = _pipe()
    try:
        behind = _Command(await start(filters.named(stream.filter).compress, reader, inlet))
    except BaseException:
        os.close(outlet)
        await send.kill()
        raise
    finally:
        os.close(reader)
        os.close(inlet)
    return LocalSending(send, outlet, behind, stream.filter)


async def start(argv: Sequence[str], stdin: int, stdout: int) -> Process:
    """Start a command of this machine, its stderr a pipe; `ZfsError` when it cannot be."""
    try:
        starting = asyncio.create_subprocess_exec(*argv, stdin=stdin, stdout=stdout, stderr=PIPE, env=environment())
        return await whole(starting, _discard)
    except OSError as error:
        raise ZfsError(f"This machine has no working {argv[0]}: {not_runnable(argv, error)}.", "no-zfs") from error


async def _discard(process: Process) -> None:
    """End a process that nobody wants any more."""
    end_process(process.pid, process.returncode)
    await process.communicate()


def _pipe() -> tuple[int, int]:
    """A pipe for a stream: where it is read, and where it is written."""
    reader, writer = os.pipe()
    enlarge_pipe(reader, PIPE_BYTES)
    return reader, writer
