"""The wire: bytes to messages and back, and the order in which they may come."""

from __future__ import annotations

import copy
import json
from typing import Any, Union, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zfsync_ssh.dataset import Bookmark, Snapshot
from zfsync_ssh.decision import INCREMENTAL, Decision, TargetState
from zfsync_ssh.errors import LocalProtocolError, RemoteProtocolError
from zfsync_ssh.messages import (
    MAX_OPERATIONS,
    MAX_SYNC_BOOKMARKS,
    MAX_SYNC_SNAPSHOTS,
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
    End,
    Failure,
    Hello,
    Inventory,
    Listed,
    Lock,
    Message,
    Operation,
    Output,
    Ping,
    Pong,
    Result,
    Results,
    Send,
    Stream,
    Sync,
    trimmed,
)
from zfsync_ssh.protocol import (
    BEFORE_HELLO,
    HEADER,
    MAX_CONTROL_BYTES,
    MAX_DATA_BYTES,
    MAX_IN_FLIGHT,
    Connection,
    encode,
)

HELLO = Hello(PROTOCOL, "0.1", "3.8.0", "there", 7)
BEGIN = Begin(PROTOCOL, "p/t", "p/t.zfsyncbuffer", ("sudo", "-n", "zfs"))
SYNC = Sync("/a", "filesystem", "p/t/a", (Snapshot("x:1 y", 11, 12, 13),), (Bookmark("b", 1, 2),), TargetState(True))
STREAM = Stream("/a", 0, 11)
ANSWER = Answer("/a", Decision(INCREMENTAL, 11), "p/t/a")

QUESTIONS: tuple[Message, ...] = (
    BEGIN, Lock("me"), Inventory(), Apply((Operation("buffer", "p/t.zfsyncbuffer"),)), SYNC, STREAM,
    CleanBuffer(("/a",)), Close("done"),
)  # fmt: skip
STREAM_PARTS: tuple[Message, ...] = (Data(b"x"), End(1), Abort("no"))
ANSWERS: tuple[Message, ...] = (
    Listed(True),
    Result(True),
    Results((Result(False, "busy", "it is", "p/t"),)),
    ANSWER,
    Bye(),
)
CLIENT_MESSAGES: tuple[Message, ...] = (*QUESTIONS, *STREAM_PARTS, Ping(1))
AGENT_MESSAGES: tuple[Message, ...] = (HELLO, Output(b"r"), *ANSWERS, Pong(1), Beat(1), Failure("protocol", "no"))


def values(hint: Any) -> st.SearchStrategy[Any]:
    """Values that fit an annotation of a message."""
    simple: dict[Any, st.SearchStrategy[Any]] = {
        bool: st.booleans(),
        int: st.integers(0, 2**64 - 1),
        str: st.text(max_size=8),
        bytes: st.binary(max_size=20),
    }
    if hint in simple:
        return simple[hint]
    arguments = get_args(hint)
    if get_origin(hint) is Union:
        return st.none() | values(arguments[0])
    if arguments:
        return st.lists(values(arguments[0]), max_size=3).map(tuple)
    return st.builds(hint, **{name: values(kind) for name, kind in get_type_hints(hint).items()})


def messages(like: tuple[Message, ...]) -> st.SearchStrategy[Message]:
    """Messages of the same types as those of ``like``."""
    return st.one_of([values(kind) for kind in dict.fromkeys(map(type, like))])


def hear(connection: Connection, data: bytes) -> list[Message]:
    """The messages that ``data`` completes."""
    connection.receive(data)
    heard = []
    while (message := connection.next_message()) is not None:
        heard.append(message)
    return heard


class Pair:
    """Both ends of a channel, every message of which is delivered at once."""

    def __init__(self, greeted: bool = True) -> None:
        self.client = Connection(agent=False)
        self.agent = Connection(agent=True)
        if greeted:
            self.answer(HELLO)

    def ask(self, *said: Message) -> None:
        """The client says, and the agent hears."""
        for message in said:
            assert hear(self.agent, self.client.send(message)) == [message]

    def answer(self, *said: Message) -> None:
        """The agent says, and the client hears."""
        for message in said:
            assert hear(self.client, self.agent.send(message)) == [message]

    def client_may_not(self, message: Message, where: str) -> None:
        """Neither may the client say it, nor would the agent take it."""
        refused(self.client, self.agent, message, where)

    def agent_may_not(self, message: Message, where: str) -> None:
        """Neither may the agent say it, nor would the client take it."""
        refused(self.agent, self.client, message, where)


