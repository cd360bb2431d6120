"""The commands that bring one tree up to date with another: push, pull, and restore, the way back."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

from ..errors import UsageError
from ..location import Location, overlap, parse_location
from .options import (
    add_attended,
    add_choosing,
    add_target_choices,
    add_transfer,
    options_of,
    question,
    someone_to_ask,
    transfer_of,
)
from .wiring import EXIT_CODES, PUSH_EXAMPLES, Commands, Help, add_target, run_job, way_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from ..events import Observer
    from ..transfer import Transfer

_PULL_EXAMPLES = """\
examples:
  zfsync pull web:tank/data pool/web
  zfsync pull --dry-run root@web.example.org:tank/data pool/web
"""

_RESTORE_EXAMPLES = """\
examples:
  zfsync restore backup:pool/data tank/data             # what is missing here, up to the newest snapshot there
  zfsync restore backup:pool/data @monday tank/data-old # as it was on monday, beside what there is
  zfsync restore --on-divergence set-aside backup:pool/data @monday tank/data
"""

_WHAT = (
    "Sends SOURCE and every dataset below it: full where the target has none, else all snapshots after the newest "
    "one in common, known by its GUID. Nothing of yours at the target is destroyed or rolled back, unless an option "
    "says so."
)


def add(commands: Commands) -> None:
    """Add all three to the program's commands."""
    push = commands.add_parser(
        "push",
        help="bring a tree of datasets on another host up to date",
        description=f"{_WHAT} Either end may be on this machine or another one; between two others the streams go "
        "through this machine.",
        epilog=f"{PUSH_EXAMPLES}\n{EXIT_CODES}",
        formatter_class=Help,
    )
    push.add_argument("source", metavar="SOURCE", help="the dataset to send, e.g. tank/data; [USER@]HOST:SOURCE too")
    _add_rest(push, "where to, e.g. backup:pool/data; a dataset on this machine too")
    push.set_defaults(run=_push)

    pull = commands.add_parser(
        "pull",
        help="bring a tree of datasets on this machine up to date with another host's",
        description=_WHAT,
        epilog=f"{_PULL_EXAMPLES}\n{EXIT_CODES}",
        formatter_class=Help,
    )
    pull.add_argument("source", metavar="[USER@]HOST:SOURCE", help="host and dataset to send, e.g. web:tank/data")
    _add_rest(pull, "dataset on this machine to bring up to date, e.g. pool/web")
    pull.set_defaults(run=_pull)

    restore = commands.add_parser(
        "restore",
        help="bring a tree of datasets back from its copy",
        description="Sends the copy BACKUP and every dataset below it back to TARGET, to be worked with: it can be "
        "written to, and is mounted by 'zfs mount -a'. With @SNAPSHOT each dataset comes as it was then, and those "
        "that have no snapshot of that name stay away. What is at the target already is never overwritten, unless an "
        "option says so.",
        epilog=f"{_RESTORE_EXAMPLES}\n{EXIT_CODES}",
        formatter_class=Help,
    )
    restore.add_argument("source", metavar="BACKUP", help="the copy, e.g. backup:pool/data; one on this machine too")
    restore.add_argument(
        "snapshot", metavar="@SNAPSHOT", nargs="?", default="", help="go no further than this snapshot"
    )
    _add_rest(restore, "where to, e.g. tank/data", restores=True)
    restore.set_defaults(run=_restore)


def _add_rest(parser: argparse.ArgumentParser, target: str, *, restores: bool = False) -> None:
    add_target(parser, "TARGET", target)
    add_transfer(parser)
    add_attended(parser, restores=restores)
    add_choosing(parser)
    add_target_choices(parser, restores=restores)


def _push(arguments: argparse.Namespace) -> int:
    places = parse_location(arguments.source), parse_location(arguments.target)
    return _replicate(arguments, *places, transfer_of(arguments))


def _pull(arguments: argparse.Namespace) -> int:
    source, target = parse_location(arguments.source), parse_location(arguments.target)
    if not source.host:
        raise UsageError(f"{arguments.source!r} names no host to pull from: give [USER@]HOST:SOURCE.")
    if target.host:
        raise UsageError(f"{arguments.target!r} names a host: pull is to this machine, push goes between any two.")
    return _replicate(arguments, source, target, transfer_of(arguments))


def _restore(arguments: argparse.Namespace) -> int:
    snapshot = arguments.snapshot
    if snapshot and (not snapshot.startswith("@") or len(snapshot) < 2):
        raise UsageError(f"{snapshot!r} is no snapshot: give @NAME, between the copy and where it is to go.")
    if arguments.target.startswith("@"):
        raise UsageError(f"TARGET is missing after {arguments.target}: say where to, as in tank/data.")
    copy, mark, name = arguments.source.rpartition("@")
    if mark and ("/" in copy or ":" in copy or not ("/" in name or ":" in name)):  # else it is USER@HOST:DATASET
        raise UsageError(f"The snapshot is a word of its own: write {copy} @{name} {arguments.target}.")
    places = parse_location(arguments.source), parse_location(arguments.target)
    # A bookmark would tie the copy to what was restored from it, which goes its own way from now on. And what was
    # renamed where it is worked with is not to be renamed back because its copy has another name still.
    transfer = transfer_of(arguments)
    selection = replace(transfer.policy.selection, until=snapshot[1:])
    policy = replace(transfer.policy, selection=selection, usable=True, bookmark=False, follow_renames=False)
    return _replicate(arguments, *places, replace(transfer, policy=policy))


def _replicate(arguments: argparse.Namespace, source: Location, target: Location, transfer: Transfer) -> int:
    from ..orchestrator import Replication
    from ..reach import buffer_of, endpoint_at, remembered, source_at

    options, way = options_of(arguments, transfer), way_of(arguments)
    there = endpoint_at(way, target, buffer_of(target.dataset, transfer.buffer))
    if source.host == target.host and (problem := overlap(source.dataset, target.dataset)):
        raise UsageError(f"{problem} target.")
    here = source_at(way, source, limited=options.rate_limit > 0)
    if not arguments.list_all:
        options = replace(options, remembered=remembered(source, target, transfer.policy))
    return run_job(
        arguments,
        lambda observe: Replication(here, there, replace(options, confirm=_confirm(arguments, observe)), observe).run(),
    )


def _confirm(arguments: argparse.Namespace, observe: Observer) -> Callable[[Sequence[str]], Awaitable[bool]] | None:
    """Asks at the terminal; None where nobody is there, or it is not wanted."""
    from ..console import ask

    if not someone_to_ask(arguments):
        return None

    async def confirm(lines: Sequence[str]) -> bool:
        return await ask(question(lines), observe)

    return confirm
