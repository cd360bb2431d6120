"""A client that was taken over, at a confined receiver: it says whatever it likes, and reaches nothing but its root."""

from __future__ import annotations

import contextlib
import gc
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakezfs import State, begin_record, make_token
from tests.protocol.conftest import zfs_command
from tests.protocol.test_agent import SNAPSHOTS, fake_stream
from zfsync_ssh.bootstrap import Greeting
from zfsync_ssh.bounds import Confinement
from zfsync_ssh.dataset import Bookmark, Snapshot
from zfsync_ssh.decision import REFUSED, RESUME, TargetState
from zfsync_ssh.floor import parse_floor
from zfsync_ssh.messages import (
    PROTOCOL,
    Answer,
    Apply,
    Begin,
    CleanBuffer,
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
    Ping,
    Pong,
    Query,
    Result,
    Results,
    Send,
    Stream,
    Sync,
)
from zfsync_ssh.protocol import HEADER, Connection
from zfsync_ssh.serve import MAX_LOG_LINES, MAX_PAYLOAD_BYTES, talk

ROOT = "dst/backups/web"
NONCE = "abc123"
START = b"zfsync-agent 4 " + NONCE.encode() + b"\nxxxx"
OTHERS = ("dst/backups/web2", "dst/backups/web2/x", "dst/backups", "dst", "other/pool")
EVIL_NAMES = (
    *OTHERS,
    f"{ROOT}/../web2",
    f"{ROOT}/..",
    f"{ROOT}/./x",
    f"{ROOT}//x",
    f"{ROOT}/",
    f"/{ROOT}",
    "/etc",
    "./dst",
    "..",
    "",
    "-r",
    "-rf dst",
    f"-r {ROOT}",
    f"{ROOT}@1",
    f"{ROOT}#1",
    f"{ROOT}@1,2",
    f"{ROOT}%",
    f"{ROOT}/x\ndst/backups/web2",
    f"{ROOT}/x\0",
    f"{ROOT}/\ud800",
    f"{ROOT}/é",
    f"{ROOT}.zfsync-aside-20260101-000000",
    f"{ROOT}.zfsync-aside-x/y",
    f"{ROOT}.zfsyncbuffer2",
    f"{ROOT}/" + "x" * 250,
)
EVIL_CHILDREN = tuple(name for name in EVIL_NAMES if name not in ("", "/etc", f"/{ROOT}"))
"""Those that are none below the root either."""


class Conversation:
    """A client that may say anything to whatever is behind ``socket``."""

    def __init__(self, ours: socket.socket) -> None:
        self.socket = ours
        self.connection = Connection(agent=False)
        self.log: list[str] = []

    def greet(self) -> Hello:
        """Wait for the hello."""
        greeting = Greeting(NONCE)
        while (rest := greeting.feed(self.socket.recv(65536))) is None:
            pass
        self.connection.receive(rest)
        hello = self.hear()
        assert isinstance(hello, Hello)
        return hello

    def begin(self, root: str = ROOT, buffer: str | None = None, protocol: int = PROTOCOL) -> Result:
        buffer = f"{root}.zfsyncbuffer" if buffer is None else buffer
        answer = self.ask(Begin(protocol, root, buffer, ("rm", "-rf", "/nowhere")))
        assert isinstance(answer, Result)
        return answer

    def say(self, *messages: Message) -> None:
        for message in messages:
            self.socket.sendall(self.connection.send(message))

    def hear(self) -> Message:
        while (message := self.connection.next_message()) is None:
            data = self.socket.recv(65536)
            assert data, "the receiver hung up"
            self.connection.receive(data)
        return message

    def ask(self, message: Message) -> Message:
        self.say(message)
        while isinstance(answer := self.hear(), Output):
            pass
        return answer


class Hostile(Conversation):
    """Such a client of a confined receiver, and the receiver's log."""

    def __init__(self, receiver: State, bounds: Confinement, start: bytes = START) -> None:
        ours, theirs = socket.socketpair()
        super().__init__(ours)
        self.receiver = receiver
        ours.settimeout(20)
        self.status: int | None = None

        def run() -> None:
            with theirs:
                self.status = talk(theirs.fileno(), theirs.fileno(), bounds, zfs_command(receiver), self.log.append)

        self._thread = threading.Thread(target=run)
        self._thread.start()
        self.socket.sendall(start)

    def end(self) -> int | None:
        self.socket.close()
        self._thread.join(20)
        assert not self._thread.is_alive()
        return self.status


