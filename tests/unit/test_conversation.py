"""The agent's half of a conversation, on real pipes: where the bytes of a stream go."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from zfsync_ssh import conversation
from zfsync_ssh.conversation import Conversation, Gone
from zfsync_ssh.messages import Abort, Data, End, Hello, Message, Ping, Stream
from zfsync_ssh.process import PIPE_BYTES, Receiver
from zfsync_ssh.protocol import MAX_DATA_BYTES, encode
from zfsync_ssh.remote_agent import EXIT_SILENT, Agent

PIECES = [os.urandom(size) for size in (1, 5, 4095, 4096, 100_000, 0, MAX_DATA_BYTES, 77)]


class Line:
    """A conversation, and the other end of its input."""

    def __init__(self) -> None:
        self.reader, self.inlet = os.pipe()
        self.null = os.open(os.devnull, os.O_WRONLY)
        self.conversation = Conversation(self.reader, self.null)
        self.conversation.send(Hello(1, "", "", "", 1))

    def say(self, data: bytes, chunk: int = 1 << 20) -> threading.Thread:
        """Write ``data`` in chunks, from another thread, and then close."""

        def write() -> None:
            for at in range(0, len(data), chunk):
                left = memoryview(data)[at : at + chunk]
                while left:
                    left = left[os.write(self.inlet, left) :]
            os.close(self.inlet)

        thread = threading.Thread(target=write)
        thread.start()
        return thread


@pytest.fixture(params=["splice", "copy", "refused"])
def line(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    """Where bytes can go from pipe to pipe, where python cannot do that, and where the kernel refuses."""

    def refuse(*_: int) -> int:
        raise OSError(22, "Invalid argument")

    if request.param == "copy":
        monkeypatch.delattr(os, "splice")
    elif request.param == "refused":
        monkeypatch.setattr(os, "splice", refuse)
    made = Line()
    yield made
    os.close(made.reader)
    os.close(made.null)


def talk(*pieces: bytes) -> bytes:
    """A stream, with a ping in it."""
    messages: list[Message] = [Stream("", 0, 1), *map(Data, pieces), Ping(3), Data(b"last"), End(4)]
    return b"".join(encode(message) for message in messages)


@pytest.mark.parametrize("chunk", [7000, 1 << 20])
def test_a_receiver_gets_the_stream_whole_and_in_order(line: Line, chunk: int, tmp_path: Path) -> None:
    thread = line.say(talk(*PIECES), chunk)
    assert isinstance(line.conversation.next(), Stream)
    with Receiver(("sh", "-c", f"cat > '{tmp_path}/got'"), PIPE_BYTES) as receiver:
        lengths = []
        while isinstance(item := line.conversation.next_into(receiver), int):
            lengths.append(item)
        assert item == End(4)
        assert not receiver.finish().status
    thread.join()
    assert lengths == [*map(len, PIECES), 4]
    assert (tmp_path / "got").read_bytes() == b"".join(PIECES) + b"last"


def test_a_stream_is_read_on_when_its_receiver_has_ended(line: Line) -> None:
    thread = line.say(talk(*PIECES, *PIECES, *PIECES) + encode(Stream("", 0, 1)) + encode(Abort("")))
    assert isinstance(line.conversation.next(), Stream)
    with Receiver(("true",), PIPE_BYTES) as receiver:
        receiver._inlet.wait()
        assert line.conversation.next_into(receiver) == -1
    line.conversation.skip_stream()
    assert isinstance(line.conversation.next(), Stream)
    thread.join()


def test_a_receiver_that_could_not_be_started_takes_nothing(line: Line) -> None:
    thread = line.say(talk(*PIECES))
    assert isinstance(line.conversation.next(), Stream)
    with Receiver(("/no/such/zfs",), PIPE_BYTES) as receiver:
        assert line.conversation.next_into(receiver) == -1
    line.conversation.skip_stream()
    thread.join()


@pytest.mark.parametrize("left", [1, 50_000])
def test_an_input_that_ends_amid_a_stream_is_a_client_that_has_gone(line: Line, left: int, tmp_path: Path) -> None:
    data = encode(Stream("", 0, 1)) + encode(Data(PIECES[4]))
    thread = line.say(data[:-left])
    assert isinstance(line.conversation.next(), Stream)
    with (
        Receiver(("sh", "-c", f"cat > '{tmp_path}/got'"), PIPE_BYTES) as receiver,
        pytest.raises(Gone),
    ):
        line.conversation.next_into(receiver)
    thread.join()
    assert (tmp_path / "got").read_bytes() == PIECES[4][:-left]


def test_an_agent_that_hears_nothing_for_long_ends_and_says_so_by_its_status(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation, "MAX_SILENCE_SECONDS", 0.05)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert Agent(theirs.fileno(), theirs.fileno()).serve() == EXIT_SILENT
