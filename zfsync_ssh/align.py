"""What has to change at the target before anything is sent, so that its datasets stand where the source's do. Pure.

Renames and promotions at the source are repeated at the target; what has diverged, or is in the way, is for `settle`.
Each function changes its `Target`, a model of the target's inventory, and returns the changes, which are carried out at
the target; of the model as it then is a dry run makes its plan.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from .buffer import buffered_name
from .dataset import Dataset, Inventory, Snapshot, ancestors_of, child_of, parent_of
from .messages import Operation

MOVING_MARK = ".zfsync-moving"
"""Ends the name of a dataset whose place has to be free for another before it can have its own."""

_ROUNDS = 3
"""How often renames are looked for: what has been moved along with one above it may have to go back."""


@dataclass(frozen=True, slots=True)
class Change:
    """One thing to do at the target. ``words`` say what, after the dataset's name; ``loss`` what is lost by it."""

    kind: Literal["rename", "promote", "make-room", "set-aside", "rollback", "replace"]
    child: str
    name: str
    words: str
    operations: tuple[Operation, ...]
    loss: str = ""


class Target:
    """The target's inventory while changes are made to it."""

    def __init__(self, inventory: Inventory, buffer: str) -> None:
        self._before = inventory
        self._buffer = buffer
        self.root = inventory.root
        self.datasets = dict(inventory.datasets)
        self.buffered = dict(inventory.buffered)
        self.asides: dict[str, Dataset] = {}
        """Datasets that were set aside now, by the child that they were."""

    def inventory(self) -> Inventory:
        """As it is now."""
        before = self._before
        order = sorted(self.datasets, key=lambda child: child.split("/"))
        datasets = {child: self.datasets[child] for child in order}
        ancestors = before.ancestors
        if "" in before and "" not in datasets:
            ancestors = ancestors_of(self.root)  # that was there, so these are
        above = before.encrypted
        return Inventory(self.root, datasets, self.buffered, before.buffer, ancestors, encrypted=above, at=before.at)

    def below(self, child: str) -> list[str]:
        """``child`` and what is below it."""
        return [other for other in self.datasets if other == child or other.startswith(child + "/")]

    def place_of(self, guid: int) -> str | None:
        """The child that the dataset of this GUID is, unless it is in the buffer or not there."""
        return next((child for child, dataset in self.datasets.items() if dataset.guid == guid), None)

    def children(self, child: str) -> list[str]:
        """Those directly below it."""
        return [other for other in self.datasets if other and parent_of(other) == child]

    def holds_buffer(self, child: str) -> bool:
        """Whether the buffer is below ``child``, and would go wherever that goes."""
        return child_of(self.root + child, self._buffer) is not None

    def move(self, child: str, to: str) -> Operation:
        """Rename ``child``, with what is below it, to another child."""
        operation = Operation("rename", self.datasets[child].name, (self.root + to, self.datasets[child].kind))
        for other in self.below(child):
            dataset = self.datasets.pop(other)
            moved = to + other[len(child) :]
            self.datasets[moved] = dataset._replace(name=self.root + moved)
        self._follow(operation.name, self.root + to)
        return operation

    def can_park(self, child: str, to: str) -> bool:
        """Whether nothing waits in the buffer yet to be what ``child``, or one below it, would wait there to be."""
        return all(to + other[len(child) :] not in self.buffered for other in self.below(child))

    def park(self, child: str, to: str) -> Iterator[Operation]:
        """Rename ``child``, with what is below it, into the buffer, to wait there as the child ``to``."""
        if self._before.buffer is None:
            yield Operation("buffer", self._buffer)
        dataset = self.datasets[child]
        place = buffered_name(self._buffer, to, max((len(one.name) for one in dataset.snapshots), default=0))
        yield Operation("park", dataset.name, (place, dataset.kind, self.root + to))
        for other in self.below(child):
            below = other[len(child) :]
            self.buffered[to + below] = self.datasets.pop(other)._replace(name=place + below, path=self.root + to)
        self._follow(dataset.name, place)

    def _follow(self, old: str, new: str) -> None:
        """Let the clones of a dataset that was renamed, and of what is below it, name it as it now is."""
        for datasets in (self.datasets, self.buffered):
            for child, dataset in datasets.items():
                if dataset.origin and child_of(old, dataset.origin.partition("@")[0]) is not None:
                    datasets[child] = dataset._replace(origin=new + dataset.origin[len(old) :])

    def promote(self, child: str, owner: str, count: int) -> None:
        """Give the first ``count`` snapshots of ``owner``, the last of which is what ``child`` is a clone of, to it."""
        promoted, origin = self.datasets[child], self.datasets[owner]
        moved = origin.snapshots[:count]
        self.datasets[child] = promoted._replace(origin=origin.origin, snapshots=(*moved, *promoted.snapshots))
        self.datasets[owner] = origin._replace(
            origin=f"{promoted.name}@{moved[-1].name}", snapshots=origin.snapshots[count:]
        )
        for snapshot in moved:
            for clone, dataset in self.datasets.items():
                if dataset.origin == f"{origin.name}@{snapshot.name}":
                    self.datasets[clone] = dataset._replace(origin=f"{promoted.name}@{snapshot.name}")


