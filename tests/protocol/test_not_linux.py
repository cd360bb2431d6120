"""Pushes and pulls whose agents have none of what only Linux has, and no /proc: what FreeBSD's Python would find."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests import agents
from tests.protocol.conftest import Pair
from zfsync_ssh.events import Status

TAKE_AWAY = """
import errno, fcntl, os, select, socket, sys
sys.platform = "freebsd14"
for module, names in (
    (os, "splice memfd_create pidfd_open posix_fadvise getxattr listxattr setxattr removexattr unshare setns"),
    (fcntl, "F_SETPIPE_SZ F_GETPIPE_SZ"),
    (select, "epoll"),
    (socket, "TCP_NOTSENT_LOWAT"),
):
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)
def freebsd_fcntl(fd, command, argument=0, real=fcntl.fcntl):
    if command > 1000:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    return real(fd, command, argument)
fcntl.fcntl = freebsd_fcntl
def no_proc(event, arguments):
    if event == "open" and str(arguments[0]).startswith(("/proc", "/sys/", "/run/")):
        with open(TOLD, "a") as file:
            file.write(str(arguments[0]) + chr(10))
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), arguments[0])
sys.addaudithook(no_proc)
"""
"""Python that runs before the agent's first stage; TOLD is a file for what is opened that FreeBSD does not have."""


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with what of Linux agents have opened."""
    told = tmp_path / "opened"
    told.touch()
    before = tmp_path / "take_away.py"
    before.write_text(f"TOLD = {str(told)!r}\n{TAKE_AWAY}")
    python = tmp_path / "python3"
    # -I -c CODE, as the agent's command line gives them.
    python.write_text(f'#!/bin/sh\nexec {agents.PYTHON} -I -c \'exec(open("{before}").read())\n\'"$3"\n')
    python.chmod(0o755)
    monkeypatch.setattr(agents, "PYTHON", str(python))
    return told


@pytest.mark.parametrize("pull", [False, True])
async def test_a_tree_arrives_and_what_is_new_after_it(pair: Pair, opened: Path, pull: bool) -> None:
    pair.sender.snapshot("src/tree@1", 300_000)
    pair.sender.create("src/tree/a/b")
    pair.sender.snapshot("src/tree/a/b@1", 2_000_000)
    assert await pair.push(pull=pull) == 0
    pair.sender.snapshot("src/tree@2", 1000)
    assert await pair.push(pull=pull) == 0
    assert pair.receiver.guids("dst/tree") == pair.sender.guids("src/tree")
    nothing_in(opened)


async def test_what_found_no_room_comes_with_the_next_run(
    pair: Pair, opened: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair.sender.snapshot("src/tree@1", 600_000)
    monkeypatch.setenv("FAKEZFS_FULL", "200000")
    assert await pair.push() == 3
    assert pair.outcomes["src/tree"].status is Status.FAILED
    assert pair.outcomes["src/tree"].code == "no-space"
    monkeypatch.delenv("FAKEZFS_FULL")
    assert await pair.push() == 0
    assert pair.receiver.guids("dst/tree") == pair.sender.guids("src/tree")
    nothing_in(opened)


def nothing_in(opened: Path) -> None:
    assert opened.read_text() == ""


def test_what_is_taken_away_is_there_on_linux() -> None:
    """Else these tests would show nothing."""
    assert hasattr(os, "posix_fadvise")
    assert hasattr(os, "memfd_create")
