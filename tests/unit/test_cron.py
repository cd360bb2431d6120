"""The unattended job, with everything that touches the world made for the test."""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.ssh.processes import eventually
from zfsync_ssh.config import Hooks, Job, Retention, Timing
from zfsync_ssh.cron import Report, Surroundings, run_job
from zfsync_ssh.dataset import Snapshot
from zfsync_ssh.errors import AgentError, ConnectError, HostKeyError, LockedError, LoginError, ZfsError
from zfsync_ssh.history import History
from zfsync_ssh.joblog import JobLog
from zfsync_ssh.jobsteps import Brought, Pruned, Pushed, Rule, SourceState
from zfsync_ssh.location import Location, parse_location
from zfsync_ssh.lock import Lock
from zfsync_ssh.retention import parse_keep

NOW = datetime(2021, 1, 27, 6, 36, 12, tzinfo=UTC)
ONE, TWO = "backup:pool/web", "usb/web"
GONE = ConnectError("backup cannot be reached.")
HOURLY = SourceState((Snapshot("20210127-0600_D", 1, 10),))


class Fakes:
    """`Steps` that note what they are asked for, and a clock that only sleeping moves."""

    def __init__(self, state: SourceState = HOURLY) -> None:
        self.state = state
        self.done: list[str] = []
        self.slept: list[float] = []
        self.wrong: dict[str, list[Exception]] = {}
        self.pushed: dict[str, Pushed] = {}
        self.pruned = Pruned(1)
        self.rules: dict[str, Rule] = {}
        self.clock = 0.0

    def _do(self, what: str) -> None:
        self.done.append(what)
        if self.wrong.get(what):
            raise self.wrong[what].pop(0)

    async def source(self) -> SourceState:
        self._do("source")
        return self.state

    async def take(self, name: str) -> None:
        self._do(f"take {name}")

    async def push(self, target: Location) -> Pushed:
        where = f"{target.host}:{target.dataset}".removeprefix(":")
        self._do(f"push {where}")
        default = Pushed(0, (Brought("tank/web", False, 100, "b", "b"), Brought("tank/web/x", False, 11, "b", "b")))
        return self.pushed.get(where, default)

    async def prune(self, target: Location | None, rule: Rule) -> Pruned:
        where = target.dataset if target else "source"
        self.rules[where] = rule
        self._do(f"prune {where}")
        return self.pruned

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.clock += seconds


JOB = Job(
    "web",
    parse_location("tank/web"),
    (parse_location(ONE), parse_location(TWO)),
    Retention(parse_keep("minutely=2,daily=2"), parse_keep("daily=9")),
)


@pytest.fixture
def fakes() -> Fakes:
    return Fakes()


@pytest.fixture
def around(tmp_path: Path, fakes: Fakes) -> Surroundings:
    def now() -> datetime:
        return NOW + timedelta(seconds=fakes.clock)

    log = JobLog("web", file=tmp_path / "log", now=now)
    return Surroundings(
        History(tmp_path / "state"), tmp_path / "state", "me, pid 7", log, fakes.sleep, now, lambda: fakes.clock,
        lambda seconds: seconds / 2,
    )  # fmt: skip


def logged(tmp_path: Path) -> list[str]:
    return [line.partition(" web: ")[2] for line in (tmp_path / "log").read_text().splitlines()]


def hooked(tmp_path: Path, **scripts: str) -> Job:
    """The job with hooks that each note what they are told, and then run a script."""
    note = f'echo "$ZFSYNC_HOOK $ZFSYNC_TARGET $ZFSYNC_SNAPSHOT $ZFSYNC_EXIT_CODE" >> {tmp_path}/hooks; '
    commands = {hook: ("/bin/sh", "-c", note + scripts.get(hook, "")) for hook in
                ("before_snapshot", "after_snapshot", "before_push", "after_push", "on_failure")}  # fmt: skip
    return dataclasses.replace(JOB, hooks=Hooks(commands))


