"""Whether a raw stream may follow what a confined receiver has, by the key that either brings."""

from __future__ import annotations

import shlex
from pathlib import Path

from tests.unit.test_wrapping import KEY, head, native
from zfsync_ssh.rekey import rekeyed
from zfsync_ssh.tree import Tree

MINE = head(native({"crypt_keydata": KEY}))
THEIRS = head(native({"crypt_keydata": KEY | {"DSL_CRYPTO_IV": b"thieves' own"}}))


def tree(directory: Path, sent: bytes, rekey: str = "-") -> Tree:
    """A tree whose zfs sends this, and more behind it, and has this value of the property."""
    (directory / "sent").write_bytes(sent + bytes(1 << 20))
    script = f"case $1 in send) cat {shlex.quote(str(directory / 'sent'))};; get) echo {rekey};; esac"
    return Tree("dst", "dst.zfsyncbuffer", ("sh", "-c", script, "zfs"))


def test_the_same_key_may_come_and_another_may_not_unless_its_owner_says_so(tmp_path: Path) -> None:
    assert rekeyed(MINE, "dst/a@1", tree(tmp_path, MINE)) == ""
    refused = rekeyed(THEIRS, "dst/a@1", tree(tmp_path, MINE))
    assert "brings another key than dst/a has" in refused
    assert "'zfs set zfsync:rekey=on dst/a' there lets it come" in refused
    assert rekeyed(THEIRS, "dst/a@1", tree(tmp_path, MINE, "on")) == ""


def test_what_cannot_be_compared_may_not_come(tmp_path: Path) -> None:
    assert "nothing whose key could be compared" in rekeyed(MINE, "-", tree(tmp_path, MINE, "on"))
    assert "brings no key" in rekeyed(head(native({})), "dst/a@1", tree(tmp_path, MINE, "on"))
    denied = Tree("dst", "", ("sh", "-c", "echo 'cannot send: permission denied' >&2; exit 1", "zfs"))
    assert "'zfs allow -u USER send dst/a' there" in rekeyed(MINE, "dst/a@1", denied)
