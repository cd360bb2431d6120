"""Two sessions of one key at a confined receiver at once, each a process as with a real sshd."""

from __future__ import annotations

import contextlib
import json
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakezfs import State, begin_record, make_token
from tests.protocol.conftest import zfs_command
from tests.protocol.hostile.conftest import ROOT, START, Conversation, Hostile
from tests.protocol.test_agent import fake_stream
from zfsync_ssh.bounds import Confinement
from zfsync_ssh.claims import Claims
from zfsync_ssh.dataset import Snapshot
from zfsync_ssh.decision import TargetState
from zfsync_ssh.messages import (
    Answer,
    Apply,
    CleanBuffer,
    Data,
    End,
    Operation,
    Output,
    Result,
    Results,
    Send,
    Stream,
    Sync,
)

X = f"{ROOT}/a/x"
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def receiver(tmp_path: Path) -> State:
    state = State(str(tmp_path / "receiver"))
    for name in (X, f"{ROOT}/y", f"{ROOT}.zfsyncbuffer/w"):
        state.create(name)
        state.snapshot(f"{name}@1")
    return state


@contextlib.contextmanager
def session(receiver: State, tmp_path: Path) -> Iterator[Conversation]:
    """A client of a confined receiver."""
    spec = {"zfs": zfs_command(receiver), "log": str(tmp_path / "log"), "root": ROOT}
    ours, theirs = socket.socketpair()
    with theirs:
        command = [sys.executable, "-m", "tests.serving", json.dumps(spec)]
        process = subprocess.Popen(command, stdin=theirs.fileno(), stdout=theirs.fileno(), cwd=REPOSITORY)
    try:
        with ours:
            ours.settimeout(20)
            client = Conversation(ours)
            ours.sendall(START)
            client.greet()
            client.begin()
            yield client
    finally:
        receiver.hang()
        process.wait(20)


def said(client: Conversation, verb: str, name: str, *arguments: str) -> str:
    """What is said to an operation: nothing when it was done."""
    answer = client.ask(Apply((Operation(verb, name, arguments),)))
    assert isinstance(answer, Results)
    return answer.results[0].message


def until(receiver: State, verb: str, name: str) -> None:
    """Wait until zfs does something to ``name``."""
    for _ in range(2000):
        if any(line[0] == verb and line[-1] == name and "-A" not in line for line in receiver.commands()):
            return
        time.sleep(0.01)
    pytest.fail(f"zfs {verb} of {name} has not begun")


def announce(client: Conversation, receiver: State, name: str, token: str = "") -> bytes:
    """Announce an increment into ``name``, where there is said to be a partial receive; its stream."""
    base = receiver.guids(name)[""][-1][1]
    snapshots = (Snapshot("1", base, 1), Snapshot("2", 5, 2))
    child = name[len(ROOT) :] if name.startswith(ROOT + "/") else "/w"
    answer = client.ask(Sync(child, "filesystem", name, snapshots, (), TargetState(True, False, base, token)))
    assert isinstance(answer, Answer)
    client.say(Stream(child, base, 5))
    return begin_record("filesystem", 5, base) + fake_stream(snapshots[1], base)


def begin_to_receive(client: Conversation, receiver: State, name: str, token: str = "") -> bytes:
    """Begin an increment into ``name``; the bytes that are still to come."""
    stream = announce(client, receiver, name, token)
    client.say(Data(stream[:400]))
    until(receiver, "receive", name)
    return stream[400:]


def refused(client: Conversation, stream: bytes) -> str:
    """Why what was announced is refused."""
    client.say(Data(stream), End(len(stream)))
    result = client.hear()
    assert isinstance(result, Result)
    assert not result.ok
    return result.message


