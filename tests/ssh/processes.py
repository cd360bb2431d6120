"""What runs, as /proc tells it, and waiting for something to become true. Linux only."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

MARK = "ZFSYNC_TEST_SITE"
"""An environment variable that all processes of a test have, those that sshd starts included: how they are known."""
PATIENCE_SECONDS = 20.0

_T = TypeVar("_T")


@dataclass(frozen=True)
class Running:
    """A process. ``argv`` is empty when it has ended in the meantime."""

    pid: int
    parent: int
    argv: tuple[str, ...]

    def kill(self) -> None:
        """End it at once; it may have ended already."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def has_open(self, path: Path) -> bool:
        """Whether it has the file open."""
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            return str(path) in [os.readlink(link) for link in Path(f"/proc/{self.pid}/fd").iterdir()]
        return False

    @property
    def bytes_read(self) -> int:
        """Bytes that it has read so far, from wherever."""
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            first = Path(f"/proc/{self.pid}/io").read_text().splitlines()[0]
            return int(first.removeprefix("rchar: "))
        return 0

    @property
    def is_agent(self) -> bool:
        """Whether it is the python that the bootstrap's shell has started."""
        return self.argv[1:3] == ("-I", "-c")

    @property
    def is_zfs(self) -> bool:
        """Whether it is a fake zfs, or the script that is about to become one."""
        return any(word.endswith(("fakezfs.main()", "/zfs")) for word in self.argv)

    def receives(self, dataset: str = "") -> bool:
        """Whether it is the `zfs receive` of ``dataset``, or of any."""
        return self.is_zfs and "receive" in self.argv and "-A" not in self.argv and self.argv[-1].endswith(dataset)


def marked(value: str) -> list[Running]:
    """The processes whose environment has `MARK` with this value."""
    wanted = f"{MARK}={value}".encode()
    found = []
    for path in Path("/proc").iterdir():
        if path.name.isdecimal():
            try:
                if wanted in (path / "environ").read_bytes().split(b"\0"):
                    argv = (path / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")[:-1]
                    stat = (path / "stat").read_text().rpartition(")")[2].split()
                    found.append(Running(int(path.name), int(stat[1]), tuple(argv)))
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                pass
    return found


def children(parent: int) -> list[int]:
    """The processes that ``parent`` has started and that still run."""
    found = []
    for path in Path("/proc").iterdir():
        if path.name.isdecimal():
            try:
                stat = (path / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(stat[1]) == parent and stat[0] != "Z":
                found.append(int(path.name))
    return found


def of_connections(sshd: int) -> list[int]:
    """The processes of sshd's connections: one each, and in OpenSSH 10 one of the user below it, for root as well."""
    own = children(sshd)
    return own + [pid for one in own for pid in children(one) if _name(pid).startswith("sshd")]


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def eventually(what: str, look: Callable[[], _T | None]) -> _T:
    """What ``look`` returns as soon as that is true; an AssertionError that says ``what`` was not so in time."""
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        seen = look()
        if seen:
            return seen
        assert time.monotonic() < end, f"not within {PATIENCE_SECONDS:.0f} seconds: {what}"
        time.sleep(0.01)