Serve = Callable[..., Hostile]


@pytest.fixture
def receiver(tmp_path: Path) -> State:
    """One that has copies of others beside those of the client, and below."""
    state = State(str(tmp_path / "receiver"))
    for name in (ROOT, f"{ROOT}/x", *OTHERS[:2], "other/pool"):
        state.create(name)
        for number in range(1, 5):
            state.snapshot(f"{name}@{number}")
    return state


@pytest.fixture
def serve(receiver: State) -> Iterator[Serve]:
    """Starts receivers confined to the client's root. At the end, nothing outside that has changed."""
    made: list[Hostile] = []

    def start(**bounds: Any) -> Hostile:
        floor = parse_floor(str(bounds.pop("keep_at_least", 0)))
        hostile = Hostile(receiver, Confinement(ROOT, keep_at_least=floor, **bounds))
        made.append(hostile)
        hostile.greet()
        return hostile

    before = outside(receiver)
    yield start
    for hostile in made:
        hostile.end()
    assert outside(receiver) == before


def outside(receiver: State) -> dict[str, Any]:
    """All that is none of the client's business."""
    with receiver.open() as state:
        mine = (ROOT, f"{ROOT}.zfsyncbuffer")
        return {
            name: dataset
            for name, dataset in state["datasets"].items()
            if not any(name == top or name.startswith(top + "/") for top in mine)
        }


def changing(receiver: State) -> list[list[str]]:
    """The commands that were run and do more than look."""
    return [command for command in receiver.commands() if command[0] not in ("list", "get", "holds")]


def sync(child: str = "/n", name: str = "", **more: Any) -> Sync:
    return Sync(child, "filesystem", name or ROOT + child, SNAPSHOTS, **more)


# ---- before the protocol ---------------------------------------------------------------------------------------------


def test_a_payload_of_code_is_thrown_away(receiver: State, tmp_path: Path) -> None:
    code = zlib.compress(f"open({str(tmp_path / 'pwned')!r}, 'w')".encode())
    hostile = Hostile(receiver, Confinement(ROOT), b"zfsync-agent %d %s\n" % (len(code), NONCE.encode()) + code)
    hostile.greet()
    assert hostile.begin() == Result(True, "confined")
    hostile.end()
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    ("start", "says"),
    [
        (b"SSH-2.0-OpenSSH\n", "its first line is"),
        (b"x" * 100_000, "its first line is too long"),
        (b"zfsync-agent -1 abc\n", "its first line is"),
        (b"zfsync-agent 4 ../../etc\nxxxx", "its first line is"),
        (b"zfsync-agent 4 a b\nxxxx", "its first line is"),
        (b"zfsync-agent %d abc\n" % (MAX_PAYLOAD_BYTES + 1), "it announces an agent of 4194305 bytes"),
        (b"zfsync-agent 99999999999999999999 abc\n", "its first line is"),
        (b"zfsync-agent 100 abc\nshort", "it has gone before it has begun"),
        (b"", "it has gone before it has begun"),
    ],
)
def test_what_is_no_start_of_an_agent_is_hung_up_on(receiver: State, start: bytes, says: str) -> None:
    hostile = Hostile(receiver, Confinement(ROOT), start)
    hostile.socket.shutdown(socket.SHUT_WR)
    with contextlib.suppress(ConnectionResetError):  # it leaves unread what it does not want
        assert hostile.socket.recv(100) == b""
    assert hostile.end() == 6
    assert says in hostile.log[0]
    assert receiver.commands() == []


def test_a_payload_shorter_than_it_says_leaves_code_that_is_no_protocol(receiver: State) -> None:
    hostile = Hostile(receiver, Confinement(ROOT), START + b"import os; os.system('true')" * 10)
    hostile.greet()
    assert isinstance(hostile.hear(), Failure)
    assert hostile.end() == 6
    assert "unknown type" in hostile.log[0]


