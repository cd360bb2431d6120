"""The client's half of a conversation with one agent: questions go out, answers come back to whoever asked.

The order is that of `zfsync_ssh.protocol`: the agent answers strictly in turn, so a question is a future in a queue.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import secrets
import time
import zlib
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from . import bootstrap
from .about import About
from .about import parse as parse_about
from .advice import cannot_list
from .channel import Channel
from .dataset import Host, Inventory
from .entry import MAX_BATCH_ENTRIES, Entry, decode_line
from .errors import AgentError, LockedError, RemoteProtocolError, SilenceError, ZfsError
from .listing import InventoryParser, Lines
from .messages import (
    MAX_OPERATIONS,
    PROTOCOL,
    Apply,
    Beat,
    Begin,
    Bye,
    CleanBuffer,
    Close,
    Data,
    Failure,
    Hello,
    Listed,
    Lock,
    Message,
    More,
    Operation,
    Output,
    Ping,
    Pong,
    Query,
    Result,
    Results,
    Send,
)
from .messages import Inventory as InventoryMessage
from .protocol import HEADER, Connection
from .remote_agent import EXIT_SILENT
from .tree import BOUND
from .zfs import ABOUT_QUERY, batches

HELLO_SECONDS = 30.0
CLOSE_SECONDS = 10.0
PING_SECONDS = 30.0
"""How often each agent hears from us: see `zfsync_ssh.conversation.MAX_SILENCE_SECONDS`."""
BEAT_SECONDS = 10
"""How often an agent that waits for zfs amid a stream tells that it is there."""
ANSWER_SECONDS = 60.0  # for what needs no zfs
SILENCE_SECONDS = 300.0
"""An agent that owes an answer and says nothing for so long, not even that it is at work, has gone."""
MAX_LISTING_BYTES = 1 << 28
"""Of text, decompressed: some two million snapshots. More is no listing."""
MAX_RESULTS = 1 << 17
"""Of one `CleanBuffer`; of an `Apply` there is one for each operation."""


class AgentClient:
    """One agent, over one channel. `start` it; then `ask`; at last `close` it."""

    def __init__(self, channel: Channel, host: Host) -> None:
        self.channel = channel
        self.host = host
        self._connection = Connection(agent=False)
        self._waiting: collections.deque[asyncio.Future[Message]] = collections.deque()
        self._take: Callable[[bytes], None] | None = None
        self._relay: Callable[[bytes], Awaitable[None]] | None = None
        self._results: list[Result] = []
        """Of the `Results` that come now, those that have come."""
        self._due: collections.deque[int | None] = collections.deque()
        """How many results each question for some is to have; None where the agent says what it has done."""
        self._hello: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._tasks: list[asyncio.Task[None]] = []
        self._error: AgentError | None = None
        self._pings = 0
        self._answers = 0
        self._taken = 0
        self._relaying = False
        self.heard = time.monotonic()
        """When it last said something, by that clock."""
        self.confined = False
        """It is a confined receiver, which takes one snapshot in a stream; known once it has begun."""

    # -- the conversation --

    def start(self, root: str, buffer: str, command: tuple[str, ...]) -> Coroutine[Any, Any, Hello]:
        """Push the agent and say what the channel is for; then its hello and its consent can be awaited.

        More can be asked meanwhile. `AgentError` when the hello does not come, `ZfsError` when the agent will not have
        it.
        """
        nonce = secrets.token_hex(16)
        self.channel.write(bootstrap.payload(nonce))
        begun = self.ask(Begin(PROTOCOL, root, buffer, command, BEAT_SECONDS))
        return self._started(root, bootstrap.Greeting(nonce), begun)

    async def _started(self, root: str, greeting: bootstrap.Greeting, begun: asyncio.Future[Message]) -> Hello:
        try:
            async with asyncio.timeout(HELLO_SECONDS):
                rest = await skip_noise(self.channel, greeting, self.host)
                if rest:
                    self._connection.receive(rest)
                self._tasks.append(asyncio.create_task(self._listen()))
                hello = await self._hello
        except TimeoutError:
            noise = f"; its login shell said: {greeting.noise.strip()[-200:]!r}" if greeting.noise.strip() else ""
            raise AgentError(
                f"The agent on {self.host} did not say hello within {HELLO_SECONDS:.0f} seconds{noise}."
            ) from None
        assert isinstance(hello, Hello)  # or the future had an exception
        if hello.protocol != PROTOCOL:
            raise AgentError(
                f"The agent on {self.host} is zfsync {hello.version} and speaks protocol {hello.protocol}, "
                f"this one {PROTOCOL}: use the same version at both ends."
            )
        self._tasks.append(asyncio.create_task(self._keep_in_touch()))
        result = await self._soon(begun, "Begin")
        if not result.ok:
            raise ZfsError(f"{self.host} refused the target {root}: {result.message}.", result.code)
        self.confined = result.code == BOUND
        return hello

    def ask(self, message: Message) -> asyncio.Future[Message]:
        """Send a question; its answer will be the future's result. Cancelling the future only drops the answer."""
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        if self._error is not None:
            future.set_exception(self._error)
            future.exception()  # whoever asked may be cancelled before it looks: that is no reason for a complaint
        else:
            if not self._waiting:
                self.heard = time.monotonic()  # it had nothing to say
            self._write(message)
            self._waiting.append(future)
            if isinstance(message, (Apply, CleanBuffer)):
                self._due.append(len(message.operations) if isinstance(message, Apply) else None)
        return future

    def tell(self, message: Message) -> None:
        """Send a message that has no answer of its own: Data, End, Abort."""
        if self._error is None:
            self._write(message)

    def tell_data(self, frame: memoryview) -> None:
        """Send a `Data`: ``frame`` is its payload, with room for the header in front. It may be used again at once."""
        if self._error is None:
            frame[: HEADER.size] = self._connection.send_header(Data, len(frame) - HEADER.size)
            self.channel.write(frame)

    @property
    def error(self) -> AgentError | None:
        """Why the agent, or the way to it, has gone; None while it is there."""
        return self._error

    @property
    def streaming(self) -> bool:
        """Whether a Stream is open."""
        return self._connection.streaming

    @property
    def unanswered(self) -> int:
        """How many questions wait for their answer."""
        return self._connection.unanswered

    @property
    def progress(self) -> tuple[int, int]:
        """Changes as it works: answers so far, and bytes that it has passed on of the stream under way."""
        return self._answers, self._taken

    def give_up(self, error: AgentError) -> None:
        """Hang up: nothing more is expected of it, because of ``error``."""
        self._fail(error)

    async def close(self) -> None:
        """Say goodbye and wait for the agent's end, if it is still there. Never fails."""
        if self._error is None and self._hello.done() and not self._connection.streaming:
            with contextlib.suppress(AgentError, TimeoutError):
                await asyncio.wait_for(self.ask(Close()), CLOSE_SECONDS)
        self.channel.close()
        if self._hello.done():  # what never said hello may never end either: the connection will be closed on it
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.channel.wait_ended(), CLOSE_SECONDS)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- questions with more to them --

    async def lock(self, root: str, owner: str) -> None:
        """Take the target's lock; `LockedError` when another run has it."""
        result = await self._soon(self.ask(Lock(owner)), "Lock")
        if not result.ok and result.code == "locked":
            holder = result.message or "a run that did not say its name"
            raise LockedError(f"{self.host.at(root)} is locked by {holder}: wait for it to end, or end it.")
        if not result.ok:
            raise AgentError(f"{self.host.at(root)} cannot be locked: {result.message}.")

    async def result(self, message: Message) -> Result:
        """Ask something that is answered with a Result."""
        answer = await self.ask(message)
        assert isinstance(answer, Result)  # the Connection let no other through
        return answer

    async def _soon(self, answer: asyncio.Future[Message], asked: str) -> Result:
        """The answer to what needs no zfs; `AgentError` when it does not come."""
        try:
            result = await asyncio.wait_for(answer, ANSWER_SECONDS)
        except TimeoutError:
            words = f"did not answer {asked} in {ANSWER_SECONDS:.0f} seconds"
            raise AgentError(f"The agent on {self.host} {words}.") from None
        assert isinstance(result, Result)  # the Connection let no other through
        return result

    async def results(self, message: Apply | CleanBuffer) -> list[Result]:
        """Ask something that is answered with a result each."""
        answer = await self.ask(message)
        assert isinstance(answer, Results)  # all of them: see _whole
        return list(answer.results)

    async def apply(self, operations: Sequence[Operation]) -> list[Result]:
        """Carry out ``operations``; their results, in order."""
        done: list[Result] = []
        for at in range(0, len(operations), MAX_OPERATIONS):
            done += await self.results(Apply(tuple(operations[at : at + MAX_OPERATIONS])))
        return done

    async def inventory(
        self, root: str, buffer: str, question: InventoryMessage, remembered: Mapping[str, str] = MappingProxyType({})
    ) -> Inventory:
        """What there is, the snapshots that are known as ``remembered``; `ZfsError` when it cannot be listed."""
        parser = InventoryParser(
            root, buffer, holds=bool(question.holds), creation=question.creation, changes=question.changes
        )
        answer = await self._listing(question, parser.feed)
        if not answer.ok:
            raise ZfsError(cannot_list(self.host, root, answer), answer.code)
        if answer.spared:
            parser.recall(remembered)
        return parser.finish(answer.ancestors, answer.available, answer.encrypted, answer.at)

    async def query(self, kind: str, names: Sequence[str]) -> list[str]:
        """The lines that a kind of `zfsync_ssh.zfs.QUERIES` has for ``names``, each a child or ``CHILD@NAME``."""
        found: list[str] = []
        for batch in batches(names):
            await self._listing(Query(kind, tuple(batch)), found.append)
        return found

    async def about(self) -> About | None:
        """What the agent says of itself; None for a confined receiver that does not know the question yet."""
        found: list[str] = []
        answer = await self._listing(Query(ABOUT_QUERY, ()), found.append)
        try:
            return parse_about(found) if answer.ok else None
        except ValueError as error:
            raise self._blame(RemoteProtocolError(f"said of itself what cannot be read: {error}")) from error

    async def batch(self, share: int) -> tuple[list[Entry], bool]:
        """The next entries of the snapshot that the last `Digest` opened, and whether there are more.

        `ZfsError` when they cannot be read.
        """
        entries: list[Entry] = []

        def feed(line: str) -> None:
            if len(entries) >= MAX_BATCH_ENTRIES:
                raise ValueError("more entries than were asked for")
            entries.append(decode_line(line))

        answer = await self._listing(More(share), feed)
        if not answer.ok:
            raise ZfsError(answer.message, answer.code)
        return entries, answer.code != "end"

    async def send_stream(self, question: Send, relay: Callable[[bytes], Awaitable[None]]) -> Result:
        """Have the agent run `zfs send`, and hand its stream to ``relay``, no faster than that takes it."""
        self._relay = relay
        try:
            answer = await self.ask(question)
        finally:
            self._relay = None
        assert isinstance(answer, Result)
        return answer

    async def _listing(self, question: InventoryMessage | Query | More, feed: Callable[[str], object]) -> Listed:
        """Ask for lines and feed each to ``feed``, decompressed, as they come."""
        lines, inflate = Lines(), zlib.decompressobj()
        total = 0

        def take(payload: bytes) -> None:
            nonlocal total
            while payload:
                try:
                    text = inflate.decompress(payload, 1 << 20)
                    for line in lines.feed(text):
                        feed(line)
                except (ValueError, IndexError, zlib.error) as error:
                    raise RemoteProtocolError(f"sent a listing that cannot be read: {error}") from error
                payload = inflate.unconsumed_tail
                total += len(text)
                if total > MAX_LISTING_BYTES:
                    raise RemoteProtocolError(f"sent a listing of more than {MAX_LISTING_BYTES >> 20} MiB")

        answer = await self._ask_for_output(question, take)
        assert isinstance(answer, Listed)
        return answer

    async def _ask_for_output(self, question: Message, take: Callable[[bytes], None]) -> Message:
        self._take = take
        try:
            return await self.ask(question)
        finally:
            self._take = None

    # -- inside --

    def _write(self, message: Message) -> None:
        self.channel.write(self._connection.send(message))

    async def _listen(self) -> None:
        """Hand every message to whoever waits for it, until the channel's end."""
        try:
            while True:
                while (message := self._connection.next_message()) is not None:
                    self.heard = time.monotonic()
                    if self._relay is not None and isinstance(message, Output):
                        self._relaying = True  # and not listening: its silence means nothing
                        await self._relay(message.payload)
                        self._relaying, self.heard = False, time.monotonic()
                    else:
                        self._deliver(message)
                data = await self.channel.read()
                self._connection.receive(data)
                if not data and self._connection.next_message() is None:
                    raise self._why_gone()
        except AgentError as error:
            self._fail(error if not isinstance(error, RemoteProtocolError) else self._blame(error))
        except Exception as error:  # a defect here: nobody may wait for ever because of it
            self._fail(AgentError(f"What the agent on {self.host} said could not be taken: {error!r}."))
            raise

    def _deliver(self, message: Message) -> None:
        if isinstance(message, Beat):
            self._taken = message.length
        elif isinstance(message, Hello):
            self._hello.set_result(message)
        elif isinstance(message, Failure):
            raise AgentError(f"The agent on {self.host} gave up: {message.message}.")
        elif isinstance(message, Output):
            if self._take is not None:
                self._take(message.payload)
        elif isinstance(message, Results) and message.more:
            self._gather(message)
        elif not isinstance(message, Pong):
            message = self._whole(message) if isinstance(message, Results) else message
            future = self._waiting.popleft()
            self._answers += 1
            if not future.done():
                future.set_result(message)
            if isinstance(message, Bye):
                self._error = AgentError(f"The agent on {self.host} has ended.")

    def _gather(self, message: Results) -> None:
        """Keep results; no more than are due."""
        self._results += message.results
        due = self._due[0]
        if len(self._results) > (MAX_RESULTS if due is None else due):
            raise RemoteProtocolError(f"sent Results of more than {MAX_RESULTS if due is None else due}")

    def _whole(self, message: Results) -> Results:
        """The last results of a question, with those that came before them."""
        self._gather(message)
        due, found = self._due.popleft(), self._results
        self._results = []
        if due not in (None, len(found)):
            raise RemoteProtocolError(f"sent Results of {len(found)} for {due} operations")
        return Results(tuple(found))

    def _fail(self, error: AgentError) -> None:
        if self._error is None:
            self._error = error
        for future in (self._hello, *self._waiting):
            if not future.done():
                future.set_exception(error)
                future.exception()  # likewise
        self._waiting.clear()
        self.channel.close()

    def _blame(self, error: RemoteProtocolError) -> AgentError:
        return RemoteProtocolError(f"The agent on {self.host} broke the protocol: {error}.")

    def _why_gone(self) -> AgentError:
        status = self.channel.exit_status
        kind = SilenceError if status == EXIT_SILENT else AgentError
        return kind(f"The agent on {self.host} has gone: {bootstrap.explain_exit(status, self.channel.stderr)}.")

    async def _keep_in_touch(self) -> None:
        while self._error is None:
            await asyncio.sleep(PING_SECONDS)
            if self._waiting and not self._relaying and time.monotonic() - self.heard > SILENCE_SECONDS:
                self._fail(
                    SilenceError(f"The agent on {self.host} was not heard of for {SILENCE_SECONDS:.0f} seconds.")
                )
            # On a busy line as well, where it waits for its turn: an agent that hears nothing takes us for gone.
            if self._error is None and self._connection.pings < 2:
                self._pings += 1
                self._write(Ping(self._pings))


async def skip_noise(channel: Channel, greeting: bootstrap.Greeting, host: Host) -> bytes:
    """Read until what was sent to ``host`` has started there; what follows its greeting. `AgentError` otherwise."""
    while True:
        data = await channel.read()
        if not data:
            await channel.wait_ended()
            why = bootstrap.explain_exit(channel.exit_status, channel.stderr or greeting.noise)
            raise AgentError(f"The agent cannot be started on {host}: {why}.")
        try:
            rest = greeting.feed(data)
        except AgentError as error:
            raise AgentError(f"The agent cannot be started on {host}: {error}.") from error
        if rest is not None:
            return rest
