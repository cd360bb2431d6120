"""Counts the round trips of a run: how often it would wait for an answer on a line that is endlessly slow.

Every answer of every agent is held back until the client has nothing more to say without one; then all answers that
it is owed are let through at once, and that is one round trip. The figure depends on the order of things alone, not on
how fast they go.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from zfsync_ssh.channel import Channel, LocalChannel
from zfsync_ssh.decision import NEW, Decision
from zfsync_ssh.messages import (
    Answer,
    Apply,
    Begin,
    Bye,
    CleanBuffer,
    Close,
    Hello,
    Inventory,
    Listed,
    Lock,
    Query,
    Result,
    Results,
    Send,
    Stream,
    Sync,
)
from zfsync_ssh.protocol import HEADER, encode

READY = b"zfsync-agent-ready "
QUIET_TURNS = 15
"""So many turns of the event loop, 10 ms each, without a word or a process of the client's own: it waits."""


def number_of(message: Any) -> int:
    """The type of a message on the wire."""
    return encode(message)[0]


_QUESTIONS = {
    number_of(message)
    for message in (
        Begin(0, "", "", ()), Lock(""), Inventory(True), Apply(()), Sync("", "", "", (), ()), Stream("", 0, 0),
        CleanBuffer(()), Close(), Query("", ()), Send("", ""),
    )
}  # fmt: skip
_ANSWERS = {
    number_of(message)
    for message in (
        Hello(0, "", "", "", 0),
        Listed(True),
        Result(True),
        Results(()),
        Answer("", Decision(NEW), ""),
        Bye(),
    )
}


class Frames:
    """Picks the frames out of a stream of bytes, behind ``start``."""

    def __init__(self, start: bytes = b"") -> None:
        self._start = start
        self._rest = b""

    def feed(self, data: bytes | memoryview) -> list[int]:
        """The types of the frames that ``data`` completes."""
        self._rest += data
        if self._start:
            _, found, behind = self._rest.partition(self._start)
            if not found or b"\n" not in behind:
                return []
            self._start, self._rest = b"", behind.partition(b"\n")[2]
        types = []
        while len(self._rest) >= HEADER.size:
            kind, length = HEADER.unpack_from(self._rest)
            if len(self._rest) < HEADER.size + length:
                break
            types.append(kind)
            self._rest = self._rest[HEADER.size + length :]
        return types


class HeldChannel(LocalChannel):
    """A channel whose input waits to be let through."""

    def __init__(self) -> None:
        super().__init__()
        self.owed = 1  # the hello
        self.words = 0
        self._held: list[bytes] = []
        self._end: tuple[int | None, bool] = (None, False)
        self._asked: Frames | None = None
        self._answers = Frames(READY)

    @property
    def pid(self) -> int:
        assert self._transport is not None
        return self._transport.get_pid()

    def write(self, data: bytes | memoryview) -> None:
        self.words += 1
        if self._asked is None:
            self._asked = Frames()  # the first that is written is the agent itself
        else:
            self.owed += sum(kind in _QUESTIONS for kind in self._asked.feed(bytes(data)))
        super().write(data)

    def input_received(self, data: bytes) -> None:
        self.owed -= sum(kind in _ANSWERS for kind in self._answers.feed(data))
        self._held.append(data)

    def ended(self, exit_status: int | None) -> None:
        self._end = exit_status, True
        if not self._held:
            super().ended(exit_status)

    def let_through(self) -> bool:
        """Hand on what is held; whether there was something."""
        held, self._held = self._held, []
        for data in held:
            super().input_received(data)
        if self._end[1]:
            super().ended(self._end[0])
        return bool(held)


class RoundTrips:
    """Opens channels as `zfsync_ssh.channel.LocalOpener` does, and counts. ``async with`` it around the run."""

    lost = False
    cipher = ""

    def __init__(self, command: str) -> None:
        self._command = command
        self._channels: list[HeldChannel] = []
        self._others = children()
        self.count = 0

    async def open(self) -> Channel:
        channel = await HeldChannel.open(("/bin/sh", "-c", self._command))
        assert isinstance(channel, HeldChannel)
        self._channels.append(channel)
        return channel

    async def close(self) -> None:
        pass

    @contextlib.asynccontextmanager
    async def counting(self) -> AsyncIterator[None]:
        """Let answers through, round by round, as long as the block runs."""
        task = asyncio.create_task(self._hold_back())
        try:
            yield
        finally:
            task.cancel()

    async def _hold_back(self) -> None:
        while True:
            await self._until_quiet()
            let_through = [channel.let_through() for channel in self._channels]
            self.count += any(let_through)

    async def _until_quiet(self) -> None:
        """Until the client has said all it can, and each agent has answered all that it was asked."""
        quiet, before = 0, -1
        while quiet < QUIET_TURNS:
            await asyncio.sleep(0.01)
            words = sum(channel.words for channel in self._channels)
            busy = children() - self._others - {channel.pid for channel in self._channels}
            still = words == before and not busy and not any(channel.owed for channel in self._channels)
            quiet, before = quiet + 1 if still else 0, words


def children() -> set[int]:
    """The processes that this one has started and that have not ended."""
    found = set()
    for task in Path(f"/proc/{os.getpid()}/task").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found |= set(map(int, (task / "children").read_text().split()))
    return found
