"""What is no start of an agent, no frame, and no order of questions."""

from __future__ import annotations

import contextlib
import socket
import syslog
import zlib
from pathlib import Path

import pytest

from tests.fakezfs import State
from tests.protocol.hostile.conftest import NONCE, ROOT, START, Hostile, Serve, changing, sync
from zfsync_ssh.bounds import Confinement
from zfsync_ssh.messages import (
    PROTOCOL,
    Apply,
    CleanBuffer,
    Failure,
    Inventory,
    Operation,
    Result,
    Send,
)
from zfsync_ssh.protocol import HEADER
from zfsync_ssh.serve import MAX_LOG_LINES, MAX_PAYLOAD_BYTES, session_log


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


def test_another_protocol_is_told_so(serve: Serve) -> None:
    hostile = serve()
    answer = hostile.begin(protocol=PROTOCOL + 1)
    assert (answer.ok, answer.code) == (False, "protocol")
    assert f"speaks protocol {PROTOCOL}, not {PROTOCOL + 1}" in answer.message
    assert hostile.begin().ok


def test_a_client_that_is_refused_again_and_again_does_not_fill_the_log(
    receiver: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[tuple[int, str]] = []
    monkeypatch.setattr(syslog, "syslog", lambda level, text: written.append((level, text)))
    hostile = Hostile(receiver, Confinement(ROOT), tell=session_log("192.0.2.7 port 22", Confinement(ROOT)))
    hostile.greet()
    for _ in range(MAX_LOG_LINES + 50):
        assert not hostile.begin("dst/backups/web2").ok
    hostile.end()
    assert len(written) == MAX_LOG_LINES
    assert all(level == syslog.LOG_WARNING for level, _ in written)
    assert written[0][1].startswith("192.0.2.7 port 22: refused Begin")
    ends = [text.endswith(" (this session's last line)") for _, text in written]
    assert ends == [False] * (MAX_LOG_LINES - 1) + [True]
