"""The command line: flags -> values, wiring, exit code."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime
import ipaddress
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from . import __version__, bootstrap
from .buffer import check_buffer, default_buffer
from .dataset import Host, check_name, child_of
from .errors import EXIT_INTERRUPTED, UsageError, ZfsyncError

if TYPE_CHECKING:
    from .endpoint import Endpoint
    from .events import Observer
    from .source import Source

_EXIT_CODES = """\
exit codes:
  0    all is well
  2    the command line is wrong
  3    some dataset failed; the others are up to date
  4    another run is at work on the same target
  5    the host cannot be reached, trusted or logged in to, or the connection was lost
  6    the agent could not be started, or broke the protocol
  7    ZFS refused
  130  interrupted
"""

_PUSH_EXAMPLES = """\
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

_COMPARE_EXAMPLES = """\
examples:
  zfsync compare tank/data backup:pool/data
  zfsync compare --json web:tank/data backup:pool/web
"""

_CLEAN_EXAMPLES = """\
example:
  zfsync cleanbuffer backup:pool/data
"""


class Location(NamedTuple):
    """``[[USER@]HOST:]DATASET``, taken apart. Without a host it is on this machine."""

    user: str | None
    host: str
    dataset: str


def parse_location(text: str) -> Location:
    """Take ``[[USER@]HOST:]DATASET`` apart; HOST may be an IPv6 address in brackets. `UsageError` for anything else.

    A colon before the first slash ends a host's name, as with scp.
    """
    before = text.partition("/")[0]
    if ":" not in before and "[" not in before:
        return Location(None, "", check_name(text))
    user, at, where = text.partition("@")
    if not at or ":" in user or "/" in user:
        user, at, where = "", "", text
    if where.startswith("["):
        host, found, dataset = where[1:].partition("]:")
    else:
        host, found, dataset = where.partition(":")
    if found and host and not dataset:
        raise UsageError(f"{text!r} names no dataset: give one after {host}:, for example {host}:pool/data.")
    if not found or not host or (at and not user):
        raise UsageError(f"{text!r} is no place: give [USER@]HOST:DATASET, for example backup:pool/data.")
    with contextlib.suppress(ValueError):
        ipaddress.IPv6Address(where.rpartition(":")[0])
        raise UsageError(f"{text!r} is no place: put the IPv6 address in brackets, [ADDRESS]:DATASET.")
    if host.startswith("-") or user.startswith("-"):
        raise UsageError(f"{text!r} is no place: no host or user begins with '-'.")
    return Location(user or None, host, check_name(dataset))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="zfsync",
        description="Keeps a tree of ZFS datasets on another host up to date over SSH. Nothing is installed there: "
        "it needs zfs, sshd and any python3 from 3.8 on.",
        epilog=f"{_PUSH_EXAMPLES}\n{_EXIT_CODES}\n'zfsync COMMAND --help' tells all about a command.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"zfsync {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    what = (
        "Sends SOURCE and every dataset below it: full where the target has none, else all snapshots after the newest "
        "one in common, known by its GUID. Nothing at the target is ever destroyed or rolled back."
    )

    push = commands.add_parser(
        "push",
        help="bring a tree of datasets on another host up to date",
        description=f"{what} Either end may be on this machine or another one; between two others the streams go "
        "through this machine.",
        epilog=f"{_PUSH_EXAMPLES}\n{_EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    push.add_argument("source", metavar="SOURCE", help="the dataset to send, e.g. tank/data; [USER@]HOST:SOURCE too")
    _add_target(push, "TARGET", "where to, e.g. backup:pool/data; a dataset on this machine too")
    _add_choices(push)
    push.set_defaults(run=_push)

    pull = commands.add_parser(
        "pull",
        help="bring a tree of datasets on this machine up to date with another host's",
        description=what,
        epilog=f"{_PULL_EXAMPLES}\n{_EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    pull.add_argument("source", metavar="[USER@]HOST:SOURCE", help="host and dataset to send, e.g. web:tank/data")
    _add_target(pull, "TARGET", "dataset on this machine to bring up to date, e.g. pool/web")
    _add_choices(pull)
    pull.set_defaults(run=_pull)

    compare = commands.add_parser(
        "compare",
        help="tell which snapshots two trees have in common, and which only one has",
        description="Compares the snapshots of two trees of datasets by their GUIDs, without reading their contents. "
        "Exit code 0 when both have the same, 3 when they differ.",
        epilog=f"{_COMPARE_EXAMPLES}\n{_EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    compare.add_argument("source", metavar="FIRST", help="a dataset, e.g. tank/data; [USER@]HOST:DATASET too")
    compare.add_argument("target", metavar="SECOND", help="likewise")
    compare.add_argument("--no-recursive", action="store_true", help="these two alone, without what is below them")
    _add_connection(compare)
    compare.set_defaults(run=_compare)

    clean = commands.add_parser(
        "cleanbuffer",
        help="rename into place what waits in a target's buffer",
        description="Renames the datasets that wait in the buffer of TARGET into place, parents first. Every push does "
        "so at its end; this does it by hand after one that was cut off.",
        epilog=f"{_CLEAN_EXAMPLES}\n{_EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_target(clean, "TARGET", "the target, e.g. backup:pool/data")
    clean.set_defaults(run=_cleanbuffer)
    return parser


def _add_choices(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--channels", type=int, default=4, metavar="N", help="datasets in flight at once over the one connection (4)"
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


def _add_target(parser: argparse.ArgumentParser, metavar: str, text: str) -> None:
    parser.add_argument("target", metavar=metavar, help=text)
    parser.add_argument(
        "--buffer", metavar="NAME", help="dataset in which children wait for their parents (TARGET.zfsyncbuffer)"
    )
    _add_connection(parser)


def _add_connection(parser: argparse.ArgumentParser) -> None:
    ssh = parser.add_argument_group("connection")
    ssh.add_argument("-p", "--port", type=int, metavar="PORT", help="port of sshd there (22, or as in ssh_config)")
    ssh.add_argument("-i", "--identity", type=Path, metavar="FILE", help="private key to log in with")
    ssh.add_argument(
        "-F", "--ssh-config", type=Path, metavar="FILE", help="instead of ~/.ssh/config and /etc/ssh/ssh_config"
    )
    there = parser.add_argument_group("at the other host")
    there.add_argument("--remote-python", metavar="PYTHON", help="python3 there, when it is not found by itself")
    there.add_argument("--sudo", action="store_true", help="run 'sudo -n zfs' there, not 'zfs'")
    show = parser.add_argument_group("output")
    show.add_argument("--json", action="store_true", help="one JSON object per line and event")
    show.add_argument("-q", "--quiet", action="store_true", help="say nothing but what failed")
    show.add_argument("-v", "--verbose", action="store_true", help="say more, and add the traceback to an error")


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
    from .orchestrator import Options, Replication
    from .selection import Selection

    if arguments.channels < 1:
        raise UsageError(f"--channels {arguments.channels} is not possible: give 1 or more.")
    selection = Selection(
        tuple(arguments.include),
        tuple(arguments.exclude),
        tuple(arguments.snapshots),
        tuple(arguments.exclude_snapshots),
        not arguments.no_intermediates,
    )
    options = Options(arguments.channels, not arguments.no_recursive, arguments.dry_run, _owner(), selection)
    there = _endpoint(arguments, target, _buffer(arguments, target))
    if not (source.host or target.host) and child_of(source.dataset, target.dataset) is not None:
        raise UsageError(f"{target.dataset} is part of the source {source.dataset} itself: choose another target.")
    here = _source(arguments, source)
    return _run(arguments, lambda observe: Replication(here, there, options, observe).run())


def _compare(arguments: argparse.Namespace) -> int:
    from .jobs import compare

    first = _source(arguments, parse_location(arguments.source))
    second = _source(arguments, parse_location(arguments.target))
    return _run(arguments, lambda observe: compare(first, second, not arguments.no_recursive, observe))


def _source(arguments: argparse.Namespace, place: Location) -> Source:
    from .source import AgentSource, LocalSource

    return AgentSource(_endpoint(arguments, place, "")) if place.host else LocalSource(place.dataset)


def _cleanbuffer(arguments: argparse.Namespace) -> int:
    from .jobs import clean_buffer

    target = parse_location(arguments.target)
    there = _endpoint(arguments, target, _buffer(arguments, target))
    return _run(arguments, lambda observe: clean_buffer(there, _owner(), observe))


def _buffer(arguments: argparse.Namespace, target: Location) -> str:
    """The target's buffer, checked."""
    buffer = check_name(arguments.buffer or default_buffer(target.dataset))
    problem = check_buffer(target.dataset, buffer)
    if problem:
        raise UsageError(f"{buffer} cannot be the buffer: {problem}.")
    return buffer


def _endpoint(arguments: argparse.Namespace, place: Location, buffer: str) -> Endpoint:
    """The end of the run that ``place`` is, with the way there; a source has no ``buffer``."""
    from .channel import LocalOpener
    from .endpoint import ChannelOpener, Endpoint
    from .transport import SshOpener, SshOptions

    if arguments.port is not None and not 0 < arguments.port < 65536:
        raise UsageError(f"{arguments.port} is not a port: give one from 1 to 65535.")
    if arguments.identity is not None and not arguments.identity.is_file():
        raise UsageError(f"There is no key {arguments.identity}.")
    zfs = ("sudo", "-n", "zfs") if arguments.sudo and place.host else ("zfs",)
    opener: ChannelOpener
    if place.host:
        ssh = SshOptions(place.host, place.user, arguments.port, arguments.identity, arguments.ssh_config)
        pythons = (arguments.remote_python,) if arguments.remote_python else bootstrap.PYTHONS
        opener = SshOpener(ssh, bootstrap.command(pythons), receives=not buffer)
    else:
        opener = LocalOpener(bootstrap.command((sys.executable, *bootstrap.PYTHONS)))
    return Endpoint(opener, Host(place.host), place.dataset, buffer, zfs)


def _run(arguments: argparse.Namespace, job: Callable[[Observer], Coroutine[None, None, int]]) -> int:
    """Run ``job`` with the display that the arguments ask for; its exit code."""
    from . import console

    shown = console.choose(json=arguments.json, quiet=arguments.quiet, verbose=arguments.verbose)

    async def run(observe: Observer) -> int:
        task = asyncio.current_task()
        assert task is not None
        stopping = False

        def stop() -> None:
            nonlocal stopping
            if not stopping:  # a second signal would cut short the tidying up, which takes some seconds at most
                stopping = True
                task.cancel()

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
                asyncio.get_running_loop().add_signal_handler(number, stop)
        return await job(observe)

    with console.threaded(shown) as observe:
        return asyncio.run(run(observe))


def _owner() -> str:
    """Who holds the target's lock, for those who find it taken."""
    since = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return f"zfsync on {socket.gethostname()}, pid {os.getpid()}, since {since}"


def main(argv: Sequence[str] | None = None) -> int:
    """The program; its exit code."""
    arguments = None
    try:
        arguments = _parser().parse_args(argv)
        code: int = arguments.run(arguments)
        return code
    except ZfsyncError as error:
        if arguments is not None and arguments.verbose:
            traceback.print_exc()
        _complain(str(error))
        return error.exit_code
    except (KeyboardInterrupt, asyncio.CancelledError):
        _complain("interrupted: the next run goes on where this one stopped.")
        return EXIT_INTERRUPTED


def _complain(message: str) -> None:
    from .console.text import printable

    with contextlib.suppress(OSError):
        sys.stderr.write(f"zfsync: {printable(message)}\n")