def refused(sender: Connection, receiver: Connection, message: Message, where: str) -> None:
    with pytest.raises(LocalProtocolError, match=f"tried to send {type(message).__name__} .*{where}"):
        sender.send(message)
    with pytest.raises(RemoteProtocolError, match=f"received {type(message).__name__} .*{where}"):
        hear(copy.deepcopy(receiver), encode(message))


def frame(number: int, value: object) -> bytes:
    """A control frame with whatever as its payload."""
    payload = value if isinstance(value, bytes) else json.dumps(value).encode()
    return HEADER.pack(number, len(payload)) + payload


def listening_agent() -> Connection:
    """An agent's end with a Stream open, so that every type of a client's messages but questions is in order."""
    pair = Pair()
    pair.ask(STREAM)
    return pair.agent


def type_of(message: Message) -> str:
    return type(message).__name__


# ---- bytes -----------------------------------------------------------------------------------------------------------


@given(messages(CLIENT_MESSAGES))
def test_what_a_client_says_is_what_an_agent_hears(message: Message) -> None:
    pair = Pair()
    if isinstance(message, (Data, End, Abort)):
        pair.ask(STREAM)
    pair.ask(message)


@given(messages(AGENT_MESSAGES))
def test_what_an_agent_says_is_what_a_client_hears(message: Message) -> None:
    pair = Pair(greeted=not isinstance(message, Hello))
    asked: dict[type, Message] = {
        Listed: Inventory(), Output: Inventory(), Result: Lock(""), Results: Apply(()), Answer: SYNC, Bye: Close(),
        Beat: Send("", "@1"),
    }  # fmt: skip
    if type(message) in asked:
        pair.ask(asked[type(message)])
    if isinstance(message, Pong):
        pair.ask(Ping(message.number))
    pair.answer(message)


TALK: tuple[Message, ...] = (BEGIN, Inventory(), SYNC, STREAM, Data(b"12345"), Ping(9), End(5), SYNC, Close())


def test_a_talk_cut_in_two_anywhere_is_the_same_talk() -> None:
    data = b"".join(encode(message) for message in TALK)
    for cut in range(1, len(data)):
        agent = Connection(agent=True)
        assert (*hear(agent, data[:cut]), *hear(agent, data[cut:])) == TALK, cut


def test_a_talk_that_comes_byte_by_byte_is_the_same_talk() -> None:
    agent = Connection(agent=True)
    data = b"".join(encode(message) for message in TALK)
    assert tuple(message for byte in data for message in hear(agent, bytes([byte]))) == TALK


@given(st.data())
def test_a_talk_cut_anyhow_is_the_same_talk(data: st.DataObject) -> None:
    talk = (HELLO, Failure("x", "y"), Failure("z" * 100, ""))
    rest = b"".join(encode(message) for message in talk)
    client = Connection(agent=False)
    heard: list[Message] = []
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        heard += hear(client, rest[:size])
        rest = rest[size:]
    assert tuple(heard) == talk


@pytest.mark.parametrize(
    ("agent", "number", "limit"),
    [
        (True, 1, MAX_CONTROL_BYTES),
        (True, 7, MAX_DATA_BYTES),
        (False, 65, MAX_CONTROL_BYTES),
        (False, 66, MAX_DATA_BYTES),
    ],
)
def test_a_length_over_the_limit_is_refused_at_its_header(agent: bool, number: int, limit: int) -> None:
    at_the_limit = Connection(agent)
    assert hear(at_the_limit, HEADER.pack(number, limit)) == []

    beyond = Connection(agent)
    assert hear(beyond, HEADER.pack(number, limit + 1)[:-1]) == []
    with pytest.raises(RemoteProtocolError, match=f"of {limit + 1} bytes, which is too long"):
        hear(beyond, HEADER.pack(number, limit + 1)[-1:])


