"""How jobs do: what is good until when, the verdict, and what Prometheus is told."""

from __future__ import annotations

import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.unit.dsl import tree
from zfsync_ssh.dataset import Dataset, Inventory
from zfsync_ssh.errors import UsageError
from zfsync_ssh.history import DatasetRun, Run
from zfsync_ssh.metrics import render, write
from zfsync_ssh.selection import Selection
from zfsync_ssh.status import DatasetStatus, Seen, TargetStatus, Verdict, status_of, verdict

NOW = datetime(2021, 1, 27, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
THERE = "backup:dst"


def ago(**span: float) -> float:
    return (NOW - timedelta(**span)).timestamp()


def run(exit_code: int = 0, message: str = "", target: str = THERE, **span: float) -> Run:
    return Run("web", target, ago(**span) - 1, ago(**span), exit_code, 1000, message)


def row(failed: str = "", newest: str = "", dataset: str = "src", **span: float) -> DatasetRun:
    return DatasetRun("web", THERE, dataset, ago(**span), bool(failed), 7, "x", newest, failed)


def seen(
    source: str, there: str | None, *rows: DatasetRun, runs: tuple[Run, ...] = (), good: tuple[DatasetRun, ...] = ()
) -> TargetStatus:
    target = {THERE: tree("dst", root=there) if there is not None else Inventory("dst", {})}
    (status,) = status_of(Seen("web", (THERE,), runs, rows, tree("src", root=source), target, good=good))
    return status


def one(status: TargetStatus) -> DatasetStatus:
    (dataset,) = status.datasets
    return dataset


TWO = "@20210127-1000_H,1 @20210127-1100_H,2"


# ---- what is good until when -----------------------------------------------------------------------------------------


def test_a_target_that_has_all_is_as_good_as_at_the_last_run_that_was_well() -> None:
    found = one(seen(TWO, TWO, row(minutes=5)))
    assert (found.behind, found.age(NOW), found.failure) == (0, timedelta(minutes=5), "")
    assert (found.source_newest, found.target_newest) == ("20210127-1100_H", "20210127-1100_H")


def test_without_a_run_that_is_remembered_it_is_as_good_as_its_newest_snapshot() -> None:
    assert one(seen(TWO, TWO)).age(NOW) == HOUR


def test_a_target_that_lacks_some_is_as_good_as_the_newest_that_it_has() -> None:
    found = one(seen(TWO, "@20210127-1000_H,1", row("no space", minutes=5)))
    assert (found.behind, found.age(NOW), found.failure) == (1, 2 * HOUR, "no space")


def test_a_run_that_was_well_counts_for_what_is_there_still_and_for_nothing_else() -> None:
    kept = seen(TWO, "@20210127-1000_H,1", row(newest="20210127-1000_H", minutes=5))
    lost = seen(TWO, "@20210127-1000_H,1", row(newest="20210127-1100_H", minutes=5))
    assert one(kept).age(NOW) == timedelta(minutes=5)
    assert one(lost).age(NOW) == 2 * HOUR


def test_a_target_with_nothing_in_common_has_nothing() -> None:
    for there in ("@20210127-1000_H,9", "", None):
        found = one(seen(TWO, there, row("diverged", minutes=5)))
        assert (found.behind, found.good_until, found.target_newest) == (2, None, "")


def test_names_that_are_not_ours_tell_no_time() -> None:
    assert one(seen("@a,1 @b,2", "@a,1 @b,2", runs=(run(minutes=9),))).age(NOW) == timedelta(minutes=9)
    assert one(seen("@a,1 @b,2", "@a,1", runs=(run(minutes=9),))).age(NOW) is None


def test_of_names_that_are_not_ours_zfs_tells_when_they_were_made() -> None:
    source = tree("src", root="@autosnap_hourly,1 @autosnap_daily,2")
    root: Dataset = source.datasets[""]
    made = [one._replace(creation=int(ago(hours=hours))) for one, hours in zip(root.snapshots, (5, 1), strict=True)]
    source.datasets[""] = root._replace(snapshots=tuple(made))
    there = {THERE: tree("dst", root="@autosnap_hourly,1")}
    (status,) = status_of(Seen("web", (THERE,), source=source, there=there))
    assert one(status).age(NOW) == timedelta(hours=5)


@pytest.mark.parametrize(
    ("there", "behind"),
    [("@a_H,1", 2), ("@a_H,1 @x,2", 2), ("@a_H,1 @c_H,4", 1), ("@a_H,1 @c_H,4 @d_H,6", 0), ("", 3)],
)
def test_what_the_job_does_not_send_is_not_counted_but_may_be_common(there: str, behind: int) -> None:
    source = tree("src", root="@a_H,1 @x,2 @y,3 @c_H,4 @z,5 @d_H,6 @w,7")
    hourly, target = Selection(snapshots=("*_H",)), {THERE: tree("dst", root=there)}
    (status,) = status_of(Seen("web", (THERE,), source=source, there=target, selection=hourly))
    assert one(status).behind == behind


@pytest.mark.parametrize(
    ("there", "age"),
    [
        ("@a,1 @b,2", 90),  # as it was brought
        ("@a,1 @b,2 @c,3", 90),  # and some more, before the run failed
        ("@a,1 @b,2 @c,3 @d,4", 90),
        ("@a,1", None),  # some of it was lost
        ("@x,9", None),
    ],
)
def test_after_a_run_that_failed_the_last_good_one_counts_as_long_as_what_it_brought_is_there(
    there: str, age: int | None
) -> None:
    found = one(seen("@a,1 @b,2 @c,3 @d,4", there, row("no space", minutes=1), good=(row(newest="b", minutes=90),)))
    assert found.age(NOW) == (timedelta(minutes=age) if age else None)
    assert found.failure == "no space"


@pytest.mark.parametrize(("newest", "age"), [("b", 90), ("", 90), ("a", None), ("20210127-1100_H", 60)])
def test_without_listings_the_last_good_run_counts_unless_another_snapshot_is_there_since(
    newest: str, age: int | None
) -> None:
    rows, good = (row("no space", newest, minutes=1),), (row(newest="b", minutes=90),)
    (status,) = status_of(Seen("web", (THERE,), (), rows, good=good))
    assert one(status).age(NOW) == (timedelta(minutes=age) if age else None)


def test_a_clock_that_was_set_back_makes_nothing_younger_than_now() -> None:
    assert one(seen("@20220101-0000_H,1", "@20220101-0000_H,1")).age(NOW) == timedelta(0)


def test_without_listings_the_history_tells() -> None:
    rows = (row(minutes=5), row("no space", "20210127-0900_H", "src/a", minutes=5))
    (status,) = status_of(Seen("web", (THERE,), (run(3, minutes=5),), rows))
    assert [found.age(NOW) for found in status.datasets] == [timedelta(minutes=5), 3 * HOUR]
    assert [found.behind for found in status.datasets] == [None, None]


def test_without_listings_a_dataset_that_the_newest_run_found_no_more_is_not_told() -> None:
    rows = (row(minutes=5), row("is full", "x", "src/a", minutes=5), row(dataset="src/gone", hours=30))
    runs = (run(5, "It cannot be reached.", minutes=1), run(3, "is full", minutes=5), run(hours=30))
    (status,) = status_of(Seen("web", (THERE,), runs, rows))
    assert [found.dataset for found in status.datasets] == ["src", "src/a"]


def test_a_clock_that_was_set_back_hides_no_dataset_of_the_newest_run() -> None:
    rows = (row(hours=2), row(dataset="src/gone", minutes=5))
    (status,) = status_of(Seen("web", (THERE,), (run(hours=2), run(minutes=5)), rows))
    assert one(status).dataset == "src"


def test_with_the_source_alone_only_what_it_has_is_told() -> None:
    rows = (row(minutes=5), row(dataset="src/gone", minutes=5))
    (status,) = status_of(Seen("web", (THERE,), (run(minutes=5),), rows, tree("src", root=TWO)))
    assert one(status).dataset == "src"


def test_names_in_local_time_are_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "XXX-2")
    import time

    time.tzset()
    try:
        source, there = tree("src", root="@20210127-1300_H,1"), tree("dst", root="@20210127-1300_H,1")
        (status,) = status_of(Seen("web", (THERE,), (), (), source, {THERE: there}, local_time=True))
        assert one(status).age(NOW) == HOUR
    finally:
        monkeypatch.undo()
        time.tzset()


