"""An agent that lies: its client ends with an error that names what was said, and keeps no more than its bounds."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import zlib
from collections.abc import Callable, Iterable

import pytest

from tests.fakezfs import State
from tests.protocol.conftest import zfs_command
from zfsync_ssh import agent as client_module
from zfsync_ssh.agent import AgentClient
from zfsync_ssh.channel import Channel
from zfsync_ssh.dataset import Host
from zfsync_ssh.decision import NEW, Decision
from zfsync_ssh.endpoint import Endpoint
from zfsync_ssh.entry import MAX_BATCH_ENTRIES, Entry, encode_line
from zfsync_ssh.errors import AgentError, RemoteProtocolError, SilenceError
from zfsync_ssh.events import Ended, Event, Finished, Status
from zfsync_ssh.messages import (
    PROTOCOL,
    Abort,
    Answer,
    Apply,
    Beat,
    Begin,
    Bye,
    CleanBuffer,
    Close,
    Data,
    Digest,
    End,
    Failure,
    Hello,
    Inventory,
    Listed,
    Lock,
    Message,
    More,
    Operation,
    Output,
    Pong,
    Query,
    Result,
    Results,
    Send,
    Stream,
    Sync,
)
from zfsync_ssh.orchestrator import Options, Replication
from zfsync_ssh.protocol import HEADER, MAX_DATA_BYTES, Connection, encode
from zfsync_ssh.remote_agent import EXIT_SILENT, ready_line
from zfsync_ssh.remote_source import AgentSource
from zfsync_ssh.source import LocalSource
from zfsync_ssh.zfs import Stream as ZfsStream

HELLO = Hello(PROTOCOL, "0.1", "3.8.0", "there", 7)
INVENTORY = Inventory()
ANSWER = Answer("", Decision("magic"), "dst/tree")
Reply = Callable[[Message], Iterable[bytes]]


def answer(message: Message) -> list[bytes]:
    """What an honest agent with an empty pool ``dst`` would say."""
    if isinstance(message, (Begin, Lock)):
        return [encode(Result(True))]
    if isinstance(message, Query):
        return [encode(Listed(True))]
    if isinstance(message, Inventory):
        return [encode(Listed(True, ancestors=("dst",), available=1 << 40))]
    if isinstance(message, Sync):
        return [encode(Answer(message.child, Decision(NEW), message.name))]
    if isinstance(message, Close):
        return [encode(Bye())]
    if isinstance(message, End):
        return [encode(Result(True, length=message.length))]
    if isinstance(message, (Stream, Data, Abort)):
        return []
    names = ("operations", "placeholders")
    return [encode(Results(tuple(Result(True) for name in names for _ in getattr(message, name, ()))))]


class LyingChannel(Channel):
    """An agent that is told what to say to each message, and is honest about the others."""

    def __init__(self, reply: Reply, start: bytes | None = None, hello: bytes | None = None) -> None:
        super().__init__()
        self._reply = reply
        self._start = start
        self._hello = encode(HELLO) if hello is None else hello
        self._heard = bytearray()
        self._connection: Connection | None = None
        self.closed = False

    def write(self, data: bytes | memoryview) -> None:
        loop = asyncio.get_running_loop()
        if self._connection is None:
            nonce = bytes(data).split(b"\n")[0].split()[2].decode()
            self._connection = Connection(agent=True)
            self._connection.send(HELLO)
            start = ready_line(nonce) + self._hello if self._start is None else self._start
            loop.call_soon(self.input_received, start)
            return
        self._connection.receive(bytes(data))
        while (message := self._connection.next_message()) is not None:
            for piece in self._reply(message):
                loop.call_soon(self.input_received, piece)
        self._connection._asked.clear()  # it answers, or not, as it likes
        self._connection._pings.clear()

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            asyncio.get_running_loop().call_soon(self.ended, None)

    def _pause_input(self) -> None:
        pass

    def _resume_input(self) -> None:
        pass


def instead(kind: type, *said: bytes | Message) -> Reply:
    """Say this to a message of this kind."""
    pieces = [one if isinstance(one, bytes) else encode(one) for one in said]
    return lambda message: pieces if isinstance(message, kind) else answer(message)


def silent(message: Message) -> list[bytes]:
    """Say nothing once it has begun."""
    return answer(message) if isinstance(message, Begin) else []


def lines(*rows: str) -> bytes:
    return encode(Output(zlib.compress("".join(f"{row}\n" for row in rows).encode())))


def row(name: str, guid: str = "7") -> str:
    return f"{name}\t{guid}\t3\tfilesystem\t100\t-\t-\toff\tlz4\t-\t-\t-\t50\t99\t-\t-\t-\t-\t-"


async def client(reply: Reply = answer, **more: bytes) -> AgentClient:
    made = AgentClient(LyingChannel(reply, **more), Host("liar"))
    await made.start("dst/tree", "", ("zfs",))
    return made


def too_long(kind: int, length: int = 10 << 30) -> bytes:
    return HEADER.pack(kind, min(length, (1 << 32) - 1))


# ---- before the protocol ---------------------------------------------------------------------------------------------


async def test_a_greeting_without_end_is_not_listened_to() -> None:
    with pytest.raises(AgentError, match="its login shell printed more than 64 KiB before the agent's hello"):
        await client(start=b"x" * 70_000)


async def test_a_greeting_that_trickles_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "HELLO_SECONDS", 0.3)
    channel = LyingChannel(lambda message: [], start=b"a")

    async def trickle() -> None:
        while True:
            channel.input_received(b"b")
            await asyncio.sleep(0.05)

    task = asyncio.create_task(trickle())
    with pytest.raises(AgentError, match=r"did not say hello within 0 seconds; its login shell said: '[ab]+'"):
        await AgentClient(channel, Host("liar")).start("dst/tree", "", ("zfs",))
    task.cancel()


@pytest.mark.parametrize(
    ("hello", "why"),
    [
        (encode(Bye()), "received Bye before Hello"),
        (encode(Failure("no", "I am\x1b[2J ill")), "gave up: I am"),
        (too_long(65), "received a Hello of 4294967295 bytes, which is too long"),
        (HEADER.pack(65, 4) + b"null", "received a Hello that cannot be read: expected an object"),
        (HEADER.pack(65, 100_000) + b"[" * 100_000, "received a Hello that cannot be read: "),
        (HEADER.pack(1, 0), "received a frame of unknown type 1"),
        (encode(HELLO._replace(protocol=99)), "speaks protocol 99"),
        (encode(HELLO)[:-3], "did not say hello within"),
    ],
)
async def test_a_hello_that_is_none(hello: bytes, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "HELLO_SECONDS", 1)
    with pytest.raises(AgentError, match=why):
        await client(lambda message: [], hello=hello)


# ---- order, kinds and lengths ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ((too_long(66),), "received a Output of 4294967295 bytes, which is too long"),
        ((too_long(66, MAX_DATA_BYTES + 1),), f"received a Output of {MAX_DATA_BYTES + 1} bytes"),
        ((too_long(67),), "received a Listed of 4294967295 bytes"),
        ((Result(True),), "received Result when Listed was to come"),
        ((Bye(),), "received Bye when Listed was to come"),
        ((Results(()),), "received Results when Listed was to come"),
        ((Answer("", Decision(NEW)),), "received Answer when Listed was to come"),
        ((HELLO,), "received Hello twice"),
        ((Pong(5),), "received Pong without its Ping"),
        ((Listed(True), Beat(5)), "received Beat with nothing to do"),
        ((Listed(True), Listed(True)), "received Listed when nothing was to come"),
        ((Listed(True), Output(b"x")), "received Output outside an Inventory"),
        ((HEADER.pack(68, 9) + b'{"ok": 1}',), "received a Result that cannot be read: ok is not bool"),
        ((HEADER.pack(67, 2) + b"{}",), "received a Listed that cannot be read"),
        ((Failure("broken", "no more"),), "gave up: no more"),
    ],
)
async def test_an_answer_that_is_none_ends_it_by_name(said: tuple[bytes | Message, ...], why: str) -> None:
    liar = await client(instead(Inventory, *said))
    await asyncio.wait((liar.ask(INVENTORY),), timeout=20)
    for _ in range(5):
        await asyncio.sleep(0)
    assert liar.error is not None
    with pytest.raises(AgentError, match=f"agent on liar .*{why}"):
        raise liar.error
    with pytest.raises(AgentError):  # and nothing more is asked of it
        await liar.ask(INVENTORY)
    assert isinstance(liar.channel, LyingChannel)
    assert liar.channel.closed


async def test_a_frame_that_never_ends_is_kept_no_longer_than_its_bound() -> None:
    liar = await client(instead(Inventory, HEADER.pack(66, MAX_DATA_BYTES), b"x" * (MAX_DATA_BYTES - 1)))
    asking = liar.ask(INVENTORY)
    await asyncio.wait((asking,), timeout=0.2)
    assert len(liar._connection._buffer) == HEADER.size + MAX_DATA_BYTES - 1
    liar.channel.close()
    with pytest.raises(RemoteProtocolError, match="the input ended amid a Output"):
        await asking


async def test_what_needs_no_zfs_and_is_not_answered_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "ANSWER_SECONDS", 0.1)
    with pytest.raises(AgentError, match="The agent on liar did not answer Begin in 0 seconds"):
        await client(instead(Begin))


async def test_an_agent_that_says_nothing_any_more_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "PING_SECONDS", 0.05)
    monkeypatch.setattr(client_module, "SILENCE_SECONDS", 0.2)
    liar = await client(silent)
    with pytest.raises(SilenceError, match="The agent on liar was not heard of for 0 seconds"):
        await liar.inventory("dst/tree", "", INVENTORY)


async def test_an_agent_that_has_ended_because_it_did_not_hear_us_is_told_from_one_that_was_killed() -> None:
    for status, kind in ((EXIT_SILENT, SilenceError), (1, AgentError)):
        liar = await client(silent)
        asked = asyncio.ensure_future(liar.inventory("dst/tree", "", INVENTORY))
        await asyncio.sleep(0)
        liar.channel.ended(status)
        with pytest.raises(AgentError, match="The agent on liar has gone") as raised:
            await asked
        assert type(raised.value) is kind


async def test_an_agent_that_says_that_it_is_at_work_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "PING_SECONDS", 0.05)
    monkeypatch.setattr(client_module, "SILENCE_SECONDS", 0.5)
    liar = await client(silent)
    asking = liar.ask(INVENTORY)
    for _ in range(10):
        await asyncio.sleep(0.1)
        liar.channel.input_received(encode(Beat(0)))
    assert not asking.done()
    liar.channel.input_received(encode(Listed(True)))
    assert await asking == Listed(True)
    liar.give_up(AgentError("enough"))
    await liar.close()


# ---- listings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (lines("no row"), "a row of 1 columns"),
        (lines(row("dst/tree", "-7")), "'-7', which is no number of ZFS's"),
        (lines(row("dst/tree", "1_0")), "'1_0', which is no number"),
        (lines(row("dst/tree", "\u0661")), "which is no number"),
        (lines(row("dst/tree", str(1 << 64))), "which is no number"),
        (lines(row("dst/tree", "9" * 5000)), "which is no number"),
        (lines(row("dst/tree/\x1b[31m")), "which no dataset can be called"),
        (lines(row("dst/tree"), "dst/tree@a\x07\t5\t5"), "which no snapshot can be called"),
        (lines(row("dst/tree"), "dst/tree@1\t5\t-5"), "which is no number"),
        (encode(Output(b"not compressed")), "sent a listing that cannot be read: Error -3"),
        (encode(Output(zlib.compress(b"\xff\n"))), "sent a listing that cannot be read: 'utf-8'"),
        (encode(Output(zlib.compress(b"x" * (1 << 20)))), "a line of more than 256 KiB"),
    ],
)
async def test_a_listing_that_is_none(said: bytes, why: str) -> None:
    liar = await client(instead(Inventory, said, Listed(True)))
    with pytest.raises(RemoteProtocolError, match=f"agent on liar broke the protocol: .*{why}"):
        await liar.inventory("dst/tree", "dst/tree.zfsyncbuffer", INVENTORY)


async def test_a_listing_of_what_is_elsewhere_tells_nothing() -> None:
    said = lines(row("dst/tree"), row("dst/other"), row("dst"), "dst/other@1\t5\t5", "dst/treeish@1\t5\t5")
    liar = await client(instead(Inventory, said, Listed(True)))
    inventory = await liar.inventory("dst/tree", "dst/tree.zfsyncbuffer", INVENTORY)
    assert list(inventory) == [""]
    assert not inventory.datasets[""].snapshots
    await liar.close()


async def test_a_listing_that_blows_up_is_given_up_at_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "MAX_LISTING_BYTES", 8 << 20)
    bomb = zlib.compress(b"dst/x@1\t5\t5\n" * (2 << 20))  # 24 MiB out of 60 KiB
    liar = await client(instead(Inventory, *(encode(Output(bomb[at : at + 9999])) for at in range(0, len(bomb), 9999))))
    with pytest.raises(RemoteProtocolError, match="sent a listing of more than 8 MiB"):
        await liar.inventory("dst/tree", "", INVENTORY)


async def test_entries_that_are_none_or_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    deep = "[" * 100_000
    many = [encode_line(Entry(f"{number:05}", "file")) for number in range(MAX_BATCH_ENTRIES + 1)]
    for said, why in ((deep, "a line that is no entry"), (json.dumps(["x"]), "no entry"), (many, "more entries than")):
        output = zlib.compress("".join(f"{one}\n" for one in ([said] if isinstance(said, str) else said)).encode())
        pieces = [Output(output[at : at + MAX_DATA_BYTES]) for at in range(0, len(output), MAX_DATA_BYTES)]
        liar = await client(instead(More, *pieces, Listed(True)))
        with pytest.raises(RemoteProtocolError, match=why):
            await liar.batch(1)


# ---- results ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ((Results(()),), "sent Results of 0 for 2 operations"),
        ((Results((Result(True),)),), "sent Results of 1 for 2 operations"),
        ((Results((Result(True),) * 3),), "sent Results of more than 2"),
        ((Results((Result(True),) * 2, more=True),) * 5, "sent Results of more than 2"),
    ],
)
async def test_there_is_a_result_for_each_operation(said: tuple[Message, ...], why: str) -> None:
    liar = await client(instead(Apply, *said))
    with pytest.raises(RemoteProtocolError, match=f"The agent on liar broke the protocol: {why}"):
        await liar.apply([Operation("buffer", "dst/a"), Operation("buffer", "dst/b")])


async def test_results_without_end_are_given_up_at_their_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "MAX_RESULTS", 1000)
    liar = await client(instead(CleanBuffer, *(Results((Result(True),) * 400, more=True),) * 9))
    with pytest.raises(RemoteProtocolError, match="sent Results of more than 1000"):
        await liar.results(CleanBuffer())


# ---- streams ---------------------------------------------------------------------------------------------------------


def always_stale(message: Message) -> list[bytes]:
    """No stream fits, and no new decision does."""
    if isinstance(message, Sync):
        return [encode(ANSWER)]
    return [encode(Result(False, "stale", "it moved"))] if isinstance(message, Stream) else answer(message)


class LyingOpener:
    """A way to agents that lie."""

    lost = False
    cipher = ""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply

    async def open(self) -> Channel:
        return LyingChannel(self._reply)

    async def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (instead(Data, Result(True, length=5)), "received Result that a Stream has arrived, before its End"),
        (instead(End, Result(True, length=5)), "received a Result of 5 bytes for a Stream of [0-9]+ of src/tree"),
        (instead(End, Result(True)), "received a Result of 0 bytes for a Stream"),
        (instead(End, Listed(True)), "received Listed when Result was to come"),
        (instead(Data, Output(b"x")), "received Output outside an Inventory"),
        (instead(Sync, Answer("/other", Decision(NEW), "dst/tree")), "received an Answer about another dataset"),
        (instead(Sync, ANSWER, Result(False), Result(False)), "received Result when nothing was to come"),
        (always_stale, "answered a Sync of src/tree with a base that is none"),
        (instead(Sync, HEADER.pack(70, 30) + b'{"child":"","decision":[1,2]} '), "received a Answer that cannot be"),
    ],
)
async def test_a_stream_is_not_sent_because_an_agent_says_so(reply: Reply, why: str, tmp_path: object) -> None:
    sender = State(f"{tmp_path}/sender")
    sender.create("src/tree")
    sender.snapshot("src/tree@1", 300_000)
    events: list[Event] = []
    target = Endpoint(LyingOpener(reply), Host("liar"), "dst/tree", "dst/tree.zfsyncbuffer", ("zfs",))
    run = Replication(LocalSource("src/tree", zfs_command(sender)), target, Options(owner="me"), events.append).run()
    with contextlib.suppress(RemoteProtocolError):  # the run's own end, when no agent is left
        assert await asyncio.wait_for(run, 60) == 3
    (outcome,) = (event.outcome for event in events if isinstance(event, Finished))
    assert outcome.status is Status.FAILED
    ended = events[-1]
    assert isinstance(ended, Ended)
    assert ended.exit_code in (3, 6)
    assert re.search(why, outcome.message), outcome.message


async def test_a_source_that_lies_about_the_length_of_its_stream_is_not_believed() -> None:
    reply = instead(Send, Output(b"12345"), Result(True, length=6))
    source = AgentSource(Endpoint(LyingOpener(reply), Host("liar"), "src/tree", "", ("zfs",)))
    sending = await source.send(ZfsStream("src/tree", "@1"))
    target = await client()
    target.ask(Stream("", 0, 11))
    await sending.pump_into(target, None)
    assert await sending.finish() == "liar says that it has sent 6 bytes, and 5 have arrived"
    await source.close()


async def test_a_digest_is_answered_with_a_result() -> None:
    liar = await client(instead(Digest, Listed(True)))
    with pytest.raises(RemoteProtocolError, match="received Listed when Result was to come"):
        await liar.result(Digest("", "1", 5))
