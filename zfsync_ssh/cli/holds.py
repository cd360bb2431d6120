"""The command that shows, and lets go of, the holds of runs at a source."""

from __future__ import annotations

import argparse

from ..location import parse_location
from .wiring import EXIT_CODES, Commands, Help, add_connection, run_job, way_of

_EXAMPLES = """\
examples:
  zfsync holds tank/data
  zfsync holds --release-stale web:tank/data
"""


def add(commands: Commands) -> None:
    """Add it to the program's commands."""
    parser = commands.add_parser(
        "holds",
        help="show which snapshots are held by runs, and let go of stale holds",
        description="A run holds the snapshots that it sends at SOURCE, and gives them back at its end. What a run "
        "left that was cut off is let go of by the next one to the same target, or by this command.",
        epilog=f"{_EXAMPLES}\n{EXIT_CODES}",
        formatter_class=Help,
    )
    parser.add_argument("source", metavar="SOURCE", help="the tree whose holds are shown, e.g. tank/data")
    parser.add_argument("--release-stale", action="store_true", help="let go of those whose run is gone")
    add_connection(parser)
    parser.set_defaults(run=_holds)


def _holds(arguments: argparse.Namespace) -> int:
    from ..jobs import show_holds
    from ..reach import endpoint_at

    there = endpoint_at(way_of(arguments), parse_location(arguments.source), "")
    return run_job(arguments, lambda observe: show_holds(there, arguments.release_stale, observe))
