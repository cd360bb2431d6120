"""What `zfsync doctor` makes of what it finds: each check is a sentence, and what to do if it is not well. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from .about import About, Place
from .console.text import size
from .dataset import Inventory, pool_of
from .delegation import grant

MAX_CLOCK_SECONDS = 60.0
"""By how much two clocks may differ: names and ages of snapshots are told by minutes."""
MAX_CAPACITY = 90
"""Percent of a pool; ZFS becomes slow when there is little left."""
_ADDING = {"create", "mount", "receive"}
"""What ZFS asks of the dataset above the one that is made or received."""


class Level(StrEnum):
    """How well it is."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Check:
    """One check: ``what`` was looked at, in a word or two, what was found, and what to do if that is not well."""

    what: str
    level: Level
    text: str
    remedy: str = ""


def ok(what: str, text: str) -> Check:
    """All is well."""
    return Check(what, Level.OK, text)


def warning(what: str, text: str, remedy: str) -> Check:
    """A run will do, but not as well as it could, or not for ever."""
    return Check(what, Level.WARNING, text, remedy)


def problem(what: str, text: str, remedy: str = "") -> Check:
    """A run will fail."""
    return Check(what, Level.PROBLEM, text, remedy)


def worst(checks: Iterable[Check]) -> Level:
    """How well it is as a whole."""
    levels = {check.level for check in checks}
    return next((level for level in (Level.PROBLEM, Level.WARNING) if level in levels), Level.OK)


# ---- what an agent found ---------------------------------------------------------------------------------------------


def versions(about: About) -> Check:
    """Which ZFS there is."""
    if not about.versions:
        return warning(
            "zfs", "it does not tell its version", "'zfs version' has to work there: OpenZFS 0.8 or newer does."
        )
    return ok("zfs", ", ".join(about.versions))


def library(about: About) -> Check:
    """Whether small operations need a process each."""
    if about.library:
        return ok("libzfs_core", "OpenZFS's Python binding is used for holds, bookmarks and snapshots")
    return ok("libzfs_core", "not used; the zfs command does the same, more slowly for very many snapshots")


def clock(there: float, asked: float, answered: float) -> Check:
    """How far apart the clocks are: ``there`` was told at some time between ``asked`` and ``answered`` here."""
    apart = max(asked - there, there - answered, 0.0)
    if apart <= MAX_CLOCK_SECONDS:
        return ok("clock", f"the clocks are not more than {apart + (answered - asked):.1f} s apart")
    which = "behind" if there < asked else "ahead of"
    return warning(
        "clock",
        f"its clock is {apart:.0f} s {which} this machine's",
        "Have both keep time, by NTP: names and ages of snapshots are told by the clock.",
    )


def sessions(opened: int, wanted: int) -> Check:
    """How many sessions at once sshd gives."""
    if opened >= wanted:
        return ok("sessions", f"{opened} at once, as many as a run wants")
    return warning(
        "sessions",
        f"sshd gives {opened} at once, and a run wants {wanted}: it goes on with fewer",
        f"Set MaxSessions {max(wanted, 10)} in sshd_config there, or fewer channels in the job.",
    )


def pool(properties: Mapping[str, str], root: str, encrypted: bool, *, receives: bool) -> Check:
    """How the pool is: what `zpool get all` says. ``encrypted`` says that raw streams will come."""
    name = pool_of(root)
    if not properties:
        return warning("pool", f"nothing is known of {name}", "'zpool get all' has to work there.")
    health = properties.get("health", "ONLINE")
    full = properties.get("capacity", "").rstrip("%")
    capacity = int(full) if full.isdecimal() else 0  # "-" where the pool cannot be opened
    if health in ("SUSPENDED", "FAULTED", "UNAVAIL", "REMOVED"):
        return problem(
            "pool", f"{name} is {health}", f"'zpool status {name}' says why; 'zpool clear {name}' resumes it."
        )
    if receives and properties.get("readonly") == "on":
        return problem("pool", f"{name} was imported read-only", "Import it anew, without -o readonly=on.")
    if receives and encrypted and properties.get("feature@encryption") == "disabled":
        return problem(
            "pool", f"{name} has no encryption, and the source is encrypted", f"'zpool upgrade {name}' there."
        )
    if health != "ONLINE":
        return warning("pool", f"{name} is {health}", f"'zpool status {name}' says why.")
    if receives and capacity >= MAX_CAPACITY:
        return warning("pool", f"{name} is {capacity}% full", "Free space there, or add a disk.")
    return ok("pool", f"{name} is {health}, {capacity}% full")


