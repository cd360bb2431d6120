"""The agent alone, word by word, over a socketpair; its zfs is the fake one."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import agents
from tests.fakezfs import State, begin_record, content, make_token
from tests.protocol.client import Client
from tests.protocol.conftest import zfs_command
from zfsync_ssh import bootstrap
from zfsync_ssh.dataset import Snapshot
from zfsync_ssh.decision import ABSENT, FULL, INCREMENTAL, NEW, REFUSED, RESUME, UPTODATE, TargetState
from zfsync_ssh.messages import (
    PROTOCOL,
    Abort,
    Answer,
    Apply,
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
    Operation,
    Output,
    Ping,
    Pong,
    Result,
    Results,
    Stream,
    Sync,
)
from zfsync_ssh.protocol import HEADER, MAX_DATA_BYTES, encode
from zfsync_ssh.remote_agent import Agent

NONCE = "0123456789abcdef"


class Talk(Client):
    """A client that says what it is told, message by message, to a real agent.

    The agent is in a thread, or in a process where the tests are to have another Python for it.
    """

    def __init__(self, receiver: State) -> None:
        ours, theirs = socket.socketpair()
        super().__init__(ours)
        ours.settimeout(20)
        self.receiver = receiver
        self._theirs = theirs
        self.status: int | None = None
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        if agents.IS_ANOTHER:
            self._start_another()
        assert isinstance(self.hear(), Hello)

    def _serve(self) -> None:
        with self._theirs as theirs:
            if agents.IS_ANOTHER:
                line = ["/bin/sh", "-c", bootstrap.command((agents.PYTHON,))]
                end = theirs.fileno()
                self.status = subprocess.run(line, stdin=end, stdout=end).returncode
            else:
                self.status = Agent(theirs.fileno(), theirs.fileno()).serve()

    def _start_another(self) -> None:
        """Send the agent to the python that waits for it, and hear its greeting."""
        self.socket.sendall(bootstrap.payload(NONCE))
        greeting = bootstrap.Greeting(NONCE)
        rest = None
        while rest is None:
            data = self.socket.recv(65536)
            assert data, f"there is no agent, but status {self.end()}"
            rest = greeting.feed(data)
        self.connection.receive(rest)

    def begin(self, root: str = "dst/tree") -> None:
        answer = self.ask(Begin(PROTOCOL, root, f"{root}.zfsyncbuffer", zfs_command(self.receiver)))
        assert answer == Result(True)

    def end(self) -> int | None:
        """Hang up; the agent's exit status."""
        self.socket.close()
        self._thread.join(20)
        assert not self._thread.is_alive()
        return self.status


@pytest.fixture
def talk(tmp_path: Path) -> Iterator[Talk]:
    """An agent that has said hello, in front of a pool ``dst``."""
    receiver = State(str(tmp_path / "receiver"))
    receiver.create("dst")
    made = Talk(receiver)
    yield made
    made.end()


SNAPSHOTS = (Snapshot("1", 11, 1), Snapshot("2", 22, 2), Snapshot("3", 33, 3))


def fake_stream(to: Snapshot, base: int = 0, length: int = 1000) -> bytes:
    """What the fake `zfs send` would write."""
    import marshal

    head = {"name": "src/tree", "kind": "filesystem", "to": [to.name, to.guid, to.createtxg, length], "base": base,
            "offset": 0, "length": length}  # fmt: skip
    line = marshal.dumps(head, 2)
    return b"FAKEZFS1%08d" % len(line) + line + content(to.guid, length)


def sync(child: str = "", *, name: str = "", known: TargetState | None = None) -> Sync:
    return Sync(child, "filesystem", name or "dst/tree" + child, SNAPSHOTS, (), known)


def test_below_a_beginning_nothing_new_is_received_and_what_is_there_is(talk: Talk) -> None:
    talk.receiver.create("dst/tree")
    talk.receiver.create("dst/tree/p")
    talk.receiver.create("dst/tree/p/c")
    with talk.receiver.open() as state:
        state["datasets"]["dst/tree/p/c"]["snapshots"] = [["1", 11, 1, 0]]
        del state["datasets"]["dst/tree/p"]
    talk.begin()
    talk.ask(sync("/p", known=ABSENT))
    stream = fake_stream(SNAPSHOTS[0])
    talk.say(Stream("/p", 0, 11), Data(stream[:-1]), End(len(stream) - 1))
    assert not getattr(talk.hear(), "ok", True)
    new = talk.ask(sync("/p/n", known=ABSENT))
    assert isinstance(new, Answer)
    assert (new.decision.kind, new.decision.why) == (REFUSED, "only the beginning of what is above it has arrived")
    there = talk.ask(sync("/p/c", known=TargetState(True, False, 11)))
    assert isinstance(there, Answer)
    assert there.decision.kind == INCREMENTAL


