"""An unattended job: snapshot, push to each target, prune, and remember. What it does to ZFS is injected as `Steps`.

One thing that goes wrong never keeps the rest from being done: without a new snapshot, the earlier ones are pushed all
the same, and one target's failure does not stop the others. All of it is in the `Report`, and in the history.
"""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from .config import Job
from .dataset import Snapshot
from .errors import EXIT_INTERRUPTED, EXIT_OK, ConnectError, DatasetError, LockedError, UsageError, ZfsyncError
from .history import DatasetRun, History, Run
from .hooks import Point, run_hook
from .joblog import JobLog
from .jobsteps import Pushed, Steps
from .location import Location, place
from .lock import Lock
from .retention import Keep, due, local_time, name_for, to_prune
from .state import make_private

_T = TypeVar("_T")

FIRST_PAUSE_SECONDS = 5.0
MAX_PAUSE_SECONDS = 60.0
LOCK_PAUSE_SECONDS = 1.0
FORGOTTEN_AFTER = timedelta(days=100)
"""Another job that has not run for so long is no more, or needs its base no more: snapshots would stay for ever."""
MAX_TOLD = 3
"""Of the datasets that failed in a push, or the snapshots that could not be pruned, so many are told each."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a job finds around it, besides ZFS."""

    history: History
    locks: Path
    """A directory of the user's own."""
    owner: str
    """Who this is, for another run that finds the job locked."""
    log: JobLog
    sleep: Callable[[float], Awaitable[None]]
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    monotonic: Callable[[], float] = time.monotonic
    up_to: Callable[[float], float] = lambda seconds: random.uniform(0, seconds)  # noqa: S311 - no secret
    """A moment within so many seconds, by chance."""


@dataclass(frozen=True, slots=True)
class Failure:
    """One thing that went wrong: its exit code, and a sentence."""

    exit_code: int
    message: str


_INTERRUPTED = Failure(EXIT_INTERRUPTED, "It was interrupted.")


@dataclass(slots=True)
class Report:
    """How a job ended."""

    job: str
    failures: list[Failure] = field(default_factory=list)
    snapshot: str = ""
    """The name that was taken."""

    @property
    def exit_code(self) -> int:
        """That of what went wrong first."""
        return self.failures[0].exit_code if self.failures else EXIT_OK

    @property
    def paragraph(self) -> str:
        """For whoever gets cron's mail; empty when all is well."""
        if not self.failures:
            return ""
        return f"Job {self.job}: " + " ".join(failure.message for failure in self.failures)


async def run_job(job: Job, steps: Steps, around: Surroundings) -> Report:
    """Run a job once. It does not raise what went wrong, but reports it."""
    await around.sleep(around.up_to(job.timing.jitter.total_seconds()))
    report = Report(job.name)
    run = _JobRun(job, steps, around, report)
    try:
        lock = await _locked(job, around)
    except (LockedError, UsageError) as error:
        around.log(str(error), failed=not isinstance(error, LockedError))
        report.failures.append(Failure(error.exit_code, str(error)))
        if not isinstance(error, LockedError):  # a run that takes long is no failure
            await run.tell()
        return report
    try:
        await run.run()
    finally:
        lock.release()
    return report


async def _locked(job: Job, around: Surroundings) -> Lock:
    """Take the job's lock, waiting for it as long as the job says.

    `LockedError` when another run has it to the end, `UsageError` when nobody can take it.
    """
    lock = Lock(job.name, (str(_made(around.locks)),))
    begun = around.monotonic()
    try:
        while (holder := lock.acquire(around.owner)) is not None:
            if around.monotonic() - begun >= job.timing.wait.total_seconds():
                raise LockedError(f"It is running already: {holder or 'its holder has not said where'}.")
            await around.sleep(LOCK_PAUSE_SECONDS)
    except OSError as error:
        raise UsageError(f"Its lock {lock.path} cannot be taken, so nothing was done: {error.strerror}.") from error
    return lock


def _made(directory: Path) -> Path:
    try:
        make_private(directory)
    except OSError as error:
        raise UsageError(f"{directory} cannot be made, where locks and the history are: {error.strerror}.") from error
    return directory