def parse_pool(lines: Iterable[str]) -> dict[str, str]:
    """The output of `zpool get`."""
    return {name: value for name, found, value in (line.partition("\t") for line in lines) if found}


def target(inventory: Inventory, used: int, *, root: str) -> Check:
    """Whether the target is there, or can be made, with room for what the source has ``used``."""
    if "" in inventory:
        room, text = inventory.datasets[""].available, f"{root} is there"
        newest = inventory.datasets[""].newest
        text += f", newest @{newest.name}" if newest else ", without a snapshot"
    elif inventory.ancestors:
        room, text = inventory.available, f"{root} is not there yet, and will be made in {inventory.ancestors[-1]}"
    else:
        remedy = "'zpool list' shows those there are; one of another host is HOST:DATASET, without a slash before it."
        return problem("target", f"There is no pool {pool_of(root)}", remedy)
    if not room:
        return problem("target", f"{text}, and nothing more fits", "Free space there, or raise the quota.")
    if "" not in inventory and room < used:
        return warning(
            "target",
            f"{text}; it has room for {size(room)}, and the source uses {size(used)}",
            "Free space there, or raise the quota, if the copy is not to be compressed better.",
        )
    return ok("target", f"{text}; room for {size(room)}")


def source(inventory: Inventory, root: str, *, takes: bool) -> Check:
    """Whether the source has something to send; ``takes``: a run takes snapshots."""
    newest = inventory.datasets[""].newest
    if newest is not None:
        return ok("source", f"{root} is there, newest @{newest.name}")
    if takes:
        return ok("source", f"{root} is there, without a snapshot; the job takes one")
    return warning("source", f"{root} has no snapshot to send", f"zfs snapshot -r {root}@NAME")


# ---- permissions -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Wanted:
    """The permissions that a run cannot do without, and all that it uses."""

    needed: Collection[str]
    used: Collection[str]


def permissions(about: About | None, wanted: Wanted, root: str, *, receives: bool, beside: bool = True) -> Check:
    """Whether the account may do what a run does at ``root``, which may be yet to come.

    ``beside`` says that the buffer is made beside it, so that the permissions have to be on the dataset above.
    """
    what = "permissions"
    if about is None:
        return warning(what, "the zfsync there is too old to tell", "Use the same version at both ends.")
    if about.root:
        return ok(what, "zfs runs as root")
    if about.problem or not about.places:
        return warning(
            what, f"they cannot be listed: {about.problem or 'there is no dataset'}", "'zfs allow' has to work there."
        )
    place = _decisive(about.places, root, above=receives and beside)
    here, below = place.permitted
    used = set(wanted.used)
    missing = ((used & _ADDING) - here) | (used - below) if receives else used - (here & below)
    if not missing:
        return ok(what, f"{about.user} may do all that a run does, on {place.dataset}")
    say = problem if missing & set(wanted.needed) else warning
    names = sorted(missing)
    return say(
        what,
        f"{about.user} may not {', '.join(names)} on {place.dataset}",
        grant(shlex.quote(about.user), shlex.quote(place.dataset), names),  # to be pasted, and told by another host
    )


def _decisive(places: Sequence[Place], root: str, *, above: bool) -> Place:
    """Where the permissions have to be: at the root itself, or ``above`` it, as far as that is there."""
    return next((place for place in places if (place.dataset == root) != above), places[0])
