"""Runs on a machine of a benchmark: makes a tree of filesystems. With OpenZFS's library, which is faster by far."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import libzfs_core  # type: ignore[import-not-found]


def main() -> None:
    """``ROOT CHILDREN SNAPSHOTS DEEP``."""
    root, children, snapshots, deep = sys.argv[1], *map(int, sys.argv[2:])
    names = [root]
    for number in range(children):
        # Deep: groups of ten, each a chain of its own, so that every parent is a dataset with data of its own.
        parent = names[-1] if deep and number % 10 else root
        names.append(f"{parent}/d{number:04}")
    for name in names:
        libzfs_core.lzc_create(name.encode())
    subprocess.run(["zfs", "mount", "-a"], check=True)
    for name in names:
        (Path("/") / name / "file").write_bytes(os.urandom(8 << 10))
    for number in range(snapshots):
        subprocess.run(["zfs", "snapshot", "-r", f"{root}@s{number:04}"], check=True)


if __name__ == "__main__":
    main()