# ---- all is well -----------------------------------------------------------------------------------------------------


async def test_it_takes_pushes_prunes_and_says_nothing(fakes: Fakes, around: Surroundings, tmp_path: Path) -> None:
    report = await run_job(JOB, fakes, around)
    assert (report.exit_code, report.paragraph, report.snapshot) == (0, "", "20210127-0636_M")
    assert fakes.done == [
        "source", "take 20210127-0636_M",
        f"push {ONE}", "prune pool/web", f"push {TWO}", "prune usb/web", "prune source",
    ]  # fmt: skip
    assert logged(tmp_path) == [
        "took tank/web@20210127-0636_M",
        f"{ONE}: 2 datasets, 111 bytes sent, 0 failed", f"{ONE}: 1 snapshots destroyed",
        f"{TWO}: 2 datasets, 111 bytes sent, 0 failed", f"{TWO}: 1 snapshots destroyed",
        "tank/web: 1 snapshots destroyed",
    ]  # fmt: skip
    runs = around.history.runs("web")
    assert [(run.target, run.exit_code, run.bytes) for run in runs] == [(TWO, 0, 111), (ONE, 0, 111)]
    assert around.history.bases("web")[ONE, "tank/web/x"] == "b"
    assert list((tmp_path / "state").iterdir()) == [around.history.path]  # the lock has gone


async def test_nothing_is_taken_before_it_is_due(fakes: Fakes, around: Surroundings) -> None:
    fakes.state = SourceState((Snapshot("20210127-0636_D", 1, 10),))
    assert (await run_job(JOB, fakes, around)).snapshot == ""
    assert fakes.done[:2] == ["source", f"push {ONE}"]


@pytest.mark.parametrize(("skip", "written", "taken"), [(True, False, False), (True, True, True), (False, False, True)])
async def test_what_nobody_wrote_to_is_skipped_when_told(
    fakes: Fakes, around: Surroundings, skip: bool, written: bool, taken: bool
) -> None:
    fakes.state = dataclasses.replace(HOURLY, written=written)
    job = dataclasses.replace(JOB, retention=dataclasses.replace(JOB.retention, skip_unwritten=skip))
    assert bool((await run_job(job, fakes, around)).snapshot) == taken


async def test_without_keep_it_only_pushes(fakes: Fakes, around: Surroundings) -> None:
    await run_job(dataclasses.replace(JOB, retention=Retention()), fakes, around)
    assert fakes.done == [f"push {ONE}", f"push {TWO}"]


async def test_a_name_that_was_sent_before_is_not_given_again(fakes: Fakes, around: Surroundings) -> None:
    fakes.pushed[ONE] = Pushed(0, (Brought("tank/web", False, 0, "20210127-0700_M", "20210127-0700_M"),))
    await run_job(JOB, fakes, around)
    assert (await run_job(JOB, fakes, around)).snapshot == "20210127-0636_M.10"


