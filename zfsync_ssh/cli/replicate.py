"""The commands that bring one tree up to date with another: push and pull."""

from __future__ import annotations

import argparse

from ..compression import CHOICES, NONE
from ..dataset import child_of
from ..errors import UsageError
from .location import Location, parse_location
from .wiring import EXIT_CODES, Commands, add_target, buffer_of, endpoint_at, owner, run_job, source_at

PUSH_EXAMPLES = """\
examples:
  zfsync push tank/data backup:pool/data
  zfsync push --dry-run tank/data root@backup.example.org:pool/data
  zfsync push --sudo --identity ~/.ssh/zfsync --channels 8 tank/data zfsync@backup:pool/data
  zfsync push tank/data usbdisk/data          # to another pool of this machine
  zfsync push web:tank/data backup:pool/web   # between two others, through this one
"""

_PULL_EXAMPLES = """\
examples:
  zfsync pull web:tank/data pool/web
  zfsync pull --dry-run root@web.example.org:tank/data pool/web
"""

_WHAT = (
    "Sends SOURCE and every dataset below it: full where the target has none, else all snapshots after the newest "
    "one in common, known by its GUID. Nothing at the target is ever destroyed or rolled back."
)


def add(commands: Commands) -> None:
    """Add both to the program's commands."""
    push = commands.add_parser(
        "push",
        help="bring a tree of datasets on another host up to date",
        description=f"{_WHAT} Either end may be on this machine or another one; between two others the streams go "
        "through this machine.",
        epilog=f"{PUSH_EXAMPLES}\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    push.add_argument("source", metavar="SOURCE", help="the dataset to send, e.g. tank/data; [USER@]HOST:SOURCE too")
    add_target(push, "TARGET", "where to, e.g. backup:pool/data; a dataset on this machine too")
    _add_choices(push)
    push.set_defaults(run=_push)

    pull = commands.add_parser(
        "pull",
        help="bring a tree of datasets on this machine up to date with another host's",
        description=_WHAT,
        epilog=f"{_PULL_EXAMPLES}\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    pull.add_argument("source", metavar="[USER@]HOST:SOURCE", help="host and dataset to send, e.g. web:tank/data")
    add_target(pull, "TARGET", "dataset on this machine to bring up to date, e.g. pool/web")
    _add_choices(pull)
    pull.set_defaults(run=_pull)


def _add_choices(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--channels", type=int, default=4, metavar="N", help="datasets in flight at once over the one connection (4)"
    )
    parser.add_argument(
        "--rate-limit",
        metavar="RATE",
        help="bytes per second that all streams together may take at most, e.g. 50M; K, M and G are 2^10, 2^20, 2^30",
    )
    parser.add_argument(
        "--compress",
        choices=CHOICES,
        default=NONE,
        help="compress the streams of datasets that ZFS itself does not compress, where both ends have the program; "
        "auto: zstd, or else lz4, or else none (none)",
    )
    choose = parser.add_argument_group(
        "choosing (globs, in which * stands for anything, or regular expressions after re:; repeatable)"
    )
    choose.add_argument(
        "--include", action="append", default=[], metavar="PATTERN", help="datasets, relative to SOURCE"
    )
    choose.add_argument(
        "--exclude", action="append", default=[], metavar="PATTERN", help="datasets to leave out, with all below them"
    )
    choose.add_argument("--snapshots", action="append", default=[], metavar="PATTERN", help="snapshots by their names")
    choose.add_argument("--exclude-snapshots", action="append", default=[], metavar="PATTERN", help="... to leave out")
    choose.add_argument(
        "--no-intermediates", action="store_true", help="of each dataset only the newest snapshot, none in between"
    )
    parser.add_argument("--no-recursive", action="store_true", help="SOURCE alone, without the datasets below it")
    parser.add_argument("-n", "--dry-run", action="store_true", help="show what would be sent, and why; change nothing")


def _push(arguments: argparse.Namespace) -> int:
    return _replicate(arguments, parse_location(arguments.source), parse_location(arguments.target))


def _pull(arguments: argparse.Namespace) -> int:
    source, target = parse_location(arguments.source), parse_location(arguments.target)
    if not source.host:
        raise UsageError(f"{arguments.source!r} names no host to pull from: give [USER@]HOST:SOURCE.")
    if target.host:
        raise UsageError(f"{arguments.target!r} names a host: pull is to this machine, push goes between any two.")
    return _replicate(arguments, source, target)


def _replicate(arguments: argparse.Namespace, source: Location, target: Location) -> int:
    from ..orchestrator import Options, Replication
    from ..selection import Selection
    from ..throttle import parse_rate

    if arguments.channels < 1:
        raise UsageError(f"--channels {arguments.channels} is not possible: give 1 or more.")
    selection = Selection(
        tuple(arguments.include),
        tuple(arguments.exclude),
        tuple(arguments.snapshots),
        tuple(arguments.exclude_snapshots),
        not arguments.no_intermediates,
    )
    options = Options(
        channels=arguments.channels,
        recursive=not arguments.no_recursive,
        dry_run=arguments.dry_run,
        owner=owner(),
        selection=selection,
        compress=arguments.compress,
        rate_limit=parse_rate(arguments.rate_limit) if arguments.rate_limit is not None else 0,
    )
    there = endpoint_at(arguments, target, buffer_of(arguments, target))
    if not (source.host or target.host) and child_of(source.dataset, target.dataset) is not None:
        raise UsageError(f"{target.dataset} is part of the source {source.dataset} itself: choose another target.")
    here = source_at(arguments, source, limited=options.rate_limit > 0)
    return run_job(arguments, lambda observe: Replication(here, there, options, observe).run())
