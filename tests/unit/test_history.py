"""The history of runs: what is remembered, how much, and by how many at once."""

from __future__ import annotations

import dataclasses
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from zfsync_ssh import history as module
from zfsync_ssh.errors import UsageError
from zfsync_ssh.history import DatasetRun, History, Run

PROGRAM = """
import sys
from pathlib import Path
from zfsync_ssh.history import DatasetRun, History, Run
history = History(Path(sys.argv[1]))
for number in range(40):
    history.add(Run(sys.argv[2], "t", number, number + 1, 0), [DatasetRun(sys.argv[2], "t", "a", number, False)])
"""


def run(number: int, code: int = 0, target: str = "backup:p", job: str = "web") -> Run:
    return Run(job, target, number, number + 0.5, code, number * 10, "why" if code else "")


def outcome(number: int, dataset: str = "tank/a", target: str = "backup:p", job: str = "web") -> DatasetRun:
    return DatasetRun(job, target, dataset, number, number % 2 == 1, 5, f"s{number}", f"s{number - 1}", "because")


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path / "state")


def test_what_is_noted_is_read_back(history: History) -> None:
    history.add(run(1), [outcome(1), outcome(1, "tank/b")])
    history.add(run(2, 5))
    history.add(run(3, target="usb/p"), [outcome(2), outcome(3, target="usb/p")])
    assert history.runs("web") == (run(3, target="usb/p"), run(2, 5), run(1))
    assert history.datasets("web") == (outcome(2), outcome(1, "tank/b"), outcome(3, target="usb/p"))
    assert history.datasets("web", well=True) == (outcome(2),)
    assert set(history.snapshot_names("web")) == {"s1", "s2", "s3"}


def test_where_nothing_was_noted_nothing_is_made(history: History) -> None:
    assert history.runs("web") == ()
    assert history.datasets("web") == ()
    assert not history.forget("web")
    assert not history.path.parent.exists()
    history.add(run(1, 3))
    assert history.path.exists()