def test_a_stream_is_received_and_confirmed(talk: Talk) -> None:
    talk.begin()
    answer = talk.ask(sync())
    assert isinstance(answer, Answer)
    assert (answer.decision.kind, answer.name) == (NEW, "dst/tree")
    stream = fake_stream(SNAPSHOTS[0])
    talk.say(Stream("", 0, 11), Data(stream[:50]), Data(stream[50:]), End(len(stream)))
    assert talk.hear() == Result(True, name="dst/tree", length=len(stream))
    assert talk.receiver.guids("dst/tree") == {"": [("1", 11)]}
    assert talk.receiver.property("dst/tree", "readonly") == "on"
    assert talk.receiver.property("dst/tree", "canmount") == "noauto"
    assert isinstance(talk.ask(Close()), Bye)
    assert talk.end() == 0


def test_questions_may_be_sent_ahead_of_the_answers(talk: Talk) -> None:
    talk.begin()
    one, two = fake_stream(SNAPSHOTS[0]), fake_stream(SNAPSHOTS[1], 11)
    talk.say(
        sync(), Stream("", 0, 11), Data(one), End(len(one)), Stream("", 11, 22), Data(two), Ping(7), End(len(two)),
        sync("/x", name="dst/tree/x", known=TargetState(False)),
    )  # fmt: skip
    heard = [talk.hear() for _ in range(5)]
    assert [type(message) for message in heard] == [Answer, Result, Pong, Result, Answer]
    assert talk.receiver.guids("dst/tree") == {"": [("1", 11), ("2", 22)]}


@pytest.mark.parametrize(
    ("prepare", "kind"),
    [
        ([], NEW),
        (["1"], INCREMENTAL),
        (["1", "2", "3"], UPTODATE),
        (["other"], REFUSED),
    ],
)
def test_an_agent_that_is_told_nothing_looks_for_itself(talk: Talk, prepare: list[str], kind: str) -> None:
    guids = {snapshot.name: snapshot.guid for snapshot in SNAPSHOTS}
    for name in prepare:
        talk.receiver.create("dst/tree")
        talk.receiver.snapshot(f"dst/tree@{name}", guid=guids.get(name, 99))
    talk.begin()
    answer = talk.ask(sync())
    assert isinstance(answer, Answer)
    assert answer.decision.kind == kind


def test_it_finds_a_child_in_the_buffer(talk: Talk) -> None:
    talk.receiver.create("dst/tree.zfsyncbuffer/2F612F62")
    talk.receiver.snapshot("dst/tree.zfsyncbuffer/2F612F62@1", guid=11)
    talk.begin()
    answer = talk.ask(sync("/a/b", name="dst/tree.zfsyncbuffer/2F612F62"))
    assert isinstance(answer, Answer)
    assert (answer.decision.kind, answer.name) == (INCREMENTAL, "dst/tree.zfsyncbuffer/2F612F62")


def test_a_stream_cut_short_is_kept_for_resuming(talk: Talk) -> None:
    talk.begin()
    stream = fake_stream(SNAPSHOTS[0], length=200_000)
    talk.say(sync(), Stream("", 0, 11), Data(stream[:100_000]), Abort("the sender stopped"))
    talk.hear()
    result = talk.hear()
    assert isinstance(result, Result)
    assert (result.ok, result.code, result.message) == (False, "aborted", "the sender stopped")
    answer = talk.ask(sync())
    assert isinstance(answer, Answer)
    assert answer.decision.kind == RESUME


def test_an_end_that_does_not_fit_the_bytes_is_no_success(talk: Talk) -> None:
    talk.begin()
    stream = fake_stream(SNAPSHOTS[0], length=200_000)
    talk.say(sync(), Stream("", 0, 11), Data(stream[:100_000]), End(len(stream)))
    talk.hear()
    result = talk.hear()
    assert isinstance(result, Result)
    assert not result.ok
    assert "bytes arrived" in result.message
    assert talk.receiver.guids("dst/tree")[""] == []


