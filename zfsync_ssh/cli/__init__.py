"""The command line: flags -> values, wiring, exit code. A command is a module of its own, which adds itself."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import traceback
from collections.abc import Sequence

from .. import __version__
from ..errors import EXIT_INTERRUPTED, ZfsyncError
from . import cleanbuffer, compare, config, cron, doctor, holds, key, replicate, serve, status, verify
from .options import with_ages
from .wiring import EXIT_CODES, Help

_COMMANDS = (replicate, compare, verify, cleanbuffer, holds, config, key, doctor, cron, status, serve)
"""In the order of ``zfsync --help``."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="zfsync",
        description="Keeps a tree of ZFS datasets on another host up to date over SSH. Nothing is installed there: "
        "it needs zfs, sshd and any python3 from 3.8 on.",
        epilog=f"{replicate.PUSH_EXAMPLES}\n{EXIT_CODES}\n'zfsync COMMAND --help' tells all about a command.",
        formatter_class=Help,
    )
    parser.add_argument("--version", action="version", version=f"zfsync {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in _COMMANDS:
        command.add(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """The program; its exit code."""
    arguments = None
    try:
        arguments = _parser().parse_args(with_ages(sys.argv[1:] if argv is None else argv))
        code: int = arguments.run(arguments)
        return code
    except ZfsyncError as error:
        if arguments is not None and arguments.verbose:
            traceback.print_exc()
        for problem in error.problems:
            _complain(problem)
        return error.exit_code
    except (KeyboardInterrupt, asyncio.CancelledError):
        _complain("interrupted: the next run goes on where this one stopped.")
        return EXIT_INTERRUPTED


def _complain(message: str) -> None:
    from ..console.text import printable

    with contextlib.suppress(OSError):
        sys.stderr.write(f"zfsync: {printable(message)}\n")