# ---- frames ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        (HEADER.pack(1, 1 << 31), "too long"),
        (HEADER.pack(7, 1 << 20), "too long"),
        (HEADER.pack(200, 0), "unknown type"),
        (HEADER.pack(65, 2) + b"{}", "unknown type"),
        (HEADER.pack(4, 2) + b"[]", "cannot be read"),
        (HEADER.pack(4, 8) + b"[[[[[[[[", "cannot be read"),
        (HEADER.pack(4, 20) + b'{"operations": [[]]}', "cannot be read"),
        (HEADER.pack(3, 13) + b'{"a\\nb\\u0": 1', "cannot be read"),
        (HEADER.pack(3, 12) + b'{"a\\nevil":1}'[:12], "cannot be read"),
        (HEADER.pack(8, 12) + b'{"length":5}', "outside a Stream"),
    ],
)
def test_a_frame_that_is_none_ends_it(serve: Serve, frame: bytes, says: str) -> None:
    hostile = serve()
    hostile.socket.sendall(frame)
    assert isinstance(hostile.hear(), Failure)
    assert hostile.end() == 6
    assert says in hostile.log[0]
    assert "\n" not in hostile.log[0]


def test_half_a_frame_ends_it(serve: Serve) -> None:
    hostile = serve()
    hostile.begin()
    hostile.socket.sendall(HEADER.pack(4, 1000) + b"{")
    assert hostile.end() == 0
    assert changing(hostile.receiver) == []


def test_questions_before_a_begin_that_was_accepted_end_it(serve: Serve) -> None:
    for question in (Inventory(), Apply((Operation("destroy", ROOT),)), sync(), Send("", "1"), CleanBuffer()):
        hostile = serve()
        assert not hostile.begin("dst/backups/web2").ok
        assert isinstance(hostile.ask(question), Failure)


# ---- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVIL_NAMES)
def test_no_root_but_its_own_or_one_below_it(serve: Serve, name: str) -> None:
    hostile = serve()
    for buffer in ("", f"{name}.zfsyncbuffer", f"{ROOT}.zfsyncbuffer"):
        answer = hostile.begin(name, buffer)
        assert not answer.ok
        assert answer.code == "refused"
    assert all("refused Begin" in line for line in hostile.log)
    assert len(hostile.log) == 3
    assert hostile.receiver.commands() == []


@pytest.mark.parametrize("buffer", [*OTHERS, ROOT, f"{ROOT}/x", "dst/backups/web2.zfsyncbuffer", "-r"])
def test_no_buffer_but_its_own(serve: Serve, buffer: str) -> None:
    answer = serve().begin(ROOT, buffer)
    assert (answer.ok, answer.code) == (False, "refused")


def test_the_command_that_a_client_gives_is_not_run(serve: Serve) -> None:
    hostile = serve()
    assert hostile.begin().ok
    answer = hostile.ask(Inventory())
    assert isinstance(answer, Listed)
    assert answer.ok
    assert [command[0] for command in hostile.receiver.commands()] == ["list", "list"]


VERBS = {
    "hold": ("@1", "zfsync:a:b"), "release": ("@1", "zfsync:a:b"), "announce": ("", "zfsync:a:b"),
    "forget": ("", "zfsync:a:b"), "let-go": ("", "zfsync:a:b"), "alive": ("", "run"), "bookmark": ("#1", "{}@1"),
    "unbookmark": ("#1",), "destroy-snapshot": ("@1",), "ancestor": ("",), "placeholder": ("",), "buffer": ("",),
    "drop": ("",), "rename": ("", "{}", "filesystem"), "park": ("", "{}", "filesystem", "{}"),
    "aside": ("", "{}", "filesystem"), "rollback": ("@1", "7"), "hollow": ("", "7"), "destroy": ("", "7"),
    "promote": ("",), "mark": ("", "2026-01-01T00:00:00Z"), "unmark": ("",), "inherit-key": ("",),
    "snapshot": ("@9",),
}  # fmt: skip
"""Every verb: what ends its name, and its arguments; ``{}`` is a name."""


@pytest.mark.parametrize("verb", VERBS)
def test_no_operation_names_what_is_outside(serve: Serve, verb: str) -> None:
    hostile = serve()
    hostile.begin()
    mark, *arguments = VERBS[verb]
    tried = []
    for name in EVIL_NAMES:
        tried.append(Operation(verb, name + mark, tuple(one.format(name) for one in arguments)))
        for at, one in enumerate(arguments):  # what is its own, to where it has no business
            if "{}" in one:
                changed = [*arguments[:at], one, *arguments[at + 1 :]]
                values = tuple(two.format(name if i == at else f"{ROOT}/y") for i, two in enumerate(changed))
                tried.append(Operation(verb, f"{ROOT}/x{mark}", values))
    answer = hostile.ask(Apply(tuple(tried)))
    assert isinstance(answer, Results)
    for operation, result in zip(tried, answer.results, strict=True):
        assert (result.ok, result.code) == (False, "refused"), operation
        assert result.message
    assert changing(hostile.receiver) == []
    assert f"refused '{verb}'" in hostile.log[-1]


