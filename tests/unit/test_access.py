"""Which clones of volumes, made to be read, are destroyed as leftovers; `zfs` is a script."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from zfsync_ssh import access
from zfsync_ssh.tree import Tree


def test_of_the_volumes_there_the_clones_of_readers_that_have_gone_are_destroyed_and_no_others(tmp_path: Path) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    volumes = {
        "tank/zfsync-verify-1": str(gone.pid),
        "tank/zfsync-verify-2": str(os.getpid()),  # is being read
        "tank/zfsync-verify-3": "-",  # has no mark: somebody else's
        "tank/zfsync-verify": str(gone.pid),
        "tank/data": str(gone.pid),
    }
    listing, log, zfs = (tmp_path / name for name in ("listing", "log", "zfs"))
    listing.write_text("".join(f"{name}\t{pid}\n" for name, pid in volumes.items()))
    zfs.write_text(f'#!/bin/sh\ncase $1 in list) cat {listing};; *) echo "$@" >>{log};; esac\n')
    zfs.chmod(0o755)
    access._destroy_leftovers(Tree("tank/tree", "", (str(zfs),)), "tank")
    assert log.read_text().splitlines() == ["destroy -r tank/zfsync-verify-1"]


KILLED = """
import os, signal, sys
from zfsync_ssh import access
def mount(argv):
    assert os.path.isdir(sys.argv[1])
    os.kill(os.getpid(), signal.SIGKILL)
access._free_name, access.run = lambda: sys.argv[1], mount
access._open_filesystem("tank/data@1", access._Row("tank/data", "filesystem", "1", "-", "off", "no", "none"))
"""


def test_a_reader_that_is_killed_while_it_mounts_leaves_no_directory(tmp_path: Path) -> None:
    where = tmp_path / "zfsync-verify-1"
    assert subprocess.run([sys.executable, "-c", KILLED, where]).returncode == -signal.SIGKILL
    until = time.monotonic() + 30
    while where.exists() and time.monotonic() < until:
        time.sleep(0.02)
    assert not where.exists()
