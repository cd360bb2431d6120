"""The commands about jobs that run by themselves: cron install, list, remove, and run."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import EXIT_OK, UsageError
from .config import add_config
from .cron_run import add_run
from .wiring import Commands, Help

if TYPE_CHECKING:
    from ..config import Config
    from ..crontab import Entry

_EXAMPLES = """\
examples:
  zfsync cron install web                          # at the times that the job's schedule tells
  zfsync cron install web --schedule 'every 5m'
  zfsync cron install web --systemd                # a service and a timer, in place of a line in the crontab
  zfsync cron list
  zfsync cron remove web
  zfsync cron remove web --forget                  # for good: what it has sent where is forgotten, too
"""


def add(commands: Commands) -> None:
    """Add them to the program's commands."""
    parser = commands.add_parser(
        "cron",
        help="run jobs, and have them run by themselves",
        description="Runs jobs, puts them into your crontab, of which only the lines that it marks with '# zfsync:JOB' "
        "are ever touched, or makes systemd timers of them.",
        epilog=_EXAMPLES,
        formatter_class=Help,
    )
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    install = verbs.add_parser("install", help="have a job run by itself from now on")
    install.add_argument("job", metavar="JOB", help="its name in the configuration")
    install.add_argument("--schedule", metavar="WHEN", help="instead of the job's: '*/5 * * * *', 'every 5m', 'daily'")
    add_config(install)
    add_run(verbs)
    listing = verbs.add_parser("list", help="which jobs run by themselves, and when")
    remove = verbs.add_parser("remove", help="have a job run by itself no more")
    remove.add_argument("job", metavar="JOB", help="its name")
    remove.add_argument(
        "--forget",
        action="store_true",
        help="and forget its runs: other jobs spare nothing for its targets then",
    )
    for verb in (install, remove):
        verb.add_argument("--systemd", action="store_true", help="a service and a timer of systemd, not the crontab")
    for verb, run in ((install, _install), (listing, _list), (remove, _remove)):
        verb.set_defaults(run=run, verbose=False)


def _install(arguments: argparse.Namespace) -> int:
    from ..config import load
    from ..crontab import Crontab, entry_for
    from ..schedule import parse_schedule

    config = load(arguments.config)
    job = config.job(arguments.job)
    schedule = job.timing.schedule
    if arguments.schedule:
        try:
            schedule = parse_schedule(arguments.schedule)
        except ValueError as error:
            raise UsageError(f"--schedule: {error}.") from error
    if schedule is None:
        raise UsageError(f"Job {job.name} has no schedule: give it one in {config.path}, or --schedule.")
    other = "the crontab" if arguments.systemd else "a systemd timer"
    jobs = [entry.job for entry in _in_crontab()] if arguments.systemd else _timers()
    if job.name in jobs:
        remove = f"zfsync cron remove {job.name}{'' if arguments.systemd else ' --systemd'}"
        raise UsageError(f"{job.name} runs by {other} already: '{remove}' first.")
    if arguments.systemd:
        from ..systemd import units

        argv = [*_command(job.name, config, arguments.config), "--no-jitter"]  # the timer has it
        _enable(job.name, dict(units(job.name, argv, schedule, jitter=job.timing.jitter, user=os.geteuid() != 0)))
    else:
        Crontab().install(entry_for(job.name, schedule, _command(job.name, config, arguments.config)))
    sys.stdout.write(f"{job.name} runs at {schedule}.\n")
    return EXIT_OK


def _list(_: argparse.Namespace) -> int:
    timers = _timers()
    for job, when in timers.items():
        sys.stdout.write(f"{job}\t{when}\tby systemd\n")
    for entry in _in_crontab(needed=not timers):
        sys.stdout.write(f"{entry.job}\t{entry.when}\t{entry.command}\n")
    return EXIT_OK


def _in_crontab(needed: bool = False) -> tuple[Entry, ...]:
    """Our lines; none where there is no cron, unless it is ``needed``."""
    from ..crontab import Crontab

    return Crontab().entries() if needed or shutil.which("crontab") else ()


def _timers() -> dict[str, str]:
    """When each job runs that systemd runs."""
    from ..systemd import job_of, when

    return {job: when(path.read_text()) for path in sorted(_units().glob("*.timer")) if (job := job_of(path.name))}


def _remove(arguments: argparse.Namespace) -> int:
    from ..crontab import Crontab

    scheduled = _disable(arguments.job) if arguments.systemd else Crontab().remove(arguments.job)
    forgotten = arguments.forget and _forget(arguments.job)
    if not (scheduled or forgotten):
        where = "There is no timer" if arguments.systemd else "The crontab has no line"
        raise UsageError(f"{where} for a job {arguments.job}: 'zfsync cron list' shows those there are.")
    return EXIT_OK


def _forget(job: str) -> bool:
    from ..history import History
    from ..state import state_directory

    return History(state_directory()).forget(job)


def _command(job: str, config: Config, given: Path | None) -> list[str]:
    """What runs the job, from whatever directory and with whatever environment."""
    from ..state import bases

    program = Path(sys.argv[0])
    installed = program.name == "zfsync" and os.access(program, os.X_OK)
    start = [str(program.absolute())] if installed else [sys.executable, "-m", "zfsync_ssh"]
    if found := bases():
        start = ["/usr/bin/env", *(f"{name}={value}" for name, value in found.items()), *start]
    return [*start, "cron", "run", job, *(["--config", str(config.path.absolute())] if given else [])]


# ---- systemd ---------------------------------------------------------------------------------------------------------


def _enable(job: str, texts: dict[str, str]) -> None:
    from ..state import make_private
    from ..systemd import unit_names

    directory = _units()
    try:
        make_private(directory)
        before = {name: (directory / name).read_text() for name in texts if (directory / name).exists()}
        for name, text in texts.items():
            _write_unit(directory / name, text)
    except OSError as error:
        raise UsageError(f"The units cannot be written to {directory}: {error.strerror}.") from error
    try:
        _systemctl("daemon-reload")
        _systemctl("enable", "--now", unit_names(job)[1])
    except UsageError as error:  # as long as the units are there, they count as installed
        with contextlib.suppress(UsageError):
            if not before:
                _take_away(job)
        for name, text in before.items():
            _write_unit(directory / name, text)
        what = "stay as they were" if before else "were removed again"
        raise UsageError(f"{error} So its units {what}.") from error


def _write_unit(path: Path, text: str) -> None:
    """Write it for everyone to read, as units are, and for its owner alone to write, whatever the umask."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w") as file:
        os.fchmod(file.fileno(), 0o644)
        file.write(text)


def _disable(job: str) -> bool:
    from ..systemd import unit_names

    if not (_units() / unit_names(job)[1]).exists():
        return False
    _take_away(job)
    return True


def _take_away(job: str) -> None:
    """Disable the timer and remove the units, which go whatever systemd says of it."""
    from ..systemd import unit_names

    names = unit_names(job)
    try:
        _systemctl("disable", "--now", names[1])
    finally:
        for name in names:
            (_units() / name).unlink(missing_ok=True)
    _systemctl("daemon-reload")


def _units() -> Path:
    from ..systemd import unit_directory

    return unit_directory(root=os.geteuid() == 0, home=Path.home())


def _systemctl(*words: str) -> None:
    from ..systemctl import systemctl

    systemctl(*words, user=os.geteuid() != 0)
