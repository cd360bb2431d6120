"""What differs on FreeBSD, as far as it can be had without one: calls that are not there, and what zfs says there.

The texts are those of OpenZFS's lib/libzfs/os/freebsd and of FreeBSD's strerror.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.test_checks import FakeTree
from zfsync_ssh import about, access, bootstrap, complaint
from zfsync_ssh.contents import Filesystem
from zfsync_ssh.entry import EVERYTHING, UNKNOWN
from zfsync_ssh.lock import Lock
from zfsync_ssh.process import Completed, enlarge_pipe, run


def test_stderr_needs_no_memfd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create")
    assert run(("sh", "-c", "echo out; echo no >&2; exit 3")) == Completed(3, "out\n", "no\n")


def test_a_pipe_that_cannot_be_enlarged_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def refuse(fd: int, command: int, argument: int = 0) -> int:
        asked.append(command)
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    enlarge_pipe(0, 1 << 20)
    assert asked


def test_contents_are_read_without_xattrs_and_fadvise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "listxattr")
    monkeypatch.delattr(os, "getxattr")
    monkeypatch.delattr(os, "posix_fadvise")
    (tmp_path / "file").write_bytes(b"x" * (3 << 20))
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        entries = {entry.path: entry for entry in Filesystem(fd, acls=False).entries("", EVERYTHING) if entry}
    finally:
        os.close(fd)
    assert entries["file"].digest
    assert {entry.xattrs for entry in entries.values()} == {UNKNOWN}


class LibcWithoutNamespaces:
    """FreeBSD's: it has mount, and no unshare."""

    def mount(self, *_: object) -> int:
        raise AssertionError("it would be mounted for all")


def test_there_is_no_own_namespace_without_unshare(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: LibcWithoutNamespaces())
    assert not access._own_namespace()


def test_there_is_no_own_namespace_in_a_python_without_ctypes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ctypes", None)
    assert not access._own_namespace()


def test_the_lock_is_where_there_is_a_place_for_it(tmp_path: Path) -> None:
    lock = Lock("tank/data", (str(tmp_path / "run/lock"), str(tmp_path / "var/run/lock"), str(tmp_path)))
    assert lock.acquire("me") is None
    assert Path(lock.path).parent == tmp_path
    lock.release()


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("Failed to load zfs module: Operation not permitted\n", "no-zfs"),  # not root, and it is not loaded
        ("Failed to load openzfs module: No such file or directory\n", "no-zfs"),  # the package openzfs
        ("cannot receive new filesystem stream: Disc quota exceeded\n", "no-space"),
        ("cannot receive new filesystem stream: destination p/q space quota exceeded.\n", "no-space"),
        ("cannot create 'p/q': permission denied\n", "permission"),
        ("cannot destroy 'p/q': dataset is busy\n", "busy"),
        ("mount: p/q@1: Device busy\n", "busy"),
    ],
)
def test_what_zfs_says_there_is_understood(said: str, code: str) -> None:
    assert complaint.classify(said) == code


def test_a_module_that_is_not_loaded_is_no_fault_of_the_names() -> None:
    blamed = complaint.blamed(("p/q@1", "p/q@2"), "Failed to load zfs module: Operation not permitted\n")
    assert {failed.code for failed in blamed.values()} == {"no-zfs"}


class FreeBsdTree(FakeTree):
    """Whose zfs says its version as FreeBSD's own does."""

    def zfs(self, arguments: tuple[str, ...]) -> Completed:
        if arguments[0] == "version":
            return Completed(0, "zfs-2.2.6-FreeBSD_g33174af15\nzfs-kmod-2.2.6-FreeBSD_g33174af15\n", "")
        return super().zfs(arguments)


def test_the_doctor_is_told_the_versions() -> None:
    told = about.parse(list(about.lines(FreeBsdTree("pool/b/web", "", ("nothing",)))))
    assert told.versions == ("zfs-2.2.6-FreeBSD_g33174af15", "zfs-kmod-2.2.6-FreeBSD_g33174af15")


@pytest.mark.parametrize("shell", [("dash",), ("bash", "--posix"), ("mksh",), ("busybox", "sh")])
def test_bin_sh_may_be_another_than_here(shell: tuple[str, ...]) -> None:
    line = bootstrap.command(("/nonexistent/python3", sys.executable))
    assert line.startswith("exec /bin/sh -c ")
    if shutil.which(shell[0]) is None:
        pytest.skip(f"there is no {shell[0]} on this machine")
    other = ["sh", "-c", line.replace("/bin/sh", " ".join(shell), 1)]
    ran = subprocess.run(other, input=b"", capture_output=True, timeout=60)
    assert ran.returncode == bootstrap.EXIT_NO_PAYLOAD  # the second python was found, and waited for the agent