@pytest.mark.parametrize(
    "operation",
    [
        Operation("set", f"{ROOT}/x", ("mountpoint=/etc",)),
        Operation("", ROOT),
        Operation("-r", ROOT),
        Operation("destroy", f"{ROOT}/x", ("-r",)),
        Operation("destroy", ROOT, ("7",)),
        Operation("destroy", f"{ROOT}/x"),
        Operation("destroy", f"{ROOT}.zfsyncbuffer", ("7",)),
        Operation("rename", ROOT, (f"{ROOT}/x/y", "filesystem")),
        Operation("rename", f"{ROOT}/x", (f"{ROOT}/y", "-p")),
        Operation("aside", ROOT, (f"{ROOT}.zfsync-aside-20260101-000000", "filesystem")),
        Operation("hold", f"{ROOT}@1", ("-r",)),
        Operation("hold", f"{ROOT}@1", ("keep",)),
        Operation("release", f"{ROOT}@1", ("somebody-elses",)),
        Operation("snapshot", f"{ROOT}@1,2"),
        Operation("snapshot", f"{ROOT}@"),
        Operation("snapshot", f"{ROOT}@a@b"),
        Operation("snapshot", f"{ROOT}/x"),
        Operation("snapshot", f"{ROOT}/x@9", ("com.example:x=1",)),
        Operation("destroy-snapshot", f"{ROOT}@1,2"),
        Operation("destroy-snapshot", f"{ROOT}@1%4"),
        Operation("destroy-snapshot", f"{ROOT}/x"),
        Operation("rollback", f"{ROOT}/x", ("7",)),
        Operation("rollback", f"{ROOT}/x@1", ("x",)),
        Operation("mark", f"{ROOT}/x", ("x y",)),
        Operation("buffer", f"{ROOT}/x"),
    ],
)
def test_operations_that_are_none_are_refused(serve: Serve, operation: Operation) -> None:
    hostile = serve()
    hostile.begin()
    answer = hostile.ask(Apply((operation,)))
    assert isinstance(answer, Results)
    assert answer.results[0].code == "refused"
    assert changing(hostile.receiver) == []


@pytest.mark.parametrize("name", EVIL_NAMES)
def test_nothing_is_received_outside(serve: Serve, name: str) -> None:
    hostile = serve()
    hostile.begin()
    stream = begin_record("filesystem", 11, 0) + fake_stream(SNAPSHOTS[0])
    child = name if name in EVIL_CHILDREN else "x"
    for asked in (
        sync("/n", name or "x"),
        sync(child),
        sync(child, name),
        sync("/n", origin=f"{name}@1", origin_guid=5),
    ):
        answer = hostile.ask(asked)
        assert isinstance(answer, Answer)
        assert answer.decision.kind == REFUSED
        # and a stream that was sent before the answer was read
        hostile.say(Stream(asked.child, 0, 11), Data(stream), End(len(stream)))
        result = hostile.hear()
        assert isinstance(result, Result)
        assert not result.ok
    assert changing(hostile.receiver) == []


@pytest.mark.parametrize(
    "setting",
    [
        "canmount=on", "mountpoint=/etc", "readonly=off", "sharenfs=on", "sharesmb=on", "quota=none", "setuid=on",
        "devices=on", "exec=on", "reservation=1T", "zfsync:placeholder=x", "zfsync:path=dst/x", "com.example:x=1",
        "-F", "zfsync:stream=a b", "encryption=off", "keylocation=file:///etc/shadow", "readonly", "",
    ],
)  # fmt: skip
def test_no_property_is_set_that_is_not_harmless(serve: Serve, setting: str) -> None:
    hostile = serve()
    hostile.begin()
    answer = hostile.ask(sync(properties=(setting,)))
    assert isinstance(answer, Answer)
    assert answer.decision.kind == REFUSED


