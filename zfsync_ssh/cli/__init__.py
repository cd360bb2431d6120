"""The command line: flags -> values, wiring, exit code. A command is a module of its own, which adds itself.

Only the module of the command that was given is imported: all of them would take longer than the rest of what is here.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import sys
from collections.abc import Iterable, Sequence

from .. import __version__
from ..errors import EXIT_INTERRUPTED, ZfsyncError
from .options import with_ages
from .wiring import EXIT_CODES, PUSH_EXAMPLES, Help

COMMANDS = {
    "push": "replicate",
    "pull": "replicate",
    "restore": "replicate",
    "compare": "compare",
    "verify": "verify",
    "cleanbuffer": "cleanbuffer",
    "prune": "prune",
    "holds": "holds",
    "config": "config",
    "key": "key",
    "doctor": "doctor",
    "cron": "cron",
    "status": "status",
    "serve": "serve",
}
"""The module of each command, in the order of ``zfsync --help``."""


def _parser(modules: Iterable[str]) -> argparse.ArgumentParser:
    """The parser that knows the commands of these ``modules``."""
    parser = argparse.ArgumentParser(
        prog="zfsync",
        description="Keeps a tree of ZFS datasets on another host up to date over SSH. Nothing is installed there: "
        "it needs zfs, sshd and any python3 from 3.8 on.",
        epilog=f"{PUSH_EXAMPLES}\n{EXIT_CODES}\n'zfsync COMMAND --help' tells all about a command.",
        formatter_class=Help,
    )
    parser.add_argument("--version", action="version", version=f"zfsync {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for module in modules:
        importlib.import_module(f".{module}", __package__).add(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """The program; its exit code. Who reads what it prints may go at any time, which is no defect."""
    code = EXIT_INTERRUPTED
    try:
        code = _run(argv)
        if sys.stdout is not None:  # as it is where a shell has closed it
            sys.stdout.flush()
    except BrokenPipeError:
        from ..console import discard_stdout

        discard_stdout()
    return code


def _run(argv: Sequence[str] | None) -> int:
    words = with_ages(sys.argv[1:] if argv is None else argv)
    known = COMMANDS.get(words[0]) if words else None
    arguments = None
    try:
        arguments = _parser([known] if known else dict.fromkeys(COMMANDS.values())).parse_args(words)
        code: int = arguments.run(arguments)
        return code
    except ZfsyncError as error:
        if arguments is not None and arguments.verbose:
            import traceback

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
