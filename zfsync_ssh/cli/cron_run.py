"""The command that runs a job once: cron run."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UsageError
from .config import add_config
from .options import add_choosing, add_target_choices, add_transfer, values_of
from .wiring import EXIT_CODES, Help, add_buffer, add_connection, run_job

if TYPE_CHECKING:
    from ..config import Job
    from ..cron import Report
    from ..events import Event, Observer

_EXAMPLES = """\
examples:
  zfsync cron run web                                   # a job of the configuration
  zfsync cron run tank/web backup:pool/web --keep hourly=24,daily=30 --keep-target daily=90
"""
_NOT_OF_A_JOB = ("command", "verb", "run", "config", "no-jitter", "json", "quiet", "verbose")
"""What the parser has besides the options of a job."""


def add_run(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add it to the verbs of ``zfsync cron``."""
    run = verbs.add_parser(
        "run",
        help="run a job now",
        description="Runs a job once: takes a snapshot of all datasets that take part, if one is due, sends what is "
        "missing to each target, and prunes both sides. Prints nothing when all is well and there is no terminal. Jobs "
        "that SOURCE and TARGET make, without a configuration, are not known to status, cron install, doctor --job.",
        epilog=f"{_EXAMPLES}\n{EXIT_CODES}",
        formatter_class=Help,
    )
    run.add_argument("source", metavar="JOB | SOURCE", help="a job of the configuration, or the dataset to send")
    run.add_argument("target", metavar="TARGET", nargs="*", help="where to, without a configuration; several too")
    add_config(run)
    run.add_argument("--no-jitter", action="store_true", help="begin at once")
    run.add_argument("--wait", metavar="SPAN", help="wait so long for another run of the job; else it ends with 4")
    job = run.add_argument_group("the job, where SOURCE and TARGET are given")
    for option, metavar, text in (
        ("--keep", "COUNTS", "snapshots to take and keep: minutely=4,hourly=24,daily=30,weekly=8,within=48h"),
        ("--keep-target", "COUNTS", "snapshots to keep at each target; without it, all"),
        ("--jitter", "SPAN", "delay the start by a random time of up to SPAN"),
        ("--retry-for", "SPAN", "try again for so long when a host cannot be reached"),
    ):
        job.add_argument(option, metavar=metavar, help=text)
    job.add_argument("--keep-at-least", type=int, metavar="N", help="the newest N of each dataset stay, on either side")
    job.add_argument("--skip-unwritten", action="store_true", help="no snapshot when nothing was written since")
    job.add_argument("--local-time", action="store_true", help="snapshots are named in local time, not in UTC")
    job.add_argument("--log-file", type=Path, metavar="FILE", help="write there what is done")
    job.add_argument("--syslog", action="store_true", help="and to syslog")
    add_buffer(run)
    add_transfer(run)
    add_choosing(run)
    add_target_choices(run)
    add_connection(run)
    # Only what was given is told to the job: it has defaults of its own.
    run.set_defaults(run=_run, channels=None, compress=None, latest=None, on_divergence=None)


def _run(arguments: argparse.Namespace) -> int:
    from ..console import choose_unattended
    from ..console.text import printable

    job = _job(arguments)
    if arguments.no_jitter:
        job = replace(job, timing=replace(job.timing, jitter=timedelta(0)))
    reports: list[Report] = []
    shown = choose_unattended(json=arguments.json, quiet=arguments.quiet, verbose=arguments.verbose)
    code = run_job(arguments, lambda observe: _once(job, observe, reports), shown)
    for report in reports:
        if report.paragraph:
            with contextlib.suppress(OSError):
                sys.stderr.write(f"{printable(report.paragraph)}\n")
    return code


async def _once(job: Job, observe: Observer, reports: list[Report]) -> int:
    from ..cron import Surroundings
    from ..cron import run_job as run_steps
    from ..events import Changed, Notice
    from ..history import History
    from ..joblog import JobLog
    from ..reach import owner
    from ..state import state_directory
    from ..zfssteps import ZfsSteps

    def now() -> datetime:
        return datetime.now().astimezone()

    log = JobLog(
        job.name, file=job.log_file, to_syslog=job.syslog, now=now, tell=lambda text: observe(Notice(text, True))
    )

    def watch(event: Event) -> None:
        if isinstance(event, Notice) and not event.verbose:
            log(event.text)
        elif isinstance(event, Changed):
            log(f"{event.target} {event.words}" + (f"; lost: {event.loss}" if event.loss else ""))
        observe(event)

    state = state_directory()
    around = Surroundings(History(state), state, owner(), log, asyncio.sleep)
    reports.append(await run_steps(job, ZfsSteps(job, owner(), watch), around))
    return reports[0].exit_code


def _job(arguments: argparse.Namespace) -> Job:
    """The job of the configuration, or the one that the options make."""
    from ..config import job_of, load
    from ..config_values import as_span

    options = {
        name: str(value.absolute()) if isinstance(value, Path) else value
        for name, value in values_of(arguments).items()
        if name not in _NOT_OF_A_JOB
    }
    if arguments.target:
        return job_of(options)
    if "/" in arguments.source or ":" in arguments.source:  # no job has such a name
        raise UsageError(f"TARGET is missing after {arguments.source}: say where to, as in backup:pool/data.")
    job = load(arguments.config).job(arguments.source)
    more = [f"--{name}" for name in options if name not in ("source", "wait")]
    if more:
        raise UsageError(f"{', '.join(more)} cannot be given for a job of {arguments.config or 'the configuration'}: "
                         f"say it there, or name a TARGET.")  # fmt: skip
    if arguments.wait:
        try:
            job = replace(job, timing=replace(job.timing, wait=as_span(arguments.wait)))
        except ValueError as error:
            raise UsageError(f"--wait: {error}.") from error
    return job