def test_failures_are_counted_since_the_last_run_that_was_well() -> None:
    runs = (
        run(5, minutes=1),
        run(4, minutes=2),
        run(3, target="usb/dst", minutes=3),
        run(minutes=4),
        run(5, hours=9),
    )
    status = seen(TWO, TWO, runs=runs)
    assert (status.failures, status.last) == (2, runs[0])
    assert status.last_success == NOW - timedelta(minutes=4)
    (other,) = status_of(Seen("web", ("usb/dst",), runs))
    assert (other.failures, other.last_success, other.datasets) == (1, None, ())


# ---- the verdict -----------------------------------------------------------------------------------------------------

FIVE = run(minutes=5)
LIMITS = {"warn": 2 * HOUR, "crit": 24 * HOUR}


@pytest.mark.parametrize(
    ("status", "level", "line"),
    [
        (seen(TWO, TWO, row(minutes=5), runs=(FIVE,)), 0,
         "1 dataset up to date, none older than 5m | oldest=300s;7200;86400"),
        (seen(TWO, TWO, row(hours=3), runs=(run(hours=3),)), 0,
         "1 dataset up to date, none older than 1h | oldest=3600s;7200;86400"),
        (seen("@a,1", "@a,1", row(hours=3), runs=(run(hours=3),)), 1,
         "web to backup:dst: src: what is there is 3h old | oldest=10800s;7200;86400"),
        (seen("@a,1", "@a,1", row(hours=25), runs=(run(hours=25),)), 2,
         "web to backup:dst: src: what is there is 1d 1h old | oldest=90000s;7200;86400"),
        (seen(TWO, "", row("no space", hours=3), runs=(run(3, hours=3),)), 2,
         "web to backup:dst: src: nothing is known to be there: no space"),
        (seen(TWO, TWO, row(minutes=5), runs=(run(5, "It is gone.", minutes=1),)), 0,
         "1 dataset up to date, none older than 5m | oldest=300s;7200;86400"),
        (seen("", None, runs=(FIVE,)), 0,
         "1 dataset up to date"),
    ],
)  # fmt: skip
def test_with_limits_it_is_about_age(status: TargetStatus, level: int, line: str) -> None:
    found, text = verdict([status], NOW, **LIMITS)
    assert (found, text) == (level, f"ZFSYNC {Verdict(level).name}: {line}")


