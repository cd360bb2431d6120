"""What a copy has of its own, found and said."""

from __future__ import annotations

import pytest
from hypothesis import given

from tests.unit.dsl import dataset
from tests.unit.histories import Histories, histories
from zfsync_ssh.dataset import VOLUME, Dataset, Host
from zfsync_ssh.decision import INCREMENTAL, UPTODATE, decide, state_of
from zfsync_ssh.divergence import describe, has_diverged, named, newer_than, newest_base

HERE = "@a,1 @b,2 @c,3"


@pytest.mark.parametrize(
    ("there", "written", "diverged"),
    [
        ("@a,1", 0, False),
        ("@a,1", 1, True),
        (HERE, 1, False),  # nothing is to come, so nothing is in the way
        ("@a,1 @x,9", 0, True),
        ("", 0, True),
    ],
)
def test_what_has_diverged(there: str, written: int, diverged: bool) -> None:
    assert has_diverged(dataset(HERE), dataset(there, "dst")._replace(written=written)) == diverged


def test_another_kind_has_diverged_but_a_placeholder_never_has() -> None:
    assert has_diverged(dataset(HERE), dataset("@a,1", "dst", kind=VOLUME))
    assert not has_diverged(dataset(HERE), dataset("", "dst", placeholder=True))
    assert not has_diverged(dataset(HERE, kind=VOLUME), dataset("", "dst", placeholder=True))


@pytest.mark.parametrize(
    ("there", "words"),
    [
        ("", "has no snapshot, so it is no copy of src/tree"),
        ("@x,9", "has no snapshot in common with src/tree: choose another target"),
        ("@b,9", "(@b exists on both, but with different GUIDs)"),
        ("@a,1 @x,9", "has @x after @a, the newest in common, that src/tree has not: --on-divergence"),
        ("@a,1 @x,8 @y,9", "has 2 snapshots from @x to @y after @a"),
        ("@a,1 @b,9", "of which @b has the name but not the GUID of one here"),
    ],
)
def test_it_is_said_what_it_has_of_its_own(there: str, words: str) -> None:
    text = describe(dataset(HERE), dataset(there, "dst"), Host("there"))
    assert text.startswith("there:dst ")
    assert words in text
    assert "--on-divergence" in text


def test_what_was_written_is_said_too() -> None:
    there = dataset("@a,1 @x,9", "dst")._replace(written=5000)
    assert ", and 5,000 bytes written since: " in describe(dataset(HERE), there, Host())


def test_a_bookmark_makes_a_base_too() -> None:
    there = dataset("@a,1 @m,7 @x,9", "dst")
    base = newest_base(dataset("@a,1 #m,7 @c,3"), there)
    assert base is not None
    assert base.name == "m"
    assert "has @x after @m, the newest in common" in describe(dataset("@a,1 #m,7 @c,3"), there, Host())
    assert newest_base(dataset("#m,7"), there) is None  # nothing follows it


def test_names_of_snapshots() -> None:
    assert named(dataset("@a,1").snapshots) == "@a"
    assert named(dataset(HERE).snapshots) == "3 snapshots from @a to @c"


@given(histories())
def test_rolled_back_to_its_base_a_copy_takes_what_follows(pair: Histories) -> None:
    here = Dataset("src", "filesystem", 1, snapshots=pair.source, bookmarks=pair.bookmarks)
    there = Dataset("dst", "filesystem", 2, snapshots=pair.target)
    base = newest_base(here, there)
    if base is None:
        assert newer_than(there, None) == pair.target
        return
    lost = newer_than(there, base)
    kept = there._replace(snapshots=pair.target[: len(pair.target) - len(lost)])
    assert kept.newest == base
    assert decide(here.snapshots, here.bookmarks, state_of(kept)).kind in (INCREMENTAL, UPTODATE)