def test_what_the_other_side_would_not_take_is_not_sent() -> None:
    pair = Pair()
    pair.ask(STREAM, Data(b"\0" * MAX_DATA_BYTES))
    with pytest.raises(LocalProtocolError, match="a Data of 262145 bytes is larger"):
        pair.client.send(Data(b"\0" * (MAX_DATA_BYTES + 1)))
    with pytest.raises(LocalProtocolError, match=r"a Abort of .* bytes is larger"):
        pair.client.send(Abort("x" * MAX_CONTROL_BYTES))
    pair.ask(End(MAX_DATA_BYTES))  # neither of them has changed the state


@pytest.mark.parametrize("agent", [True, False])
@pytest.mark.parametrize("number", [0, 17, 64, 75, 255])
def test_an_unknown_type_is_refused(agent: bool, number: int) -> None:
    with pytest.raises(RemoteProtocolError, match=f"unknown type {number}"):
        hear(Connection(agent), HEADER.pack(number, 0))


def test_neither_end_takes_the_messages_of_its_own_side() -> None:
    for message in CLIENT_MESSAGES:
        with pytest.raises(RemoteProtocolError, match="unknown type"):
            hear(Connection(agent=False), encode(message))
    for message in AGENT_MESSAGES:
        with pytest.raises(RemoteProtocolError, match="unknown type"):
            hear(Connection(agent=True), encode(message))


def test_neither_end_says_the_messages_of_the_other() -> None:
    for message in CLIENT_MESSAGES:
        with pytest.raises(LocalProtocolError):
            Pair().agent.send(message)
    for message in AGENT_MESSAGES:
        with pytest.raises(LocalProtocolError):
            Pair().client.send(message)


PING, END, LOCK, SYNC_NUMBER, APPLY = 11, 8, 2, 5, 4


@pytest.mark.parametrize(
    ("number", "payload", "why"),
    [
        (PING, b"", "Ping that cannot be read"),
        (PING, b"\xff", "Ping that cannot be read"),
        (PING, b'{"number":1', "Ping that cannot be read"),
        (PING, [1], "expected an object"),
        (PING, 1, "expected an object"),
        (PING, None, "expected an object"),
        (PING, {}, "missing"),
        (PING, {"number": 1, "more": 2}, "unknown field more"),
        (PING, {"number": "1"}, "number is not int"),
        (PING, {"number": True}, "number is not int"),
        (PING, {"number": None}, "number is not int"),
        (PING, {"number": 1.0}, "number is not int"),
        (PING, b'{"number":NaN}', "number is not int"),
        (PING, {"number": -1}, "unsigned 64-bit"),
        (END, {"length": 1 << 64}, "unsigned 64-bit"),
        (PING, b'{"number":' + b"9" * 5000 + b"}", "Ping that cannot be read"),
        (LOCK, {"owner": 1}, "owner is not str"),
        (3, {"recursive": 1}, "recursive is not bool"),
        (APPLY, {"operations": {}}, "operations is not a list"),
        (APPLY, {"operations": [{"verb": "x", "name": "y"}]}, "operations is not a list"),
        (APPLY, {"operations": [["buffer"]]}, "missing"),
        (APPLY, {"operations": [["buffer", "p/t", [], "more"]]}, "too many fields"),
        (APPLY, {"operations": [["buffer", 1]]}, "name is not str"),
        (SYNC_NUMBER, {"child": "", "kind": "", "name": "", "snapshots": [["a", -1, 1]]}, "guid is not an unsigned"),
        (SYNC_NUMBER, {"child": "", "kind": "", "name": "", "snapshots": [], "known": []}, "missing"),
        (SYNC_NUMBER, {"child": "", "kind": "", "name": "", "snapshots": [], "known": 0}, "known is not a list"),
        (PING, b'{"number":' + b"[" * 200_000 + b"]" * 200_000 + b"}", "Ping that cannot be read"),
        (PING, b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "Ping that cannot be read"),
    ],
    ids=str,
)  # fmt: skip
def test_a_payload_of_another_shape_is_refused(number: int, payload: object, why: str) -> None:
    with pytest.raises(RemoteProtocolError, match=why):
        hear(listening_agent(), frame(number, payload))


