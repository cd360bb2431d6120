"""One end of a run that is behind agents: ZFS on another host, or on this machine through the same agents."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, Protocol

from . import lzc
from .agent import AgentClient
from .channel import Channel, ChannelRefused
from .dataset import Host, Inventory
from .messages import Hello
from .messages import Inventory as ListQuestion
from .remembered import Recall, Remembered, recalling


class ChannelOpener(Protocol):
    """The way to a host: SSH, or processes on this machine."""

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


class Endpoint:
    """A tree of datasets behind agents, each on a channel of its own. A target has a ``buffer``, a source has none."""

    def __init__(self, opener: ChannelOpener, host: Host, root: str, buffer: str, command: tuple[str, ...]) -> None:
        self.host = host
        self.root = root
        self.buffer = buffer
        self._opener = opener
        self._command = command
        self._clients: list[AgentClient] = []
        self._ahead: list[asyncio.Task[tuple[AgentClient, Hello]]] = []
        self.filters: Sequence[str] = ()
        """Those of `zfsync_ssh.filters` that are there, as the agents say."""
        self.by_library = False
        """Streams of one snapshot need no process there, it may be supposed."""

    def __str__(self) -> str:
        return self.host.at(self.root)

    async def begin(self) -> tuple[AgentClient, Coroutine[Any, Any, Hello]]:
        """Open a channel and push an agent; it can be asked at once, and its hello is to be awaited.

        `ChannelRefused` when there can be no more.
        """
        client = AgentClient(await self._opener.open(), self.host)
        self._clients.append(client)
        return client, self._greeted(client.start(self.root, self.buffer, self._command))

    async def open(self) -> tuple[AgentClient, Hello]:
        """Open a channel with an agent on it; `ChannelRefused` when there can be no more."""
        client, hello = await self.begin()
        return client, await hello

    async def _greeted(self, started: Coroutine[Any, Any, Hello]) -> Hello:
        hello = await started
        self.filters = hello.filters
        self.by_library = hello.system == lzc.SYSTEM and lzc.wanted(self._command)
        return hello

    def open_ahead(self, count: int) -> None:
        """Begin to open ``count`` channels, which `open_many` or `next` is then asked for."""
        self._ahead += [asyncio.create_task(self.open()) for _ in range(count)]

    async def next(self) -> AgentClient:
        """An agent on a channel that was opened ahead, if there is one left, else on another, as by `open`."""
        client, _ = await (self._ahead.pop(0) if self._ahead else self.open())
        return client

    async def open_many(self, count: int) -> list[AgentClient]:
        """Open up to ``count`` channels at once; those that could not be opened, or have no agent, are left out.

        Whatever else went wrong is raised only when none could be opened.
        """
        self.open_ahead(count - len(self._ahead))
        opening, self._ahead = self._ahead[:count], self._ahead[count:]
        opened = await asyncio.gather(*opening, return_exceptions=True)
        clients = [result[0] for result in opened if not isinstance(result, BaseException)]
        for result in opened:
            if isinstance(result, BaseException) and not (clients or isinstance(result, ChannelRefused)):
                raise result
        return clients

    async def inventory(
        self,
        client: AgentClient,
        recursive: bool,
        *,
        holds: str = "",
        creation: bool = False,
        remembered: Remembered | None = None,
    ) -> Inventory:
        """What ``client`` sees there; ``remembered`` as in `zfsync_ssh.source.Source.inventory`."""

        async def listed(recall: Recall) -> Inventory:
            question = ListQuestion(recursive, holds, creation, recall.changes, tuple(recall.lines))
            return await client.inventory(self.root, self.buffer, question, recall.lines)

        return await recalling(listed, remembered if recursive else None)

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
        for opening in self._ahead:
            opening.cancel()
        await asyncio.gather(*self._ahead, return_exceptions=True)
        await asyncio.gather(*(client.close() for client in self._clients))
        await self._opener.close()
