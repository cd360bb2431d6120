"""A copy is pruned where it is: what goes, and what stays whatever is said."""

from __future__ import annotations

from datetime import datetime

import pytest

from tests.protocol.conftest import Pair
from zfsync_ssh.errors import DatasetError, LockedError, ZfsError
from zfsync_ssh.events import Changed, Notice
from zfsync_ssh.jobs import prune
from zfsync_ssh.retention import parse_keep

NOW = datetime(2026, 11, 27, 12, 0)
DAYS = tuple(f"202611{day:02}-0000_D" for day in range(20, 27))


@pytest.fixture
def copies(pair: Pair) -> Pair:
    """Two copies of a week, with a snapshot of somebody else's in each."""
    for child in ("", "/a"):
        pair.receiver.create("dst/tree" + child)
        for name in (*DAYS[:3], "theirs", *DAYS[3:]):
            pair.receiver.snapshot(f"dst/tree{child}@{name}")
    return pair


async def run(pair: Pair, keep: str = "daily=2", *, root: str = "dst/tree", **options: bool) -> int:
    pair.events.clear()
    chosen = {"recursive": True, "dry_run": False, **options}
    return await prune(pair.target(root), parse_keep(keep), NOW, owner="test", observe=pair.events.append, **chosen)


def names(pair: Pair, child: str = "") -> list[str]:
    return [name for name, _ in pair.receiver.guids("dst/tree")[child]]


async def test_what_is_not_kept_goes_and_no_more(copies: Pair) -> None:
    before = names(copies)
    assert await run(copies, dry_run=True) == 0
    assert names(copies) == before
    assert await run(copies) == 0
    assert names(copies) == names(copies, "/a") == ["theirs", *DAYS[-2:]]
    words, lost = "loses snapshots that are not to be kept", f"5 snapshots from @{DAYS[0]} to @{DAYS[4]}"
    assert copies.events == [Changed(f"there:dst/tree{child}", words, lost) for child in ("", "/a")]
    assert await run(copies) == 0
    assert copies.events == [Notice("All that there is of there:dst/tree is to be kept.")]


async def test_without_recursion_what_is_below_stays(copies: Pair) -> None:
    before = names(copies, "/a")
    assert await run(copies, recursive=False) == 0
    assert (names(copies), names(copies, "/a")) == (["theirs", *DAYS[-2:]], before)


async def test_the_newest_the_held_and_what_was_set_aside_stay(copies: Pair) -> None:
    with copies.receiver.open() as state:
        state["holds"] = {f"dst/tree@{DAYS[1]}": ["mine"]}
        state["datasets"]["dst/tree/b.zfsync-aside-20261101-000000"] = state["datasets"]["dst/tree/a"]
    assert await run(copies, "monthly=1") == 0
    assert names(copies) == [DAYS[1], "theirs", DAYS[-1]]
    assert names(copies, "/a") == ["theirs", DAYS[-1]]
    assert len(names(copies, "/b.zfsync-aside-20261101-000000")) == 8


async def test_what_cannot_be_destroyed_is_told_and_the_rest_goes(copies: Pair) -> None:
    with copies.receiver.open() as state:
        state["refuse"] = [f"dst/tree@{DAYS[0]}", f"dst/tree@{DAYS[1]}"]
    with pytest.raises(
        DatasetError, match=rf"^there:dst/tree@{DAYS[0]} cannot be destroyed: .*\. So it is with 1 more"
    ):
        await run(copies)
    assert names(copies) == [*DAYS[:2], "theirs", *DAYS[-2:]]


async def test_there_has_to_be_one_and_nobody_else_at_work_on_it(copies: Pair) -> None:
    with pytest.raises(ZfsError, match="There is no dataset dst/none on there"):
        await run(copies, root="dst/none")
    other = copies.target()
    client, _ = await other.open()
    await client.lock("dst/tree", "somebody")
    with pytest.raises(LockedError, match="locked by somebody"):
        await run(copies)
    assert await run(copies, dry_run=True) == 0
    await other.close()