def test_a_receive_that_fails_is_told_before_the_streams_end(talk: Talk) -> None:
    talk.receiver.create("dst/tree")
    talk.begin()
    talk.say(sync(known=TargetState(False)), Stream("", 0, 11))
    assert isinstance(talk.hear(), Answer)
    # zfs receive refuses: the dataset exists. The client is told while it still sends.
    stream = fake_stream(SNAPSHOTS[0], length=5_000_000)
    talk.say(Data(stream[:MAX_DATA_BYTES]))
    while True:
        try:
            talk.socket.settimeout(0.2)
            result = talk.hear()
            break
        except TimeoutError:
            talk.say(Data(bytes(MAX_DATA_BYTES)))
    talk.socket.settimeout(20)
    assert isinstance(result, Result)
    assert (result.ok, result.code) == (False, "exists")
    talk.say(Data(b"more"), Abort("all right"))
    assert talk.ask(Ping(1)) == Pong(1)
    answer = talk.ask(sync())
    assert isinstance(answer, Answer)
    assert answer.decision.kind == REFUSED


def test_a_stream_that_does_not_fit_the_decision_is_read_and_refused(talk: Talk) -> None:
    talk.receiver.create("dst/tree")
    talk.receiver.snapshot("dst/tree@1", guid=11)
    talk.begin()
    talk.say(sync(), Stream("", 0, 11), Data(b"x" * 1000), End(1000))
    assert isinstance(talk.hear(), Answer)
    result = talk.hear()
    assert isinstance(result, Result)
    assert (result.ok, result.code) == (False, "stale")
    assert not any(command[0] == "receive" for command in talk.receiver.commands())


@pytest.mark.parametrize(("length", "ok"), [(249, True), (250, False)])
def test_nothing_is_received_into_a_name_that_would_make_the_kernel_panic(talk: Talk, length: int, ok: bool) -> None:
    name = "dst/tree/" + "x" * (length - len("dst/tree/"))
    talk.receiver.create("dst/tree")
    talk.receiver.create(name)
    talk.receiver.snapshot(f"{name}@1", guid=11)
    talk.begin()
    stream = fake_stream(SNAPSHOTS[1], 11)
    talk.say(sync(name[len("dst/tree") :]), Stream(name[len("dst/tree") :], 11, 22), Data(stream), End(len(stream)))
    assert isinstance(talk.hear(), Answer)
    result = talk.hear()
    assert isinstance(result, Result)
    assert (result.ok, result.code) == ((True, "") if ok else (False, "name"))
    assert any(command[0] == "receive" for command in talk.receiver.commands()) == ok


def test_after_a_failed_step_the_next_one_is_refused(talk: Talk) -> None:
    talk.begin()
    one, two = fake_stream(SNAPSHOTS[0]), fake_stream(SNAPSHOTS[1], 11)
    talk.say(sync(), Stream("", 0, 11), Data(one[:500]), Abort("no"), Stream("", 11, 22), Data(two), End(len(two)))
    assert [type(talk.hear()) for _ in range(2)] == [Answer, Result]
    result = talk.hear()
    assert isinstance(result, Result)
    assert (result.ok, result.code) == (False, "refused")


def test_hanging_up_amid_a_stream_ends_the_receive_and_the_agent(talk: Talk) -> None:
    talk.begin()
    stream = fake_stream(SNAPSHOTS[0], length=200_000)
    talk.say(sync(), Stream("", 0, 11), Data(stream[:100_000]))
    assert isinstance(talk.hear(), Answer)
    assert talk.end() == 0
    with talk.receiver.open() as state:
        assert state["datasets"]["dst/tree"]["token"]


def test_a_frame_cut_in_two_by_hanging_up_is_no_error(talk: Talk) -> None:
    talk.socket.sendall(encode(Ping(1))[:3])
    assert talk.end() == 0


@pytest.mark.parametrize(
    "garbage",
    [
        b"\xff" * 20,
        HEADER.pack(7, MAX_DATA_BYTES + 1),
        HEADER.pack(1, 5) + b"[1,2]",
        encode(Data(b"outside a stream")),
        encode(Inventory()),
    ],
)
def test_what_the_protocol_does_not_allow_ends_the_agent_with_a_word(talk: Talk, garbage: bytes) -> None:
    talk.socket.sendall(garbage)
    assert isinstance(talk.hear(), Failure)
    assert talk.end() == 6