def test_what_is_excluded_is_a_property_and_not_one_that_protects(serve: Serve) -> None:
    hostile = serve()
    hostile.begin()
    for name in ("-F", "", "readonly", "a b", "encryption"):
        answer = hostile.ask(sync(excluded=(name,)))
        assert isinstance(answer, Answer)
        assert answer.decision.kind == REFUSED
    answer = hostile.ask(sync(properties=("compression=off", "canmount=noauto"), excluded=("atime",)))
    assert isinstance(answer, Answer)
    assert answer.decision.kind == "NEW"


def bad_streams() -> Iterator[tuple[str, bytes]]:
    good = fake_stream(SNAPSHOTS[0])
    yield "a package", begin_record("filesystem", 11, 0, package=True) + begin_record("filesystem", 11, 0) + good
    yield "nobody resumes", begin_record("filesystem", 11, 0, resuming=True) + good
    yield "begins from another snapshot", begin_record("filesystem", 11, 77) + good
    yield "of another snapshot", begin_record("filesystem", 12, 0) + good
    yield "not that of a filesystem", begin_record("volume", 11, 0) + good
    yield "no stream of ZFS", good
    yield "no stream of ZFS", b"#!/bin/sh\n" + b"x" * 1000
    yield "before it has begun", b""
    yield "before it has begun", begin_record("filesystem", 11, 0)[:311]


@pytest.mark.parametrize(("says", "stream"), list(bad_streams()))
def test_a_stream_is_what_it_was_announced_to_be(serve: Serve, says: str, stream: bytes) -> None:
    hostile = serve()
    hostile.begin()
    hostile.ask(sync())
    hostile.say(Stream("/n", 0, 11), *([Data(stream[:100]), Data(stream[100:])] if stream else []), End(len(stream)))
    result = hostile.hear()
    assert isinstance(result, Result)
    assert (result.ok, result.code) == (False, "refused")
    assert says in result.message
    assert changing(hostile.receiver) == []
    assert "refused a stream into" in hostile.log[-1]


def test_a_stream_is_of_a_snapshot(serve: Serve) -> None:
    hostile = serve()
    hostile.begin()
    hostile.ask(sync())
    stream = begin_record("filesystem", 0, 0) + fake_stream(SNAPSHOTS[0])
    hostile.say(Stream("/n", 0, 0), Data(stream), End(len(stream)))
    result = hostile.hear()
    assert isinstance(result, Result)
    assert "of no snapshot" in result.message
    assert changing(hostile.receiver) == []


@pytest.mark.parametrize(
    ("base", "head", "says"),
    [
        (77, begin_record("filesystem", 11, 0), "goes on with no receive"),  # nothing would keep it from being mounted
        (77, begin_record("filesystem", 11, 77), "goes on with no receive"),
        (77, begin_record("filesystem", 11, 0, resuming=True), "begins from another snapshot"),
        (0, begin_record("filesystem", 11, 77, resuming=True), "begins from another snapshot"),
    ],
)
def test_a_token_excuses_a_stream_from_nothing(serve: Serve, base: int, head: bytes, says: str) -> None:
    hostile = serve()
    hostile.begin()
    token = make_token({"toname": "src/tree@1", "toguid": 11, "bytes": 5, **({"fromguid": base} if base else {})})
    bookmarks = (Bookmark("base", 77, 1),)  # or it would not be resumed
    answer = hostile.ask(sync(known=TargetState(True, False, base, token))._replace(bookmarks=bookmarks))
    assert isinstance(answer, Answer)
    assert answer.decision.kind == RESUME
    stream = head + fake_stream(SNAPSHOTS[0])
    hostile.say(Stream("/n", base, 11, token), Data(stream), End(len(stream)))
    result = hostile.hear()
    assert isinstance(result, Result)
    assert says in result.message
    assert changing(hostile.receiver) == []


def kept() -> int:
    """How many pieces of streams are in memory: of this process, where the receiver is a thread."""
    return sum(isinstance(one, Data) for one in gc.get_objects())


def test_a_stream_that_does_not_begin_takes_up_nothing(serve: Serve) -> None:
    hostile = serve()
    hostile.begin()
    hostile.ask(sync())
    empty = Data(b"")
    before = kept()
    hostile.say(Stream("/n", 0, 11), *[empty] * 1000, Ping(1))
    assert hostile.hear() == Pong(1)
    assert kept() < before + 10
    stream = begin_record("filesystem", 11, 0) + fake_stream(SNAPSHOTS[0])
    hostile.say(Data(stream), End(len(stream)))
    assert hostile.hear() == Result(True, name=f"{ROOT}/n", length=len(stream))