def test_what_is_received_into_is_not_moved_away_nor_what_it_is_in(receiver: State, tmp_path: Path) -> None:
    newest = str(receiver.guids(X)[""][-1][1])
    with session(receiver, tmp_path) as first, session(receiver, tmp_path) as second:
        rest = begin_to_receive(first, receiver, X)
        for verb, name, arguments in (
            ("rename", X, (f"{ROOT}/z", "filesystem")),
            ("rename", f"{ROOT}/a", (f"{ROOT}/z", "filesystem")),
            ("park", X, (f"{ROOT}.zfsyncbuffer/z", "filesystem", X)),
            ("destroy", X, (newest,)),
            ("drop", X, ()),
        ):
            assert "another session is at work" in said(second, verb, name, *arguments), verb
        assert said(second, "rename", f"{ROOT}/y", f"{ROOT}/z", "filesystem") == ""  # that one nobody uses
        first.say(Data(rest), End(400 + len(rest)))
        result = first.hear()
        assert isinstance(result, Result)
        assert result.ok, result
        assert said(second, "rename", X, f"{ROOT}/a/moved", "filesystem") == ""


def test_the_buffer_is_not_emptied_while_something_in_it_is_received_into(receiver: State, tmp_path: Path) -> None:
    with session(receiver, tmp_path) as first, session(receiver, tmp_path) as second:
        rest = begin_to_receive(first, receiver, f"{ROOT}.zfsyncbuffer/w")
        answer = second.ask(CleanBuffer())
        assert isinstance(answer, Results)
        assert "another session is at work in" in answer.results[0].message
        first.say(Data(rest), End(400 + len(rest)))
        assert isinstance(first.hear(), Result)


def test_what_is_destroyed_is_what_was_looked_at(receiver: State, tmp_path: Path) -> None:
    """What was allowed of one dataset would else hit another that has its name by then."""
    newest = str(receiver.guids(X)[""][-1][1])
    receiver.hang(destroy=0)
    with session(receiver, tmp_path) as first, session(receiver, tmp_path) as second:
        first.say(Apply((Operation("destroy-snapshot", f"{X}@1"),)))
        until(receiver, "destroy", f"{X}@1")
        for verb, name, arguments in (
            ("rename", X, (f"{ROOT}/z", "filesystem")),
            ("rename", f"{ROOT}/a", (f"{ROOT}/z", "filesystem")),
            ("destroy", X, (newest,)),
            ("hollow", X, (newest,)),
            ("rollback", f"{X}@1", (newest,)),
            ("destroy-snapshot", f"{X}@1", ()),
            ("promote", f"{ROOT}/y", ()),
        ):
            assert "another session is at work" in said(second, verb, name, *arguments), verb
        assert "another session destroys snapshots" in refused(second, announce(second, receiver, X))
        receiver.hang()
        assert isinstance(first.hear(), Results)
        assert said(second, "rename", X, f"{ROOT}/a/moved", "filesystem") == ""


def test_what_a_token_names_stays_while_it_is_sent(receiver: State, tmp_path: Path) -> None:
    """When it had gone, `zfs send -t` would look for its GUID in the whole pool."""
    guid = receiver.guids(X)[""][-1][1]
    token = make_token({"toname": f"{X}@1", "toguid": guid, "bytes": 5})
    receiver.hang(send=10)
    with session(receiver, tmp_path) as first, session(receiver, tmp_path) as second:
        first.say(Send("/a/x", "1", token=token))
        until(receiver, "send", token)
        for verb, name, arguments in (
            ("destroy-snapshot", f"{X}@1", ()),
            ("destroy", X, (str(guid),)),
            ("hollow", X, (str(guid),)),
            ("rollback", f"{X}@1", (str(guid),)),
            ("rename", f"{ROOT}/a", (f"{ROOT}/z", "filesystem")),
            ("promote", f"{ROOT}/y", ()),
        ):
            assert "another session is at work" in said(second, verb, name, *arguments), verb
        assert said(second, "destroy-snapshot", f"{ROOT}/y@1") == ""  # that one nobody uses
        receiver.hang()
        while isinstance(first.hear(), Output):
            pass
        assert said(second, "destroy-snapshot", f"{X}@1") == ""


