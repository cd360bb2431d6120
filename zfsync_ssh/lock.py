"""One run per target at a time: an advisory lock on a file, which vanishes with the process that holds it.

The lock is taken by the agent at the far end, where all senders meet. `flock` is released by the kernel however its
holder ends, so there are no stale locks; the file says who holds it and is removed when the lock is given back.

Accounts differ in the directory that they may write to, so a lock is also looked for where another account would have
it: before it is taken, and once more after that. Two that take it at the same moment, in two directories, both give it
back. What is not seen is a lock in a directory that is another one for its holder, such as systemd's PrivateTmp.

Also shipped to the far end: standard library only, Python >= 3.8.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from typing import Optional, Tuple

VARIABLE = "ZFSYNC_LOCK_DIR"
"""The environment variable that names another directory for locks: tests have one of their own."""

_DIRECTORIES = ("/run/lock", "/var/run/lock", "/tmp")  # noqa: S108 - see _open
_MODE = 0o644
"""Whatever the umask: another account that wants the same lock has to open its file, and to read who holds it."""
_MAX_FILE_NAME_CHARS = 200
_MAX_OWNER_BYTES = 1024
_LOOKERS = 50
"""Who may look at one lock at the same time."""


class Lock:
    """The lock of one target. Use `acquire`; closing the process is enough to give it back, `release` is tidier."""

    def __init__(self, target: str, directories: Tuple[str, ...] = ()) -> None:
        directory, name = _directory(directories), _file_name(target)
        self.path = os.path.join(directory, name)
        others = {os.path.realpath(one) for one in _candidates(directories)} - {os.path.realpath(directory)}
        self._elsewhere = [os.path.join(one, name) for one in others]
        self._fd: Optional[int] = None

    def acquire(self, owner: str) -> Optional[str]:
        """Take the lock; None when it is ours now, else what its holder said of itself (perhaps nothing)."""
        holder = self._held_elsewhere()
        if holder is None:
            holder = self._take(owner)
            if holder is None:
                holder = self._held_elsewhere()
                if holder is not None:
                    self.release()
        return holder

    def _held_elsewhere(self) -> Optional[str]:
        return next((holder for holder in map(_holder, self._elsewhere) if holder is not None), None)

    def _take(self, owner: str) -> Optional[str]:
        while True:
            fd, writable = _open(self.path)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = _owner(fd)
                os.close(fd)
                return holder
            if _same_file(fd, self.path):
                break
            os.close(fd)  # its holder removed the file between our opening and locking it
        if writable:
            os.fchmod(fd, _MODE)
            os.ftruncate(fd, 0)
            os.pwrite(fd, owner.encode("utf-8")[:_MAX_OWNER_BYTES], 0)
        self._fd = fd
        return None

    def acquire_own(self, owner: str) -> Optional[str]:
        """Take a lock that nobody else wants: whoever holds it, `sweep` say, only looks whether it is free."""
        for _ in range(_LOOKERS):
            holder = self.acquire(owner)
            if holder is None:
                break
            time.sleep(0.01)
        return holder

    def release(self) -> None:
        """Give the lock back, if it is held. The file goes first, so that nobody locks one that is about to go."""
        if self._fd is not None:
            try:
                os.unlink(self.path)
            except OSError:
                pass  # another user's file in a sticky directory: it stays, unlocked and harmless
            os.close(self._fd)
            self._fd = None


def sweep(prefix: str, directories: Tuple[str, ...] = ()) -> None:
    """Remove the files of locks that nobody holds, of targets whose names begin with ``prefix``.

    A process that is killed leaves its file. Of the lock of a target, the next holder removes it; a lock that was one
    process's own has no next holder.
    """
    directory = _directory(directories)
    start, end = "zfsync-" + prefix, ".lock"
    try:
        names = os.listdir(directory)
    except OSError:
        return  # a directory that may be written to and not read
    for name in names:
        if name.startswith(start) and name.endswith(end) and "%" not in name:
            lock = Lock(name[len("zfsync-") : -len(end)], (directory,))
            try:
                lock.acquire("")
            except OSError:
                continue
            lock.release()


def _candidates(directories: Tuple[str, ...]) -> Tuple[str, ...]:
    return directories or tuple(filter(None, (os.environ.get(VARIABLE),))) or _DIRECTORIES


def _directory(directories: Tuple[str, ...]) -> str:
    directories = _candidates(directories)
    return next((path for path in directories if os.access(path, os.W_OK | os.X_OK)), directories[-1])


def _open(path: str) -> Tuple[int, bool]:
    """The lock's file and whether it is ours to write.

    The directory may be open to all: the file is never opened through a link, nor waited for, as a FIFO is, and
    one that another user made is only read, which is all that flock needs (Linux' fs.protected_regular forbids O_CREAT
    on it).
    """
    common = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    while True:
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | common, _MODE)
        except PermissionError:
            try:
                fd = os.open(path, os.O_RDONLY | common)
            except FileNotFoundError:
                if os.access(os.path.dirname(path), os.W_OK):
                    continue
                raise
        if _is_ours(fd):
            return fd, os.fstat(fd).st_uid == os.geteuid()
        os.close(fd)
        raise OSError(errno.EINVAL, "it is no file of zfsync's", path)


def _holder(path: str) -> Optional[str]:
    """What the holder of this lock said of itself; None when nobody holds it, as far as this account may see."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        if _is_ours(fd):
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: those who look keep each other from nothing
        return None
    except BlockingIOError:
        return _owner(fd)
    finally:
        os.close(fd)


def _owner(fd: int) -> str:
    return os.pread(fd, _MAX_OWNER_BYTES, 0).decode("utf-8", "replace").strip()


def _is_ours(fd: int) -> bool:
    status = os.fstat(fd)
    return stat.S_ISREG(status.st_mode) and status.st_nlink <= 1  # 0: its holder has just removed it


def _same_file(fd: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False


def _file_name(target: str) -> str:
    name = "zfsync-%s.lock" % target.replace("%", "%25").replace("/", "%2F")
    if len(name) > _MAX_FILE_NAME_CHARS:
        import hashlib

        name = "zfsync-%s.lock" % hashlib.sha256(target.encode("utf-8")).hexdigest()
    return name