class _JobRun:
    """One run of a job that has its lock."""

    def __init__(self, job: Job, steps: Steps, around: Surroundings, report: Report) -> None:
        self._job = job
        self._steps = steps
        self._around = around
        self._report = report
        self._undone: Failure | None = None
        """Why what the hook before the snapshot did was not undone."""
        self._noted: dict[Location, Run] = {}
        """As they are in the history."""

    async def run(self) -> None:
        """All of it."""
        keep, keep_target = self._job.retention.keep, self._job.retention.keep_target
        unsnapped = await self._snapshot(keep) if keep else None
        for target in self._job.targets:
            await self._target(target, keep_target, unsnapped)
        if keep:
            self._amend(await self._prune(None, keep), *self._job.targets)
        if aside := self._around.history.aside:
            lost = (
                f"The history of runs was broken: it is {aside} now, and another was begun. So what targets have that "
                f"cannot be reached is not known, and nothing was pruned after that in this run."
            )
            self._amend(self._note(Failure(UsageError.exit_code, lost)), *self._job.targets)
        self._report.failures += [Failure(UsageError.exit_code, problem) for problem in self._around.log.problems]
        await self.tell()

    async def tell(self) -> None:
        """Run the hook for a job that went wrong, if it did."""
        if self._report.failures:
            first = self._report.failures[0]
            await self._hook("on_failure", exit_code=first.exit_code, message=first.message)

    # -- the snapshot --

    async def _snapshot(self, keep: Keep) -> Failure | None:
        """Take one if it is due; why not, if that failed."""
        try:
            state = await self._steps.source()
        except ZfsyncError as error:
            return self._failed(error)
        now = self._naming_time()
        kind = due(now, keep, state.snapshots, None if self._job.retention.local_time else local_time)
        if kind is None or (self._job.retention.skip_unwritten and not state.written):
            return None
        past = self._recall(self._around.history.snapshot_names) or ()
        name = name_for(now, kind, state.snapshots, {*state.names, *past})
        failure: Failure | None = _INTERRUPTED
        try:
            failure = await self._hook("before_snapshot", snapshot=name) or await self._take(name)
        finally:
            # In any case: it undoes what the one before did, or began to do, such as a lock on tables.
            code = failure.exit_code if failure else EXIT_OK
            self._undone = await self._hook("after_snapshot", snapshot=name, exit_code=code)
        return failure

    async def _take(self, name: str) -> Failure | None:
        try:
            await self._steps.take(name)
        except ZfsyncError as error:
            return self._failed(error)
        self._report.snapshot = name
        self._around.log(f"took {place(self._job.source)}@{name}")
        return None

    def _naming_time(self) -> datetime:
        now = self._around.now()
        return (now.astimezone() if self._job.retention.local_time else now.astimezone(UTC)).replace(tzinfo=None)

    # -- one target --

    async def _target(self, target: Location, keep: Keep | None, unsnapped: Failure | None) -> None:
        """Push to one target, and prune it to what it is to ``keep``, if it could be reached."""
        failure: Failure | None = _INTERRUPTED
        try:
            reached, failure = await self._pushed(target, unsnapped)
            if reached and keep:
                unpruned = await self._prune(target, keep)
                self._amend(unpruned, target)
                failure = failure or unpruned
        finally:
            # In any case, as after a snapshot: what came before may have woken a host, or imported a pool.
            code = failure.exit_code if failure else EXIT_OK
            self._amend(await self._hook("after_push", target=place(target), exit_code=code), target)

    async def _pushed(self, target: Location, unsnapped: Failure | None) -> tuple[bool, Failure | None]:
        """Push to one target, and note that; whether it was reached, and what went wrong."""
        started = self._around.now()
        pushed: Pushed | None = None
        failure: Failure | None = _INTERRUPTED
        try:
            failure = await self._hook("before_push", target=place(target))
            if failure is None:
                failure = _INTERRUPTED
                pushed, failure = await self._push(target)
        finally:
            self._remember(target, started, pushed, failure or unsnapped or self._undone, unsnapped)
        return pushed is not None, failure

    async def _push(self, target: Location) -> tuple[Pushed | None, Failure | None]:
        """Push, again and again where that may help; why it failed, as a whole or for some datasets."""
        since, pause = None, FIRST_PAUSE_SECONDS
        while True:
            try:
                pushed = await self._steps.push(target)
                break
            except ZfsyncError as error:
                now = self._around.monotonic()
                since = now if since is None else since
                left = since + self._patience(error) - now
                if left <= 0:
                    return None, self._failed(error)
                self._around.log(f"{place(target)}: {error} It is tried again in {min(pause, left):.0f} s.")
                await self._around.sleep(min(pause, left))
                pause = min(pause * 2, MAX_PAUSE_SECONDS)
        wrong = [row for row in pushed.datasets if row.failed]
        sent = sum(row.bytes for row in pushed.datasets)
        self._around.log(f"{place(target)}: {len(pushed.datasets)} datasets, {sent} bytes sent, {len(wrong)} failed")
        if pushed.exit_code == EXIT_OK:
            return pushed, None
        messages = [row.message or f"{row.dataset} failed." for row in wrong] + [*pushed.problems]
        return pushed, self._note(Failure(pushed.exit_code, _told(place(target), messages)))

    def _patience(self, error: ZfsyncError) -> float:
        """For how many seconds it is worth trying again after such an error."""
        if isinstance(error, ConnectError):
            return self._job.timing.retry_for.total_seconds() if error.may_pass else 0.0
        if isinstance(error, LockedError):
            return self._job.timing.wait.total_seconds()
        return 0.0

    # -- pruning --

    async def _prune(self, target: Location | None, keep: Keep) -> Failure | None:
        """Prune a target, or the source; why that failed, or the first reason of several."""
        now, history = self._naming_time(), self._around.history
        since = (self._around.now() - FORGOTTEN_AFTER).timestamp()
        known = self._recall(history.bases)
        others = self._recall(lambda job: history.bases_of_others(job, since)) if target is None else ()
        if known is None or others is None or history.aside:
            return None  # what a target that cannot be asked now needs is not known: nothing goes
        targets = set(map(place, self._job.targets))
        bases: dict[str, set[str]] = {}
        for dataset, name in [*others, *((pair[1], name) for pair, name in known.items() if pair[0] in targets)]:
            bases.setdefault(dataset, set()).add(name)
        source = self._job.source.dataset
        root = source if target is None else target.dataset

        def rule(dataset: str, snapshots: Sequence[Snapshot], spared: Collection[int]) -> tuple[Snapshot, ...]:
            names = bases.get(source + dataset[len(root) :], set())
            kept = {snapshot.guid for snapshot in snapshots if snapshot.name in names}
            return to_prune(now, keep, snapshots, kept | set(spared))

        try:
            pruned = await self._steps.prune(target, rule)
        except ZfsyncError as error:
            return self._failed(error)
        where = place(target or self._job.source)
        if pruned.destroyed:
            self._around.log(f"{where}: {pruned.destroyed} snapshots destroyed")
        failures = [self._note(Failure(DatasetError.exit_code, message)) for message in pruned.failures[:MAX_TOLD]]
        if len(pruned.failures) > MAX_TOLD:
            more = f"{len(pruned.failures) - MAX_TOLD} more snapshots of {where} could not be destroyed."
            self._note(Failure(DatasetError.exit_code, more))
        return failures[0] if failures else None

    # -- the history: a job goes on without it, and says so --

    def _remember(
        self,
        target: Location,
        started: datetime,
        pushed: Pushed | None,
        failure: Failure | None,
        unsnapped: Failure | None,
    ) -> None:
        job, where, ended = self._job.name, place(target), self._around.now().timestamp()
        rows = [
            DatasetRun(
                job,
                where,
                row.dataset,
                ended,
                # Without a new snapshot, what is there gets old, however well it was sent.
                row.failed or unsnapped is not None,
                row.bytes,
                row.source_newest,
                row.target_newest,
                row.message or (unsnapped.message if unsnapped else ""),
            )
            for row in (pushed.datasets if pushed else ())
        ]
        code, message = (failure.exit_code, failure.message) if failure else (EXIT_OK, "")
        run = Run(job, where, started.timestamp(), ended, code, sum(row.bytes for row in rows), message)
        self._noted[target] = run
        try:
            self._around.history.add(run, rows)
        except UsageError as error:
            self._failed(error)

    def _amend(self, failure: Failure | None, *targets: Location) -> None:
        """Note of these targets' runs what went wrong after their push, so that `status` says no better than cron."""
        if failure is None:
            return
        for target in targets:
            run = replace(self._noted[target], exit_code=failure.exit_code, message=failure.message)
            try:
                self._around.history.amend(run)
            except UsageError as error:
                self._failed(error)

    def _recall(self, ask: Callable[[str], _T]) -> _T | None:
        """What the history tells of this job; None when it cannot."""
        try:
            return ask(self._job.name)
        except UsageError as error:
            self._failed(error)
            return None

    # -- hooks and failures --

    async def _hook(
        self, hook: str, *, target: str = "", snapshot: str = "", exit_code: int | None = None, message: str = ""
    ) -> Failure | None:
        source = place(self._job.source)
        where = target or " ".join(map(place, self._job.targets))
        try:
            await run_hook(self._job.hooks, Point(self._job.name, hook, source, where, snapshot, exit_code, message))
        except ZfsyncError as error:
            return self._failed(error)
        return None

    def _failed(self, error: ZfsyncError) -> Failure:
        return self._note(Failure(error.exit_code, str(error)))

    def _note(self, failure: Failure) -> Failure:
        if failure not in self._report.failures:  # such as that of a history that cannot be read, each time
            self._report.failures.append(failure)
            self._around.log(failure.message, failed=True)
        return failure


def _told(target: str, messages: Sequence[str]) -> str:
    """What failed of a push, in a few sentences."""
    more = f"{len(messages) - MAX_TOLD} more datasets failed." if len(messages) > MAX_TOLD else ""
    told = " ".join(filter(None, (*messages[:MAX_TOLD], more)))
    return f"{target} is not up to date: {told}" if told else f"{target} is not up to date."
