"""What all commands share: options about the connection and the output, and the run itself."""

from __future__ import annotations

import argparse
import asyncio
import signal
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from ..errors import UsageError
from ..location import Way

if TYPE_CHECKING:
    from ..events import Observer

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


class Help(argparse.HelpFormatter):
    """Fills the lines of a description, and leaves examples as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if "\n" in text else super()._fill_text(text, width, indent)


PUSH_EXAMPLES = """\
examples:
  zfsync push tank/data backup:pool/data
  zfsync push --dry-run tank/data root@backup.example.org:pool/data
  zfsync push --sudo --identity ~/.ssh/zfsync --channels 8 tank/data zfsync@backup:pool/data
  zfsync push tank/data usbdisk/data          # to another pool of this machine
  zfsync push web:tank/data backup:pool/web   # between two others, through this one
"""

EXIT_CODES = """\
exit codes:
  0    all is well
  1    a defect of zfsync
  2    the command line or the configuration is wrong, or a file of zfsync's own cannot be used
  3    some dataset failed, the others are up to date; or the two sides differ
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
    add_buffer(parser)
    add_connection(parser)


def add_buffer(parser: argparse.ArgumentParser) -> None:
    """Add the option that names the target's buffer."""
    parser.add_argument(
        "--buffer",
        metavar="NAME",
        help="where children wait for their parents (TARGET.zfsyncbuffer; for a whole pool POOL/zfsyncbuffer)",
    )


SUDO = "run 'sudo -n zfs' there, not 'zfs'; on this machine zfs is run as it is"


def add_connection(parser: argparse.ArgumentParser, sudo: str = SUDO) -> None:
    """Add the options of the way to the other host, of what runs there, and of the output."""
    add_ssh(parser, sudo)
    show = parser.add_argument_group("output")
    show.add_argument("--json", action="store_true", help="one JSON object per line and event")
    show.add_argument("-q", "--quiet", action="store_true", help="say nothing but what failed")
    show.add_argument("-v", "--verbose", action="store_true", help="say more, and add the traceback to an error")


def add_ssh(parser: argparse.ArgumentParser, sudo: str = SUDO) -> None:
    """Add the options of the way to the other host, and of what runs there."""
    ssh = parser.add_argument_group("connection")
    ssh.add_argument("-p", "--port", type=int, metavar="PORT", help="port of sshd there (22, or as in ssh_config)")
    ssh.add_argument("-i", "--identity", type=Path, metavar="FILE", help="private key to log in with")
    ssh.add_argument(
        "-F", "--ssh-config", type=Path, metavar="FILE", help="instead of ~/.ssh/config and /etc/ssh/ssh_config"
    )
    there = parser.add_argument_group("at the other host")
    there.add_argument("--remote-python", metavar="PYTHON", help="python3 there, when it is not found by itself")
    there.add_argument("--sudo", action="store_true", help=sudo)


def way_of(arguments: argparse.Namespace) -> Way:
    """The way to other hosts, as the options say it."""
    if arguments.port is not None and not 0 < arguments.port < 65536:
        raise UsageError(f"{arguments.port} is not a port: give one from 1 to 65535.")
    return Way(arguments.port, arguments.identity, arguments.ssh_config, arguments.remote_python, arguments.sudo)


def way_over(known: Way, arguments: argparse.Namespace) -> Way:
    """The way that a job knows, but for what the options say."""
    given = way_of(arguments)
    return replace(
        known,
        port=given.port or known.port,
        identity=given.identity or known.identity,
        ssh_config=given.ssh_config or known.ssh_config,
        remote_python=given.remote_python or known.remote_python,
        sudo=given.sudo or known.sudo,
    )


def run_job(
    arguments: argparse.Namespace,
    job: Callable[[Observer], Coroutine[None, None, int]],
    shown: Observer | None = None,
) -> int:
    """Run ``job`` with the display ``shown``, or the one that the arguments ask for; its exit code."""
    from .. import console

    if shown is None:
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
