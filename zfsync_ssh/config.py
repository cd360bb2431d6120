"""The jobs of a configuration file: read, checked as a whole, and turned into frozen values.

Nothing is looked at but the file: whether a key or a host is there shows when a job runs.
"""

from __future__ import annotations

import os
import re
import stat
import tomllib
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import combinations
from pathlib import Path
from types import MappingProxyType

from .buffer import check_buffer
from .config_values import (
    ConfigError,
    Problems,
    Table,
    as_command,
    as_count,
    as_flag,
    as_keep,
    as_limit,
    as_path,
    as_place,
    as_places,
    as_schedule,
    as_span,
    as_text,
    nearest,
)
from .dataset import child_of
from .errors import UsageError
from .keys import own_config
from .location import Location, Way, overlap
from .retention import Keep
from .schedule import Schedule
from .toml_lines import bare_value, error_line, line_of, lines_of
from .transfer import Transfer, read_transfer

HOOKS = ("before_snapshot", "after_snapshot", "before_push", "after_push", "on_failure")
MAX_NAME_CHARS = 64
_JOB_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")  # it goes into crontabs, units and file names as it is
_PLAIN_PLACE = re.compile(r"[A-Za-z0-9.]+([/:@][A-Za-z0-9.]+)*")
"""A place that a name can be made of: tank/a-b and tank/a/b would get the same."""
_NOTHING = timedelta(0)
_ATTENDED = MappingProxyType(
    dict.fromkeys(
        ("dry-run", "yes", "plan-out", "plan-in", "list-all", "json", "quiet", "verbose", "no-jitter", "config"),
        "it is an option for a person at a terminal: no job has it",
    )
)


@dataclass(frozen=True, slots=True)
class Hooks:
    """Commands to be run at certain points, by the point's name, and how long each may take."""

    commands: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    timeout: timedelta = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Timing:
    """When a job runs, how long it may hold back, wait for another run, and try again."""

    schedule: Schedule | None = None
    jitter: timedelta = _NOTHING
    wait: timedelta = _NOTHING
    retry_for: timedelta = _NOTHING


@dataclass(frozen=True, slots=True)
class Retention:
    """What snapshots are taken and kept at the source, and kept at each target; None for those that are left alone."""

    keep: Keep | None = None
    keep_target: Keep | None = None
    skip_unwritten: bool = False
    local_time: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """One unattended job."""

    name: str
    source: Location
    targets: tuple[Location, ...]
    retention: Retention = Retention()
    transfer: Transfer = field(default_factory=Transfer)
    connection: Way = field(default_factory=Way)
    timing: Timing = Timing()
    hooks: Hooks = Hooks()
    log_file: Path | None = None
    syslog: bool = False


@dataclass(frozen=True, slots=True)
class Config:
    """A configuration file, and the jobs in it by name."""

    path: Path
    jobs: Mapping[str, Job]

    def chosen(self, names: Sequence[str] = ()) -> list[Job]:
        """The jobs of these names, or all; `UsageError` when there is none."""
        if not self.jobs:
            raise UsageError(f"There is no job in {self.path}: 'zfsync config example' shows one.")
        return [self.job(name) for name in names or self.jobs]

    def job(self, name: str) -> Job:
        """The job of this name; `UsageError` when there is none."""
        if name in self.jobs:
            return self.jobs[name]
        hint = nearest(name, self.jobs) if self.jobs else "it has none"
        raise UsageError(f"There is no job {name!r} in {self.path}: {hint}.")


# ---- the file --------------------------------------------------------------------------------------------------------


def config_paths(home: Path | None = None) -> tuple[Path, ...]:
    """Where the configuration may be; the first that is there is the one."""
    return own_config(home) / "zfsync.toml", Path("/etc/zfsync/zfsync.toml")


def found_config() -> Path | None:
    """The first of `config_paths` that is there. One that this user may not even look at is none of theirs."""
    # Path.exists fails where a directory may not be entered.
    return next((path for path in config_paths() if os.path.exists(path)), None)  # noqa: PTH110