def test_a_stream_of_one_snapshot_is_received(serve: Serve) -> None:
    hostile = serve(append_only=True)
    hostile.begin()
    hostile.ask(sync())
    stream = begin_record("filesystem", 11, 0) + fake_stream(SNAPSHOTS[0])
    hostile.say(Stream("/n", 0, 11), *(Data(stream[at : at + 7]) for at in range(0, len(stream), 7)), End(len(stream)))
    assert hostile.hear() == Result(True, name=f"{ROOT}/n", length=len(stream))


def test_a_stream_through_a_program_is_not_taken(serve: Serve) -> None:
    hostile = serve()
    assert hostile.begin().ok
    hostile.ask(sync())
    hostile.say(Stream("/n", 0, 11, filter="zstd"), Data(b"x" * 1000), End(1000))
    result = hostile.hear()
    assert isinstance(result, Result)
    assert "compressed" in result.message


def test_an_increment_to_what_is_not_there_is_not_looked_for_in_the_pool(serve: Serve) -> None:
    hostile = serve(append_only=True)
    hostile.begin()
    newest = hostile.receiver.guids("dst/backups/web2")[""][-1][1]
    snapshots = (Snapshot("4", newest, 1), Snapshot("5", 5, 2))
    known = TargetState(True, False, newest)
    answer = hostile.ask(Sync("/n", "filesystem", f"{ROOT}/n", snapshots, (), known))
    assert isinstance(answer, Answer)
    stream = begin_record("filesystem", 5, newest) + fake_stream(snapshots[1], newest)
    hostile.say(Stream("/n", newest, 5), Data(stream), End(len(stream)))
    result = hostile.hear()
    assert isinstance(result, Result)
    assert f"{ROOT}/n is not there" in result.message
    assert changing(hostile.receiver) == []


def test_nor_when_what_is_there_is_a_partial_receive_that_is_dropped_first(serve: Serve) -> None:
    """Dropping it destroys a dataset that has no snapshot yet: then nothing is there when the stream comes."""
    hostile = serve(append_only=True)
    hostile.receiver.create(f"{ROOT}/n")
    with hostile.receiver.open() as state:
        state["datasets"][f"{ROOT}/n"]["token"] = "1-0-0-"
    hostile.begin()
    newest = hostile.receiver.guids("dst/backups/web2")[""][-1][1]
    snapshots = (Snapshot("4", newest, 1), Snapshot("5", 5, 2))
    known = TargetState(True, False, newest, "1-0-0-")
    answer = hostile.ask(Sync("/n", "filesystem", f"{ROOT}/n", snapshots, (), known))
    assert isinstance(answer, Answer)
    assert answer.decision.discard
    stream = begin_record("filesystem", 5, newest) + fake_stream(snapshots[1], newest)
    hostile.say(Stream("/n", newest, 5), Data(stream), End(len(stream)))
    result = hostile.hear()
    assert isinstance(result, Result)
    assert "lacks the snapshot that the stream begins from" in result.message
    assert changing(hostile.receiver) == []


@pytest.mark.parametrize("name", EVIL_NAMES)
def test_nothing_outside_is_sent_or_told(serve: Serve, name: str) -> None:
    hostile = serve()
    hostile.begin(ROOT, "")
    encodable = name.encode("ascii", "replace").decode()
    evil_token = make_token({"toname": f"{encodable}@1", "toguid": 7, "bytes": 5})
    child = name if name in EVIL_CHILDREN else "x"
    for question in (
        Send(child, "1"),
        Send("/x", f"{name}@1"),
        Send("/x", "1", f"{name or 'x'}@1"),
        Send("/x", "1", f"@{name}@1"),
        Send("", "", token=evil_token),
        Digest(child, "1", 1),
        Digest("/x", f"../{name}", 1),
    ):
        answer = hostile.ask(question)
        assert isinstance(answer, Result)
        assert answer.code == "refused", question
    for kind in ("written", "own-properties", "holds", "iv-sets", "hold-counts", "nonsense"):
        answer = hostile.ask(Query(kind, (child,)))
        assert isinstance(answer, Listed)
        assert answer.code == "refused"
    sent = [" ".join(command) for command in hostile.receiver.commands()]
    assert not [line for line in sent if "web2" in line or "other" in line]


