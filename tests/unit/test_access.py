"""Which clones of volumes, made to be read, are destroyed as leftovers; `zfs` is a script."""

from __future__ import annotations

import os
import subprocess
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
