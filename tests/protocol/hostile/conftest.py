"""A client that was taken over, at a confined receiver: it says whatever it likes, and reaches nothing but its root."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakezfs import State
from tests.protocol.client import Client
from tests.protocol.conftest import zfs_command
from tests.protocol.test_agent import SNAPSHOTS
from zfsync_ssh.bootstrap import Greeting
from zfsync_ssh.bounds import Confinement
from zfsync_ssh.floor import parse_floor
from zfsync_ssh.messages import (
    PROTOCOL,
    Begin,
    Hello,
    Message,
    Output,
    Result,
    Sync,
)
from zfsync_ssh.serve import talk

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


class Conversation(Client):
    """A client that may say anything to whatever is behind ``socket``."""

    def __init__(self, ours: socket.socket) -> None:
        super().__init__(ours)
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

    def ask(self, message: Message) -> Message:
        self.say(message)
        while isinstance(answer := self.hear(), Output):
            pass
        return answer


class Hostile(Conversation):
    """Such a client of a confined receiver, and the receiver's log."""

    def __init__(
        self, receiver: State, bounds: Confinement, start: bytes = START, tell: Callable[[str], None] | None = None
    ) -> None:
        ours, theirs = socket.socketpair()
        super().__init__(ours)
        tell = tell or self.log.append
        self.receiver = receiver
        ours.settimeout(20)
        self.status: int | None = None

        def run() -> None:
            with theirs:
                self.status = talk(theirs.fileno(), theirs.fileno(), bounds, zfs_command(receiver), tell)

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
