"""What an agent tells of itself for `zfsync doctor`: the account, the clock, the versions, and what it may do.

All of it is the asker's own account. Of the datasets above the tree nothing is told but their names, which a listing
tells as well.

Also shipped to the far end: standard library only, Python >= 3.8.
"""

from __future__ import annotations

import os
import time
from typing import Iterator, List, NamedTuple, Tuple

from . import complaint, zfs
from .allowed import Account, Permitted, permitted
from .dataset import ancestors_of
from .tree import Tree


class Place(NamedTuple):
    """What the account may do at one dataset, that of the tree or one above."""

    dataset: str
    permitted: Permitted


class About(NamedTuple):
    """What `lines` says. ``time`` is in seconds since 1970."""

    user: str
    root: bool
    """zfs is run as root there."""
    time: float
    versions: Tuple[str, ...]
    """What `zfs version` prints: of the command, and of the kernel's module."""
    library: bool
    """OpenZFS's own binding of libzfs_core is used."""
    problem: str
    """Why the permissions are not known; empty when they are."""
    places: Tuple[Place, ...]
    """The tree's root, if it is there, and the nearest dataset above that is."""


def lines(tree: Tree) -> Iterator[str]:
    """What there is to tell, a name and a value in each line, separated by a tab."""
    from .driver import choose

    account = _account()
    root = os.geteuid() == 0 or tree.command[0] == "sudo"
    yield "user\t%s" % account.user
    yield "root\t%d" % root
    for version in tree.zfs(zfs.VERSION).stdout.split():
        yield "version\t%s" % version
    yield "library\t%d" % choose(tree.command).temporary_holds
    names = [row[0] for row in tree.zfs(zfs.list_existing((*ancestors_of(tree.root), tree.root))).rows]
    for name in [] if root else names[-2:] if tree.root in names else names[-1:]:
        allowed = tree.zfs(zfs.allow(name))
        if allowed.status:
            yield "problem\t%s" % complaint.reason(allowed.stderr)
            continue
        found = permitted(allowed.stdout, name, account)
        yield "\t".join(("place", name, ",".join(sorted(found.here)), ",".join(sorted(found.below))))
    yield "time\t%.3f" % time.time()  # last: what came before took a while, and who asks knows when this came


def parse(said: List[str]) -> About:
    """The other way round; ``ValueError`` for what is none of this."""
    single = {"user": "", "root": "0", "time": "0", "library": "0", "problem": ""}
    versions: List[str] = []
    places: List[Place] = []
    for line in said:
        name, *values = line.split("\t")
        if name == "version":
            versions += values
        elif name == "place" and len(values) == 3:
            here, below = (frozenset(filter(None, value.split(","))) for value in values[1:])
            places.append(Place(values[0], Permitted(here, below)))
        elif name in single and len(values) == 1:
            single[name] = values[0]
    flags = (single["root"] == "1", float(single["time"]), tuple(versions), single["library"] == "1")
    return About(single["user"], *flags, single["problem"], tuple(places))


def _account() -> Account:
    import grp
    import pwd

    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        user = str(os.geteuid())
    groups = []
    for number in {os.getegid(), *os.getgroups()}:
        try:
            groups.append(grp.getgrgid(number).gr_name)
        except KeyError:
            groups.append(str(number))
    return Account(user, tuple(groups))