def load(path: Path | None = None) -> Config:
    """Read and check ``path``, or the first of `config_paths` that is there. `ConfigError` for all that is wrong."""
    if path is None:
        path = found_config()
        if path is None:
            places = " or ".join(map(str, config_paths()))
            raise UsageError(f"There is no configuration: make {places}; 'zfsync config example' shows one.")
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            data = file.read()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from error
    # What it says is run by whoever reads it: hooks are commands.
    if stat.S_IMODE(status.st_mode) & 0o022 or status.st_uid not in (0, os.geteuid()):
        raise UsageError(f"{path} can be changed by other users: make it your own, and 'chmod go-w {path}'.")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError([f"{path}:{line}: it is not UTF-8."]) from error
    return parse(text, path)


def parse(text: str, path: Path) -> Config:
    """The configuration that ``text`` is; ``path`` is only told. `ConfigError` for all that is wrong with it."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line, reason = error_line(error)
        where = line or text.count("\n") + 1
        why = bare_value(text, where) or f"{reason[:1].lower()}{reason[1:]}"
        if why == "invalid value":
            why += ", as a text without quotes is"
        raise ConfigError([f"{path}:{where}: it is not TOML: {why}."]) from error
    problems = Problems()
    root = Table(document, (), problems)
    section = root.inner("job")
    jobs = {name: job for name in section if (job := _job(name, section.inner(name), section)) is not None}
    root.end(
        {
            name: f"the table of a job begins with [job.{name}]"
            for name, inner in document.items()
            if isinstance(inner, dict) and ("source" in inner or "target" in inner)
        }
    )
    _check_shared(jobs.values(), problems)
    if problems.found:
        lines = lines_of(text)
        told = sorted((line_of(lines, where), ".".join(where), what) for where, what in problems.found)
        raise ConfigError([f"{path}:{line}: {where}: {what}." for line, where, what in told])
    return Config(path, MappingProxyType(jobs))


def job_of(values: Mapping[str, object]) -> Job:
    """The job that these keys and values, as a file would have them, make without a file.

    Its name comes of its source and targets, so that it finds its lock and its history again. `ConfigError` for all
    that is wrong, each with the option that it would be on a command line.
    """
    targets = values.get("target", "")
    places = list(map(str, [values.get("source", ""), *(targets if isinstance(targets, list) else [targets])]))
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", "_".join(places)).lstrip("_.-") or "job"
    plain = all(map(_PLAIN_PLACE.fullmatch, places))
    if not plain or len(name) > MAX_NAME_CHARS:
        whole = (name if plain else "\n".join(places)).encode("utf-8", "backslashreplace")
        name = f"{name[: MAX_NAME_CHARS - 9]}-{zlib.crc32(whole):08x}"
    problems = Problems()
    job = _job(name, Table(dict(values), (), problems), Table({}, (), problems))
    problems.check_options()
    assert job is not None  # or there had been problems
    return job


# ---- jobs beside each other ------------------------------------------------------------------------------------------


def _check_shared(jobs: Iterable[Job], problems: Problems) -> None:
    """Of a dataset that two jobs take snapshots of, each would prune those of the other: names do not tell whose."""
    for pair in combinations([job for job in jobs if job.retention.keep is not None], 2):
        outer, inner = sorted(pair, key=lambda job: len(job.source.dataset))
        if outer.source.host == inner.source.host and _share(outer, inner):
            below = (child_of(outer.source.dataset, inner.source.dataset) or "")[1:]
            share = "leave keep out of one, or exclude there what the other takes"
            what = f"add {below!r} to exclude there" if below else share
            why = f"job {outer.name} has {inner.source.shown} too, and each would prune the snapshots of the other"
            problems.found.append((("job", inner.name, "source"), f"{why}: {what}"))


def _share(outer: Job, inner: Job) -> bool:
    """Whether something below ``inner``'s source takes part in both, as far as that can be told by their patterns."""
    root = child_of(outer.source.dataset, inner.source.dataset)
    if root is None or (root and not outer.transfer.recursive):
        return False
    theirs, ours = outer.transfer.policy.selection, inner.transfer.policy.selection
    candidates = {""}
    if outer.transfer.recursive and inner.transfer.recursive:
        # What one of them includes; a glob stands for what it matches, which as a name it matches itself.
        named = [f"/{pattern}" for pattern in (*theirs.include, *ours.include) if not pattern.startswith("re:")]
        candidates |= {*named, *(child for name in named if (child := child_of(root, name)) is not None)}
    return any(theirs.takes(root + child) and ours.takes(child) for child in candidates)