def test_the_largest_numbers_and_missing_defaults_are_taken() -> None:
    assert hear(listening_agent(), frame(PING, {"number": 2**64 - 1})) == [Ping(2**64 - 1)]
    sync = {"child": "/a", "kind": "volume", "name": "p/a", "snapshots": [["a", 1, 2]]}
    assert hear(Connection(agent=True), frame(SYNC_NUMBER, sync)) == [
        Sync("/a", "volume", "p/a", (Snapshot("a", 1, 2),))
    ]


def test_the_end_of_input_is_an_error_only_amid_a_frame() -> None:
    data = encode(Lock("me"))
    for cut in range(1, len(data)):
        agent = Connection(agent=True)
        assert hear(agent, data[:cut]) == []
        with pytest.raises(RemoteProtocolError, match="the input ended amid"):
            hear(agent, b"")
    agent = Connection(agent=True)
    assert hear(agent, data) == [Lock("me")]
    assert hear(agent, b"") == []


def test_what_came_before_the_end_of_input_is_still_heard() -> None:
    agent = Connection(agent=True)
    agent.receive(encode(Lock("me")) + b"\x01")
    agent.receive(b"")
    assert agent.next_message() == Lock("me")
    with pytest.raises(RemoteProtocolError, match="amid a frame"):
        agent.next_message()


# ---- order -----------------------------------------------------------------------------------------------------------


def test_a_client_says_what_the_channel_is_for_and_asks_for_the_lock_and_a_listing_without_waiting_for_hello() -> None:
    client, agent = Connection(agent=False), Connection(agent=True)
    ahead: tuple[Message, ...] = (BEGIN, Lock("me"), Inventory())
    agent.receive(b"".join(map(client.send, ahead)))
    assert tuple(agent.next_message() for _ in ahead) == ahead
    answers: tuple[Message, ...] = (HELLO, Result(True), Result(True), Listed(True))
    client.receive(b"".join(map(agent.send, answers)))
    assert (tuple(client.next_message() for _ in answers), client.unanswered) == (answers, 0)


@pytest.mark.parametrize("message", [one for one in QUESTIONS if not isinstance(one, BEFORE_HELLO)], ids=type_of)
def test_a_client_asks_nothing_else_before_hello(message: Message) -> None:
    with pytest.raises(LocalProtocolError, match="before Hello"):
        Connection(agent=False).send(message)


@pytest.mark.parametrize("message", [Output(b""), *ANSWERS, Pong(1), Beat(1)], ids=type_of)
def test_an_agent_says_nothing_before_hello(message: Message) -> None:
    Pair(greeted=False).agent_may_not(message, "before Hello")


def test_an_agent_that_cannot_even_greet_may_say_so() -> None:
    Pair(greeted=False).answer(Failure("python", "too old"))


def test_an_agent_greets_once() -> None:
    Pair().agent_may_not(HELLO, "twice")


@pytest.mark.parametrize("message", CLIENT_MESSAGES, ids=type_of)
def test_nothing_follows_close(message: Message) -> None:
    pair = Pair()
    pair.ask(Close())
    pair.client_may_not(message, "after Close")


@pytest.mark.parametrize("message", [HELLO, Output(b""), *ANSWERS, Pong(1), Beat(1)], ids=type_of)
def test_nothing_follows_bye(message: Message) -> None:
    pair = Pair()
    pair.ask(Close())
    pair.answer(Bye())
    pair.agent_may_not(message, "")


def test_close_is_answered_after_all_that_was_asked_before_it() -> None:
    pair = Pair()
    pair.ask(Lock("me"), Close())
    pair.agent_may_not(Bye(), "when Result was to come")
    pair.answer(Result(True), Bye())


