"""The command that tells how jobs do."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UsageError
from .config import add_config
from .wiring import Commands, Help

if TYPE_CHECKING:
    from ..config import Job
    from ..status import TargetStatus

_EXAMPLES = """\
examples:
  zfsync status
  zfsync status web --json
  zfsync status --warn 2h --crit 1d                    # one line and an exit code, for monitoring
  zfsync status --prometheus /var/lib/node_exporter/zfsync.prom

exit codes:
  0    all is well
  1    what some target has is older than --warn
  2    it is older than --crit; without either, the last run failed; or the command line is wrong
  3    nothing is known yet
"""


def add(commands: Commands) -> None:
    """Add it to the program's commands."""
    status = commands.add_parser(
        "status",
        help="tell how unattended jobs do: how old what each target has is, and what failed",
        description="Tells for each dataset of each job what both sides have, how old it is and how the last run went. "
        "Both sides are asked; what cannot be reached is told from the history of runs.",
        epilog=_EXAMPLES,
        formatter_class=Help,
    )
    status.add_argument("job", metavar="JOB", nargs="*", help="only these jobs of the configuration")
    add_config(status)
    status.add_argument("--offline", action="store_true", help="ask neither side: tell what the history of runs has")
    status.add_argument("--warn", metavar="AGE", help="one line for monitoring: warn of what is older, e.g. 2h")
    status.add_argument("--crit", metavar="AGE", help="likewise: what is older is critical, e.g. 1d")
    status.add_argument("--json", action="store_true", help="a JSON document")
    status.add_argument(
        "--prometheus", type=Path, metavar="FILE", help="write metrics to FILE, for node_exporter's textfile collector"
    )
    status.add_argument("-v", "--verbose", action="store_true", help="add the traceback to an error")
    status.set_defaults(run=_status)


def _status(arguments: argparse.Namespace) -> int:
    from ..config import load
    from ..status import verdict

    config = load(arguments.config)
    jobs = config.chosen(arguments.job)
    warn, crit = _span(arguments.warn, "--warn"), _span(arguments.crit, "--crit")
    if warn and crit and warn > crit:
        raise UsageError(f"--warn {arguments.warn} is more than --crit {arguments.crit}: it would never warn.")
    targets, problems = asyncio.run(_survey(jobs, look=not arguments.offline))
    now = datetime.now(UTC)
    worst, line = verdict(targets, now, warn=warn, crit=crit)
    if arguments.prometheus:
        from ..metrics import render, write

        write(arguments.prometheus, render(targets))
    if arguments.json:
        from ..console.standing import records

        document = {"verdict": worst.name, "targets": records(targets, now), "problems": problems}
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
    elif warn or crit:
        from ..console.text import printable

        sys.stdout.write(printable(line) + "\n")
    elif not arguments.prometheus:
        _show(targets, now)
    if not arguments.json:  # which has them
        _tell(problems)
    return int(worst)


async def _survey(jobs: list[Job], *, look: bool) -> tuple[list[TargetStatus], list[str]]:
    """How these jobs do, and a sentence for each side that could not be asked."""
    from ..history import History
    from ..state import state_directory
    from ..status import status_of
    from ..survey import survey

    history = History(state_directory(), mends=False)
    found = await asyncio.gather(*(survey(job, history, look=look) for job in jobs))
    targets = [target for seen, _ in found for target in status_of(seen)]
    return targets, [problem for _, told in found for problem in told]


def _show(targets: list[TargetStatus], now: datetime) -> None:
    from ..console import standing

    if sys.stdout.isatty():
        from rich.console import Console

        console = Console(highlight=False)
        for table in standing.tables(targets, now):
            console.print(table)
    else:
        sys.stdout.writelines(f"{line}\n" for line in standing.lines(targets, now))


def _tell(problems: list[str]) -> None:
    """On stderr, for monitoring reads the first line of stdout."""
    from ..console.text import printable

    sys.stderr.writelines(f"{printable(problem)}\n" for problem in problems)


def _span(text: str | None, option: str) -> timedelta | None:
    from ..config_values import as_limit

    try:
        return as_limit(text) if text is not None else None
    except ValueError as error:
        raise UsageError(f"{option}: {error}.") from error
