"""The options of a replication: how they are given, and the `Transfer` and `Options` that they come to."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..compression import CHOICES, NONE
from ..errors import UsageError
from ..policy import Divergence
from ..units import parse_span

if TYPE_CHECKING:
    from ..orchestrator import Options
    from ..transfer import Transfer

DELETE_DATASETS = "--delete-datasets"


def with_ages(words: Sequence[str]) -> list[str]:
    """The words of a command line, where ``--delete-datasets`` has no age behind it, with one of zero.

    argparse would take the next word, the source, for an age that may be left out.
    """
    ages = [*words[1:], ""]
    return [
        f"{word}=0s" if word == DELETE_DATASETS and not _is_span(age) else word
        for word, age in zip(words, ages, strict=False)
    ]


def _is_span(text: str) -> bool:
    try:
        parse_span(text)
    except ValueError:
        return False
    return True


def add_transfer(parser: argparse.ArgumentParser) -> None:
    """Add how the streams go."""
    transfer = parser.add_argument_group("streams")
    transfer.add_argument(
        "--channels", type=int, default=4, metavar="N", help="datasets in flight at once over the one connection (4)"
    )
    transfer.add_argument(
        "--rate-limit",
        metavar="RATE",
        help="bytes per second that all streams together may take at most, e.g. 50M; K, M and G are 2^10, 2^20, 2^30",
    )
    transfer.add_argument(
        "--compress",
        choices=CHOICES,
        default=NONE,
        help="compress the streams of datasets that ZFS itself does not compress; one that is named has to be at both "
        "ends, else the run ends with 2; auto: zstd, or else lz4, or else none (none)",
    )
    transfer.add_argument(
        "--stall-timeout",
        metavar="SPAN",
        help="end a stream that has stood still for so long, e.g. 10m, and keep what has arrived; 0s: never (5m)",
    )
    transfer.add_argument(
        "--buffer-behind",
        metavar="SIZE",
        help="what is below a new dataset of more than SIZE does not wait for it, but is received into the buffer (8M)",
    )
    transfer.add_argument("--no-resume", action="store_true", help="drop what a receive that was cut off has left")
    transfer.add_argument(
        "--no-raw",
        action="store_true",
        help="decrypt encrypted datasets here; the target encrypts them anew, if at all",
    )
    transfer.add_argument("--no-hold", action="store_true", help="do not hold the snapshots while they are sent")
    transfer.add_argument("--skip-preflight", action="store_true", help="do not check room and features there first")
    parser.add_argument("--no-recursive", action="store_true", help="SOURCE alone, without the datasets below it")
    parser.add_argument("-r", "-R", "--recursive", action=_Recursive, help=argparse.SUPPRESS)


class _Recursive(argparse.Action):
    """An option of other programs: what it asks for is done in any case."""

    def __init__(self, option_strings: Sequence[str], dest: str, **more: Any) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, default=argparse.SUPPRESS, help=more.get("help"))

    def __call__(
        self, parser: argparse.ArgumentParser, arguments: object, values: object, option: str | None = None
    ) -> None:
        parser.error(f"there is no {option}: zfsync is recursive already, and --no-recursive sends SOURCE alone")


def add_attended(parser: argparse.ArgumentParser, *, restores: bool = False) -> None:
    """Add what is for runs that somebody looks at, before or after. Where they restore, all is listed in any case."""
    parser.add_argument("-n", "--dry-run", action="store_true", help="show what would be done, and why; change nothing")
    parser.add_argument(
        "-y",
        "--yes",
        action="store_true",
        help="do not ask before --on-divergence rollback or replace loses something; --delete-snapshots and "
        "--delete-datasets never ask",
    )
    parser.add_argument(
        "--plan-out", type=Path, metavar="FILE", help="write the plan to FILE; goes well with --dry-run"
    )
    parser.add_argument("--plan-in", type=Path, metavar="FILE", help="go on only if the plan still is the one in FILE")
    parser.add_argument(
        "--list-all",
        action="store_true",
        help=argparse.SUPPRESS if restores else "list all snapshots, also of datasets that ZFS says have not changed",
    )


def add_choosing(parser: argparse.ArgumentParser) -> None:
    """Add which datasets and snapshots take part."""
    choose = parser.add_argument_group(
        "choosing (globs, in which * stands for anything, or regular expressions after re:; repeatable)"
    )
    for flags, text in (
        ("--include", "datasets, relative to SOURCE, by their whole names; SOURCE itself has the empty one"),
        ("--exclude", "datasets to leave out, with all below them"),
        ("--snapshots", "snapshots by their names"),
        ("--exclude-snapshots", "... to leave out"),
    ):
        choose.add_argument(flags, action="append", default=[], metavar="PATTERN", help=text)
    choose.add_argument(
        "--no-intermediates", action="store_true", help="of each dataset only the newest snapshot, none in between"
    )
    choose.add_argument(
        "--latest", type=int, default=0, metavar="N", help="of each dataset only the newest N snapshots"
    )
    choose.add_argument(
        "--since", metavar="WHEN", help="only snapshots made since then: 30d, 12h, 2026-01-31 or 2026-01-31T18:00 (UTC)"
    )
    choose.add_argument(
        "--skip-empty", action="store_true", help="of snapshots between which nothing was written only the newest"
    )


def add_target_choices(parser: argparse.ArgumentParser, *, restores: bool = False) -> None:
    """Add what may be done at the target, besides receiving. Two of them have no effect on what ``restores``."""
    there = parser.add_argument_group("at the target")
    there.add_argument(
        "--on-divergence",
        choices=[str(choice) for choice in Divergence],
        default=str(Divergence.FAIL),
        help="what to do with a dataset that has something of its own: fail, and say what; set-aside: rename it, and "
        "go on from a clone of the newest snapshot in common, nothing is lost; rollback: lose what is newer; replace: "
        "lose all of it (fail)",
    )
    there.add_argument(
        "--no-follow-renames",
        action="store_true",
        help=argparse.SUPPRESS if restores else "do not rename there what was renamed here",
    )
    there.add_argument(
        "--delete-snapshots", action="store_true", help="destroy snapshots that SOURCE no longer has, but no held ones"
    )
    there.add_argument(
        DELETE_DATASETS,
        metavar="[=AGE]",
        help="destroy datasets that SOURCE no longer has; with =AGE (=30d) only when they have been gone for so long",
    )
    there.add_argument(
        "--preserve",
        action="append",
        default=[],
        metavar="PROPS",
        help="properties to take over from SOURCE, with commas, or all; a mountpoint only by its name",
    )
    there.add_argument("--set", action="append", default=[], metavar="PROP=VALUE", help="a property to set there")
    there.add_argument("--exclude-property", action="append", default=[], metavar="PROP", help="one not to take over")
    there.add_argument(
        "--no-bookmark",
        action="store_true",
        help=argparse.SUPPRESS if restores else "leave no bookmark of what was sent at SOURCE",
    )
    there.add_argument(
        "--inherit-encryption-root",
        action="store_true",
        help="make children that were received raw part of their parent's encryption root again, where the keys of "
        "both are loaded",
    )


def values_of(arguments: argparse.Namespace) -> dict[str, object]:
    """The options that were given, by their names, as a configuration file would have them."""
    return {name.replace("_", "-"): value for name, value in vars(arguments).items() if _given(value)}


def _given(value: object) -> bool:
    return value is not None and value is not False and value != []


def transfer_of(arguments: argparse.Namespace) -> Transfer:
    """The options about what is sent and how; `ConfigError` for all that is wrong with them."""
    from ..config_values import Problems, Table
    from ..transfer import read_transfer

    problems = Problems()
    transfer = read_transfer(Table(values_of(arguments), (), problems))
    problems.check_options()
    return transfer


def options_of(arguments: argparse.Namespace, transfer: Transfer) -> Options:
    """All options of a run."""
    from ..orchestrator import Options
    from ..reach import owner

    return Options.of(
        transfer,
        owner=owner(),
        dry_run=arguments.dry_run,
        expected=_read_plan(arguments.plan_in) if arguments.plan_in else None,
        write_plan=(lambda made: _write_plan(arguments.plan_out, made)) if arguments.plan_out else None,
    )


def _read_plan(path: Path) -> dict[str, Any]:
    try:
        plan = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UsageError(f"There is no plan {path}: 'zfsync push --dry-run --plan-out {path}' writes it.") from error
    except OSError as error:
        raise UsageError(f"The plan {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:  # no JSON, or no UTF-8
        raise UsageError(f"{path} is no plan that 'zfsync push --plan-out' has written: it is no JSON.") from error
    if not isinstance(plan, dict):
        raise UsageError(f"{path} is no plan that 'zfsync push --plan-out' has written.")
    return plan


def _write_plan(path: Path, made: dict[str, Any]) -> None:
    try:
        # It names datasets, snapshots and hosts. A file that is there already keeps its mode.
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(json.dumps(made, indent=2) + "\n")
    except OSError as error:
        raise UsageError(f"The plan cannot be written to {path}: {error.strerror}.") from error


def someone_to_ask(arguments: argparse.Namespace) -> bool:
    """Whether there is a terminal to ask at, and it is wanted."""
    return not arguments.yes and not arguments.json and sys.stdin.isatty() and sys.stderr.isatty()


def question(lines: Sequence[str]) -> str:
    """What the user is asked before something is lost."""
    return "\n".join(("This will be lost:", *(f"  {line}" for line in lines), "Go on? [y/N] "))
