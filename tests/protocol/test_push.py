"""Whole pushes, with real agents over pipes and a fake zfs at both ends."""

from __future__ import annotations

import pytest

from tests.protocol.conftest import Pair
from zfsync_ssh.errors import ZfsError
from zfsync_ssh.events import Status


def tree(pair: Pair) -> None:
    """Three levels, with a volume, several snapshots, and the largest datasets at the bottom."""
    for child, kind in (("", "filesystem"), ("/a", "filesystem"), ("/a/b", "filesystem"), ("/v:1 x", "volume")):
        pair.sender.create("src/tree" + child, kind)
        for snapshot in ("1", "2", "3"):
            pair.sender.snapshot(f"src/tree{child}@{snapshot}", 1000 + 300_000 * child.count("/"))


@pytest.mark.parametrize("pull", [False, True])
async def test_a_tree_arrives_and_is_kept_up_to_date(pair: Pair, pull: bool) -> None:
    prefix = "far:" if pull else ""
    tree(pair)
    assert await pair.push(pull=pull) == 0
    assert pair.receiver.guids("dst/tree") == pair.sender.guids("src/tree")
    assert pair.receiver.guids("dst/tree.zfsyncbuffer") == {}
    assert {outcome.status for outcome in pair.outcomes.values()} == {Status.SENT}

    pair.sender.snapshot("src/tree/a/b@4")
    assert await pair.push(pull=pull) == 0
    assert pair.receiver.guids("dst/tree") == pair.sender.guids("src/tree")
    assert pair.outcomes[prefix + "src/tree/a/b"].what == "@3 -> @4"
    assert pair.outcomes[prefix + "src/tree"].status is Status.UP_TO_DATE


@pytest.mark.parametrize("pull", [False, True])
async def test_nothing_to_do_costs_two_listings_at_each_end(pair: Pair, pull: bool) -> None:
    tree(pair)
    await pair.push()
    before = len(pair.sender.commands()), len(pair.receiver.commands())
    assert await pair.push(pull=pull) == 0
    assert [command[0] for command in pair.sender.commands()[before[0] :]] == ["list", "list"]
    assert [command[0] for command in pair.receiver.commands()[before[1] :]] == ["list", "list"]


async def test_a_missing_pool_is_said_and_nothing_done(pair: Pair) -> None:
    tree(pair)
    with pytest.raises(ZfsError, match="no pool nowhere on there"):
        await pair.push(root="nowhere/tree")
