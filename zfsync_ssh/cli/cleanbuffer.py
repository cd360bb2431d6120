"""The command that empties a buffer by hand."""

from __future__ import annotations

import argparse

from ..location import parse_location
from .wiring import EXIT_CODES, Commands, Help, add_target, run_job, way_of

_CLEAN_EXAMPLES = """\
example:
  zfsync cleanbuffer backup:pool/data
"""


def add(commands: Commands) -> None:
    """Add it to the program's commands."""
    clean = commands.add_parser(
        "cleanbuffer",
        help="rename into place what waits in a target's buffer",
        description="Renames the datasets that wait in the buffer of TARGET into place, parents first. Every push does "
        "so at its end; this does it by hand after one that was cut off.",
        epilog=f"{_CLEAN_EXAMPLES}\n{EXIT_CODES}",
        formatter_class=Help,
    )
    add_target(clean, "TARGET", "the target, e.g. backup:pool/data")
    clean.set_defaults(run=_cleanbuffer)


def _cleanbuffer(arguments: argparse.Namespace) -> int:
    from ..jobs import clean_buffer
    from ..reach import buffer_of, endpoint_at, owner

    target = parse_location(arguments.target)
    there = endpoint_at(way_of(arguments), target, buffer_of(target.dataset, arguments.buffer))
    return run_job(arguments, lambda observe: clean_buffer(there, owner(), observe))
