"""The command that compares the contents of two trees."""

from __future__ import annotations

import argparse
import secrets

from ..errors import UsageError
from ..location import Location, parse_location
from .wiring import EXIT_CODES, Commands, Help, add_connection, run_job, way_of

_EXAMPLES = """\
examples:
  zfsync verify tank/data backup:pool/data
  zfsync verify --sample 1000 tank/data backup:pool/data    # contents of 1000 files of each dataset, all metadata
  zfsync verify --json web:tank/data backup:pool/web        # two other hosts; only digests come here
  zfsync verify tank/data@monday tank/data@friday           # any two snapshots
"""


def add(commands: Commands) -> None:
    """Add it to the program's commands."""
    verify = commands.add_parser(
        "verify",
        help="read the contents of two trees at both ends and tell what differs",
        description="Reads, for each dataset, the newest snapshot that both trees have in common (by GUID) at both "
        "ends at once, and compares digests of all files, their metadata, extended attributes and POSIX ACLs, and of "
        "volumes. Only digests travel. Says which files, or which bytes of a volume, differ or cannot be read. Needs "
        "root at both ends, and the keys of what is encrypted. Exit code 0 when nothing differs, 3 when "
        "something does or cannot be read. What an end cannot tell, ACLs where it has none for instance, is said, and "
        "no difference. Inode flags, project ids and SELinux labels are not looked at.",
        epilog=f"{_EXAMPLES}\n{EXIT_CODES}",
        formatter_class=Help,
    )
    what = "a dataset, e.g. tank/data; [USER@]HOST:DATASET too; with @SNAPSHOT, for both, that one is compared"
    verify.add_argument("source", metavar="FIRST", help=what)
    verify.add_argument("target", metavar="SECOND", help="likewise")
    verify.add_argument(
        "--channels", type=int, default=4, metavar="N", help="datasets that are read at once, at either end (4)"
    )
    verify.add_argument(
        "--sample",
        type=int,
        metavar="N",
        help="read the contents of only about N files, or MiB of a volume, of each dataset, chosen at random; "
        "metadata are compared of all",
    )
    verify.add_argument("--seed", default="", help="choose the same ones as the run that told this seed")
    verify.add_argument("--no-recursive", action="store_true", help="these two alone, without what is below them")
    add_connection(
        verify,
        sudo="run 'sudo -n zfs' there, not 'zfs'; that lists, and reads no contents: log in as root for those",
    )
    verify.set_defaults(run=_verify)


def _verify(arguments: argparse.Namespace) -> int:
    from ..reach import endpoint_at
    from ..verify import Verify, VerifyOptions

    if arguments.channels < 1:
        raise UsageError(f"--channels {arguments.channels} is not possible: give 1 or more.")
    if arguments.sample is not None and arguments.sample < 1:
        raise UsageError(
            f"--sample {arguments.sample} is not possible: give 1 or more, or leave it out to read everything."
        )
    if arguments.seed and arguments.sample is None:
        raise UsageError(f"--seed {arguments.seed} chooses nothing without --sample: give both.")
    first, here = split_snapshot(arguments.source)
    second, there = split_snapshot(arguments.target)
    if bool(here) != bool(there):
        raise UsageError("Only one of the two names a snapshot: give @SNAPSHOT for both, or for neither.")
    seed = arguments.seed or secrets.token_hex(4)
    options = VerifyOptions(arguments.channels, not arguments.no_recursive, arguments.sample or 0, seed, (here, there))
    way = way_of(arguments)
    ends = endpoint_at(way, first, ""), endpoint_at(way, second, "")
    return run_job(arguments, lambda observe: Verify(*ends, options, observe).run())


def split_snapshot(text: str) -> tuple[Location, str]:
    """Take ``[[USER@]HOST:]DATASET[@SNAPSHOT]`` apart: where the dataset is, and the snapshot's name or ``""``."""
    host, colon, dataset = "", "", text
    if ":" in text.partition("/")[0]:
        at = text.rfind("]:") + 1 if "]:" in text else text.index(":")
        host, colon, dataset = text[:at], ":", text[at + 1 :]
    dataset, mark, snapshot = dataset.partition("@")
    if mark and not snapshot:
        raise UsageError(f"{text!r} names no snapshot: give one after the @, or no @.")
    return parse_location(host + colon + dataset), snapshot
