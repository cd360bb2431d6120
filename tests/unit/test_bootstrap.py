"""How the agent is started: the command in real shells, the payload in real pythons, and the wait for its hello."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import agents
from zfsync_ssh import __version__, bootstrap
from zfsync_ssh.bootstrap import (
    EXIT_NO_PAYLOAD,
    EXIT_NO_PYTHON,
    MAX_NOISE_BYTES,
    MODULES,
    PYTHONS,
    Greeting,
    command,
    explain_exit,
    payload,
)
from zfsync_ssh.errors import AgentError, UsageError
from zfsync_ssh.messages import PROTOCOL, Begin, Bye, Close, Hello, Message, Ping, Pong, Result
from zfsync_ssh.protocol import Connection, encode
from zfsync_ssh.remote_agent import ready_line

NONCE = "0123456789abcdef"
BEGIN = Begin(PROTOCOL, "p/t", "p/t.zfsyncbuffer", ("false",))
TALK = encode(BEGIN) + encode(Ping(5)) + encode(Close())

SHELLS = ("sh", "dash", "bash", "csh", "tcsh", "zsh", "mksh", "fish")


def shell(name: str) -> object:
    """A shell to run the command in, if it is installed."""
    return pytest.param(name, marks=pytest.mark.skipif(shutil.which(name) is None, reason=f"there is no {name} here"))


def run(line: str, given: bytes, shell: str = "sh") -> subprocess.CompletedProcess[bytes]:
    """Give the line to a login shell, as sshd does."""
    return subprocess.run([shell, "-c", line], input=given, capture_output=True, timeout=60)


def heard(stdout: bytes) -> list[Message]:
    """The messages behind the greeting."""
    rest = Greeting(NONCE).feed(stdout)
    assert rest is not None
    client = Connection(agent=False)
    client.receive(rest)
    messages = []
    while (message := client.next_message()) is not None:
        messages.append(message)
        if isinstance(message, Hello):
            for said in (BEGIN, Ping(5), Close()):
                client.send(said)
    return messages


def script(directory: Path, name: str, body: str) -> str:
    """An executable that stands in for a python."""
    path = directory / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


# ---- the command -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pythons", [PYTHONS, ("python3",), ("/opt/my python/bin/python3.11", 'a$b`c`"d')])
def test_the_command_is_one_line_without_anything_that_a_shell_might_take_up(pythons: tuple[str, ...]) -> None:
    line = command(pythons)
    assert line.isascii()
    assert line.isprintable()
    assert "!" not in line  # csh looks for history even inside quotes
    outside = line.split("'")[::2]
    assert len(line.split("'")) % 2 == 1
    assert outside[0] == "exec /bin/sh -c "
    assert set("".join(outside[1:])) <= {" "}
    # fish takes a backslash inside single quotes for itself in front of these.
    assert "\\'" not in line
    assert "\\\\" not in line


@pytest.mark.parametrize("python", ["", "it's", "a\\b", "python!", "python\n3", "pythön", "\x1b[0m", "py\t"])
def test_a_python_that_no_shell_could_be_told_of_is_refused(python: str) -> None:
    with pytest.raises(UsageError, match="cannot be the remote python"):
        command(("python3", python))


@pytest.mark.parametrize("name", [shell(name) for name in SHELLS])
def test_the_agent_starts_in_any_shell(name: str) -> None:
    done = run(command((agents.PYTHON,)), payload(NONCE) + TALK, name)
    assert (done.returncode, done.stderr) == (0, b"")
    hello, *rest = heard(done.stdout)
    assert isinstance(hello, Hello)
    assert (hello.protocol, hello.version, hello.python) == (PROTOCOL, __version__, agents.version())
    assert rest == [Result(True), Pong(5), Bye()]  # not a byte behind the payload was swallowed


def test_the_usual_names_of_python_are_tried() -> None:
    done = run(command(), payload(NONCE))
    assert done.returncode == 0
    assert Greeting(NONCE).feed(done.stdout)


def test_every_python_that_is_new_enough_is_tried_and_no_older_one() -> None:
    assert PYTHONS[0] == "python3"
    assert {f"python3.{minor}" for minor in range(8, 15)} <= set(PYTHONS)
    assert not {"python2", "python3.7", "python3.6"} & set(PYTHONS)


def test_a_host_without_python_is_known_by_its_status() -> None:
    done = run(command(("no-such-python", "/no/such/python")), payload(NONCE))
    assert (done.returncode, done.stdout) == (EXIT_NO_PYTHON, b"")


@pytest.mark.parametrize("status", [2, 96, 126, 127])
def test_a_python_that_is_none_or_too_old_is_passed_over(tmp_path: Path, status: int) -> None:
    unfit = script(tmp_path, "python3", f"exit {status}")
    done = run(command((unfit, agents.PYTHON)), payload(NONCE) + TALK)
    assert done.returncode == 0
    assert len(heard(done.stdout)) == 4
    assert run(command((unfit,)), payload(NONCE)).returncode == EXIT_NO_PYTHON


def test_a_python_that_fails_otherwise_is_the_last(tmp_path: Path) -> None:
    failing = script(tmp_path, "python3", "exit 3")
    done = run(command((failing, agents.PYTHON)), payload(NONCE))
    assert (done.returncode, done.stdout) == (3, b"")


def test_a_path_with_spaces_and_dollars_is_found(tmp_path: Path) -> None:
    odd = script(tmp_path, 'py $HOME "3"', f'exec {agents.PYTHON} "$@"')
    assert len(heard(run(command((odd,)), payload(NONCE) + TALK).stdout)) == 4


def test_the_environment_there_does_not_change_the_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "zlib.py").write_text("raise SystemExit(55)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert run(command((agents.PYTHON,)), payload(NONCE)).returncode == 0


# ---- the payload -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [0, 1, 12, 40, 500, -1])
def test_a_payload_that_is_cut_short_is_known_by_its_status(length: int) -> None:
    done = run(command((agents.PYTHON,)), payload(NONCE)[:length])
    assert (done.returncode, done.stdout, done.stderr) == (EXIT_NO_PAYLOAD, b"", b"")


def test_the_payload_says_its_length_and_is_small() -> None:
    header, _, rest = payload(NONCE).partition(b"\n")
    assert header == b"zfsync-agent %d %s" % (len(rest), NONCE.encode())
    assert len(rest) < 72 << 10


@pytest.mark.parametrize("size", [1, 7, 4096])
def test_the_payload_may_come_in_pieces(size: int) -> None:
    data = payload(NONCE)
    if size == 1:
        data = data[:200]  # enough to be read byte by byte through the header
    with subprocess.Popen(
        ["sh", "-c", command((agents.PYTHON,))], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as agent:
        assert agent.stdin
        assert agent.stdout
        for at in range(0, len(data), size):
            os.write(agent.stdin.fileno(), data[at : at + size])
        agent.stdin.close()
        stdout = agent.stdout.read()
    assert agent.returncode == (EXIT_NO_PAYLOAD if size == 1 else 0)
    assert (Greeting(NONCE).feed(stdout) is None) == (size == 1)


LATER = {
    "head",
    "lzc",
    "libzfs",
    "driver",
    "entry",
    "contents",
    "access",
    "reading",
    "allowed",
    "about",
    "operations",
    "receiving",
}
"""Modules that are sent along, and cost nothing more until they are needed."""
HEAVY = {"asyncio", "hashlib", "dataclasses", "logging", "argparse", "tempfile", "subprocess", "pathlib", "inspect"}


def test_the_agent_imports_nothing_heavy_before_its_hello(tmp_path: Path) -> None:
    slow = script(tmp_path, "python3", f'exec {agents.PYTHON} -X importtime "$@"')
    done = run(command((slow,)), payload(NONCE) + TALK)
    assert len(heard(done.stdout)) == 4
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.decode().splitlines() if "|" in line}
    assert imported >= {"zlib", "json", "select"}
    assert not imported & HEAVY
    mine = {name.rpartition(".")[2] for name in imported if name.startswith("zfsync_ssh")}
    assert mine == {"zfsync_ssh", *MODULES} - LATER


def test_two_payloads_differ_only_in_their_nonces() -> None:
    assert payload("a" * 16).replace(b"a" * 16, b"b" * 16, 1) == payload("b" * 16)


# ---- the greeting ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", [b"", b"Welcome!\r\nyou have mail", b"\xff\n\nzfsync-agent-ready other\n"])
def test_the_greeting_is_found_after_any_noise_at_every_split(noise: bytes) -> None:
    data = noise + ready_line(NONCE) + b"protocol"
    end = len(noise) + len(ready_line(NONCE))
    for cut in range(len(data) + 1):
        greeting = Greeting(NONCE)
        first = greeting.feed(data[:cut])
        assert first == (data[end:cut] if cut >= end else None)
        if first is None:
            assert greeting.feed(data[cut:]) == b"protocol"
        assert greeting.noise == noise.decode("utf-8", "replace").strip()


@given(st.lists(st.binary(max_size=20), max_size=8))
def test_noise_is_no_greeting(chunks: list[bytes]) -> None:
    greeting = Greeting(NONCE)
    assert all(greeting.feed(chunk) is None for chunk in chunks)
    assert greeting.noise == b"".join(chunks).decode("utf-8", "replace")


def test_the_greeting_of_another_run_is_noise() -> None:
    greeting = Greeting(NONCE)
    assert greeting.feed(ready_line("f" * 16)) is None
    assert greeting.feed(ready_line(NONCE)) == b""


def test_endless_noise_is_an_error() -> None:
    greeting = Greeting(NONCE)
    assert greeting.feed(b"x" * MAX_NOISE_BYTES) is None
    with pytest.raises(AgentError, match="more than 64 KiB before the agent's hello"):
        greeting.feed(b"x")


# ---- why there was none ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "stderr", "sentence"),
    [
        (97, "", "it has no python3 of version 3.8 or newer: install one, or name it with --remote-python"),
        (98, "", "the connection ended while the agent was being sent"),
        (127, "sh: not found\n", "its login shell cannot run /bin/sh (sh: not found)"),
        (126, "", "its login shell cannot run /bin/sh"),
        (95, "", "it heard nothing from this machine for five minutes, which was asleep or cut off"),
        (None, "Killed\n", "the agent was killed or cut off (Killed)"),
        (1, "Traceback\n  ...\nMemoryError\n\n", "the agent ended with status 1 (MemoryError)"),
    ],
)
def test_an_agent_that_did_not_start_is_explained(status: int | None, stderr: str, sentence: str) -> None:
    assert explain_exit(status, stderr) == sentence


def test_the_module_that_is_run_is_the_last_of_the_payload() -> None:
    assert bootstrap.MODULES[-1] == "remote_agent"
