"""Prints, as JSON, all that is on a machine of the lab that a run could have changed or left behind.

    look.py [--contents] DATASET...

With ``--contents`` the contents of each snapshot are digested: of a filesystem, which is mounted, its files' names,
modes, sizes and bytes. Keys are loaded for that, and stay loaded. `tests.lab.digest` lies beside this file.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

KEY = "/root/faults.key"
MS_RDONLY = 1
MNT_DETACH = 2
DATASETS = "name,type,origin,receive_resume_token,mounted,zfsync:path,zfsync:placeholder,zfsync:aside"
_libc = ctypes.CDLL(None, use_errno=True)


def zfs(*arguments: str) -> list[list[str]]:
    done = subprocess.run(["zfs", *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    return [line.split("\t") for line in done.stdout.decode().splitlines()]


def datasets(roots: list[str]) -> list[dict[str, str]]:
    names = DATASETS.split(",")
    return [
        dict(zip(names, row, strict=True)) for row in zfs("list", "-Hr", "-tfilesystem,volume", "-o" + DATASETS, *roots)
    ]


def own_properties(roots: list[str]) -> list[list[str]]:
    """User properties of zfsync's that are set on the datasets themselves: name, property, value."""
    rows = zfs("get", "-Hr", "-s", "local", "-tfilesystem,volume", "-oname,property,value", "all", *roots)
    return [row for row in rows if row[1].startswith("zfsync:")]


def snapshots(roots: list[str]) -> list[list[str]]:
    return zfs("list", "-Hpr", "-tsnapshot", "-screatetxg", "-oname,guid,userrefs", *roots)


def contents(snapshot: str) -> str:
    where = tempfile.mkdtemp(dir="/run")
    try:
        if _libc.mount(snapshot.encode(), where.encode(), b"zfs", MS_RDONLY, None):
            return os.strerror(ctypes.get_errno())
        try:
            return digest(where)
        finally:
            _libc.umount2(where.encode(), MNT_DETACH)
    finally:
        os.rmdir(where)


def load_keys(roots: list[str]) -> None:
    rows = zfs("list", "-Hr", "-tfilesystem,volume", "-oname,encryptionroot,keystatus", *roots)
    for name, root, status in rows:
        if name == root and status == "unavailable":
            zfs("load-key", "-L", f"file://{KEY}", name)


def digests(roots: list[str]) -> dict[str, str]:
    """GUID -> digest, of every snapshot."""
    from digest import of_volume  # type: ignore[import-not-found]  # beside this file, on the machine

    load_keys(roots)
    volumes = {one["name"] for one in datasets(roots) if one["type"] == "volume"}
    return {
        guid: of_volume(name) if name.partition("@")[0] in volumes else contents(name)
        for name, guid, _ in snapshots(roots)
    }


def digest(where: str) -> str:
    found = hashlib.sha256()
    for path, names, files in os.walk(where):
        names.sort()
        for name in sorted(names + files):
            full = os.path.join(path, name)
            info = os.lstat(full)
            found.update(repr((full[len(where) :], info.st_mode, info.st_size)).encode())
            if os.path.isfile(full):
                found.update(Path(full).read_bytes())
    return found.hexdigest()


def processes() -> list[str]:
    """What of zfsync and of its zfs runs: command lines."""
    found = []
    pid = Path("/run/faults-ready.pid")
    ready = pid.read_text().strip() if pid.exists() else ""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or entry.name in (str(os.getpid()), ready):
            continue
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        line = " ".join(words).strip()
        if is_ours(words):
            found.append(f"{entry.name} {line[:120]}")
    return found


def is_ours(words: list[str]) -> bool:
    program = os.path.basename(words[0])
    if program == "zfs" and words[1:2] and words[1] in ("send", "receive", "rename", "destroy", "set", "inherit"):
        return True
    return program.startswith("python") and ("-I" in words[1:2] or any(word.endswith("/ready.py") for word in words))


def files() -> list[str]:
    """Locks and temporary files."""
    found = [str(path) for path in Path("/run/lock").glob("zfsync*")]
    return found + [str(path) for where in ("/tmp", "/var/tmp") for path in Path(where).glob("*")]


def main(arguments: list[str]) -> None:
    roots = [word for word in arguments if not word.startswith("--")]
    found = digests(roots) if "--contents" in arguments else {}
    print(
        json.dumps(
            {
                "datasets": datasets(roots),
                "snapshots": snapshots(roots),
                "contents": found,
                "properties": own_properties(roots),
                "processes": processes(),
                "files": files(),
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1:])