# ---- one job ---------------------------------------------------------------------------------------------------------


def name_problem(name: str) -> str:
    """Why this cannot be the name of a job; empty when it can."""
    fits = _JOB_NAME.fullmatch(name) and len(name) <= MAX_NAME_CHARS
    return "" if fits else f"a job's name is of letters, digits and _ . -, at most {MAX_NAME_CHARS}"


def _job(name: str, table: Table, section: Table) -> Job | None:
    problem = name_problem(name)
    if problem:
        section.problem(name, problem)
    source = table.required("source", as_place)
    targets = table.required("target", as_places)
    at_least = table.take("keep-at-least", as_count(0, 10**6), 0)
    retention = Retention(
        table.take("keep", as_keep(at_least, takes=True), None),
        table.take("keep-target", as_keep(at_least, takes=False), None),
        table.take("skip-unwritten", as_flag, False),
        table.take("local-time", as_flag, False),
    )
    transfer = read_transfer(table)
    connection = Way(
        table.take("port", as_count(1, 65535), None),
        table.take("identity", as_path, None),
        table.take("ssh-config", as_path, None),
        table.take("remote-python", as_text, None),
        table.take("sudo", as_flag, False),
        name,
    )
    timing = Timing(
        table.take("schedule", as_schedule, None),
        table.take("jitter", as_span, _NOTHING),
        table.take("wait", as_span, _NOTHING),
        table.take("retry-for", as_span, _NOTHING),
    )
    hooks = _hooks(table)
    log_file, syslog = table.take("log-file", as_path, None), table.take("syslog", as_flag, False)
    table.end(_ATTENDED)
    for target in targets or ():
        _check_target(table, source, target, transfer.buffer)
    if retention.keep is None:
        for key in ("skip-unwritten", "local-time"):
            if key in table:
                table.problem(key, "it is about snapshots, and without keep the job takes none")
    if retention.keep is not None and retention.keep_target is not None:
        _check_classes(table, retention.keep, retention.keep_target)
    if retention.keep_target is not None and transfer.policy.delete_snapshots:
        table.problem("delete-snapshots", "it destroys what keep-target keeps longer than the source does: take one")
    if source is None or targets is None:
        return None
    return Job(name, source, targets, retention, transfer, connection, timing, hooks, log_file, syslog)


def _hooks(table: Table) -> Hooks:
    inner = table.inner("hooks")
    commands = {key: command for key in HOOKS if (command := inner.take(key, as_command, ()))}
    timeout = inner.take("timeout", as_limit, Hooks().timeout)
    inner.end()
    return Hooks(MappingProxyType(commands), timeout)


def _check_classes(table: Table, keep: Keep, keep_target: Keep) -> None:
    """What is of no class in ``keep`` is never taken; and what is, but not in ``keep_target``, goes there at once."""
    for kind in keep_target.classes:
        if kind not in keep.classes:
            why = f"it counts {kind.word} snapshots, and without {kind.word} in keep the job takes none"
            table.problem("keep-target", f"{why}: add {kind.word}=1 there, or leave it out here")


def _check_target(table: Table, source: Location | None, target: Location, buffer: str | None) -> None:
    if source is not None and source.host == target.host and (problem := overlap(source.dataset, target.dataset)):
        table.problem("target", problem)
    unfit = check_buffer(target.dataset, buffer) if buffer else None
    if unfit:
        table.problem("buffer", f"it cannot be that of {target.dataset}: {unfit}")
