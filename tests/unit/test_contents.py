"""Real directories and files as they are read; a file stands in for a volume's device."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from zfsync_ssh import access
from zfsync_ssh.contents import BLOCK_BYTES, BLOCKS_AT_ONCE, Filesystem, Volume
from zfsync_ssh.entry import EVERYTHING, UNKNOWN, Entry, offset_path, order

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def read(path: Path, *, acls: bool = True, seed: str = "", share: int = EVERYTHING) -> dict[str, Entry]:
    fd = os.open(path, os.O_RDONLY)
    try:
        entries = [entry for entry in Filesystem(fd, acls).entries(seed, share) if entry is not None]
    finally:
        os.close(fd)
    assert [entry.path for entry in entries] == sorted((entry.path for entry in entries), key=order)
    return {entry.path: entry for entry in entries}


@pytest.fixture
def descriptors() -> Iterator[None]:
    """Checks that none is left open."""
    before = len(os.listdir("/proc/self/fd"))
    yield
    assert len(os.listdir("/proc/self/fd")) == before


def test_everything_is_read_in_order(tmp_path: Path, descriptors: None) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_text("hello")
    (tmp_path / "a.x").write_text("")
    (tmp_path / "link").symlink_to("/nowhere")
    os.mkfifo(tmp_path / "fifo", 0o600)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tmp_path / "socket"))
    os.utime(tmp_path / "a.x", ns=(0, 1_234_567_890_123_456_789))
    found = read(tmp_path)
    assert {path: entry.kind for path, entry in found.items()} == {
        "": "directory", "a": "directory", "a/b": "directory", "a/b/file": "file", "a.x": "file",
        "fifo": "fifo", "link": "link", "socket": "socket",
    }  # fmt: skip
    assert found["a.x"].mtime == 1_234_567_890_123_456_789
    assert (found["a.x"].digest, found["link"].points_to) == ("", "/nowhere")
    assert len(found["a/b/file"].digest) == 32
    assert (found["a/b/file"].size, found["a"].size) == (5, 0)
    assert found["fifo"].mode == 0o600


def test_names_of_any_bytes(tmp_path: Path) -> None:
    for name in (b"\xff\xfe", b"new\nline", b"tab\t", b'"quoted\\"', "ü".encode(), b"\x01"):
        with open(os.path.join(os.fsencode(tmp_path), name), "wb") as file:
            file.write(b"x")
    assert len(read(tmp_path)) == 7
    assert "\udcff\udcfe" in read(tmp_path)


def test_one_byte_anywhere_changes_the_digest(tmp_path: Path) -> None:
    path = tmp_path / "file"
    size = 2 * BLOCK_BYTES + 100
    seen = set()
    for at in (None, 0, BLOCK_BYTES - 1, BLOCK_BYTES, 2 * BLOCK_BYTES + 99):
        data = bytearray(size)
        if at is not None:
            data[at] = 1
        path.write_bytes(data)
        seen.add(read(tmp_path)["file"].digest)
    assert len(seen) == 5


def test_a_hole_is_as_good_as_zeros(tmp_path: Path) -> None:
    written, sparse = tmp_path / "written", tmp_path / "sparse"
    written.write_bytes(bytes(3 * BLOCK_BYTES) + b"x" + bytes(2 * BLOCK_BYTES))
    with sparse.open("wb") as file:
        file.seek(3 * BLOCK_BYTES)
        file.write(b"x")
        file.truncate(5 * BLOCK_BYTES + 1)
    found = read(tmp_path)
    assert found["written"].digest == found["sparse"].digest
    assert found["written"].size == found["sparse"].size


def test_hard_links_are_told_and_read_once(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("same")
    (tmp_path / "b").hardlink_to(tmp_path / "a")
    (tmp_path / "c").write_text("same")
    found = read(tmp_path)
    assert found["a"].links == found["b"].links != ""
    assert found["c"].links == ""
    assert found["a"].digest == found["b"].digest == found["c"].digest


ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", tag, rights, who)
    for tag, rights, who in ((1, 6, -1 & 0xFFFFFFFF), (2, 4, 1000), *((tag, 4, -1 & 0xFFFFFFFF) for tag in (4, 16, 32)))
)


@as_root
def test_extended_attributes_and_acls_are_two_things(tmp_path: Path) -> None:
    for name in ("plain", "attribute", "other", "acl"):
        (tmp_path / name).write_text("")
    try:
        os.setxattr(tmp_path / "attribute", "user.a", b"1")
        os.setxattr(tmp_path / "other", "user.a", b"2")
        os.setxattr(tmp_path / "acl", "system.posix_acl_access", ACL)
    except OSError as error:
        pytest.skip(f"this file system has none: {error}")
    found = read(tmp_path)
    assert (found["plain"].xattrs, found["plain"].acl) == ("", "")
    assert "" != found["attribute"].xattrs != found["other"].xattrs
    assert found["acl"].acl != found["acl"].xattrs == ""
    assert read(tmp_path, acls=False)["acl"].acl == UNKNOWN


@as_root
def test_a_device_is_told_by_its_numbers_and_never_opened(tmp_path: Path) -> None:
    os.mknod(tmp_path / "tape", 0o600 | 0o020000, os.makedev(9, 128))
    assert (read(tmp_path)["tape"].kind, read(tmp_path)["tape"].points_to) == ("character device", "9:128")


def test_a_sample_reads_the_contents_of_a_part_and_the_metadata_of_all(tmp_path: Path) -> None:
    for number in range(200):
        (tmp_path / str(number)).write_text("x")
    part = read(tmp_path, seed="s", share=EVERYTHING // 4)
    assert len(part) == 201
    assert 20 < sum(bool(entry.digest) for entry in part.values()) < 80


def test_a_deep_tree_is_read(tmp_path: Path, descriptors: None) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    for _ in range(300):  # 300 times 100 bytes is far longer than any path may be
        os.mkdir("d" * 100, dir_fd=fd)
        below = os.open("d" * 100, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    assert len(read(tmp_path)) == 301


def test_a_reader_that_is_closed_amid_a_large_file_leaves_nothing_open(tmp_path: Path, descriptors: None) -> None:
    (tmp_path / "big").write_bytes(b"x" * (BLOCK_BYTES * BLOCKS_AT_ONCE + 1))
    fd = os.open(tmp_path, os.O_RDONLY)
    reading = Filesystem(fd, True).entries("", EVERYTHING)
    assert next(reading) is not None
    assert next(reading) is None, "it lets go for a moment"
    reading.close()
    os.close(fd)


def volume(path: Path, seed: str = "", share: int = EVERYTHING) -> list[Entry]:
    fd = os.open(path, os.O_RDONLY)
    try:
        return [entry for entry in Volume(fd).entries(seed, share) if entry is not None]
    finally:
        os.close(fd)


def test_a_volume_is_its_ranges_that_are_not_all_zeros(tmp_path: Path) -> None:
    device = tmp_path / "device"
    device.write_bytes(b"a" * BLOCK_BYTES + bytes(2 * BLOCK_BYTES) + b"\0b" + bytes(510))
    found = volume(device)
    assert [(entry.path, entry.kind, entry.size) for entry in found] == [
        ("", "volume", 3 * BLOCK_BYTES + 512),
        (offset_path(0), "range", BLOCK_BYTES),
        (offset_path(3 * BLOCK_BYTES), "range", 512),
    ]
    assert found[1].digest != found[2].digest


def test_a_sample_of_a_volume_reads_a_part_of_its_ranges(tmp_path: Path) -> None:
    device = tmp_path / "device"
    device.write_bytes(b"a" * (BLOCK_BYTES * 64))
    assert 5 < len(volume(device, "s", EVERYTHING // 4)) < 35


def test_a_device_that_may_have_partitions_is_not_the_one_that_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "_RANGE", str(tmp_path / "%s"))
    (tmp_path / "zd0").write_text("256\n")
    (tmp_path / "zd16").write_text("1\n")
    (tmp_path / "link").symlink_to("/dev/zd0")
    paths = (str(tmp_path / "link"), "/dev/zd0", "/dev/zd16", "/dev/zd32")
    assert [access._partitionable(path) for path in paths] == [True, True, False, False]