@pytest.mark.parametrize("message", STREAM_PARTS, ids=type_of)
def test_data_and_its_ends_belong_to_a_stream(message: Message) -> None:
    pair = Pair()
    pair.client_may_not(message, "outside a Stream")
    for last in (End(0), Abort("no")):
        pair.ask(STREAM, last)
        pair.client_may_not(message, "outside a Stream")


@pytest.mark.parametrize("message", QUESTIONS, ids=type_of)
def test_nothing_is_asked_amid_a_stream(message: Message) -> None:
    pair = Pair()
    pair.ask(STREAM)
    pair.client_may_not(message, "amid a Stream")
    pair.ask(Data(b"x"))
    pair.client_may_not(message, "amid a Stream")


def test_a_ping_is_answered_amid_a_stream() -> None:
    pair = Pair()
    pair.ask(STREAM, Data(b"x"), Ping(3), Data(b"y"))
    pair.answer(Pong(3))
    pair.ask(End(2))
    pair.answer(Result(True))
    assert pair.client.unanswered == 0


def test_both_ends_know_whether_a_stream_is_open() -> None:
    pair = Pair()
    for last in (End(0), Abort("no")):
        assert (pair.client.streaming, pair.agent.streaming) == (False, False)
        pair.ask(STREAM, Ping(1), Data(b"x"))
        assert (pair.client.streaming, pair.agent.streaming) == (True, True)
        pair.ask(last)
    assert (pair.client.streaming, pair.agent.streaming) == (False, False)


@pytest.mark.parametrize("message", ANSWERS, ids=type_of)
def test_nothing_is_answered_that_was_not_asked(message: Message) -> None:
    Pair().agent_may_not(message, "when nothing was to come")


def test_questions_are_answered_in_their_order() -> None:
    pair = Pair()
    pair.ask(Lock("me"), Apply(()))
    pair.agent_may_not(Results(()), "when Result was to come")
    pair.answer(Result(True))
    pair.agent_may_not(Result(True), "when Results was to come")
    pair.answer(Results(()))
    pair.agent_may_not(Results(()), "when nothing was to come")


def test_results_may_come_in_several_pieces() -> None:
    pair = Pair()
    pair.ask(CleanBuffer(()), Lock("me"))
    pair.answer(Results((), more=True), Results((), more=True))
    pair.agent_may_not(Result(True), "when Results was to come")
    pair.answer(Results(()), Result(True))
    pair.agent_may_not(Results((), more=True), "when nothing was to come")


def test_rows_come_only_for_an_inventory() -> None:
    pair = Pair()
    pair.agent_may_not(Output(b"x"), "outside an Inventory, Query, Send or More")
    pair.ask(Lock("me"), Inventory())
    pair.agent_may_not(Output(b"x"), "outside an Inventory, Query, Send or More")
    pair.answer(Result(True), Output(b"x"), Output(b"y"), Listed(True))
    pair.agent_may_not(Output(b"z"), "outside an Inventory, Query, Send or More")


def test_a_pong_needs_its_ping() -> None:
    pair = Pair()
    pair.agent_may_not(Pong(1), "without its Ping")
    pair.ask(Ping(1), Ping(2))
    pair.agent_may_not(Pong(3), "without its Ping")
    pair.answer(Pong(2), Pong(1))
    pair.agent_may_not(Pong(1), "without its Ping")


def test_a_beat_comes_while_an_answer_is_due() -> None:
    pair = Pair()
    pair.agent_may_not(Beat(1), "with nothing to do")
    pair.ask(Inventory(), SYNC, STREAM)
    pair.answer(Beat(0), Listed(True), ANSWER, Beat(1))
    pair.ask(End(0))
    pair.answer(Beat(1), Result(True))
    pair.agent_may_not(Beat(1), "with nothing to do")
    pair.ask(Send("/a", "@1"))
    pair.answer(Beat(0), Output(b"x"), Beat(1), Result(True))


