"""A channel: bytes to and from one agent, with back-pressure, whatever carries them.

`zfsync_ssh.transport` has the one that is a session of an SSH connection, `LocalChannel` here is the pipes of a
process on this machine. Both call back from the event loop; nothing here blocks.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
from collections.abc import Callable, Sequence
from typing import cast

from .concurrency import end_process, whole
from .errors import ConnectError

MAX_STDERR_BYTES = 16 << 10
CLOSE_SECONDS = 5.0


class Channel:
    """What both kinds share: waiting for output to drain, input to come, and the end.

    A subclass carries the bytes: it implements `write`, `close`, `_pause_input` and `_resume_input`, and calls
    `input_received`, `stderr_received`, `pause_writing`, `resume_writing` and `ended`.
    """

    MAX_PENDING_CHUNKS = 64
    """Chunks of input that may wait to be read before the other side is held up."""

    def __init__(self) -> None:
        self.paused = False
        """More output would only pile up: wait for ``on_resume`` to be called, or for `drain`."""
        self.on_resume: Callable[[], None] | None = None
        self.exit_status: int | None = None
        self._chunks: collections.deque[bytes] = collections.deque()
        self._wake = asyncio.Event()
        self._drained = asyncio.Event()
        self._drained.set()
        self._ended = asyncio.Event()
        self._input_paused = False
        self._stderr = bytearray()

    # -- for the user of the channel --

    def write(self, data: bytes | memoryview) -> None:
        """Send ``data``; what the other side does not take yet is kept, in a copy."""
        raise NotImplementedError

    def close(self) -> None:
        """End both directions."""
        raise NotImplementedError

    async def drain(self) -> None:
        """Wait until more may be written, or the channel has ended."""
        await self._drained.wait()

    async def read(self) -> bytes:
        """The next bytes from the other side; ``b""`` when there will be no more."""
        while not self._chunks:
            if self._ended.is_set():
                return b""
            self._wake.clear()
            await self._wake.wait()
        chunk = self._chunks.popleft()
        if self._input_paused and not self._chunks:
            self._input_paused = False
            self._resume_input()
        return chunk

    async def wait_ended(self) -> None:
        """Wait until the process at the other side has ended, or the way to it has gone."""
        await self._ended.wait()

    @property
    def stderr(self) -> str:
        """The last that the process said on stderr."""
        return self._stderr.decode("utf-8", "replace")

    # -- for subclasses --

    def _pause_input(self) -> None:
        raise NotImplementedError

    def _resume_input(self) -> None:
        raise NotImplementedError

    def input_received(self, data: bytes) -> None:
        """Bytes came."""
        self._chunks.append(data)
        self._wake.set()
        if not self._input_paused and len(self._chunks) >= self.MAX_PENDING_CHUNKS:
            self._input_paused = True
            self._pause_input()

    def stderr_received(self, data: bytes) -> None:
        """Bytes came on stderr; the last of them are kept."""
        self._stderr += data
        del self._stderr[:-MAX_STDERR_BYTES]

    def pause_writing(self) -> None:
        """The way out is full."""
        self.paused = True
        self._drained.clear()

    def resume_writing(self) -> None:
        """There is room again."""
        self.paused = False
        self._drained.set()
        if self.on_resume is not None:
            self.on_resume()

    def ended(self, exit_status: int | None) -> None:
        """Nothing more will come or go."""
        self.exit_status = exit_status
        self._ended.set()
        self._wake.set()
        self.resume_writing()


class ChannelRefused(ConnectError):
    """No more channels for now, as sshd says at its MaxSessions: go on with those there are, if there are some."""


class LocalChannel(Channel, asyncio.SubprocessProtocol):
    """A process on this machine; `open` starts it."""

    def __init__(self) -> None:
        super().__init__()
        self._transport: asyncio.SubprocessTransport | None = None

    @classmethod
    async def open(cls, argv: Sequence[str]) -> LocalChannel:
        """Start ``argv`` with pipes for all three; `OSError` when that fails."""
        starting = asyncio.get_running_loop().subprocess_exec(cls, *argv)
        _, channel = await whole(starting, lambda started: started[1].end())
        return channel

    async def end(self) -> None:
        """End the process now, and wait for that."""
        self.close()
        await self.wait_ended()

    def write(self, data: bytes | memoryview) -> None:
        pipe = self._pipe(0)
        if pipe is not None and not pipe.is_closing():
            cast(asyncio.WriteTransport, pipe).write(data)

    def close(self) -> None:
        if self._transport is not None:
            if (pipe := self._pipe(0)) is not None and not pipe.is_closing():
                cast(asyncio.WriteTransport, pipe).abort()  # a close would wait until all is taken
            for fd in (1, 2):
                if (pipe := self._pipe(fd)) is not None:
                    pipe.close()
            end_process(self._transport.get_pid(), self._transport.get_returncode())

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.SubprocessTransport, transport)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if fd == 1:
            self.input_received(data)
        else:
            self.stderr_received(data)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        if fd == 0:
            self.resume_writing()  # what is written now goes nowhere, and nobody has to wait for it

    def connection_lost(self, exc: Exception | None) -> None:
        assert self._transport is not None
        self._transport.close()  # it has ended: nothing is killed any more
        self.ended(self._transport.get_returncode())

    def _pipe(self, fd: int) -> asyncio.BaseTransport | None:
        return self._transport.get_pipe_transport(fd) if self._transport else None

    def _pause_input(self) -> None:
        cast(asyncio.ReadTransport, self._pipe(1)).pause_reading()

    def _resume_input(self) -> None:
        pipe = self._pipe(1)
        if pipe is not None and not pipe.is_closing():
            cast(asyncio.ReadTransport, pipe).resume_reading()


class LocalOpener:
    """Starts agents as processes of this machine, by the same command line that a remote login shell would be given."""

    lost = False
    cipher = ""

    def __init__(self, command: str) -> None:
        self._command = command
        self._channels: list[LocalChannel] = []

    async def open(self) -> Channel:
        """A new process; `ChannelRefused` when it cannot be started."""
        try:
            channel = await LocalChannel.open(("/bin/sh", "-c", self._command))
        except OSError as error:
            raise ChannelRefused(f"This machine cannot start another process: {error.strerror}.") from error
        self._channels.append(channel)
        return channel

    async def close(self) -> None:
        """End what still runs: an agent may not have come to its hello, and nobody has waited for that one."""
        with contextlib.suppress(TimeoutError):  # one that waits for the kernel may do so for ever
            async with asyncio.timeout(CLOSE_SECONDS):
                await asyncio.gather(*(channel.end() for channel in self._channels))
