"""Processes by identity, and the three Linux calls that Python 3.11's library lacks or hides.

A process is a pid with its start time: a pid alone may belong to another process by now. Nothing here knows the lab.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
CLONE_NEWNET = 0x40000000
# Of /proc/PID/stat, counted from 1: proc(5).
STATE_FIELD, PARENT_FIELD, START_TIME_FIELD = 3, 4, 22


@dataclass(frozen=True)
class ProcessId:
    """A process: `start` is its start time in clock ticks after boot."""

    pid: int
    start: int

    @staticmethod
    def of(pid: int) -> ProcessId | None:
        """The process that has this pid now, or None."""
        start = _start_time(pid)
        return None if start is None else ProcessId(pid, start)

    @property
    def alive(self) -> bool:
        return _start_time(self.pid) == self.start

    def open(self) -> int | None:
        """A pidfd of this very process, or None when it is gone. The caller closes it."""
        try:
            pidfd = os.pidfd_open(self.pid)
        except OSError:
            return None
        if self.alive:
            return pidfd
        os.close(pidfd)
        return None

    def send(self, signum: signal.Signals) -> bool:
        """Send a signal; False when the process is gone."""
        with self._opened() as pidfd:
            if pidfd is None:
                return False
            try:
                signal.pidfd_send_signal(pidfd, signum)
            except ProcessLookupError:
                return False
            return True

    def wait(self, timeout: float) -> bool:
        """Wait until it has ended; False when it lives on after `timeout` seconds."""
        with self._opened() as pidfd:
            if pidfd is None:
                return True
            poller = select.poll()
            poller.register(pidfd, select.POLLIN)
            return bool(poller.poll(timeout * 1000))

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int | None]:
        pidfd = self.open()
        try:
            yield pidfd
        finally:
            if pidfd is not None:
                os.close(pidfd)


def children_of(pid: int) -> tuple[int, ...]:
    """The pids of a process's children, ended ones too. By a scan: not every kernel has /proc/PID/task/PID/children."""
    numbers = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal())
    return tuple(number for number in numbers if (stat := _stat(number)) and int(stat[PARENT_FIELD - 3]) == pid)


def die_with_parent() -> None:
    """In a new child: the kernel kills this process when its parent ends, whatever the end."""
    _libc_call("prctl", PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


def adopt_orphans() -> None:
    """Descendants that lose their parent become children of this process instead of init's."""
    _libc_call("prctl", PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def enter_network_namespace(path: Path) -> None:
    """This process, and those it starts from now on, use the network namespace that `path` names."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _libc_call("setns", fd, CLONE_NEWNET)
    finally:
        os.close(fd)


def _start_time(pid: int) -> int | None:
    """None when the process is gone, or has ended and only waits for its parent."""
    stat = _stat(pid)
    if stat is None or stat[STATE_FIELD - 3] in ("Z", "X"):
        return None
    return int(stat[START_TIME_FIELD - 3])


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the third on; None when there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    # The name, in parentheses, may hold spaces and parentheses itself: count from the last one.
    return stat[stat.rindex(")") + 2 :].split()


def _libc_call(name: str, *arguments: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc[name](*arguments) != 0:
        errno = ctypes.get_errno()
        raise OSError(errno, f"{name}: {os.strerror(errno)}")