# ---- renames ---------------------------------------------------------------------------------------------------------


def follow_renames(source: Inventory, target: Target) -> list[Change]:
    """Datasets at the target that hold snapshots of a source dataset of another name, and are not that one's copy yet.

    ``source`` is the whole tree: what is only left out of a run has not been renamed.
    """
    changes: list[Change] = []
    for _ in range(_ROUNDS):
        made = _rename(source, target)
        changes += made
        if not made:
            break
    return changes


def _rename(source: Inventory, target: Target) -> list[Change]:
    wanted = misplaced(source, target)
    changes = []
    for guid, to in sorted(wanted.items(), key=lambda pair: (pair[1].count("/"), pair[1])):
        child = target.place_of(guid)
        if child is None or child == to:  # parked with, or moved along with, one above it
            continue
        if to.startswith(child + "/") or to in target.buffered or target.holds_buffer(child):
            continue
        name = target.datasets[child].name
        operations = []
        there = target.datasets.get(to)
        if there is not None:
            if wanted.get(there.guid, to) == to or to + MOVING_MARK in target.datasets or target.holds_buffer(to):
                continue  # it stays, so there is no room
            operations.append(target.move(to, to + MOVING_MARK))
            child = target.place_of(guid)  # perhaps below what has just been moved
            assert child is not None
        if parent_of(to) in target.datasets:
            operations.append(target.move(child, to))
        elif target.can_park(child, to):
            operations += target.park(child, to)
        else:
            continue
        words = f"is renamed to {target.root}{to}, as at the source"
        changes.append(Change("rename", to, name, words, tuple(operations)))
    return changes


def misplaced(source: Inventory, target: Target) -> dict[int, str]:
    """GUIDs of datasets at the target, each with the child that it should be."""
    found = dict(_strangers(source, target))
    claims = collections.Counter(found.values())  # where two copies claim a place, none is taken for the one
    return {guid: to for guid, to in found.items() if claims[to] == 1}


def _strangers(source: Inventory, target: Target) -> Iterator[tuple[int, str]]:
    strangers = {
        child: dataset
        for child, dataset in target.datasets.items()
        if child and dataset.snapshots and not dataset.aside and not _knows(source.datasets.get(child), dataset)
    }
    if not strangers:
        return
    owners: dict[int, set[str]] = {}
    for child, dataset in source.datasets.items():
        for guid in _guids(dataset):
            owners.setdefault(guid, set()).add(child)
    for dataset in strangers.values():
        owner: set[str] = next((owners[one.guid] for one in reversed(dataset.snapshots) if one.guid in owners), set())
        if len(owner) == 1 and "" not in owner:  # else two datasets of the source hold the same, as copies do
            yield dataset.guid, next(iter(owner))


def _knows(source: Dataset | None, target: Dataset) -> bool:
    """Whether the source dataset has a snapshot, or bookmark, of the target's."""
    if source is None:
        return False
    if source.snapshots and target.snapshots[-1].guid == source.snapshots[-1].guid:
        return True
    known = _guids(source)
    return any(one.guid in known for one in target.snapshots)


def _guids(dataset: Dataset) -> set[int]:
    return {one.guid for one in dataset.snapshots} | {mark.guid for mark in dataset.bookmarks}


def _has(dataset: Dataset | None, snapshot: Snapshot) -> bool:
    return dataset is not None and any(one.guid == snapshot.guid for one in dataset.snapshots)


# ---- promotions ------------------------------------------------------------------------------------------------------


def follow_promotions(source: Inventory, target: Target) -> list[Change]:
    """Clones at the target whose origin's snapshot now belongs to their source dataset: it was promoted."""
    changes: list[Change] = []
    while made := list(_promote(source, target)):  # a clone of a clone may have been promoted more than once
        changes += made
    return changes


def _promote(source: Inventory, target: Target) -> Iterator[Change]:
    for child in tuple(target.datasets):
        dataset = target.datasets[child]  # as it is now: another promotion may have given it another origin
        promoted = source.datasets.get(child)
        of, _, short = dataset.origin.partition("@")
        owner = child_of(target.root, of) if of else None
        if promoted is None or owner is None or owner not in target.datasets:
            continue
        shared = target.datasets[owner].snapshots
        at = next((index for index, one in enumerate(shared) if one.name == short), None)
        if at is None or not _has(promoted, shared[at]):
            continue
        if _has(source.datasets.get(owner), shared[at]):  # both have it, as a received copy has
            continue
        target.promote(child, owner, at + 1)
        words = f"is promoted, as at the source: the snapshots up to @{short} go from {of} to it"
        yield Change("promote", child, dataset.name, words, (Operation("promote", dataset.name),))
