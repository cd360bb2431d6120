"""Many names in one command or call, and a refusal: which of them are to blame, and what becomes of the others. Pure.

ZFS does most things to all the names that it is given or to none, and does not always say which of them it minds. So
the names that it does mention are taken out and the others tried again; when it mentions none, the two halves are.

Also shipped to the far end: standard library only, Python >= 3.8.
"""

from __future__ import annotations

from typing import Callable, Collection, Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence

UNDONE = "undone"
"""The code of a name with which nothing is wrong: another one kept it from being done."""


class Failed(NamedTuple):
    """One name that could not be done. ``code`` is a word of `zfsync_ssh.complaint.classify`, or `UNDONE`."""

    name: str
    code: str
    message: str
    """The end of a sentence."""


class Refusal(NamedTuple):
    """What came of an attempt on a batch of names that failed. ``blamed`` are the names that it mentions."""

    blamed: Dict[str, Failed]
    code: str
    message: str


Attempt = Callable[[List[List[str]]], Iterable[Optional[Refusal]]]
"""Tries several batches, and says of each in turn how it was refused; None when it was done."""


def narrow(batches: Iterable[List[str]], attempt: Attempt, fine: Collection[str] = ()) -> List[Failed]:
    """Do all names of ``batches`` but those that cannot be done; why not, for those. ``fine`` codes are no failure."""
    failures: List[Failed] = []
    waiting = [batch for batch in batches if batch]
    while waiting:
        tried, waiting = waiting, []
        for batch, refusal in zip(tried, attempt(tried)):
            if refusal is None:
                continue
            blamed = [refusal.blamed[name] for name in batch if name in refusal.blamed]
            rest = [name for name in batch if name not in refusal.blamed]
            if not blamed and len(batch) == 1:
                blamed, rest = [Failed(batch[0], refusal.code, refusal.message)], []
            failures += [failed for failed in blamed if failed.code not in fine]
            if blamed:
                waiting.append(rest)
            else:
                waiting += [rest[: len(rest) // 2], rest[len(rest) // 2 :]]
        waiting = [batch for batch in waiting if batch]
    return failures


def all_undone(names: Iterable[str], refusal: Refusal) -> List[Failed]:
    """The failures of all ``names`` when a refusal of some kept all of them from being done."""
    blamed = refusal.blamed
    if not blamed:
        return [Failed(name, refusal.code, refusal.message) for name in names]
    because = "nothing was done, because of %s" % next(iter(blamed))
    return [blamed.get(name) or Failed(name, UNDONE, because) for name in names]


def by_pool(names: Iterable[str]) -> List[List[str]]:
    """``names``, once each, in a list for each pool: nothing is done to two pools at once."""
    pools: Dict[str, List[str]] = {}
    for name in dict.fromkeys(names):
        pools.setdefault(pool_of(name), []).append(name)
    return list(pools.values())


def pool_of(name: str) -> str:
    """The pool of a dataset, snapshot or bookmark."""
    return dataset_of(name).split("/", 1)[0]


def dataset_of(name: str) -> str:
    """The dataset of a snapshot or bookmark; of a dataset itself."""
    return name.split("@", 1)[0].split("#", 1)[0]


def trees(snapshots: Sequence[str]) -> Dict[str, List[str]]:
    """``snapshots`` by the topmost one of the same snapshot name whose dataset is theirs or above it."""
    given = dict.fromkeys(snapshots)
    found: Dict[str, List[str]] = {}
    for snapshot in given:
        found.setdefault(next(top for top in lineage(snapshot) if top in given), []).append(snapshot)
    return found


def lineage(snapshot: str) -> Iterator[str]:
    """The snapshots of the same name from the pool down to ``snapshot`` itself, whether they are there or not."""
    dataset, _, name = snapshot.partition("@")
    parts = dataset.split("/")
    return ("%s@%s" % ("/".join(parts[:depth]), name) for depth in range(1, len(parts) + 1))