def test_nothing_outside_the_target_can_be_received_made_or_begun(talk: Talk) -> None:
    refused = talk.ask(Begin(PROTOCOL, "dst/tree", "other/buffer", ("zfs",)))
    assert isinstance(refused, Result)
    assert not refused.ok
    talk.begin()
    operations = tuple(Operation(*words) for words in (
        ("placeholder", "dst/elsewhere"), ("buffer", "dst/else"), ("ancestor", "dst/tree/x"), ("destroy", "dst/tree"),
    ))  # fmt: skip
    results = talk.ask(Apply(operations))
    assert isinstance(results, Results)
    assert [result.ok for result in results.results] == [False] * 4
    talk.say(sync("/a", name="dst/elsewhere"))
    assert isinstance(talk.hear(), Failure)


def test_a_client_of_another_protocol_is_refused(talk: Talk) -> None:
    result = talk.ask(Begin(PROTOCOL + 1, "dst/tree", "dst/tree.zfsyncbuffer", ("zfs",)))
    assert isinstance(result, Result)
    assert (result.ok, result.code) == (False, "protocol")


def test_the_inventory_is_the_listing_compressed(talk: Talk) -> None:
    import zlib

    talk.receiver.create("dst/tree/a")
    talk.receiver.snapshot("dst/tree/a@1", guid=11)
    talk.begin()
    talk.say(Inventory())
    payload = b""
    while isinstance(message := talk.hear(), Output):
        payload += message.payload
    assert isinstance(message, Listed)
    assert (message.ok, message.spared) == (True, False)
    assert abs(message.at - time.time()) < 3600
    names = [line.split("\t")[0] for line in zlib.decompress(payload).decode().splitlines()]
    assert names == ["dst/tree", "dst/tree/a", "dst/tree/a@1"]


def test_an_inventory_of_nothing_tells_what_there_is_above(talk: Talk) -> None:
    talk.begin()
    talk.say(Inventory())
    while isinstance(message := talk.hear(), Output):
        pass
    assert message == Listed(True, ancestors=("dst",), available=1 << 40)


def test_a_machine_without_zfs_says_so(talk: Talk) -> None:
    talk.ask(Begin(PROTOCOL, "dst/tree", "dst/tree.zfsyncbuffer", ("/nonexistent/zfs",)))
    talk.say(Inventory())
    while isinstance(message := talk.hear(), Output):
        pass
    assert isinstance(message, Listed)
    assert (message.ok, message.code) == (False, "no-zfs")


def test_the_lock_is_held_until_the_agent_ends(talk: Talk) -> None:
    talk.begin("dst/locked")  # a target of its own: locks are for the whole machine
    assert talk.ask(Lock("the first")) == Result(True)
    other = Talk(talk.receiver)
    other.begin("dst/locked")
    assert other.ask(Lock("the second")) == Result(False, "locked", "the first")
    talk.end()
    assert other.ask(Lock("the second")) == Result(True)
    other.end()


def test_the_buffer_is_emptied_parents_first_and_then_goes(talk: Talk) -> None:
    talk.receiver.create("dst/tree")
    talk.receiver.create("dst/tree.zfsyncbuffer", **{"zfsync:placeholder": "dst/tree.zfsyncbuffer"})
    for child in ("/a", "/a/b", "/x/y"):
        talk.receiver.create(
            "dst/tree.zfsyncbuffer/" + child.encode().hex().upper(), **{"zfsync:path": "dst/tree" + child}
        )
    talk.begin()
    results = talk.ask(CleanBuffer())
    assert isinstance(results, Results)
    assert {result.name: result.ok for result in results.results} == {"/a": True, "/a/b": True, "/x/y": False}
    assert set(talk.receiver.guids("dst/tree")) == {"", "/a", "/a/b"}
    assert talk.receiver.property("dst/tree/a/b", "zfsync:path") is None
    results = talk.ask(CleanBuffer(("/x",)))
    assert results == Results((Result(True, name="/x/y"),))
    assert set(talk.receiver.guids("dst/tree")) == {"", "/a", "/a/b", "/x", "/x/y"}
    assert talk.receiver.guids("dst/tree.zfsyncbuffer") == {}
    assert talk.ask(CleanBuffer()) == Results(())


def waiting(talk: Talk, *children: str) -> dict[str, str]:
    """Put children into the buffer; where each is in it."""
    talk.receiver.create("dst/tree")
    talk.receiver.create("dst/tree.zfsyncbuffer", **{"zfsync:placeholder": "dst/tree.zfsyncbuffer"})
    places = {child: "dst/tree.zfsyncbuffer/" + child.encode().hex().upper() for child in children}
    for child, name in places.items():
        talk.receiver.create(name, **{"zfsync:path": "dst/tree" + child})
    return places


