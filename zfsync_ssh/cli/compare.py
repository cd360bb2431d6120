"""The command that compares the snapshots of two trees."""

from __future__ import annotations

import argparse

from ..location import parse_location
from .wiring import EXIT_CODES, Commands, Help, add_connection, run_job, way_of

_COMPARE_EXAMPLES = """\
examples:
  zfsync compare tank/data backup:pool/data
  zfsync compare --json web:tank/data backup:pool/web
"""


def add(commands: Commands) -> None:
    """Add it to the program's commands."""
    compare = commands.add_parser(
        "compare",
        help="tell which snapshots two trees have in common, and which only one has",
        description="Compares the snapshots of two trees of datasets by their GUIDs, without reading their contents. "
        "Exit code 0 when both have the same, 3 when they differ.",
        epilog=f"{_COMPARE_EXAMPLES}\n{EXIT_CODES}",
        formatter_class=Help,
    )
    compare.add_argument("source", metavar="FIRST", help="a dataset, e.g. tank/data; [USER@]HOST:DATASET too")
    compare.add_argument("target", metavar="SECOND", help="likewise")
    compare.add_argument("--no-recursive", action="store_true", help="these two alone, without what is below them")
    add_connection(compare)
    compare.set_defaults(run=_compare)


def _compare(arguments: argparse.Namespace) -> int:
    from ..jobs import compare
    from ..reach import source_at

    way = way_of(arguments)
    first = source_at(way, parse_location(arguments.source))
    second = source_at(way, parse_location(arguments.target))
    return run_job(arguments, lambda observe: compare(first, second, not arguments.no_recursive, observe))