def test_a_token_sends_nothing_but_the_snapshot_that_it_names(serve: Serve) -> None:
    hostile = serve()
    hostile.begin(ROOT, "")
    theirs = hostile.receiver.guids("dst/backups/web2")[""][0][1]
    mine = hostile.receiver.guids(ROOT)[""][0][1]
    for token in (
        make_token({"toname": f"{ROOT}@1", "toguid": theirs, "bytes": 1}),  # zfs would look for the GUID in the pool
        make_token({"toname": f"{ROOT}@nowhere", "toguid": theirs, "bytes": 1}),
        "1-0-0-",
        "-n",
        "x" * 1000,
    ):
        answer = hostile.ask(Send("", "1", token=token))
        assert isinstance(answer, Result)
        assert answer.code == "refused"
    assert not [command for command in hostile.receiver.commands() if command[0] == "send"]
    answer = hostile.ask(Send("", "1", token=make_token({"toname": f"{ROOT}@1", "toguid": mine, "bytes": 1})))
    assert isinstance(answer, Result)
    assert answer.ok


def test_other_questions_have_nothing_in_them_that_reaches_zfs(serve: Serve) -> None:
    hostile = serve()
    hostile.begin(ROOT, "")
    for holds in ("name", "all", "-r", "zfsync:holds.x,mountpoint", "zfsync:holds.abc -r"):
        answer = hostile.ask(Inventory(holds=holds))
        assert isinstance(answer, Listed)
        assert answer.code == "refused"
    for owner in ("../../etc/passwd", "", "a\0b", "x" * 1000):
        result = hostile.ask(Lock(owner))
        assert isinstance(result, Result)
        assert result.code == "refused"
    assert isinstance(hostile.ask(More(5)), Listed)
    hostile.begin()
    results = hostile.ask(CleanBuffer(("/../web2",)))
    assert isinstance(results, Results)
    assert results.results[0].code == "refused"


# ---- what a key may do -----------------------------------------------------------------------------------------------

ADDING = {"alive", "ancestor", "placeholder", "buffer", "drop", "snapshot"}


def own(verb: str) -> Operation:
    """The verb, of what is the client's own."""
    mark, *arguments = VERBS[verb]
    name = {"buffer": f"{ROOT}.zfsyncbuffer", "placeholder": f"{ROOT}/y"}.get(verb, f"{ROOT}/x")
    return Operation(verb, name + mark, tuple(one.format(f"{ROOT}/z") for one in arguments))


@pytest.mark.parametrize("verb", VERBS)
def test_an_append_only_key_destroys_moves_and_sets_nothing(serve: Serve, verb: str) -> None:
    hostile = serve(append_only=True)
    hostile.begin()
    before = hostile.receiver.guids(ROOT)
    answer = hostile.ask(Apply((own(verb),)))
    assert isinstance(answer, Results)
    (result,) = answer.results
    assert (result.code != "refused") == (verb in ADDING - {"ancestor", "alive"})
    if verb not in ADDING:
        assert f"this key may only add to what is there (zfsync serve --append-only): no {verb}" in result.message
    after = hostile.receiver.guids(ROOT)
    assert {child: after[child][: len(snapshots)] for child, snapshots in before.items()} == before


@pytest.mark.parametrize("verb", VERBS)
def test_a_read_only_key_changes_nothing(serve: Serve, verb: str) -> None:
    hostile = serve(read_only=True)
    hostile.begin()
    answer = hostile.ask(Apply((own(verb),)))
    assert isinstance(answer, Results)
    assert verb == "alive" or "may only read" in answer.results[0].message
    for question in (sync(), CleanBuffer(), Lock("somebody")):
        assert "may only read" in str(hostile.ask(question))
    assert changing(hostile.receiver) == []
    hostile.begin(ROOT, "")
    answers = [hostile.ask(question) for question in (Inventory(), Send("/x", "4"), Query("written", ("/x@1",)))]
    assert [type(answer) for answer in answers] == [Listed, Result, Listed]
    assert all(isinstance(answer, (Result, Listed)) and answer.ok for answer in answers)


