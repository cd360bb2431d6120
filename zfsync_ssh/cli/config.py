"""The commands about the configuration of jobs: check, example."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..errors import EXIT_OK
from .wiring import Commands, Help

_EXAMPLES = """\
examples:
  zfsync config example > ~/.config/zfsync/zfsync.toml
  zfsync config check
"""


def add(commands: Commands) -> None:
    """Add them to the program's commands."""
    parser = commands.add_parser(
        "config",
        help="check the configuration of unattended jobs, or show an example of it",
        description="Jobs are configured in ~/.config/zfsync/zfsync.toml or, if that is not there, "
        "/etc/zfsync/zfsync.toml.",
        epilog=_EXAMPLES,
        formatter_class=Help,
    )
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    check = verbs.add_parser("check", help="tell all that is wrong with it, with lines; exit code 2 when something is")
    add_config(check)
    check.set_defaults(run=_check, verbose=False)
    example = verbs.add_parser("example", help="show a commented example of everything that it can say")
    example.set_defaults(run=_example, verbose=False)


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add the option that names another file."""
    parser.add_argument("--config", type=Path, metavar="FILE", help="instead of the user's or the machine's file")


def _check(arguments: argparse.Namespace) -> int:
    from ..config import load

    config = load(arguments.config)
    count = len(config.chosen())
    sys.stdout.write(f"{config.path}: {count} job{'s' * (count != 1)}, all well: {', '.join(config.jobs)}\n")
    return EXIT_OK


def _example(_: argparse.Namespace) -> int:
    from ..config_example import example

    sys.stdout.write(example())
    return EXIT_OK