async def test_names_are_in_local_time_when_told(
    fakes: Fakes, around: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    import time

    monkeypatch.setenv("TZ", "XXX-5")
    time.tzset()
    try:
        job = dataclasses.replace(JOB, retention=dataclasses.replace(JOB.retention, local_time=True))
        assert (await run_job(job, fakes, around)).snapshot == "20210127-1136_M"
    finally:
        monkeypatch.undo()
        time.tzset()


async def test_it_begins_by_chance_up_to_its_jitter_later(fakes: Fakes, around: Surroundings) -> None:
    job = dataclasses.replace(JOB, timing=Timing(jitter=timedelta(seconds=90)))
    await run_job(job, fakes, around)
    assert fakes.slept == [45]


# ---- what goes wrong -------------------------------------------------------------------------------------------------


async def test_one_targets_failure_does_not_stop_the_other(fakes: Fakes, around: Surroundings, tmp_path: Path) -> None:
    fakes.wrong = {f"push {ONE}": [GONE]}
    report = await run_job(JOB, fakes, around)
    assert (report.exit_code, report.paragraph) == (5, "Job web: backup cannot be reached.")
    assert fakes.done[2:] == [f"push {ONE}", f"push {TWO}", "prune usb/web", "prune source"]
    assert [(run.target, run.exit_code) for run in around.history.runs("web")] == [(TWO, 0), (ONE, 5)]
    assert "backup cannot be reached." in logged(tmp_path)


async def test_datasets_that_failed_are_told_up_to_a_few(fakes: Fakes, around: Surroundings) -> None:
    rows = [Brought(f"tank/web/{number}", True, message=f"{number} is full.") for number in range(5)]
    fakes.pushed[ONE] = Pushed(3, (Brought("tank/web"), *rows))
    report = await run_job(JOB, fakes, around)
    assert report.exit_code == 3
    assert (
        report.paragraph
        == f"Job web: {ONE} is not up to date: 0 is full. 1 is full. 2 is full. 2 more datasets failed."
    )
    assert "prune pool/web" in fakes.done  # the others are up to date
    assert [row.failed for row in around.history.datasets("web") if row.target == ONE] == [False] + [True] * 5


async def test_without_a_new_snapshot_the_earlier_ones_are_pushed_and_nothing_is_called_well(
    fakes: Fakes, around: Surroundings
) -> None:
    fakes.wrong = {"take 20210127-0636_M": [ZfsError("The pool is full.")]}
    report = await run_job(JOB, fakes, around)
    assert (report.exit_code, report.paragraph, report.snapshot) == (7, "Job web: The pool is full.", "")
    assert f"push {TWO}" in fakes.done
    assert {run.exit_code for run in around.history.runs("web")} == {7}
    assert all(row.failed and row.message == "The pool is full." for row in around.history.datasets("web"))


async def test_a_source_that_cannot_be_read_is_told(fakes: Fakes, around: Surroundings) -> None:
    fakes.wrong = {"source": [ZfsError("There is no tank/web.")]}
    report = await run_job(JOB, fakes, around)
    assert report.paragraph == "Job web: There is no tank/web."
    assert fakes.done[1] == f"push {ONE}"


async def test_what_cannot_be_pruned_is_told_up_to_a_few(fakes: Fakes, around: Surroundings) -> None:
    fakes.pruned = Pruned(0, tuple(f"{number} is busy." for number in range(5)))
    fakes.wrong = {"prune usb/web": [AgentError("The agent has gone.")]}
    report = await run_job(JOB, fakes, around)
    assert report.exit_code == 3
    assert "0 is busy. 1 is busy. 2 is busy. 2 more snapshots of backup:pool/web could not be" in report.paragraph
    assert "The agent has gone." in report.paragraph


def noted(around: Surroundings) -> list[tuple[str, int, str]]:
    return [(run.target, run.exit_code, run.message) for run in around.history.runs("web")]


async def test_a_target_that_could_not_be_pruned_has_not_had_a_good_run(fakes: Fakes, around: Surroundings) -> None:
    fakes.wrong = {"prune usb/web": [AgentError("The agent has gone.")]}
    assert (await run_job(JOB, fakes, around)).exit_code == AgentError.exit_code
    assert noted(around) == [(TWO, AgentError.exit_code, "The agent has gone."), (ONE, 0, "")]
    assert not any(row.failed for row in around.history.datasets("web"))  # all was brought


async def test_a_source_that_could_not_be_pruned_is_told_of_each_target_that_was_well(
    fakes: Fakes, around: Surroundings
) -> None:
    await run_job(JOB, fakes, around)
    fakes.wrong = {f"push {ONE}": [GONE], "prune source": [ZfsError("The source is busy.")]}
    await around.sleep(60)
    await run_job(JOB, fakes, around)
    assert noted(around) == [
        (TWO, ZfsError.exit_code, "The source is busy."), (ONE, 5, "backup cannot be reached."),
        (TWO, 0, ""), (ONE, 0, ""),
    ]  # fmt: skip


async def test_snapshots_that_cannot_be_destroyed_are_told_in_the_history(fakes: Fakes, around: Surroundings) -> None:
    fakes.pruned = Pruned(0, tuple(f"{number} is busy." for number in range(5)))
    await run_job(JOB, fakes, around)
    assert noted(around) == [(TWO, 3, "0 is busy."), (ONE, 3, "0 is busy.")]


async def test_what_a_hook_could_not_undo_after_the_snapshot_is_told_in_the_history(
    fakes: Fakes, around: Surroundings, tmp_path: Path
) -> None:
    report = await run_job(hooked(tmp_path, after_snapshot="exit 1"), fakes, around)
    assert {code for _, code, _ in noted(around)} == {report.exit_code} == {8}


# ---- trying again ----------------------------------------------------------------------------------------------------


def retrying(*, retry_for: timedelta = timedelta(0), wait: timedelta = timedelta(0)) -> Job:
    return dataclasses.replace(JOB, targets=JOB.targets[:1], timing=Timing(retry_for=retry_for, wait=wait))


async def test_a_host_that_cannot_be_reached_is_tried_again_at_growing_intervals(
    fakes: Fakes, around: Surroundings
) -> None:
    fakes.wrong = {f"push {ONE}": [GONE] * 3}
    report = await run_job(retrying(retry_for=timedelta(minutes=5)), fakes, around)
    assert (report.exit_code, fakes.done.count(f"push {ONE}")) == (0, 4)
    assert fakes.slept[1:] == [5, 10, 20]


async def test_it_is_given_up_when_the_time_is_over(fakes: Fakes, around: Surroundings) -> None:
    fakes.wrong = {f"push {ONE}": [GONE] * 99}
    report = await run_job(retrying(retry_for=timedelta(minutes=5)), fakes, around)
    assert report.exit_code == 5
    assert sum(fakes.slept) == 300
    assert max(fakes.slept) == 60
    assert len(around.history.runs("web")) == 1


async def test_what_would_fail_again_is_not_tried_again(fakes: Fakes, around: Surroundings) -> None:
    for error in (
        AgentError("There is no python."),
        ZfsError("The pool is gone."),
        LockedError("Another is at work."),
        HostKeyError("The host key of backup has changed."),
        LoginError("backup refused the key."),
    ):
        fakes.wrong, fakes.done = {f"push {ONE}": [error]}, []
        report = await run_job(retrying(retry_for=timedelta(minutes=5)), fakes, around)
        assert (report.exit_code, fakes.done.count(f"push {ONE}")) == (error.exit_code, 1)


async def test_a_target_at_which_another_run_is_at_work_is_waited_for(fakes: Fakes, around: Surroundings) -> None:
    fakes.wrong = {f"push {ONE}": [LockedError("Another is at work.")] * 2}
    assert (await run_job(retrying(wait=timedelta(minutes=1)), fakes, around)).exit_code == 0


# ---- the lock --------------------------------------------------------------------------------------------------------


def held(around: Surroundings) -> Lock:
    around.locks.mkdir()
    lock = Lock("web", (str(around.locks),))
    assert lock.acquire("zfsync on h, pid 3") is None
    return lock


async def test_a_job_that_is_running_already_ends_with_4_and_one_line(fakes: Fakes, around: Surroundings) -> None:
    lock = held(around)
    report = await run_job(JOB, fakes, around)
    assert (report.exit_code, report.paragraph) == (4, "Job web: It is running already: zfsync on h, pid 3.")
    assert fakes.done == []
    assert around.history.runs("web") == ()  # the run that has the lock is the one that counts
    lock.release()


async def test_it_waits_for_the_lock_when_told(fakes: Fakes, around: Surroundings) -> None:
    lock = held(around)
    job = dataclasses.replace(JOB, timing=Timing(wait=timedelta(minutes=10)))
    assert (await run_job(job, fakes, around)).exit_code == 4
    assert sum(fakes.slept) == 600

    async def sleep(seconds: float) -> None:
        await fakes.sleep(seconds)
        if len(fakes.slept) == 605:
            lock.release()

    report = await run_job(job, fakes, dataclasses.replace(around, sleep=sleep))
    assert (report.exit_code, report.snapshot) == (0, "20210127-0646_M")


async def test_a_lock_that_cannot_be_taken_is_told(fakes: Fakes, around: Surroundings, tmp_path: Path) -> None:
    path = tmp_path / "state" / "zfsync-web.lock"
    path.mkdir(parents=True)
    report = await run_job(hooked(tmp_path), fakes, around)
    assert (report.exit_code, report.paragraph) == (
        2,
        f"Job web: Its lock {path} cannot be taken, so nothing was done: Is a directory.",
    )
    assert fakes.done == []
    assert (tmp_path / "hooks").read_text() == f"on_failure {ONE} {TWO}  2\n"
    assert logged(tmp_path) == [f"Its lock {path} cannot be taken, so nothing was done: Is a directory."]


async def test_the_lock_goes_with_a_run_that_is_ended(fakes: Fakes, around: Surroundings) -> None:
    fakes.wrong = {f"push {ONE}": [asyncio.CancelledError()]}  # type: ignore[list-item]
    with pytest.raises(asyncio.CancelledError):
        await run_job(JOB, fakes, around)
    assert [(run.target, run.exit_code) for run in around.history.runs("web")] == [(ONE, 130)]
    assert (await run_job(JOB, fakes, around)).exit_code == 0


# ---- hooks -----------------------------------------------------------------------------------------------------------


async def test_hooks_are_run_at_their_points(fakes: Fakes, around: Surroundings, tmp_path: Path) -> None:
    fakes.wrong = {f"push {ONE}": [GONE]}
    await run_job(hooked(tmp_path), fakes, around)
    assert (tmp_path / "hooks").read_text().splitlines() == [
        f"before_snapshot {ONE} {TWO} 20210127-0636_M ",
        f"after_snapshot {ONE} {TWO} 20210127-0636_M 0",
        f"before_push {ONE}  ",
        f"after_push {ONE}  5",
        f"before_push {TWO}  ",
        f"after_push {TWO}  0",
        f"on_failure {ONE} {TWO}  5",
    ]


@pytest.mark.parametrize(
    ("hook", "left_out"),
    [
        ("before_snapshot", ["take 20210127-0636_M"]),
        ("after_snapshot", []),
        ("before_push", [f"push {ONE}", "prune pool/web", f"push {TWO}", "prune usb/web"]),
        ("after_push", []),
    ],
)
async def test_a_hook_that_fails_keeps_only_what_it_comes_before_from_being_done(
    fakes: Fakes, around: Surroundings, tmp_path: Path, hook: str, left_out: list[str]
) -> None:
    report = await run_job(hooked(tmp_path, **{hook: "exit 9"}), fakes, around)
    assert report.exit_code == 8
    assert f"The hook {hook} of job web" in report.paragraph
    everything = [
        "source",
        "take 20210127-0636_M",
        f"push {ONE}",
        "prune pool/web",
        f"push {TWO}",
        "prune usb/web",
        "prune source",
    ]
    assert fakes.done == [step for step in everything if step not in left_out]
    assert "on_failure" in (tmp_path / "hooks").read_text()


async def test_what_a_hook_did_before_a_snapshot_is_undone_even_if_it_could_not_be_taken(
    fakes: Fakes, around: Surroundings, tmp_path: Path
) -> None:
    fakes.wrong = {"take 20210127-0636_M": [ZfsError("The pool is full.")]}
    await run_job(hooked(tmp_path), fakes, around)
    assert f"after_snapshot {ONE} {TWO} 20210127-0636_M 7\n" in (tmp_path / "hooks").read_text()


async def test_what_a_hook_only_began_to_do_before_a_snapshot_is_undone_as_well(
    fakes: Fakes, around: Surroundings, tmp_path: Path
) -> None:
    await run_job(hooked(tmp_path, before_snapshot="exit 9"), fakes, around)
    assert f"after_snapshot {ONE} {TWO} 20210127-0636_M 8\n" in (tmp_path / "hooks").read_text()


async def test_what_a_hook_did_before_a_push_is_undone_when_the_target_is_pruned_and_in_any_case(
    fakes: Fakes, around: Surroundings, tmp_path: Path
) -> None:
    class Noting(Fakes):
        def _do(self, what: str) -> None:
            with (tmp_path / "hooks").open("a") as file:
                file.write(f"{what}\n")
            super()._do(what)

    noting = Noting()
    noting.wrong = {"prune pool/web": [AgentError("The agent has gone.")]}
    await run_job(hooked(tmp_path, before_push=f'test "$ZFSYNC_TARGET" != {TWO}'), noting, around)
    seen = (tmp_path / "hooks").read_text().splitlines()
    assert seen[seen.index(f"before_push {ONE}  ") :] == [
        f"before_push {ONE}  ",
        f"push {ONE}",
        "prune pool/web",
        f"after_push {ONE}  6",
        f"before_push {TWO}  ",
        f"after_push {TWO}  8",
        "prune source",
        f"on_failure {ONE} {TWO}  6",
    ]
    assert [(target, code) for target, code, _ in noted(around)] == [(TWO, 8), (ONE, 6)]


async def test_an_interrupt_amid_a_push_undoes_what_the_hook_before_did(
    fakes: Fakes, around: Surroundings, tmp_path: Path
) -> None:
    fakes.wrong = {f"push {ONE}": [asyncio.CancelledError()]}  # type: ignore[list-item]
    with pytest.raises(asyncio.CancelledError):
        await run_job(hooked(tmp_path), fakes, around)
    assert (tmp_path / "hooks").read_text().endswith(f"after_push {ONE}  130\n")


async def test_an_interrupt_amid_a_hook_undoes_what_it_did(fakes: Fakes, around: Surroundings, tmp_path: Path) -> None:
    run = asyncio.create_task(run_job(hooked(tmp_path, before_snapshot="exec sleep 1000"), fakes, around))
    await asyncio.to_thread(eventually, "the hook runs", (tmp_path / "hooks").exists)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert f"after_snapshot {ONE} {TWO} 20210127-0636_M 130\n" in (tmp_path / "hooks").read_text()


# ---- what is pruned --------------------------------------------------------------------------------------------------


async def test_the_base_of_a_target_that_cannot_be_reached_stays(fakes: Fakes, around: Surroundings) -> None:
    names = [f"20210127-06{minute}_M" for minute in range(10, 20)]
    there = [Snapshot(name, number + 1, number + 1) for number, name in enumerate(names)]
    fakes.pushed[ONE] = Pushed(0, (Brought("tank/web/x", False, 0, names[2], names[2]),))
    fakes.pushed[TWO] = Pushed(0, (Brought("tank/web/x", False, 0, names[4], names[4]),))
    await run_job(JOB, fakes, around)
    fakes.wrong = {f"push {ONE}": [GONE], f"push {TWO}": [GONE]}
    await run_job(JOB, fakes, around)
    stay = [snapshot.name for snapshot in there if snapshot not in fakes.rules["source"]("tank/web/x", there, {1})]
    assert stay == [names[0], names[2], names[4], names[8], names[9]]
    only_one = dataclasses.replace(JOB, targets=JOB.targets[:1])
    await run_job(only_one, fakes, around)  # a target that is no more needs nothing
    assert there[4] in fakes.rules["source"]("tank/web/x", there, set())


async def test_at_the_source_the_bases_of_other_jobs_stay_as_well(fakes: Fakes, around: Surroundings) -> None:
    names = [f"20210127-06{minute}_M" for minute in range(10, 20)]
    there = [Snapshot(name, number + 1, number + 1) for number, name in enumerate(names)]
    fakes.pushed["usb/x"] = Pushed(0, (Brought("tank/web/x", False, 0, names[3], names[3]),))
    other = Job("other", parse_location("tank/web/x"), (parse_location("usb/x"),))
    await run_job(other, fakes, around)
    await run_job(JOB, fakes, around)
    stay = [snapshot.name for snapshot in there if snapshot not in fakes.rules["source"]("tank/web/x", there, set())]
    assert stay == [names[3], names[8], names[9]]
    assert there[3] in fakes.rules["pool/web"]("pool/web/x", there, set())


async def test_each_side_is_pruned_by_its_own_counts(fakes: Fakes, around: Surroundings) -> None:
    await run_job(JOB, fakes, around)
    there = [
        Snapshot("20210127-0610_M", 1, 1),
        Snapshot("b", 2, 2),
        *(Snapshot(f"202101{day}-0000_D", day, day) for day in range(10, 15)),
    ]
    counts = {side: len(rule("x", there, set())) for side, rule in fakes.rules.items()}
    assert counts == {"pool/web": 1, "usb/web": 1, "source": 3}


async def test_a_target_prunes_not_what_it_has_in_common_with_the_source(fakes: Fakes, around: Surroundings) -> None:
    fakes.pushed[ONE] = Pushed(0, (Brought("tank/web/x", False, 0, "20210127-0610_M", "20210127-0610_M"),))
    await run_job(JOB, fakes, around)
    there = [Snapshot("20210127-0610_M", 1, 1)]
    assert fakes.rules["pool/web"]("pool/web/x", there, set()) == ()
    assert fakes.rules["pool/web"]("pool/web/y", there, set()) == tuple(there)


# ---- the history and the log -----------------------------------------------------------------------------------------


async def test_without_its_history_a_job_goes_on_prunes_nothing_and_says_so(
    fakes: Fakes, around: Surroundings, tmp_path: Path
) -> None:
    (tmp_path / "state" / "history.sqlite").mkdir(parents=True)
    report = await run_job(JOB, fakes, around)
    assert fakes.done == ["source", "take 20210127-0636_M", f"push {ONE}", f"push {TWO}"]
    assert report.exit_code == 2
    assert report.paragraph.count("The history of runs") == 1


async def test_when_its_history_was_broken_a_job_prunes_nothing_once_and_says_so(
    fakes: Fakes, around: Surroundings, tmp_path: Path
) -> None:
    (tmp_path / "state").mkdir()
    around.history.path.write_bytes(b"this is not a database, but long enough to be looked at " * 20)
    report = await run_job(JOB, fakes, around)
    assert fakes.done == ["source", "take 20210127-0636_M", f"push {ONE}", f"push {TWO}"]
    assert report.exit_code == 2
    assert f"it is {around.history.aside} now" in report.paragraph
    assert [code for _, code, _ in noted(around)] == [2, 2]
    again = dataclasses.replace(around, history=History(tmp_path / "state"))
    assert (await run_job(JOB, fakes, again)).exit_code == 0
    assert "prune source" in fakes.done


async def test_a_log_that_cannot_be_written_stops_nothing_and_is_told(fakes: Fakes, around: Surroundings) -> None:
    log = JobLog("web", file=Path("/no/such/log"), now=lambda: NOW)
    report = await run_job(JOB, fakes, dataclasses.replace(around, log=log))
    assert len(fakes.done) == 7
    assert report.paragraph == "Job web: The log /no/such/log cannot be written: No such file or directory."


def test_a_report_of_nothing_says_nothing() -> None:
    assert Report("web").paragraph == ""