def test_what_has_not_arrived_whole_stays_in_the_buffer_and_so_does_the_buffer(talk: Talk) -> None:
    places = waiting(talk, "/part", "/whole")
    talk.receiver.snapshot(places["/whole"] + "@1")
    with talk.receiver.open() as state:  # the first has but begun; of the second, the next snapshot has
        for name in places.values():
            state["datasets"][name]["token"] = make_token({"toguid": 5, "toname": "src/tree@2"})
    talk.begin()
    results = talk.ask(CleanBuffer())
    assert isinstance(results, Results)
    assert {result.name: (result.ok, result.code) for result in results.results} == {
        "/part": (False, "partial"),
        "/whole": (True, ""),
    }
    assert set(talk.receiver.guids("dst")) - {"", "/tree.zfsyncbuffer"} == {
        "/tree", "/tree/whole", places["/part"].removeprefix("dst"),
    }  # fmt: skip
    assert talk.receiver.property(places["/part"], "zfsync:path") == "dst/tree/part"


@pytest.mark.parametrize("count", [2, 10])
def test_what_cannot_be_renamed_stays_in_the_buffer(talk: Talk, count: int) -> None:
    places = waiting(talk, *(f"/{number}" for number in range(count)))
    with talk.receiver.open() as state:
        state["refuse"] = ["rename"]
    before = talk.receiver.guids("dst")
    talk.begin()
    results = talk.ask(CleanBuffer())
    assert isinstance(results, Results)
    assert {result.name: result.ok for result in results.results} == dict.fromkeys(places, False)
    assert talk.receiver.guids("dst") == before
    assert {talk.receiver.property(name, "zfsync:path") for name in places.values()} == {
        "dst/tree" + child for child in places
    }


def test_the_mark_of_the_buffer_goes_from_what_a_run_that_was_cut_off_had_renamed_already(talk: Talk) -> None:
    talk.receiver.create("dst/tree")
    talk.receiver.create("dst/tree.zfsyncbuffer", **{"zfsync:placeholder": "dst/tree.zfsyncbuffer"})
    talk.receiver.create("dst/tree/a", **{"zfsync:path": "dst/tree/a"})
    talk.receiver.create("dst/tree/a/b")
    talk.receiver.create("dst/tree/a/c", **{"zfsync:path": "dst/tree/x/c"})  # marked, and not yet parked
    talk.begin()
    assert talk.ask(CleanBuffer()) == Results(())
    assert {talk.receiver.property(name, "zfsync:path") for name in ("dst/tree/a", "dst/tree/a/b", "dst/tree/a/c")} == {
        None
    }
    assert talk.receiver.guids("dst/tree.zfsyncbuffer") == {}


@pytest.mark.parametrize("verb", ["inherit", "destroy"])
def test_a_buffer_or_a_mark_that_cannot_go_is_told_of_and_the_next_time_goes(talk: Talk, verb: str) -> None:
    waiting(talk, "/a")
    with talk.receiver.open() as state:
        state["refuse"] = [verb]
    talk.begin()
    answer = talk.ask(CleanBuffer())
    assert isinstance(answer, Results)
    moved, left = answer.results
    assert moved == Result(True, name="/a")
    assert (left.ok, left.code, left.name) == (False, "pool", "dst/tree.zfsyncbuffer")
    assert talk.receiver.property("dst/tree/a", "zfsync:path") == ("dst/tree/a" if verb == "inherit" else None)
    with talk.receiver.open() as state:
        state["refuse"] = []
    assert talk.ask(CleanBuffer()) == Results(())
    assert talk.receiver.property("dst/tree/a", "zfsync:path") is None
    assert talk.receiver.guids("dst/tree.zfsyncbuffer") == {}


def test_a_buffer_in_which_something_of_somebody_elses_lies_stays_without_a_word(talk: Talk) -> None:
    waiting(talk, "/a")
    talk.receiver.create("dst/tree.zfsyncbuffer/theirs")
    talk.begin()
    assert talk.ask(CleanBuffer()) == Results((Result(True, name="/a"),))
    assert set(talk.receiver.guids("dst/tree.zfsyncbuffer")) == {"", "/theirs"}


