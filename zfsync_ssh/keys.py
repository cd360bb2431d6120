"""zfsync's own SSH files: a key for each job that was given one, and the host keys that were pinned.

They are beside the configuration, /etc/zfsync for root and ~/.config/zfsync for others. A key is its owner's alone,
whatever the umask, and is never written over.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from .errors import UsageError
from .ssh_lines import with_pin
from .state import make_private

VARIABLE = "ZFSYNC_KEY_DIR"
"""The environment variable that names another directory for keys: tests have one of their own."""


def own_config(home: Path | None = None) -> Path:
    """Where a user's own configuration is."""
    base = os.environ.get("XDG_CONFIG_HOME", "")
    return (Path(base) if base.startswith("/") else (home or Path.home()) / ".config") / "zfsync"


def directory() -> Path:
    """Where zfsync's own SSH files are."""
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named)
    return Path("/etc/zfsync") if os.geteuid() == 0 else own_config()


def known_hosts() -> Path:
    """The file of the host keys that were pinned; it need not be there."""
    return directory() / "known_hosts"


def key_of(job: str) -> Path:
    """The private key of a job; it need not be there. `UsageError` for a job that cannot have one."""
    if job.endswith(".pub"):
        raise UsageError(f"A job whose name ends in .pub cannot have a key of its own: rename {job}.")
    return directory() / "keys" / job


def own_key(job: str) -> Path | None:
    """The private key of a job, if it has one."""
    if not job or job.endswith(".pub"):
        return None
    path = key_of(job)
    return path if path.is_file() else None


def store_key(job: str, private: bytes, public: str) -> Path:
    """Write the key pair of a job, which has none yet; the path of the private key."""
    path = key_of(job)
    with _written("The key", path):
        _make(directory(), 0o755 if os.geteuid() == 0 else 0o700)
        _make(path.parent, 0o700)
        _write(path, private, 0o600, new=True)
        _write(path.with_name(path.name + ".pub"), f"{public}\n".encode(), 0o600)
    return path


def pin(entry: str, key: str) -> Path:
    """Pin one more host key; the file that it is in."""
    path = known_hosts()
    with _written("The host key", path):
        _make(directory(), 0o755 if os.geteuid() == 0 else 0o700)
        with _locked(path.parent):
            text = path.read_text(encoding="utf-8") if path.exists() else ""
            _write(path, with_pin(text, entry, key).encode(), 0o600)
    return path


@contextlib.contextmanager
def _written(what: str, path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{what} cannot be written to {path}: {getattr(error, 'strerror', None) or error}.") from error


@contextlib.contextmanager
def _locked(place: Path) -> Iterator[None]:
    """Two that pin at once do so one after the other."""
    fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _make(place: Path, mode: int) -> None:
    if not place.is_dir():
        make_private(place)
        place.chmod(mode)


def _write(path: Path, data: bytes, mode: int, *, new: bool = False) -> None:
    """Write a file whole or not at all; for ``new`` none may be there."""
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    fd = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            os.fchmod(fd, mode)
            file.write(data)
            file.flush()
            os.fsync(fd)
        if new:
            path.hardlink_to(scratch)  # fails when there is one, which a rename would not
        else:
            scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)