def test_the_newest_snapshots_stay(serve: Serve) -> None:
    hostile = serve(keep_at_least=2)
    hostile.begin()
    x = f"{ROOT}/x"

    def done(*operations: Operation) -> list[bool]:
        answer = hostile.ask(Apply(operations))
        assert isinstance(answer, Results)
        return [result.ok for result in answer.results]

    destroys = [Operation("destroy-snapshot", f"{x}@{number}") for number in (1, 2, 3, 4)]
    assert done(*destroys) == [True, True, False, False]
    newest = (str(hostile.receiver.guids(x)[""][-1][1]),)
    assert done(Operation("rollback", f"{x}@3", newest), Operation("rollback", f"{x}@4", newest)) == [False, True]
    assert done(Operation("hollow", x, newest), Operation("destroy", x, newest)) == [False, False]
    # a name that is another dataset's by then
    moved = Operation("rename", x, (f"{ROOT}/y", "filesystem"))
    assert done(moved, Operation("destroy-snapshot", f"{ROOT}/y@4"), Operation("destroy", f"{ROOT}/y", newest)) == [
        True,
        False,
        False,
    ]
    assert [name for name, _ in hostile.receiver.guids(f"{ROOT}/y")[""]] == ["3", "4"]
    assert any("keep-at-least" in line for line in hostile.log)


def test_what_cannot_be_listed_stays(serve: Serve) -> None:
    hostile = serve(keep_at_least=2)
    hostile.begin()
    with hostile.receiver.open() as state:
        state["refuse"] = ["list -t snapshot,bookmark"]
    before = hostile.receiver.guids(ROOT)
    x, newest = f"{ROOT}/x", str(hostile.receiver.guids(ROOT)["/x"][-1][1])
    for operation in (
        Operation("destroy-snapshot", f"{x}@4"),
        Operation("rollback", f"{x}@1", (newest,)),
        Operation("hollow", x, (newest,)),
        Operation("destroy", x, (newest,)),
    ):
        answer = hostile.ask(Apply((operation,)))
        assert isinstance(answer, Results)
        assert "cannot be listed: cannot iterate filesystems: I/O error" in answer.results[0].message
    assert hostile.receiver.guids(ROOT) == before


def test_young_snapshots_stay_and_old_ones_may_go(serve: Serve) -> None:
    hostile = serve(keep_at_least="30d")
    x, now = f"{ROOT}/x", int(time.time())
    days = {"1": 90, "2": 31, "3": 29, "4": 0, "5": -4000}  # the last says that it is of the future
    hostile.receiver.snapshot(f"{x}@5")
    hostile.receiver.created({f"{x}@{name}": now - 86400 * age for name, age in days.items()})
    hostile.begin()

    def done(*operations: Operation) -> list[bool]:
        answer = hostile.ask(Apply(operations))
        assert isinstance(answer, Results)
        return [result.ok for result in answer.results]

    newest = (str(hostile.receiver.guids(x)[""][-1][1]),)
    assert done(Operation("hollow", x, newest), Operation("destroy", x, newest)) == [False, False]
    assert done(Operation("rollback", f"{x}@3", newest), Operation("rollback", f"{x}@5", newest)) == [False, True]
    destroys = [Operation("destroy-snapshot", f"{x}@{name}") for name in days]
    assert done(*destroys) == [True, True, False, False, False]
    assert "all snapshots younger than 30d of each dataset stay" in hostile.log[-1]
    # an old dataset may go, and one more snapshot makes no other one old
    y = f"{ROOT}/y"
    hostile.receiver.create(y)
    hostile.receiver.snapshot(f"{y}@1")
    hostile.receiver.created({f"{y}@1": now - 86400 * 31})
    assert done(Operation("destroy", y, (str(hostile.receiver.guids(y)[""][0][1]),))) == [True]
    assert done(Operation("snapshot", f"{x}@6"), *destroys[2:]) == [True, False, False, False]


def test_another_protocol_is_told_so(serve: Serve) -> None:
    hostile = serve()
    answer = hostile.begin(protocol=PROTOCOL + 1)
    assert (answer.ok, answer.code) == (False, "protocol")
    assert f"speaks protocol {PROTOCOL}, not {PROTOCOL + 1}" in answer.message
    assert hostile.begin().ok


def test_the_log_has_an_end() -> None:
    assert MAX_LOG_LINES == 200