def test_a_stream_has_not_arrived_before_its_end() -> None:
    pair = Pair()
    pair.ask(SYNC, STREAM, Data(b"x"))
    pair.answer(ANSWER)
    pair.agent_may_not(Result(True), "that a Stream has arrived, before its End")
    pair.ask(End(1), STREAM)
    pair.answer(Result(True))
    pair.agent_may_not(Result(True), "that a Stream has arrived, before its End")
    pair.ask(Abort("no"))
    pair.answer(Result(False))


def test_a_stream_may_be_answered_before_its_end() -> None:
    pair = Pair()
    pair.ask(STREAM, Data(b"x"))
    pair.answer(Result(False, "no-space", "out of space"))
    assert pair.client.unanswered == 0
    assert pair.client.streaming
    pair.client_may_not(SYNC, "amid a Stream")
    pair.ask(Data(b"on its way"), Abort("the receiver had ended"), SYNC)
    pair.answer(ANSWER)


def test_the_next_dataset_may_begin_before_the_last_is_answered() -> None:
    pair = Pair()
    pair.ask(SYNC, STREAM, Data(b"x"), End(1), SYNC, STREAM, Data(b"y"))
    assert pair.client.unanswered == pair.agent.unanswered == 4
    pair.answer(ANSWER, Result(True), ANSWER)
    pair.ask(End(1))
    pair.answer(Result(True))
    assert pair.client.unanswered == pair.agent.unanswered == 0


def test_questions_in_flight_are_bounded() -> None:
    pair = Pair()
    pair.ask(*[Lock("me")] * MAX_IN_FLIGHT)
    pair.client_may_not(Lock("me"), f"with {MAX_IN_FLIGHT} questions unanswered")
    pair.answer(Result(True))
    pair.ask(Lock("me"))


def test_pings_in_flight_are_bounded() -> None:
    pair = Pair()
    pair.ask(*[Ping(number) for number in range(MAX_IN_FLIGHT)])
    assert pair.client.pings == MAX_IN_FLIGHT
    pair.client_may_not(Ping(99), f"with {MAX_IN_FLIGHT} pings unanswered")
    pair.answer(Pong(5))
    pair.ask(Ping(99))


@given(st.lists(st.sampled_from(CLIENT_MESSAGES + AGENT_MESSAGES), max_size=30))
def test_whatever_one_end_may_say_the_other_takes_and_nothing_else(said: list[Message]) -> None:
    pair = Pair()
    for message in said:
        from_client = message in CLIENT_MESSAGES
        sender, receiver = (pair.client, pair.agent) if from_client else (pair.agent, pair.client)
        try:
            data = sender.send(message)
        except LocalProtocolError:
            with pytest.raises(RemoteProtocolError):
                hear(copy.deepcopy(receiver), encode(message))
        else:
            assert hear(receiver, data) == [message]
    assert pair.client.unanswered == pair.agent.unanswered
    assert pair.client.pings == pair.agent.pings
    assert pair.client.streaming == pair.agent.streaming


# ---- hostile bytes ---------------------------------------------------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
FIELDS = sorted({name for message in CLIENT_MESSAGES + AGENT_MESSAGES for name in message._fields})
hostile_frames = st.builds(
    frame,
    st.sampled_from([*range(14), *range(64, 76)]),
    st.binary(max_size=20) | json_values | st.dictionaries(st.sampled_from(FIELDS), json_values, max_size=4),
)
hostile = st.lists(
    st.binary(max_size=30) | hostile_frames | messages(CLIENT_MESSAGES + AGENT_MESSAGES).map(encode), max_size=6
)


def survives(connection: Connection, chunks: list[bytes]) -> None:
    try:
        for chunk in chunks:
            for message in hear(connection, chunk):
                assert isinstance(message, tuple)
    except RemoteProtocolError:
        pass


@given(hostile)
def test_an_agent_survives_any_bytes(chunks: list[bytes]) -> None:
    survives(Connection(agent=True), chunks)
    survives(listening_agent(), chunks)


@given(hostile)
def test_a_client_survives_any_bytes(chunks: list[bytes]) -> None:
    survives(Connection(agent=False), chunks)
    pair = Pair()
    pair.ask(Ping(1), Inventory(), SYNC, Apply(()), STREAM)
    survives(pair.client, chunks)