def test_no_partial_receive_is_dropped_while_another_session_may_need_it(receiver: State, tmp_path: Path) -> None:
    """Where there is no snapshot yet, the dataset would go with it, from under who receives into it."""
    with session(receiver, tmp_path) as first, session(receiver, tmp_path) as second:
        rest = begin_to_receive(first, receiver, X)
        stream = announce(second, receiver, X, token="1-0-0-")
        assert "another session is at work on the snapshots" in refused(second, stream)
        assert ["receive", "-A", X] not in receiver.commands()
        first.say(Data(rest), End(400 + len(rest)))
        assert isinstance(first.hear(), Result)


def test_what_drops_a_partial_receive_holds_nobody_up_below(receiver: State, tmp_path: Path) -> None:
    below, newest = f"{X}/below", str(receiver.guids(X)[""][-1][1])
    receiver.create(below)
    receiver.snapshot(f"{below}@1")
    with session(receiver, tmp_path) as first, session(receiver, tmp_path) as second:
        rest = begin_to_receive(first, receiver, X, token="1-0-0-")
        assert ["receive", "-A", X] in receiver.commands()
        assert "another session is at work" in said(second, "destroy", X, newest)
        assert begin_to_receive(second, receiver, below)
        first.say(Data(rest), End(400 + len(rest)))
        assert isinstance(first.hear(), Result)


def test_a_new_dataset_is_not_moved_while_it_arrives(receiver: State, tmp_path: Path) -> None:
    """Nor is the placeholder that it replaces: what had its name by then would be replaced."""
    mark = {"zfsync:placeholder": f"{ROOT}/y/p", "readonly": "on", "canmount": "off"}
    receiver.create(f"{ROOT}/y/p", **mark)
    with session(receiver, tmp_path) as first, session(receiver, tmp_path) as second:
        snapshots = (Snapshot("2", 5, 2),)
        answer = first.ask(Sync("/y/p", "filesystem", f"{ROOT}/y/p", snapshots, (), TargetState(True, True)))
        assert isinstance(answer, Answer)
        stream = begin_record("filesystem", 5, 0) + fake_stream(snapshots[0])
        first.say(Stream("/y/p", 0, 5), Data(stream[:400]))
        until(receiver, "receive", f"{ROOT}/y/p")
        for name in (f"{ROOT}/y/p", f"{ROOT}/y"):
            assert "another session is at work" in said(second, "rename", name, f"{ROOT}/z", "filesystem")
        first.say(Data(stream[400:]), End(len(stream)))
        result = first.hear()
        assert isinstance(result, Result)
        assert result.ok, result


def test_nothing_is_rolled_back_while_it_is_received_into(receiver: State, tmp_path: Path) -> None:
    newest = str(receiver.guids(X)[""][-1][1])
    with session(receiver, tmp_path) as first, session(receiver, tmp_path) as second:
        rest = begin_to_receive(first, receiver, X)
        assert "another session is at work" in said(second, "rollback", f"{X}@1", newest)
        first.say(Data(rest), End(400 + len(rest)))
        assert isinstance(first.hear(), Result)


def test_a_session_that_has_gone_claims_nothing(receiver: State, tmp_path: Path) -> None:
    with session(receiver, tmp_path) as second:
        with session(receiver, tmp_path) as first:
            begin_to_receive(first, receiver, X)
        assert said(second, "rename", f"{ROOT}/y", f"{ROOT}/z", "filesystem") == ""
        assert said(second, "rename", X, f"{ROOT}/a/moved", "filesystem") == ""


def test_the_claims_have_gone_when_the_client_hears_that_it_is_done(
    receiver: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered: list[bool] = []
    hostile = Hostile(receiver, Confinement(ROOT))
    monkeypatch.setattr(Claims, "drop", lambda _: answered.append(bool(select.select([hostile.socket], [], [], 0)[0])))
    hostile.greet()
    hostile.begin()
    rest = begin_to_receive(hostile, receiver, X)
    answered.clear()
    hostile.say(Data(rest), End(400 + len(rest)))
    assert isinstance(hostile.hear(), Result)
    assert answered[0] is False
    answered.clear()
    assert said(hostile, "rename", f"{ROOT}/y", f"{ROOT}/z", "filesystem") == ""
    assert answered[0] is False
    hostile.end()
