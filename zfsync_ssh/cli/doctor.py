"""The command that looks at the whole way of a job: doctor."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import EXIT_OK, UsageError
from ..location import Location, parse_location
from .config import add_config
from .wiring import Commands, Help, add_ssh, way_of, way_over

if TYPE_CHECKING:
    from ..checks import Check
    from ..doctor import Patient

_EXAMPLES = """\
examples:
  zfsync doctor --job web                     # all that the job needs, as cron would run it
  zfsync doctor backup:pool/web --job web     # its source, and this target of it
  zfsync doctor backup:pool/web               # without a job

exit codes:
  0    nothing is in the way; warnings are no more than that
  1    a run would fail
  2    the command line or the configuration is wrong
"""
EXIT_PROBLEM = 1
CRON_PATH = "/usr/bin:/bin"
"""What cron gives; zfsync adds the directories of zfs itself."""
NOT_WITH_CRON = ("SSH_AUTH_SOCK", "SSH_AGENT_PID")


def add(commands: Commands) -> None:
    """Add it to the program's commands."""
    doctor = commands.add_parser(
        "doctor",
        help="check all that a job needs, at both ends and between them",
        description="Goes the whole way as cron would, without ssh-agent and with a short PATH: key, host key, login, "
        "python, zfs, permissions, room, clocks and sessions. Changes nothing at either end.",
        epilog=_EXAMPLES,
        formatter_class=Help,
    )
    doctor.add_argument(
        "place", metavar="[USER@]HOST:DATASET", nargs="?", help="the target, or what a job pulls from; else all of it"
    )
    doctor.add_argument("--job", metavar="JOB", help="a job of the configuration")
    add_config(doctor)
    add_ssh(doctor)
    doctor.add_argument("--json", action="store_true", help="a JSON document")
    doctor.add_argument("-v", "--verbose", action="store_true", help="add the traceback to an error")
    doctor.set_defaults(run=_doctor)


def _doctor(arguments: argparse.Namespace) -> int:
    from ..checks import Level, worst
    from ..doctor import THIS_MACHINE, examine, schedule_check

    agent = bool(os.environ.get("SSH_AUTH_SOCK"))
    for name in NOT_WITH_CRON:
        os.environ.pop(name, None)
    os.environ["PATH"] = CRON_PATH
    patient = replace(_patient(arguments), agent=agent)
    found: list[tuple[str, Check]] = []

    def tell(where: str, check: Check) -> None:
        if not arguments.json:
            _show(where, check, heading=not found or found[-1][0] != where)
        found.append((where, check))

    if patient.named:
        schedule = schedule_check(patient.job, root=os.geteuid() == 0, home=Path.home())
        if schedule is not None:
            tell(f"{THIS_MACHINE}: job {patient.job.name}", schedule)
    asyncio.run(examine(patient, tell))
    verdict = worst(check for _, check in found)
    if arguments.json:
        rows = [
            {"where": where, "what": check.what, "level": check.level, "text": check.text, "remedy": check.remedy}
            for where, check in found
        ]
        sys.stdout.write(json.dumps({"verdict": verdict, "checks": rows}, indent=2) + "\n")
    else:
        count = sum(check.level is Level.PROBLEM for _, check in found)
        words = {Level.OK: "All is well.", Level.WARNING: "A run would do; see the warnings."}
        sys.stdout.write(words.get(verdict, f"A run would fail: {count} problem{'s' * (count > 1)}.") + "\n")
    return EXIT_PROBLEM if verdict is Level.PROBLEM else EXIT_OK


def _patient(arguments: argparse.Namespace) -> Patient:
    """What is to be looked at."""
    from ..config import Job, load
    from ..doctor import Patient
    from ..keysetup import ends_at

    place = parse_location(arguments.place) if arguments.place else None
    if arguments.job is None:
        if place is None:
            raise UsageError("There is nothing to look at: name a job with --job, or HOST:DATASET.")
        nowhere = Location(None, "", "")
        return Patient(Job("", nowhere, (place,), connection=way_of(arguments)), (place,), named=False)
    job = load(arguments.config).job(arguments.job)
    job = replace(job, connection=way_over(job.connection, arguments))
    if place is None:
        return Patient(job, (job.source, *job.targets), named=True)
    return Patient(job, tuple(dict.fromkeys((job.source, *ends_at(job, place)))), named=True)


def _show(where: str, check: Check, *, heading: bool) -> None:
    from ..console.text import printable

    if heading:
        sys.stdout.write(f"{where}\n")
    sys.stdout.write(f"  {check.level.value:8} {check.what:12} {printable(check.text)}\n")
    if check.remedy:
        sys.stdout.write(f"  {'':8} {'':12} -> {printable(check.remedy)}\n")
    sys.stdout.flush()