def test_only_the_newest_are_kept_of_each(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RUNS_KEPT", 3)
    monkeypatch.setattr(module, "OUTCOMES_KEPT", 2)
    for number in range(10):
        history.add(run(number), [outcome(number), outcome(number, "tank/b")])
    history.add(run(99, job="other"), [outcome(99, job="other")])
    assert [found.started for found in history.runs("web")] == [9, 8, 7]
    with sqlite3.connect(history.path) as database:
        assert database.execute("SELECT count(*) FROM outcome").fetchall() == [(5,)]
    database.close()


def test_the_last_that_was_well_is_kept_of_each_target_however_many_failed_since(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RUNS_KEPT", 3)
    monkeypatch.setattr(module, "OUTCOMES_KEPT", 2)
    for number in (0, 2):
        history.add(run(number), [outcome(number)])
    history.add(run(4, target="usb/p"))
    for number in (5, 7, 9, 11, 13):
        history.add(run(number, 5), [outcome(number)])
        history.add(run(number, 5, "usb/p"))
    found = history.runs("web")
    assert [one.started for one in found if one.target == "backup:p"] == [13, 11, 9, 2]
    assert [one.started for one in found if one.target == "usb/p"] == [13, 11, 9, 4]
    with sqlite3.connect(history.path) as database:
        assert database.execute("SELECT ended FROM outcome ORDER BY id").fetchall() == [(2,), (11,), (13,)]
    database.close()


def test_the_runs_of_one_target_hide_none_of_anothers(history: History) -> None:
    history.add(run(0))
    rows = [dataclasses.astuple(run(number, target="usb/p")) for number in range(module.RUNS_KEPT)]
    with history._transaction() as database:  # in one go, for each change is written to the disk
        database.executemany(module._ADD_RUN, rows)
    assert history.runs("web")[-1] == run(0)


def test_what_a_target_had_is_remembered_however_often_it_failed_since(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "OUTCOMES_KEPT", 2)
    history.add(run(1), [outcome(1)])
    history.add(run(1, target="usb/p"), [outcome(1, target="usb/p")])
    history.add(run(2), [outcome(2)])
    for number in range(5):
        history.add(run(number), [DatasetRun("web", "backup:p", "tank/a", number, True)])
    assert history.bases("web") == {("backup:p", "tank/a"): "s1", ("usb/p", "tank/a"): "s0"}
    assert sorted(history.bases_of_others("other", 0)) == [("tank/a", "s0"), ("tank/a", "s1")]
    assert history.bases_of_others("other", 2) == (("tank/a", "s1"),)  # nothing ran to the disk since
    assert history.bases_of_others("web", 0) == ()
    history.forget("web")
    assert history.bases("web") == {}


def test_a_long_message_is_cut(history: History) -> None:
    history.add(Run("web", "t", 1, 2, 3, 0, "x" * 10**6))
    assert len(history.runs("web")[0].message) == module.MAX_MESSAGE_CHARS


def test_a_job_can_be_forgotten(history: History) -> None:
    history.add(run(1), [outcome(1)])
    history.add(run(2, job="other"))
    assert history.forget("web")
    assert (history.runs("web"), history.datasets("web")) == ((), ())
    assert not history.forget("web")
    assert history.runs("other") == (run(2, job="other"),)


def test_it_is_for_its_owner_alone(history: History) -> None:
    before = os.umask(0)
    try:
        history.add(run(1))
    finally:
        os.umask(before)
    assert stat.S_IMODE(history.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(history.path.parent.stat().st_mode) == 0o700
    assert [path.name for path in history.path.parent.iterdir()] == ["history.sqlite"]


def test_several_write_at_once_and_nothing_is_lost(history: History) -> None:
    jobs = ["a", "b", "c", "d"]
    root = Path(__file__).parents[2]
    argv = [sys.executable, "-c", PROGRAM, str(history.path.parent)]
    processes = [subprocess.Popen([*argv, job], cwd=root) for job in jobs]
    assert [process.wait() for process in processes] == [0] * len(jobs)
    assert [len(history.runs(job)) for job in jobs] == [40] * len(jobs)


def test_one_that_was_killed_in_the_middle_of_a_change_leaves_no_lock_and_nothing_half_done(history: History) -> None:
    history.add(run(1))
    program = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom zfsync_ssh.history import *\n"
        "with History(Path(sys.argv[1]))._transaction() as database:\n"
        "    database.execute('DELETE FROM run')\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(history.path.parent)], cwd=Path(__file__).parents[2])
    assert done.returncode == -9
    history.add(run(2))
    assert history.runs("web") == (run(2), run(1))


def test_a_broken_file_is_set_aside_and_begun_anew(history: History) -> None:
    content = b"this is not a database, but long enough to be looked at " * 20
    history.path.parent.mkdir()
    history.path.write_bytes(content)
    history.add(run(1))
    assert history.runs("web") == (run(1),)
    (aside,) = [path for path in history.path.parent.iterdir() if path != history.path]
    assert aside.read_bytes() == content


def damage(history: History) -> bytes:
    """Make all pages but the first of a history of many runs unreadable."""
    for number in range(30):
        history.add(Run("web", "backup:p", number, number, 3, 0, "x" * 1000), [outcome(number)])
    content = history.path.read_bytes()
    broken = content[:4096] + b"\xff" * (len(content) - 4096)
    history.path.write_bytes(broken)
    return broken


@pytest.mark.parametrize(
    "use",
    [lambda history: history.add(run(1)), lambda history: history.bases("web"), lambda history: history.forget("web")],
)
def test_one_that_is_broken_further_inside_is_set_aside_as_well(
    history: History, use: Callable[[History], object]
) -> None:
    content = damage(history)
    use(history)
    assert history.aside is not None
    assert history.aside.read_bytes() == content
    history.add(run(2))
    assert history.runs("web")[0] == run(2)
    assert sorted(history.path.parent.iterdir()) == sorted([history.path, history.aside])


def test_who_merely_looks_leaves_a_broken_one_to_the_next_run(history: History) -> None:
    content = damage(history)
    looking = History(history.path.parent, mends=False)
    with pytest.raises(UsageError, match="malformed"):
        looking.runs("web")
    assert history.path.read_bytes() == content
    assert looking.aside is None


def test_what_another_run_has_begun_anew_is_not_set_aside_by_one_that_waited(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage(history)
    other, begin = History(history.path.parent), History._begin

    def late(self: History) -> sqlite3.Connection:
        database = begin(self)
        if self is history and other.aside is None:
            database.execute("ROLLBACK")  # the other one has it first
            other.add(run(7))
        return database

    monkeypatch.setattr(History, "_begin", late)
    history.add(run(8))
    assert history.aside is None
    assert history.runs("web") == (run(8), run(7))


def test_the_file_of_another_version_is_left_alone(history: History) -> None:
    history.add(run(1))
    with sqlite3.connect(history.path) as database:
        database.execute("PRAGMA user_version = 7")
    database.close()
    with pytest.raises(UsageError, match=r"history.sqlite, is of another version of zfsync: move it away\."):
        history.runs("web")


def test_a_place_that_cannot_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"The history of runs, .*history.sqlite, cannot be used: "):
        History(tmp_path / "file").add(run(1))