@pytest.mark.parametrize(
    ("status", "level", "line"),
    [
        (seen(TWO, TWO, row(minutes=5), runs=(FIVE,)), 0,
         "1 dataset up to date, none older than 5m"),
        (seen(TWO, TWO, row("no | space", minutes=5), runs=(run(3, minutes=5),)), 2,
         "web to backup:dst: src: what is there is 1h old: no / space; 1 more"),
        (seen(TWO, TWO, row(minutes=5), runs=(run(5, "It is gone.", minutes=1),)), 2,
         "web to backup:dst: It is gone."),
        (seen("@a,1 @b,2", "@a,1", runs=(FIVE,)), 3,
         "web to backup:dst: src: nothing is known to be there"),
    ],
)  # fmt: skip
def test_without_limits_it_is_about_failures(status: TargetStatus, level: int, line: str) -> None:
    found, text = verdict([status], NOW)
    assert (found, text.partition(" | ")[0]) == (level, f"ZFSYNC {Verdict(level).name}: {line}")


def test_a_target_that_was_never_reached_is_told_with_the_reason() -> None:
    (status,) = status_of(Seen("web", (THERE,), (run(5, "backup cannot be reached.", minutes=1),)))
    assert verdict([status], NOW, **LIMITS) == (
        Verdict.CRITICAL,
        "ZFSYNC CRITICAL: web to backup:dst: nothing is known to be there: backup cannot be reached.",
    )