def test_a_dataset_of_somebody_elses_that_serves_as_buffer_stays(talk: Talk) -> None:
    talk.receiver.create("dst/tree")
    talk.receiver.create("dst/tree.zfsyncbuffer")
    talk.begin()
    assert talk.ask(CleanBuffer()) == Results(())
    assert talk.receiver.guids("dst/tree.zfsyncbuffer") == {"": []}


def test_a_full_stream_takes_the_place_of_a_placeholder_only(talk: Talk) -> None:
    talk.receiver.create("dst/tree")
    talk.receiver.create("dst/tree/p/below", **{"zfsync:placeholder": "dst/tree/p"})
    with talk.receiver.open() as state:
        state["datasets"]["dst/tree/p"]["properties"]["zfsync:placeholder"] = "dst/tree/p"
    talk.begin()
    for child, kind in (("/p", FULL), ("/p/below", REFUSED)):
        answer = talk.ask(sync(child))
        assert isinstance(answer, Answer)
        assert answer.decision.kind == kind


PLACEHOLDER = {"zfsync:placeholder": "dst/tree/p", "readonly": "on", "canmount": "off"}


def fill(talk: Talk, stream: bytes) -> Result:
    """Send a stream to what is said to be a placeholder."""
    talk.begin()
    known = TargetState(True, placeholder=True)
    talk.say(sync("/p", known=known), Stream("/p", 0, 11), Data(stream), End(len(stream)))
    assert isinstance(talk.hear(), Answer)
    result = talk.hear()
    assert isinstance(result, Result)
    return result


def test_a_placeholder_is_filled(talk: Talk) -> None:
    talk.receiver.create("dst/tree/p", **PLACEHOLDER)
    assert fill(talk, begin_record("filesystem", 11, 0) + fake_stream(SNAPSHOTS[0])).ok
    assert talk.receiver.property("dst/tree/p", "zfsync:placeholder") is None


@pytest.mark.parametrize(
    "changed",
    [{"readonly": "off"}, {"canmount": "on"}, {"mounted": "yes"}, {"zfsync:placeholder": "dst/other"}],
)
def test_a_placeholder_that_may_have_been_written_to_is_not_replaced(talk: Talk, changed: dict[str, str]) -> None:
    talk.receiver.create("dst/tree/p", **{**PLACEHOLDER, **changed})
    assert fill(talk, fake_stream(SNAPSHOTS[0])).code == "exists"
    assert not any(command[0] == "receive" for command in talk.receiver.commands())


def test_nor_one_that_has_snapshots(talk: Talk) -> None:
    talk.receiver.create("dst/tree/p", **PLACEHOLDER)
    talk.receiver.snapshot("dst/tree/p@precious")
    assert fill(talk, fake_stream(SNAPSHOTS[0])).code == "exists"
    assert not any(command[0] == "receive" for command in talk.receiver.commands())


def test_nor_what_inherits_a_mark_with_its_own_name(talk: Talk) -> None:
    """As when dst/tree/p was made as a placeholder, and then renamed to dst/tree."""
    talk.receiver.create("dst/tree", **PLACEHOLDER)
    talk.receiver.create("dst/tree/p", canmount="off")
    assert fill(talk, fake_stream(SNAPSHOTS[0])).code == "exists"
    assert not any(command[0] == "receive" for command in talk.receiver.commands())


def test_nor_is_one_by_an_increment(talk: Talk) -> None:
    talk.receiver.create("dst/tree/p", **PLACEHOLDER)
    result = fill(talk, begin_record("filesystem", 11, 77) + fake_stream(SNAPSHOTS[0], 77))
    assert (result.ok, result.code) == (False, "refused")
    assert not any(command[0] == "receive" for command in talk.receiver.commands())


def test_a_partial_receive_that_was_not_raw_is_never_resumed_for_an_encrypted_source(talk: Talk) -> None:
    talk.begin()
    stream = fake_stream(SNAPSHOTS[0], length=200_000)
    talk.say(sync(), Stream("", 0, 11), Data(stream[:100_000]), Abort("cut"))
    assert [type(talk.hear()) for _ in range(2)] == [Answer, Result]
    answer = talk.ask(sync()._replace(raw=True))
    assert isinstance(answer, Answer)
    assert (answer.decision.kind, answer.decision.discard) == (NEW, True)


def test_an_agent_that_has_ended_leaves_no_descriptors(talk: Talk) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        other = Talk(talk.receiver)
        other.begin()
        assert isinstance(other.ask(sync()), Answer)
        other.end()
    assert len(os.listdir("/proc/self/fd")) <= before
