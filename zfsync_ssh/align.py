"""What has to change at the target before anything is sent, so that its datasets stand where the source's do. Pure.

Renames and promotions at the source are repeated at the target; a dataset that has diverged is set aside, rolled back
or replaced, where the user asked for that. Each function takes the target's inventory and returns changes, which are
carried out at the target, and the inventory as it will then be, of which a dry run makes its plan.
"""

from __future__ import annotations

import collections
import datetime
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from . import losing
from .buffer import buffered_name
from .dataset import (
    MAX_RECEIVED_CHARS,
    MAX_ROLLED_BACK_CHARS,
    Dataset,
    Host,
    Inventory,
    Snapshot,
    ancestors_of,
    child_of,
    parent_of,
    pool_of,
)
from .divergence import has_diverged, named, newer_than, newest_base
from .messages import Operation
from .policy import Divergence, Policy
from .zfs import ASIDE_MARK

MOVING_MARK = ".zfsync-moving"
"""Ends the name of a dataset whose place has to be free for another before it can have its own."""

_ROUNDS = 3
"""How often renames are looked for: what has been moved along with one above it may have to go back."""


@dataclass(frozen=True, slots=True)
class Change:
    """One thing to do at the target. ``words`` say what, after the dataset's name; ``loss`` what is lost by it."""

    kind: Literal["rename", "promote", "set-aside", "rollback", "replace"]
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
        return Inventory(self.root, datasets, self.buffered, before.buffer, ancestors)

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


# ---- names of datasets that are gone ---------------------------------------------------------------------------------


def free_names(
    source: Inventory, selected: Inventory, target: Target, *, host: Host, policy: Policy, now: datetime.datetime
) -> list[Change]:
    """Settle the copies of datasets that are gone, as ``policy`` says, where a copy is to be renamed to their names.

    It goes before `follow_renames`, for else what is to be below the renamed copy would be put below the other one.
    ``selected`` is the datasets that take part.
    """
    wanted = _misplaced(source, target)
    changes = []
    for guid, to in sorted(wanted.items(), key=lambda pair: pair[1]):
        child, there, dataset = target.place_of(guid), target.datasets.get(to), selected.datasets.get(to)
        if child is None or there is None or dataset is None or there.guid in wanted or child.startswith(to + "/"):
            continue
        if has_diverged(dataset, target.datasets[child]) or newest_base(dataset, there) is not None:
            continue
        keeps_name = policy.on_divergence is Divergence.REPLACE and target.children(to)
        change = None if keeps_name else _settle(to, dataset, target, host=host, policy=policy, now=now)
        if change is not None:
            changes.append(change)
    return changes


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
    wanted = _misplaced(source, target)
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


def _misplaced(source: Inventory, target: Target) -> dict[int, str]:
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


# ---- promotions ------------------------------------------------------------------------------------------------------


def follow_promotions(source: Inventory, target: Target) -> list[Change]:
    """Clones at the target whose origin's snapshot now belongs to their source dataset: it was promoted."""
    changes = []
    for child in tuple(target.datasets):
        dataset = target.datasets[child]  # as it is now: another promotion may have given it another origin
        promoted = source.datasets.get(child)
        of, _, short = dataset.origin.partition("@")
        owner = child_of(target.root, of) if of else None
        if promoted is None or owner is None or owner not in target.datasets:
            continue
        shared = target.datasets[owner].snapshots
        at = next((index for index, one in enumerate(shared) if one.name == short), None)
        if at is None or all(one.guid != shared[at].guid for one in promoted.snapshots):
            continue
        target.promote(child, owner, at + 1)
        words = f"is promoted, as at the source: the snapshots up to @{short} go from {of} to it"
        changes.append(Change("promote", child, dataset.name, words, (Operation("promote", dataset.name),)))
    return changes


# ---- divergence ------------------------------------------------------------------------------------------------------


def settle_divergence(
    source: Inventory, target: Target, *, host: Host, policy: Policy, now: datetime.datetime
) -> list[Change]:
    """Do as ``policy.on_divergence`` says with what has diverged; ``source`` is the datasets that take part."""
    # What is below first: one that was set aside stays below its parent, also when that is set aside in its turn.
    order = sorted(source.datasets.items(), key=lambda pair: pair[0].split("/"), reverse=True)
    changes = (_settle(child, dataset, target, host=host, policy=policy, now=now) for child, dataset in order)
    return [change for change in changes if change is not None]


def _settle(
    child: str, dataset: Dataset, target: Target, *, host: Host, policy: Policy, now: datetime.datetime
) -> Change | None:
    """Do as the policy says with the copy in the place of ``dataset``, if it has diverged and that can succeed."""
    there = target.datasets.get(child)
    if policy.on_divergence is Divergence.FAIL or there is None:
        return None
    if not dataset.snapshots or not has_diverged(dataset, there):
        return None
    common = newest_base(dataset, there) if there.kind == dataset.kind else None
    match policy.on_divergence:
        case Divergence.ROLLBACK if common is not None and len(there.name) <= MAX_ROLLED_BACK_CHARS:
            return _rollback(child, there, target, common)
        case Divergence.SET_ASIDE if there.name != pool_of(there.name) and not target.holds_buffer(child):
            return _set_aside(child, target, common, host, now)
        case Divergence.REPLACE if len(there.name) <= MAX_RECEIVED_CHARS:  # else it would be lost for nothing
            if there.kind == dataset.kind or not (target.children(child) or target.holds_buffer(child)):
                return _replace(child, there, target)
    return None


def _rollback(child: str, there: Dataset, target: Target, common: Snapshot) -> Change:
    lost = newer_than(there, common)
    kept = there.snapshots[: len(there.snapshots) - len(lost)]
    target.datasets[child] = there._replace(snapshots=kept, written=0, token="")
    words = f"is rolled back to @{common.name}"
    return Change("rollback", child, there.name, words, losing.rollback(there, common), _loss(there, lost))


def _loss(there: Dataset, lost: tuple[Snapshot, ...]) -> str:
    parts = []
    if lost:
        parts.append(named(lost))
    if there.written:
        parts.append(f"{there.written:,} bytes written since its newest snapshot")
    return " and ".join(parts) or "nothing but what no snapshot holds"


def _set_aside(child: str, target: Target, common: Snapshot | None, host: Host, now: datetime.datetime) -> Change:
    there = target.datasets[child]
    name = f"{there.name}{ASIDE_MARK}{now:%Y%m%d-%H%M%S}"
    operations = [operation for other in target.children(child) for operation in target.park(other, other)]
    operations.append(Operation("aside", there.name, (name, there.kind)))
    del target.datasets[child]
    for below, aside in target.asides.items():
        if aside.name.startswith(there.name + "/"):
            target.asides[below] = aside._replace(name=name + aside.name[len(there.name) :])
    if common is not None:
        target.asides[child] = there._replace(name=name)
    words = f"is set aside as {host.at(name)}"
    return Change("set-aside", child, there.name, words, tuple(operations))


def _replace(child: str, there: Dataset, target: Target) -> Change:
    loss = f"all of it: {len(there.snapshots)} snapshots, {there.used:,} bytes"
    if target.children(child) or target.holds_buffer(child):
        hollow = there._replace(snapshots=(), placeholder=True, written=0, token="")
        target.datasets[child] = hollow
        operations = losing.hollow(there)
    else:
        del target.datasets[child]
        operations = losing.destroy(there)
    return Change("replace", child, there.name, "is replaced", operations, loss)


def losses(changes: Iterable[Change]) -> list[str]:
    """What the changes lose, a line each."""
    return [f"{change.name}: {change.loss}" for change in changes if change.loss]