# ---- what fits into a Sync -------------------------------------------------------------------------------------------


def test_the_most_snapshots_and_bookmarks_with_the_longest_names_fit_into_a_sync() -> None:
    snapshots = (Snapshot("n" * 253, 2**64 - 1, 2**64 - 1, 2**64 - 1),) * MAX_SYNC_SNAPSHOTS
    bookmarks = (Bookmark("n" * 253, 2**64 - 1, 2**64 - 1),) * MAX_SYNC_BOOKMARKS
    sync = Sync("/" + "c" * 250, "filesystem", "p" * 255, snapshots, bookmarks)
    assert len(encode(sync)) <= MAX_CONTROL_BYTES + HEADER.size


def test_the_most_operations_with_the_longest_names_fit_into_an_apply() -> None:
    assert encode(Apply((Operation("placeholder", "n" * 255),) * MAX_OPERATIONS))


def numbered(count: int) -> list[Snapshot]:
    return [Snapshot(str(number), number, number) for number in range(1, count + 1)]


def test_few_snapshots_are_all_told() -> None:
    assert trimmed(numbered(10), (), 10) == tuple(numbered(10))


def test_of_very_many_snapshots_the_newest_and_the_needed_are_told_in_order() -> None:
    told = trimmed(numbered(100), {5, 50, 99}, 20)
    assert [snapshot.guid for snapshot in told] == [5, 50, *range(91, 101)]


@given(st.integers(0, 60), st.sets(st.integers(1, 60)), st.integers(2, 30))
def test_never_more_are_told_than_fit_and_always_the_newest(count: int, needed: set[int], limit: int) -> None:
    many = numbered(count)
    told = trimmed(many, needed, limit)
    assert len(told) <= limit
    assert list(told) == [snapshot for snapshot in many if snapshot in told]
    assert told[-1:] == tuple(many[-1:])
    assert len(told) >= min(count, limit // 2)


# ---- streams that are not copied -------------------------------------------------------------------------------------


@given(st.lists(st.one_of(st.binary(max_size=40), st.integers(0, 9)), max_size=8), st.data())
def test_a_stream_taken_apart_from_its_input_is_the_same_stream(said: list[bytes | int], data: st.DataObject) -> None:
    talk = [SYNC, STREAM, *(Data(one) if isinstance(one, bytes) else Ping(one) for one in said), Abort(""), SYNC]
    wire = b"".join(encode(message) for message in talk)
    agent = Connection(agent=True)
    heard: list[Message] = []
    while wire:
        size = data.draw(st.integers(1, len(wire)))
        agent.receive(wire[:size])
        wire = wire[size:]
        while True:
            taken = agent.take_data()
            if taken is not None:
                come, missing = taken
                heard.append(Data(come + wire[:missing]))
                wire = wire[missing:]
            elif (message := agent.next_message()) is not None:
                heard.append(message)
            else:
                break
    assert heard == talk


def test_data_that_may_not_come_is_not_taken() -> None:
    agent = Connection(agent=True)
    agent.receive(encode(Data(b"x")))
    assert agent.take_data() is None
    with pytest.raises(RemoteProtocolError, match="outside a Stream"):
        agent.next_message()


def test_data_that_is_too_long_is_not_taken() -> None:
    agent = listening_agent()
    agent.receive(HEADER.pack(7, MAX_DATA_BYTES + 1))
    assert agent.take_data() is None
    with pytest.raises(RemoteProtocolError, match="too long"):
        agent.next_message()


def test_a_header_sent_by_itself_is_that_of_the_whole_frame() -> None:
    pair = Pair()
    pair.ask(STREAM)
    for length in (0, 1, 300, MAX_DATA_BYTES):
        assert pair.client.send_header(Data, length) == encode(Data(bytes(length)))[: HEADER.size]
    with pytest.raises(LocalProtocolError):
        pair.client.send_header(Data, MAX_DATA_BYTES + 1)
    pair.ask(Abort(""))
    with pytest.raises(LocalProtocolError, match="outside a Stream"):
        pair.client.send_header(Data, 1)
