"""What all commands share: options about the connection and the output, the ends of a run, and the run itself."""

from __future__ import annotations

import argparse
import asyncio
import datetime
import os
import signal
import socket
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from .. import bootstrap
from ..buffer import check_buffer, default_buffer
from ..dataset import Host, check_name
from ..errors import UsageError
from ..location import Location

if TYPE_CHECKING:
    from ..endpoint import Endpoint
    from ..events import Observer
    from ..source import Source

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

EXIT_CODES = """\
exit codes:
  0    all is well
  2    the command line is wrong
  3    some dataset failed; the others are up to date
  4    another run is at work on the same target
  5    the host cannot be reached, trusted or logged in to, or the connection was lost
  6    the agent could not be started, or broke the protocol
  7    ZFS refused
  8    a hook of a job failed, or took too long
  130  interrupted
"""


def add_target(parser: argparse.ArgumentParser, metavar: str, text: str) -> None:
    """Add the target, its buffer, and all of `add_connection`."""
    parser.add_argument("target", metavar=metavar, help=text)
    parser.add_argument(
        "--buffer", metavar="NAME", help="dataset in which children wait for their parents (TARGET.zfsyncbuffer)"
    )
    add_connection(parser)


def add_connection(parser: argparse.ArgumentParser) -> None:
    """Add the options of the way to the other host, of what runs there, and of the output."""
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


def source_at(arguments: argparse.Namespace, place: Location, *, limited: bool = False) -> Source:
    """The end that sends, here or on another host; ``limited`` says that its streams have a limited rate."""
    from ..source import AgentSource, LocalSource

    if not place.host:
        return LocalSource(place.dataset)
    return AgentSource(endpoint_at(arguments, place, "", receives=not limited))


def buffer_of(arguments: argparse.Namespace, target: Location) -> str:
    """The target's buffer, checked."""
    buffer = check_name(arguments.buffer or default_buffer(target.dataset))
    problem = check_buffer(target.dataset, buffer)
    if problem:
        raise UsageError(f"{buffer} cannot be the buffer: {problem}.")
    return buffer


def endpoint_at(arguments: argparse.Namespace, place: Location, buffer: str, *, receives: bool = False) -> Endpoint:
    """The end of the run that ``place`` is, with the way there; a source has no ``buffer``.

    ``receives`` says that much will come from there, as fast as it can: a large window is good for that alone.
    """
    from ..channel import LocalOpener
    from ..endpoint import ChannelOpener, Endpoint
    from ..transport import SshOpener, SshOptions

    if arguments.port is not None and not 0 < arguments.port < 65536:
        raise UsageError(f"{arguments.port} is not a port: give one from 1 to 65535.")
    if arguments.identity is not None and not arguments.identity.is_file():
        raise UsageError(f"There is no key {arguments.identity}.")
    zfs = ("sudo", "-n", "zfs") if arguments.sudo and place.host else ("zfs",)
    opener: ChannelOpener
    if place.host:
        ssh = SshOptions(place.host, place.user, arguments.port, arguments.identity, arguments.ssh_config)
        pythons = (arguments.remote_python,) if arguments.remote_python else bootstrap.PYTHONS
        opener = SshOpener(ssh, bootstrap.command(pythons), receives=receives)
    else:
        opener = LocalOpener(bootstrap.command((sys.executable, *bootstrap.PYTHONS)))
    return Endpoint(opener, Host(place.host), place.dataset, buffer, zfs)


def run_job(arguments: argparse.Namespace, job: Callable[[Observer], Coroutine[None, None, int]]) -> int:
    """Run ``job`` with the display that the arguments ask for; its exit code."""
    from .. import console

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


def owner() -> str:
    """Who holds the target's lock, for those who find it taken."""
    since = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return f"zfsync on {socket.gethostname()}, pid {os.getpid()}, since {since}"
