"""The snapshots that stay at a confined receiver, whatever a client asks."""

from __future__ import annotations

from datetime import timedelta

import pytest

from zfsync_ssh.dataset import Snapshot
from zfsync_ssh.errors import UsageError
from zfsync_ssh.floor import NO_FLOOR, Floor, below_floor, parse_floor

NOW = 1_800_000_000.0
DAY = 86400
SNAPSHOTS = tuple(
    Snapshot(name, number, number, 0, int(NOW) - days * DAY)
    for number, (name, days) in enumerate((("a", 40), ("b", 31), ("c", 29), ("d", 0)), 1)
)


def test_a_floor_is_read_as_it_is_written() -> None:
    assert parse_floor("10") == Floor(10)
    assert parse_floor("30d") == Floor(0, timedelta(days=30))
    assert parse_floor("10,30d") == parse_floor("30d,10") == Floor(10, timedelta(days=30))
    assert parse_floor("0") == NO_FLOOR
    assert not parse_floor("0")
    for text in ("10", "30d", "10,1h30m", "0"):
        assert parse_floor(str(parse_floor(text))) == parse_floor(text)


@pytest.mark.parametrize("text", ["", "-1", "x", "10,", "30 d", "1.5", "٣", "10d10", "999999999999w"])
def test_what_is_no_floor_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--keep-at-least"):
        parse_floor(text)


@pytest.mark.parametrize(
    ("floor", "kept"),
    [("1", {"d"}), ("3", {"b", "c", "d"}), ("9", {"a", "b", "c", "d"}), ("30d", {"c", "d"}), ("3,1d", {"b", "c", "d"})],
)
def test_the_newest_stay_and_the_young(floor: str, kept: set[str]) -> None:
    assert parse_floor(floor).kept(SNAPSHOTS, NOW) == kept
    assert parse_floor(floor).kept((), NOW) == set()


def test_one_that_says_it_is_of_the_future_is_young_and_makes_no_other_one_old() -> None:
    lying = (*SNAPSHOTS, Snapshot("e", 9, 9, 0, int(NOW) + 4000 * DAY), Snapshot("f", 10, 10, 0, 0))
    assert parse_floor("30d").kept(lying, NOW) == {"c", "d", "e"}


def test_what_would_lose_one_of_them_is_refused() -> None:
    floor = parse_floor("30d")

    def refused(verb: str, name: str) -> bool:
        return bool(below_floor(verb, name, SNAPSHOTS, floor, NOW))

    assert [refused("destroy-snapshot", f"p/x@{name}") for name in "abcd"] == [False, False, True, True]
    assert [refused("rollback", f"p/x@{name}") for name in "abcd"] == [True, True, True, False]
    assert refused("rollback", "p/x@nowhere")
    assert refused("destroy", "p/x")
    assert refused("hollow", "p/x")
    assert not below_floor("destroy", "p/x", SNAPSHOTS[:2], floor, NOW)
    assert below_floor("destroy", "p/x", SNAPSHOTS[:2], parse_floor("1"), NOW)
    assert not below_floor("destroy", "p/x", (), floor, NOW)
    assert "is not there" in below_floor("destroy", "p/x", None, floor, NOW)
