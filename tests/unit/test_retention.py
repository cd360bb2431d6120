"""The names of our snapshots, which class is due, and which are pruned: examples, and what holds for all."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zfsync_ssh.dataset import Dataset, Snapshot
from zfsync_ssh.retention import (
    Class,
    Keep,
    Name,
    due,
    local_time,
    name_for,
    outlived,
    parse_keep,
    parse_name,
    taken_together,
    to_prune,
)

NOON = datetime(2021, 1, 27, 12, 0)
MINUTE = timedelta(minutes=1)

times = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1)).map(lambda time: time.replace(second=0, microsecond=0))
kinds = st.sampled_from(Class)
counts = st.dictionaries(kinds, st.integers(0, 4), max_size=7)
spans = st.integers(0, 10**6).map(lambda minutes: timedelta(minutes=minutes))
keeps = st.builds(Keep, counts, spans, st.integers(0, 5))


@st.composite
def histories(draw: st.DrawFn) -> tuple[Snapshot, ...]:
    """Snapshots as they may lie in a dataset, oldest first, under any clock; some are not ours."""
    names = draw(st.lists(st.builds(Name, times, st.just(0), kinds.map(lambda kind: kind.value)), max_size=20))
    rows = [(str(name), draw(st.booleans())) for name in names]
    return tuple(
        Snapshot(name if ours else f"by-hand-{name}", txg * 7 + 1, txg * 10) for txg, (name, ours) in enumerate(rows)
    )


def at(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%d %H:%M")


def made(*names: str) -> tuple[Snapshot, ...]:
    """Snapshots of these names, oldest first."""
    return tuple(Snapshot(name, 100 + number, number) for number, name in enumerate(names, 1))


def names(snapshots: Sequence[Snapshot]) -> list[str]:
    return [snapshot.name for snapshot in snapshots]


# ---- names -----------------------------------------------------------------------------------------------------------


def test_a_name_is_as_the_original_zfsync_wrote_it() -> None:
    assert name_for(datetime(2021, 1, 27, 6, 36, 59, 5), Class.MINUTELY, ()) == "20210127-0636_M"
    assert parse_name("20210127-0636_M") == Name(datetime(2021, 1, 27, 6, 36), 0, "M")


@given(st.builds(Name, times, st.integers(0, 2**63), kinds.map(lambda kind: kind.value)))
def test_a_name_is_read_back(name: Name) -> None:
    assert parse_name(str(name)) == name


@given(times, times, kinds, kinds)
def test_names_sort_as_their_times(one: datetime, other: datetime, kind: Class, another: Class) -> None:
    first, second = Name(one, 0, kind.value), Name(other, 0, another.value)
    assert (first < second) == (str(first) < str(second))


@pytest.mark.parametrize(
    "name",
    [
        "", "monday", "20210127-0636", "20210127-0636_", "20210127-0636_X", "20210127-0636_MM", "20210127-0636_m",
        "20210127-2436_M", "20210230-0636_M", "20210127-0636_M.", "20210127-0636_M.0", "20210127-0636_M.01",
        "x20210127-0636_M", "20210127-0636_M ", "20210127-0636_M\n", "2021012 -0636_M", "٢٠٢١٠١٢٧-0636_M",
        "00000127-0636_M", "autosnap_2021-01-27_06:36:00_hourly", "by-hand-20210127-0636_M",
    ],
)  # fmt: skip
def test_another_name_is_not_ours(name: str) -> None:
    assert parse_name(name) is None


@given(st.text(max_size=20) | st.from_regex(r"[0-9]{8}-[0-9]{4}_[A-Z](\.[0-9]+)?", fullmatch=True))
def test_what_is_read_of_a_name_writes_the_same_name(text: str) -> None:
    parsed = parse_name(text)
    assert parsed is None or str(parsed) == text


@given(st.lists(st.tuples(times | st.sampled_from([NOON, NOON + MINUTE]), kinds, st.booleans()), max_size=20))
def test_no_name_is_ever_repeated_whatever_the_clock_does(runs: list[tuple[datetime, Class, bool]]) -> None:
    present: list[Snapshot] = []
    ever: list[str] = []
    for number, (now, kind, pruned) in enumerate(runs):
        latest = max(ever, default="")  # what a bookmark or the history knows
        name = name_for(now, kind, present, [latest] if latest else [])
        assert name not in ever
        ever.append(name)
        if pruned:
            present.clear()  # all but the newest
        present.append(Snapshot(name, number, number * 3 + 5))


def test_the_newest_snapshot_destroyed_by_hand_frees_no_name() -> None:
    there = made("20210127-1200_M")
    second = name_for(NOON, Class.MINUTELY, there)
    assert second == "20210127-1200_M.1"
    assert name_for(NOON, Class.MINUTELY, there, [second]) == "20210127-1200_M.2"


# ---- what to keep ----------------------------------------------------------------------------------------------------


def test_what_to_keep_is_read() -> None:
    keep = parse_keep("minutely=4, hourly=24,daily=30,weekly=8,monthly=12,yearly=2,within=48h", 5)
    assert [keep.counts[kind] for kind in (Class.MINUTELY, Class.HOURLY, Class.YEARLY)] == [4, 24, 2]
    assert (keep.within, keep.at_least) == (timedelta(hours=48), 5)
    assert keep.classes[0] is Class.YEARLY
    assert keep.classes[-1] is Class.MINUTELY


@given(keeps.filter(lambda keep: keep.classes or (keep.at_least if keep.within else any(keep.counts.values()))))
def test_what_to_keep_is_written_as_it_is_read(keep: Keep) -> None:
    read = parse_keep(str(keep), keep.at_least)
    assert read.counts == keep.counts
    assert read.within <= keep.within  # told to two units


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "'' is not one of secondly, minutely, hourly,"),
        ("minutly=4", "'minutly=4' is not one of"),
        ("daily", "'daily' is not one of .* or within, each with ="),
        ("daily=-1", "daily=-1 has to be a number from 0 to"),
        ("daily=9999999", "has to be a number"),
        ("daily=1,daily=2", "daily is in it twice"),
        ("daily=0", "it keeps nothing: give some class a count"),
        ("within=2", "'2' is no span of time"),
        ("within=30d", "within alone keeps nothing once the clock is wrong: add a count, as in daily=30, or"),
        ("secondly=4,daily=0,within=30d", "within alone keeps nothing"),
        ("daily=3,", "'' is not one of"),
    ],
)
def test_what_is_wrong_with_it_is_told(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse_keep(text)


# ---- what is due -----------------------------------------------------------------------------------------------------

ALL = parse_keep("minutely=4,hourly=24,daily=30,weekly=8,monthly=12,yearly=2")


@pytest.mark.parametrize(
    ("last", "now", "letter"),
    [
        ([], "2021-01-27 06:36", "Y"),
        (["20210127-0636_Y"], "2021-01-27 06:36", None),
        (["20210127-0636_Y"], "2021-01-27 06:37", "M"),
        (["20210127-0636_Y"], "2021-01-27 07:01", "H"),
        (["20210127-0636_Y"], "2021-01-28 00:00", "D"),
        (["20210127-0636_Y"], "2021-01-31 23:59", "D"),  # still the same ISO week, Sunday
        (["20210127-0636_Y"], "2021-02-01 00:00", "N"),  # a Monday and the first of a month: the higher one
        (["20210127-0636_Y", "20210201-0000_N"], "2021-02-08 00:00", "W"),
        (["20210127-0636_Y"], "2022-01-01 00:00", "Y"),
        (["by-hand", "20210127-0636_X"], "2021-01-27 06:37", "Y"),
    ],
)
def test_the_highest_class_of_the_period_is_due(last: list[str], now: str, letter: str | None) -> None:
    kind = due(at(now), ALL, made(*last))
    assert (kind.value if kind else None) == letter


def test_a_class_of_which_none_is_kept_is_never_due() -> None:
    assert due(NOON, parse_keep("daily=2,yearly=0,secondly=5"), ()) is Class.DAILY
    assert due(NOON, parse_keep("within=2d", 1), ()) is None
    assert due(NOON + MINUTE, parse_keep("hourly=2"), made("20210127-1200_H")) is None


def test_a_clock_that_was_years_ahead_for_a_while_stops_nothing() -> None:
    there = made("20210127-1100_Y", "20380101-0000_Y", "20380101-0001_M")
    assert due(at("2021-01-27 12:00"), ALL, there) is Class.HOURLY
    assert due(at("2021-01-27 11:30"), ALL, there) is Class.MINUTELY


def run(clock: Sequence[datetime], keep: Keep) -> tuple[list[Snapshot], list[Snapshot]]:
    """What a job takes whose clock shows these times, pruning after each: all of it, and what is left at the end."""
    taken: list[Snapshot] = []
    present: list[Snapshot] = []
    for txg, now in enumerate(clock, 1):
        kind = due(now, keep, present)
        if kind is not None:
            taken.append(Snapshot(name_for(now, kind, present), txg, txg))
            present.append(taken[-1])
        present = [snapshot for snapshot in present if snapshot not in to_prune(now, keep, present)]
    return taken, present


def test_an_hour_that_the_clock_shows_twice_has_its_minutely_ones_twice_and_all_else_once() -> None:
    once = [NOON + MINUTE * number for number in range(90)]
    twice = [NOON + MINUTE * number for number in (*range(90), *range(30, 90))]
    straight, jumped = run(once, ALL)[0], run(twice, ALL)[0]
    letters = [[snapshot.name[14] for snapshot in taken] for taken in (straight, jumped)]
    assert {letter: letters[1].count(letter) for letter in "YNWDH"} == {
        letter: letters[0].count(letter) for letter in "YNWDH"
    }
    assert letters[1].count("M") == letters[0].count("M") + 60


@given(st.lists(st.integers(-5000, 5000), min_size=1, max_size=60))
def test_however_the_clock_jumps_no_period_gets_two_of_a_higher_class_while_one_is_there(jumps: list[int]) -> None:
    keep = parse_keep("minutely=9999,hourly=9999,daily=9999,weekly=9999,monthly=9999,yearly=9999")
    clock = [NOON + MINUTE * minutes for minutes in itertools.accumulate(jumps)]
    parsed = [name for snapshot in run(clock, keep)[0] if (name := parse_name(snapshot.name))]
    for letter, period in (("H", "%Y%m%d%H"), ("D", "%Y%m%d"), ("W", "%G%V"), ("N", "%Y%m"), ("Y", "%Y")):
        periods = [name.time.strftime(period) for name in parsed if name.letter == letter]
        assert len(periods) == len(set(periods))


def tree(**lines: str) -> list[Dataset]:
    """Datasets by name, each with snapshots whose place in the line ``-`` or a name is their createtxg."""
    return [
        Dataset(
            f"tank/{name}" if name != "root" else "tank",
            "filesystem",
            number,
            snapshots=tuple(Snapshot(short, 0, txg) for txg, short in enumerate(line.split(), 1) if short != "-"),
        )
        for number, (name, line) in enumerate(lines.items())
    ]


Y, D, H = "20210101-0000_Y", "20210127-0000_D", "20210127-1100_H"


@pytest.mark.parametrize(
    ("datasets", "names_of_all"),
    [
        (tree(root=f"{Y} {D}", a=f"- {D} {H}"), [Y, D]),  # another job takes those of /a
        (tree(root="- - theirs", a=f"{Y} {D}"), [Y, D]),  # the root has none of ours
        (tree(a="- - -", b=f"{Y} {D}"), [Y, D]),  # /a is new
        (tree(a=f"- - {H}", b=f"{Y} {D} {H}", c=f"{Y} {D} {H}"), [H, Y, D]),
        (tree(a=f"{Y} - -", b=f"{Y} {D} -", c=f"{Y} - -"), [Y]),  # another job takes those of /b
        (tree(a="- -", b="- theirs"), []),
        ([], []),
    ],
)
def test_what_was_taken_of_all_is_told_from_what_another_took(datasets: list[Dataset], names_of_all: list[str]) -> None:
    found = [one.name for one in taken_together(datasets, "tank") if parse_name(one.name)]
    assert sorted(found) == sorted(names_of_all)


def test_a_name_of_the_end_of_time_stops_no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    assert due(NOON, parse_keep("daily=1"), made("99991231-2359_D", "00010101-0000_D"), local_time) is Class.DAILY


def test_a_job_of_midnight_has_a_snapshot_of_each_day_though_the_clock_is_put_forward(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TZ", "Europe/London")
    time.tzset()
    try:
        keep = parse_keep("hourly=9,daily=9,monthly=9")
        before = made("20210301-0000_N", "20210326-0000_D", "20210327-0000_D", "20210328-0000_D")
        night = datetime(2021, 3, 28, 23, 0)  # of UTC: midnight of the 29th there
        assert due(night, keep, before, local_time) is Class.DAILY
        assert due(night, keep, before) is Class.HOURLY
        first = datetime(2021, 3, 31, 23, 0)
        march = made("20210301-0000_N", "20210330-2300_D", "20210331-2200_H")
        assert due(first, keep, march, local_time) is Class.MONTHLY
        assert due(datetime(2021, 3, 31, 22, 30), keep, march, local_time) is None  # hours are no matter of that
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_job_that_runs_each_minute_for_two_days_keeps_what_it_was_told() -> None:
    keep = parse_keep("minutely=4,hourly=3,daily=2")
    _, left = run([at("2021-01-26 00:00") + MINUTE * number for number in range(2 * 1440 + 121)], keep)
    assert names(left) == [
        "20210127-0000_D", "20210127-2300_H", "20210128-0000_D", "20210128-0100_H",
        "20210128-0156_M", "20210128-0157_M", "20210128-0158_M", "20210128-0159_M", "20210128-0200_H",
    ]  # fmt: skip


# ---- what is pruned --------------------------------------------------------------------------------------------------


@given(histories(), keeps, times)
def test_the_newest_of_each_class_always_stay(history: tuple[Snapshot, ...], keep: Keep, now: datetime) -> None:
    gone = to_prune(now, keep, history)
    for kind, count in keep.counts.items():
        of_class = [one for one in history if (name := parse_name(one.name)) and keep.counted_as(name.kind) is kind]
        assert not set(of_class[max(0, len(of_class) - count) :]) & set(gone)


@given(histories(), keeps, times, st.sets(st.integers(0, 20).map(lambda number: number * 7 + 1)))
def test_pruning_twice_is_pruning_once(
    history: tuple[Snapshot, ...], keep: Keep, now: datetime, spared: set[int]
) -> None:
    gone = to_prune(now, keep, history, spared)
    left = [snapshot for snapshot in history if snapshot not in gone]
    assert to_prune(now, keep, left, spared) == ()


@given(histories(), keeps, times, st.sets(st.integers(0, 20).map(lambda number: number * 7 + 1)))
def test_what_is_spared_recent_or_not_ours_stays_and_so_does_the_floor(
    history: tuple[Snapshot, ...], keep: Keep, now: datetime, spared: set[int]
) -> None:
    gone = to_prune(now, keep, history, spared)
    assert not {snapshot.guid for snapshot in gone} & spared
    for snapshot in gone:
        name = parse_name(snapshot.name)
        assert name is not None
        assert not keep.within or now - name.time > keep.within
    ours = [snapshot for snapshot in history if parse_name(snapshot.name)]
    assert not set(ours[max(0, len(ours) - keep.at_least) :]) & set(gone)


@given(histories(), keeps, times, st.data())
def test_the_times_in_the_names_decide_nothing_about_counts(
    history: tuple[Snapshot, ...], keep: Keep, now: datetime, data: st.DataObject
) -> None:
    """A straight clock would have written other times; the same snapshots, by createtxg, would have stayed."""
    counted = Keep(keep.counts, at_least=keep.at_least)
    straight = [
        snapshot._replace(name=str(Name(data.draw(times), 0, name.letter)))
        if (name := parse_name(snapshot.name))
        else snapshot
        for snapshot in history
    ]
    assert {snapshot.guid for snapshot in to_prune(now, counted, history)} == {
        snapshot.guid for snapshot in to_prune(data.draw(times), counted, straight)
    }


@given(histories(), keeps, times, spans)
def test_a_clock_set_back_destroys_nothing_more(
    history: tuple[Snapshot, ...], keep: Keep, now: datetime, back: timedelta
) -> None:
    assert set(to_prune(now - back, keep, history)) <= set(to_prune(now, keep, history))


@given(histories(), keeps, times, st.data())
def test_the_order_in_which_they_are_listed_does_not_matter(
    history: tuple[Snapshot, ...], keep: Keep, now: datetime, data: st.DataObject
) -> None:
    assert to_prune(now, keep, data.draw(st.permutations(history))) == to_prune(now, keep, history)


def test_a_class_that_is_not_named_keeps_none_but_the_originals_seconds_are_left_alone() -> None:
    there = made("20210127-1157_M", "20210127-1158_S", "20210127-1159_H", "20210127-1200_H")
    assert names(to_prune(NOON, parse_keep("hourly=1"), there)) == ["20210127-1157_M", "20210127-1159_H"]
    assert names(to_prune(NOON, parse_keep("hourly=2,secondly=0"), there)) == ["20210127-1157_M", "20210127-1158_S"]


def test_a_snapshot_counts_as_the_highest_class_that_has_a_count_up_to_its_own() -> None:
    week = made("20210124-0000_D", "20210125-0000_W", "20210126-0000_D", "20210127-0000_D")
    assert to_prune(NOON, parse_keep("daily=4"), week) == ()
    assert names(to_prune(NOON, parse_keep("daily=3,weekly=0"), week)) == ["20210124-0000_D"]
    assert names(to_prune(NOON, parse_keep("daily=2,weekly=1"), week)) == ["20210124-0000_D"]
    assert outlived(NOON, parse_keep("daily=4"), week) == ()
    assert names(outlived(NOON, parse_keep("daily=3"), week)) == ["20210124-0000_D"]
    year = made("20200101-0000_Y", "20210101-0000_Y", "20210127-0000_D")
    assert names(to_prune(NOON, parse_keep("daily=9,monthly=1"), year)) == ["20200101-0000_Y"]
    assert names(to_prune(NOON, parse_keep("yearly=1"), year)) == ["20200101-0000_Y", "20210127-0000_D"]


def test_the_order_is_that_of_the_pool_not_of_the_names() -> None:
    there = made("20380101-0000_M", "20210127-1159_M", "20210127-1200_M")
    assert names(to_prune(NOON, parse_keep("minutely=2"), there)) == ["20380101-0000_M"]


# ---- of a copy whose snapshots somebody else may have named ----------------------------------------------------------


def test_of_a_copy_the_newest_periods_stay_with_all_that_is_in_them() -> None:
    copy = made("20210120-0000_D", "20210121-0000_D", "20210122-0000_D", "20210122-0800_D", "20210123-0000_H", "theirs")
    assert names(outlived(NOON, parse_keep("daily=2"), copy)) == ["20210120-0000_D"]  # the newest of ours stays
    assert names(outlived(NOON, parse_keep("daily=1,hourly=1"), copy)) == ["20210120-0000_D", "20210121-0000_D"]
    assert outlived(NOON, parse_keep("daily=9,hourly=1"), copy) == ()
    assert outlived(NOON, parse_keep("daily=1,hourly=1"), copy, {101, 102}) == ()
    assert outlived(NOON, parse_keep("daily=1,within=9d"), copy) == ()


@given(st.lists(st.builds(Name, times, st.just(0), kinds.map(lambda kind: kind.value)), max_size=60), st.integers(1, 9))
def test_whoever_may_add_to_a_copy_pushes_nothing_out_that_is_of_the_newest_periods(
    added: list[Name], count: int
) -> None:
    days = [f"202101{day:02}-0000_D" for day in range(10, 27)]
    theirs = [name for name in added if name.time > NOON or name.time.date() >= datetime(2021, 1, 10).date()]
    older = [name for name in added if name not in theirs]
    gone = names(outlived(NOON, Keep({Class.DAILY: count}), made(*days, *map(str, theirs + older), "20210126-0001_D")))
    assert not set(days[-count:]) & set(gone)
    assert not [name for name in gone if (read := parse_name(name)) is not None and read.time > NOON]


@given(histories(), keeps, times, st.sets(st.integers(0, 20).map(lambda number: number * 7 + 1)))
def test_pruning_a_copy_twice_is_pruning_it_once_and_what_is_spared_stays(
    history: tuple[Snapshot, ...], keep: Keep, now: datetime, spared: set[int]
) -> None:
    gone = outlived(now, keep, history, spared)
    assert not {snapshot.guid for snapshot in gone} & spared
    assert outlived(now, keep, [one for one in history if one not in gone], spared) == ()
