"""The end that sends when it is on another host: ZFS behind agents, and the streams that they send."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Sequence

from . import zfs
from .agent import AgentClient
from .channel import ChannelRefused
from .dataset import Inventory, child_of
from .endpoint import Endpoint
from .errors import AgentError
from .messages import Data, Operation, Result, Send
from .messages import Lock as LockQuestion
from .remembered import Remembered
from .source import no_such_dataset
from .throttle import Throttle


class AgentSending:
    """A `zfs send` that an agent runs; see `Sending`. Its agent is free again after `finish`, and gone after `kill`."""

    def __init__(self, source: AgentSource, client: AgentClient, question: Send) -> None:
        self._source = source
        self._client = client
        self._question = question
        self._result: asyncio.Future[Result] | None = None
        self._given_back = False
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
            self._give_back(None)
            return str(error)
        self._give_back(self._client)
        if result.ok and result.length != self.length:
            return f"{self._client.host} says that it has sent {result.length} bytes, and {self.length} have arrived"
        return "" if result.ok else result.message

    async def kill(self) -> None:
        """See `Sending`."""
        self._client.channel.close()
        if self._result is not None:
            self._result.cancel()  # its listener may be held up by a target that takes nothing
            await asyncio.wait((self._result,))
        self._give_back(None)

    def _give_back(self, client: AgentClient | None) -> None:
        """Once: a stream may be given up just when it has come to its end."""
        if not self._given_back:
            self._given_back = True
            self._source.release(client)


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
            raise no_such_dataset(self.root, self.host)
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