def test_the_worst_of_several_is_told_and_how_many_more_there_are() -> None:
    late = [seen("@a,1", "@a,1", row(hours=hours), runs=(run(hours=hours),)) for hours in (1, 3, 30, 40)]
    found, text = verdict(late, NOW, **LIMITS)
    assert found is Verdict.CRITICAL
    assert "is 1d 6h old; 1 more | oldest=144000s" in text


@pytest.mark.parametrize("limits", [{}, LIMITS])
def test_a_source_without_any_snapshot_is_fine_only_after_a_run_that_was_well(limits: dict[str, timedelta]) -> None:
    never = seen("", None)
    assert verdict([never], NOW, **limits) == (
        Verdict.UNKNOWN, "ZFSYNC UNKNOWN: web to backup:dst: no run is known yet",
    )  # fmt: skip
    failing = seen("", None, runs=(run(3, "src cannot be held.", minutes=5), run(minutes=9)))
    found, text = verdict([failing], NOW, **limits)
    assert found is (Verdict.UNKNOWN if limits else Verdict.CRITICAL)
    assert text == f"ZFSYNC {found.name}: web to backup:dst: src cannot be held."
    assert verdict([seen("", None, runs=(run(minutes=5),))], NOW, **limits)[0] is Verdict.OK


def test_one_dataset_without_a_snapshot_beside_others_is_fine() -> None:
    both = tree("src", root=TWO, a="")
    there = {THERE: tree("dst", root=TWO)}
    status = status_of(Seen("web", (THERE,), (run(3, "no space", minutes=5),), (row(minutes=5),), both, there))
    assert verdict(status, NOW, **LIMITS)[0] is Verdict.OK


def test_nothing_at_all_is_unknown() -> None:
    assert verdict([], NOW)[0] is Verdict.UNKNOWN
    assert verdict(status_of(Seen("web", (THERE,))), NOW, **LIMITS)[0] is Verdict.UNKNOWN


# ---- for Prometheus --------------------------------------------------------------------------------------------------


def test_prometheus_is_told_moments_and_failures_by_target_and_dataset() -> None:
    from prometheus_client.parser import text_string_to_metric_families

    odd = 'back"up\\:d\nst'
    runs = (run(3, minutes=1), run(minutes=9))
    rows = (row("no space", minutes=1),)
    status = status_of(Seen("web", (THERE, odd), runs, rows, tree("src", root=TWO), {THERE: tree("dst", root=TWO)}))
    text = render(status).decode()
    samples = {
        (sample.name, sample.labels["target"]): sample
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples["zfsync_last_run_exit_code", THERE].value == 3
    assert samples["zfsync_last_success_timestamp_seconds", THERE].value == ago(minutes=9)
    assert samples["zfsync_failed_runs", odd].value == 0
    assert samples["zfsync_dataset_good_until_timestamp_seconds", THERE].value == ago(hours=1)
    assert samples["zfsync_dataset_failed", THERE].labels == {"zfsync_job": "web", "target": THERE, "dataset": "src"}
    assert samples["zfsync_dataset_failed", THERE].value == 1
    assert ("zfsync_last_run_exit_code", odd) not in samples
    assert "_created" not in text


def test_the_file_is_there_as_a_whole_for_all_to_read(tmp_path: Path) -> None:
    path = tmp_path / "zfsync.prom"
    before = os.umask(0o077)
    try:
        write(path, b"old")
        write(path, b"new")
    finally:
        os.umask(before)
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "zfsync.prom").mkdir()
    with pytest.raises(UsageError, match=r"zfsync.prom cannot be written: Is a directory\."):
        write(tmp_path / "zfsync.prom", b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["zfsync.prom"]
    with pytest.raises(UsageError, match=r"cannot be written: No such file or directory\."):
        write(tmp_path / "gone" / "x.prom", b"x")
