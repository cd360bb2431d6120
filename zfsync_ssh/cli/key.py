"""The command that gives a job a key of its own: key setup."""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import EXIT_OK, AgentError, HostKeyError, UsageError
from ..location import parse_location
from .config import add_config
from .wiring import EXIT_CODES, Commands, Help, way_of, way_over

if TYPE_CHECKING:
    from ..keysetup import JobKey, Shown
    from ..location import Location, Way
    from ..ssh_lines import Served
    from ..transport import SshOptions

_EXAMPLES = """\
examples:
  zfsync key setup backup:pool/web --job web --append-only             # prints the line for authorized_keys there
  zfsync key setup backup:pool/web --job web --append-only --install   # puts it there, over your own access
  zfsync key setup backup:pool/web --job web --host-key SHA256:AAAA... # trusts the host without asking
"""
_FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}=?")


def add(commands: Commands) -> None:
    """Add it to the program's commands."""
    parser = commands.add_parser(
        "key",
        help="give a job an SSH key of its own, tied to one tree at the other host",
        description="Makes the key of a job, which the job then uses by itself, pins the host's key, and says what has "
        "to be in authorized_keys there.",
        epilog=_EXAMPLES,
        formatter_class=Help,
    )
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    setup = verbs.add_parser(
        "setup",
        help="make the key and pin the host's; print the line for the other host, or put it there",
        description="Makes an ed25519 key for JOB alone, shows the host's key for confirmation and pins it, and prints "
        "the one line of authorized_keys that ties the key to DATASET. What is there already is used again.",
        epilog=f"{_EXAMPLES}\n{EXIT_CODES}",
        formatter_class=Help,
    )
    setup.add_argument("place", metavar="[USER@]HOST:DATASET", help="all that the key is to reach")
    setup.add_argument("--job", required=True, metavar="JOB", help="the job that the key is for")
    add_config(setup)
    setup.add_argument("--host-key", metavar="FINGERPRINT", help="the host's key has to be this: SHA256:...")
    setup.add_argument("--install", action="store_true", help="put the line there, with your own access (ssh-agent)")
    may = setup.add_argument_group("what the key may do there (see 'zfsync serve --help')")
    may.add_argument("--append-only", action="store_true", help="only add")
    may.add_argument(
        "--keep-at-least", default="0", metavar="N|AGE", help="not destroy the newest N, or what is younger"
    )
    may.add_argument("--read-only", action="store_true", help="only read: for a job that pulls")
    may.add_argument(
        "--unconfined", action="store_true", help="all that the account may: where zfsync cannot be installed"
    )
    may.add_argument("--sudo", action="store_true", help="it runs 'sudo -n zfs' there, not 'zfs'")
    ssh = setup.add_argument_group("connection (as the job has it, where that is configured)")
    ssh.add_argument("-p", "--port", type=int, metavar="PORT", help="port of sshd there")
    ssh.add_argument("-F", "--ssh-config", type=Path, metavar="FILE", help="instead of ~/.ssh/config")
    ssh.add_argument("-i", "--identity", type=Path, metavar="FILE", help="your own key, for --install")
    ssh.add_argument("--remote-python", metavar="PYTHON", help="python3 there, when it is not found by itself")
    ssh.add_argument("--remote-zfsync", metavar="PATH", help="zfsync there, when it is not found by itself")
    setup.add_argument("-v", "--verbose", action="store_true", help="add the traceback to an error")
    setup.set_defaults(run=_setup)


def _setup(arguments: argparse.Namespace) -> int:
    from ..floor import parse_floor
    from ..ssh_lines import Served, check_served

    place = parse_location(arguments.place)
    if not place.host:
        raise UsageError(f"{arguments.place} is on this machine, and needs no key: give HOST:DATASET.")
    if arguments.host_key and not _FINGERPRINT.fullmatch(arguments.host_key):
        raise UsageError(f"{arguments.host_key} is no fingerprint: give SHA256:..., as 'ssh-keygen -l' prints it.")
    if (arguments.remote_zfsync or "").startswith("-"):
        raise UsageError(f"{arguments.remote_zfsync!r} is no program: give the path of zfsync there.")
    if arguments.read_only and arguments.append_only:
        raise UsageError("--read-only and --append-only exclude each other: take one.")
    way = _way(arguments, place)
    served, floor = None, parse_floor(arguments.keep_at_least)
    if not arguments.unconfined:
        program = arguments.remote_zfsync or "zfsync"
        bounds = (arguments.append_only, floor, arguments.read_only)
        served = Served(place.dataset, program, *bounds, way.sudo)
        check_served(served.root)
    elif arguments.append_only or arguments.read_only or floor:
        raise UsageError("--unconfined sets no bounds: leave it out, or those that it cannot set.")
    return asyncio.run(_set_up(arguments, place, way, served))


