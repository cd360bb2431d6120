"""The command that prunes a copy where it is."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime

from ..errors import UsageError
from ..location import parse_location
from .wiring import EXIT_CODES, Commands, Help, add_connection, run_job, way_of

_EXAMPLES = """\
examples:
  zfsync prune --dry-run pool/backups --keep daily=90,monthly=36
  zfsync prune pool/backups --keep daily=90,monthly=36 --keep-at-least 5
"""


def add(commands: Commands) -> None:
    """Add it to the program's commands."""
    parser = commands.add_parser(
        "prune",
        help="destroy the snapshots of a copy that are not to be kept",
        description="Destroys those snapshots of DATASET, and of all below it, that jobs have taken (named as "
        "20210127-0636_M) and that --keep does not keep, whatever their source has. For a receiver that prunes by "
        "itself, because its clients may only add. The newest snapshot of each dataset stays, from which the next "
        "stream goes on; so do those that are held or have clones, and all that was set aside. A snapshot has the "
        "highest class that was due when it was taken, and counts as the highest class that has a count and is not "
        "above its own: with daily=90 alone Monday's weekly one is a daily one. Of classes below all that have a count "
        "none is kept: daily=90,monthly=36 destroys hourly and minutely ones.",
        epilog=f"{_EXAMPLES}\n{EXIT_CODES}",
        formatter_class=Help,
    )
    parser.add_argument("target", metavar="DATASET", help="the copy, or a dataset above several: [[USER@]HOST:]DATASET")
    parser.add_argument(
        "--keep", metavar="COUNTS", required=True, help="what is to stay: daily=90,weekly=52,monthly=36,within=48h"
    )
    parser.add_argument(
        "--keep-at-least", type=int, default=0, metavar="N", help="never fewer than the newest N of each dataset (0)"
    )
    parser.add_argument("--local-time", action="store_true", help="the snapshots are named in local time, not in UTC")
    parser.add_argument("--no-recursive", action="store_true", help="DATASET alone, without what is below it")
    parser.add_argument("-n", "--dry-run", action="store_true", help="show what would go; change nothing")
    add_connection(parser)
    parser.set_defaults(run=_prune)


def _prune(arguments: argparse.Namespace) -> int:
    from ..config_values import as_keep
    from ..jobs import prune
    from ..reach import buffer_of, endpoint_at, owner

    if arguments.keep_at_least < 0:
        raise UsageError(f"--keep-at-least {arguments.keep_at_least} is not possible: give 0 or more.")
    try:
        keep = as_keep(arguments.keep_at_least, takes=False)(arguments.keep)
    except ValueError as error:
        raise UsageError(f"--keep: {error}.") from error
    now = datetime.now(None if arguments.local_time else UTC).replace(tzinfo=None)
    target = parse_location(arguments.target)
    there = endpoint_at(way_of(arguments), target, buffer_of(target.dataset, None))
    return run_job(
        arguments,
        lambda observe: prune(
            there,
            keep,
            now,
            recursive=not arguments.no_recursive,
            dry_run=arguments.dry_run,
            owner=owner(),
            observe=observe,
        ),
    )
