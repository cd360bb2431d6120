"""The command that a confined receiver is: what sshd runs for a client's key."""

from __future__ import annotations

import argparse

from ..dataset import check_name
from ..errors import UsageError
from .wiring import Commands, Help

_EXAMPLES = """\
in ~/.ssh/authorized_keys of the receiving account, on one line:
  restrict,command="zfsync serve --root pool/backups/web --append-only" ssh-ed25519 AAAA... zfsync job web

then, at the client, as always:
  zfsync push tank/data backup:pool/backups/web/data

What was refused, and to whom, is in the system's log (journalctl -t zfsync-serve).
"""


def add(commands: Commands) -> None:
    """Add it to the program's commands."""
    serve = commands.add_parser(
        "serve",
        help="be the far end of one client's runs, confined to one tree (a forced command of sshd)",
        description="Serves one client that reaches nothing but ROOT and what is below it, whatever it sends. sshd "
        "runs it as the forced command of the client's key; the client needs no option for it, and the agent that it "
        "sends along is not run.",
        epilog=_EXAMPLES,
        formatter_class=Help,
    )
    serve.add_argument("--root", required=True, metavar="DATASET", help="all that the client may reach")
    serve.add_argument(
        "--append-only",
        action="store_true",
        help="nothing is destroyed, rolled back, renamed or set: the client may only add",
    )
    serve.add_argument(
        "--keep-at-least",
        default="0",
        metavar="N|AGE",
        help="the newest N snapshots of each dataset are not destroyed, or those younger than AGE; 10,30d: both",
    )
    serve.add_argument("--read-only", action="store_true", help="only list, compare, verify and restore")
    serve.add_argument("--sudo", action="store_true", help="run 'sudo -n zfs', not 'zfs'")
    serve.set_defaults(run=_serve, verbose=False)


def _serve(arguments: argparse.Namespace) -> int:
    from ..bounds import Confinement
    from ..floor import parse_floor
    from ..serve import serve
    from ..ssh_lines import check_served

    if arguments.read_only and arguments.append_only:
        raise UsageError("--read-only and --append-only exclude each other: take one.")
    root = check_name(arguments.root)
    check_served(root)
    bounds = Confinement(root, arguments.append_only, parse_floor(arguments.keep_at_least), arguments.read_only)
    return serve(bounds, ("sudo", "-n", "zfs") if arguments.sudo else ("zfs",))
