"""One bit of what an agent hears is flipped, in a control frame or in data: that never becomes a wrong snapshot."""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path

import pytest

from tests.fakezfs import State, content
from tests.protocol.conftest import zfs_command
from tests.protocol.test_agent import SNAPSHOTS, fake_stream, sync
from zfsync_ssh.errors import RemoteProtocolError
from zfsync_ssh.messages import PROTOCOL, Begin, Close, Data, End, Hello, Result, Stream
from zfsync_ssh.protocol import Connection, encode
from zfsync_ssh.remote_agent import Agent

STREAM = fake_stream(SNAPSHOTS[0])
HEAD = 16 + int(STREAM[8:16])
"""How long its head is."""


def talk(receiver: State) -> list[bytes]:
    """All that a client says, frame by frame, to have one snapshot received."""
    begin = Begin(PROTOCOL, "dst/tree", "dst/tree.zfsyncbuffer", zfs_command(receiver))
    said = (begin, sync(), Stream("", 0, 11), Data(STREAM[:400]), Data(STREAM[400:]), End(len(STREAM)), Close())
    return [encode(message) for message in said]


def places() -> list[int]:
    """Where to flip, as shares of a thousand of all that is said."""
    return [*range(0, 1000, 16), 985, 990, 995, 998, 999]


def heard(receiver: State, said: bytes) -> list[object]:
    """What an agent answers, who is told all that and then left."""
    ours, theirs = socket.socketpair()
    agent = Agent(theirs.fileno(), theirs.fileno())

    def serve() -> None:
        with theirs:
            agent.serve()

    thread = threading.Thread(target=serve)
    thread.start()
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        ours.sendall(said)
        ours.shutdown(socket.SHUT_WR)
    client = Connection(agent=False)
    data = b""
    with ours, contextlib.suppress(ConnectionResetError):
        ours.settimeout(60)
        while piece := ours.recv(65536):
            data += piece
    thread.join(60)
    assert not thread.is_alive()
    client.receive(data)
    assert isinstance(client.next_message(), Hello)
    for question in (Begin(PROTOCOL, "", "", ()), sync(), Stream("", 0, 11), End(0), Close()):
        client.send(question)
    answers: list[object] = []
    with contextlib.suppress(RemoteProtocolError):
        while (message := client.next_message()) is not None:
            answers.append(message)
    return answers


def test_without_a_flip_it_is_received(tmp_path: Path) -> None:
    receiver = State(str(tmp_path / "receiver"))
    receiver.create("dst")
    answers = heard(receiver, b"".join(talk(receiver)))
    assert answers[2] == Result(True, name="dst/tree", length=len(STREAM))
    assert receiver.guids("dst/tree") == {"": [("1", 11)]}


@pytest.mark.parametrize("place", places())
def test_a_flipped_bit_never_becomes_a_snapshot_that_is_wrong(place: int, tmp_path: Path) -> None:
    receiver = State(str(tmp_path / "receiver"))
    receiver.create("dst")
    frames = talk(receiver)
    said = bytearray(b"".join(frames))
    # Not in the command to be run, which here names the fake: a wrong one would run nothing that is worth a look.
    at = len(said) * place // 1000
    start = bytes(said).index(b'"command"')
    if start < at < len(frames[0]):
        at = start - 2
    # Nor in the stream's head, of which the fake has no checksum; ZFS has (tests/lab/test_flipped_bits.py).
    head = bytes(said).index(STREAM[:HEAD])
    if head <= at < head + HEAD:
        at = head + HEAD
    said[at] ^= 1 << place % 8
    answers = heard(receiver, bytes(said))
    with receiver.open() as state:
        found = {name: dataset["snapshots"] for name, dataset in state["datasets"].items() if dataset["snapshots"]}
    for snapshots in found.values():
        assert [snapshot[:2] for snapshot in snapshots] == [["1", 11]]
    whole = any(isinstance(answer, Result) and answer.ok and answer.length for answer in answers)
    assert not whole or found
    assert content(11, 1000) in STREAM
