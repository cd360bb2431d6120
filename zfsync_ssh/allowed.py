"""What `zfs allow DATASET` prints: which permissions one account has on a dataset, and on those below it. Pure.

Also shipped to the far end: standard library only, Python >= 3.8.
"""

from __future__ import annotations

import re
from typing import Collection, Dict, FrozenSet, Iterator, NamedTuple, Set, Tuple

_HEADING = re.compile(r"---- Permissions on (.+?) -+")
_SETS, _CREATE = "Permission sets:", "Create time permissions:"
_LOCAL, _DESCENDENT, _BOTH = "Local permissions:", "Descendent permissions:", "Local+Descendent permissions:"


class Account(NamedTuple):
    """Who asks: names, or numbers where there is no name."""

    user: str
    groups: Tuple[str, ...] = ()


class Permitted(NamedTuple):
    """What an account may do with a dataset, and with what is below it, as far as it made that itself."""

    here: FrozenSet[str]
    below: FrozenSet[str]


class _Line(NamedTuple):
    dataset: str
    section: str
    who: str
    names: Tuple[str, ...]


def permitted(text: str, dataset: str, account: Account) -> Permitted:
    """What `zfs allow` of ``dataset`` says that ``account`` may do. It tells of the datasets above as well."""
    lines = list(_lines(text))
    sets: Dict[str, Set[str]] = {}
    for line in reversed(lines):  # those farther up first: one nearer by defines a set anew
        if line.section == _SETS:
            sets[line.who] = set(line.names)
    here: Set[str] = set()
    below: Set[str] = set()
    for line in lines:
        names = {one for name in line.names for one in (sets.get(name, ()) if name[:1] == "@" else (name,))}
        if line.section == _CREATE:
            below |= names  # whoever makes a dataset has them on that
        elif line.section != _SETS and _is(line.who, account):
            own = line.dataset == dataset
            if line.section == _BOTH or line.section == (_LOCAL if own else _DESCENDENT):
                here |= names
            if line.section != _LOCAL:
                below |= names
    return Permitted(frozenset(here), frozenset(below))


def _is(who: str, account: Account) -> bool:
    kind, _, name = who.partition(" ")
    known = (account.user,) if kind == "user" else account.groups if kind == "group" else ()
    return kind == "everyone" or _named(name, known)


def _named(name: str, known: Collection[str]) -> bool:
    """An account that has no name is told as ``(unknown: 1001)``."""
    return name in known or (name.startswith("(unknown: ") and name[len("(unknown: ") : -1] in known)


def _lines(text: str) -> Iterator[_Line]:
    dataset = section = ""
    for line in text.splitlines():
        heading = _HEADING.fullmatch(line)
        if heading:
            dataset = heading.group(1)
        elif not line.startswith("\t"):
            section = line.strip()
        else:
            who, _, names = line.strip().rpartition(" ")
            yield _Line(dataset, section, who, tuple(names.split(",")))