def _way(arguments: argparse.Namespace, place: Location) -> Way:
    """The way there: what the job's configuration says of it, but for what the options say."""
    from ..config import found_config, load, name_problem

    if problem := name_problem(arguments.job):
        raise UsageError(f"{arguments.job!r} cannot be: {problem}.")
    given = way_of(arguments)
    if arguments.config is None and found_config() is None:
        _say(f"There is no configuration with a job {arguments.job} yet: 'zfsync config example' shows one.")
        return replace(given, job=arguments.job)
    config = load(arguments.config)
    if arguments.job not in config.jobs:
        _say(f"There is no job {arguments.job} in {config.path} yet.")
        return replace(given, job=arguments.job)
    from ..keysetup import ends_at

    job = config.job(arguments.job)
    ends_at(job, place)
    if job.connection.identity is not None:
        raise UsageError(
            f"Job {job.name} has the identity {job.connection.identity} in {config.path}: take that out first, and the "
            f"job uses the key of its own."
        )
    return way_over(job.connection, arguments)


async def _set_up(arguments: argparse.Namespace, place: Location, way: Way, served: Served | None) -> int:
    from ..keysetup import job_key, look_at_host
    from ..reach import ssh_options
    from ..ssh_lines import authorized_line

    mine = ssh_options(replace(way, job=""), place)  # the user's own access, not the job's key
    _trust(await look_at_host(mine, (arguments.host_key or "").rstrip("=")))
    key = job_key(arguments.job)
    _say(f"{'Made' if key.made else 'There is'} the key {key.path}.")
    if arguments.install:
        await _install(arguments, mine, place, replace(way, identity=None), served, key)
        return EXIT_OK
    if served is not None and not arguments.remote_zfsync:
        _say("zfsync has to be installed there, and on the PATH that sshd gives; else name it with --remote-zfsync.")
    account = f"{place.user}@{place.host}" if place.user else f"the account at {place.host}"
    _say(f"This line belongs into ~/.ssh/authorized_keys of {account}, as one line:")
    sys.stdout.write(authorized_line(key.public, key.comment, served) + "\n")
    sys.stdout.flush()
    _say(f"Then check it: zfsync doctor --job {arguments.job}")
    return EXIT_OK


def _trust(shown: Shown) -> None:
    """Pin the host's key, when the user or what he has trusts it."""
    from .. import keys
    from ..keysetup import Trust

    _say(f"The host key of {shown.host} is {shown}{f': {shown.trust.value}' if shown.trust.value else ''}.")
    if shown.trust is Trust.PINNED:
        return
    if shown.trust is Trust.UNKNOWN:
        compare = f"'ssh-keygen -lf /etc/ssh/ssh_host_{shown.kind.lower()}_key.pub'"
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise HostKeyError(
                f"Nobody is here to confirm the host key of {shown.host}: compare it with what {compare} says there, "
                f"and give it as --host-key SHA256:..."
            )
        sys.stderr.write(f"Is that what {compare} says there? [y/N] ")
        sys.stderr.flush()
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise HostKeyError(f"The host key of {shown.host} was not confirmed; nothing was done.")
    _say(f"Pinned it in {keys.pin(shown.entry, shown.key)}.")


async def _install(
    arguments: argparse.Namespace, mine: SshOptions, place: Location, way: Way, served: Served | None, key: JobKey
) -> None:
    """Put the line there, and log in with the key."""
    from ..console.text import printable
    from ..keysetup import Account, confined
    from ..ssh_lines import authorized_line

    async with Account.opened(mine, way.remote_python) as account:
        if served is not None:
            path, version = await account.find_zfsync(arguments.remote_zfsync)
            if not path:
                where = f"{arguments.remote_zfsync} is no zfsync" if arguments.remote_zfsync else "there is no zfsync"
                raise AgentError(
                    f"At {place.host} {where}, which has to answer for the key: install it there (README, 'Install'), "
                    f"name it with --remote-zfsync, or give the key all of the account's rights with "
                    f"--unconfined. Nothing was changed there."
                )
            _say(f"zfsync {printable(version)} is there: {printable(path)}")
            served = replace(served, program=path)
        done = await account.install(authorized_line(key.public, key.comment, served), key.public)
    words = {"added": "Added the key to", "replaced": "Replaced the key's line in", "kept": "The key's line is in"}
    _say(f"{words.get(done.get('did', ''), 'Changed')} {place.host}:{printable(done.get('file', ''))}")
    for line in done.get("old", "").splitlines() if done.get("did") == "replaced" else ():
        _say(f"  it was: {printable(line)}")
    bound = await confined(way, place)
    if served is not None and not bound:
        raise AgentError(
            f"{place.host} gives the key more than {place.dataset}: another line for it comes first, or sshd there "
            f"reads another file than ~/.ssh/authorized_keys (AuthorizedKeysFile)."
        )
    _say(f"Logged in with the key: it reaches {f'{place.dataset} alone' if bound else 'all that the account does'}.")


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
