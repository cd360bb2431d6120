#!/usr/bin/env python3
"""Prints what a tree of datasets really holds: for every snapshot, its GUID and a digest of its contents. As root, on a
machine of the lab; standard library only.

Filesystem snapshots are mounted and walked: paths, types, modes, owners, sizes, link targets and bytes. A volume's
snapshots are read through a clone's device. One line each: ``CHILD@SNAPSHOT<tab>GUID<tab>DIGEST``.

``--device VOLUME`` prints that volume's device instead.
"""

import glob
import hashlib
import os
import stat
import subprocess
import sys
import tempfile
import time


def zfs(*arguments: str) -> str:
    return subprocess.run(["zfs", *arguments], check=True, stdout=subprocess.PIPE).stdout.decode()


def main(root: str) -> None:
    kinds = dict(
        line.split("\t") for line in zfs("list", "-Hr", "-tfilesystem,volume", "-oname,type", root).splitlines()
    )
    for line in zfs("list", "-Hpr", "-tsnapshot", "-oname,guid", root).splitlines():
        name, guid = line.split("\t")
        dataset = name.split("@")[0]
        digest = of_filesystem(name) if kinds[dataset] == "filesystem" else of_volume(name)
        print(f"{name[len(root) :]}\t{guid}\t{digest}")


def of_filesystem(snapshot: str) -> str:
    where = tempfile.mkdtemp()
    subprocess.run(["mount", "-t", "zfs", "-o", "ro", snapshot, where], check=True)
    try:
        digest = hashlib.sha256()
        for path, names, files in os.walk(where):
            names.sort()
            for name in sorted(names + files):
                full = os.path.join(path, name)
                info = os.lstat(full)
                digest.update(repr((full[len(where) :], info.st_mode, info.st_uid, info.st_gid, info.st_size)).encode())
                if stat.S_ISLNK(info.st_mode):
                    digest.update(os.readlink(full).encode())
                elif stat.S_ISREG(info.st_mode):
                    add_file(digest, full)
        return digest.hexdigest()
    finally:
        subprocess.run(["umount", where], check=True)
        os.rmdir(where)


def of_volume(snapshot: str) -> str:
    clone = f"{snapshot.split('/')[0]}/digest-{os.getpid()}"
    zfs("clone", "-o", "readonly=on", snapshot, clone)
    try:
        digest = hashlib.sha256()
        add_file(digest, device_of(clone))
        return digest.hexdigest()
    finally:
        zfs("destroy", clone)


def device_of(volume: str) -> str:
    """The device of a volume, by asking each: without udev there are no links in /dev/zvol."""
    for _ in range(200):
        for device in glob.glob("/dev/zd*"):
            asked = subprocess.run(["/lib/udev/zvol_id", device], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            if asked.stdout.decode().strip() == volume.replace(" ", "+"):
                return device
        time.sleep(0.05)
    raise SystemExit("no device of " + volume)


def add_file(digest: "hashlib._Hash", path: str) -> None:
    with open(path, "rb") as file:
        while True:
            block = file.read(1 << 20)
            if not block:
                break
            digest.update(block)


if __name__ == "__main__":
    if sys.argv[1] == "--device":
        print(device_of(sys.argv[2]))
    else:
        main(sys.argv[1])
