"""What has diverged at the target, or stands where another copy is to be: what the user wants done with it. Pure.

It is set aside, rolled back or replaced, by changes as in `align`.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator

from . import losing
from .align import Change, Target, misplaced
from .dataset import (
    MAX_RECEIVED_CHARS,
    MAX_ROLLED_BACK_CHARS,
    Dataset,
    Host,
    Inventory,
    Snapshot,
    nearest_above,
    pool_of,
)
from .divergence import has_diverged, named, newer_than, newest_base
from .messages import Operation
from .policy import Divergence, Policy
from .room import takes_over
from .zfs import ASIDE_MARK


def free_names(
    source: Inventory, selected: Inventory, target: Target, *, host: Host, policy: Policy, now: datetime.datetime
) -> list[Change]:
    """Settle the copies of datasets that are gone, as ``policy`` says, where a copy is to be renamed to their names.

    It goes before `align.follow_renames`: else what is to be below the renamed copy would be put below the other
    one. ``selected`` is the datasets that take part.
    """
    changes = []
    for _, to in taken_over(source, selected, target):
        keeps_name = policy.on_divergence is Divergence.REPLACE and target.children(to)
        dataset = selected.datasets[to]
        change = None if keeps_name else _settle(to, dataset, target, host=host, policy=policy, now=now)
        if change is not None:
            changes.append(change)
    return changes


def taken_over(source: Inventory, selected: Inventory, target: Target) -> Iterator[tuple[str, str]]:
    """Copies that could go on in their place, were it not for the copy of a dataset that is gone: as (child, place).

    ``target`` may be changed from one to the next.
    """
    wanted = misplaced(source, target)
    for guid, to in sorted(wanted.items(), key=lambda pair: pair[1]):
        child, there, dataset = target.place_of(guid), target.datasets.get(to), selected.datasets.get(to)
        if child is None or there is None or dataset is None or there.guid in wanted or child.startswith(to + "/"):
            continue
        if not has_diverged(dataset, target.datasets[child]) and newest_base(dataset, there) is None:
            yield child, to


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
                above = nearest_above(child, target.datasets)
                return _replace(child, there, target, hollow=takes_over(dataset, there, above, raw=policy.raw))
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


def _replace(child: str, there: Dataset, target: Target, *, hollow: bool) -> Change | None:
    """Let it go; or ``hollow`` it out, where something is below it and a full stream can take the place of that."""
    loss = f"all of it: {len(there.snapshots)} snapshots, {there.used:,} bytes"
    children, operations = target.children(child), list[Operation]()
    if hollow and (children or target.holds_buffer(child)):
        target.datasets[child] = there._replace(snapshots=(), placeholder=True, written=0, token="")
        return Change("replace", child, there.name, "is replaced", losing.hollow(there), loss)
    if target.holds_buffer(child) or not all(target.can_park(other, other) for other in children):
        return None
    for other in children:
        operations += target.park(other, other)
    del target.datasets[child]
    return Change("replace", child, there.name, "is replaced", (*operations, *losing.destroy(there)), loss)


def losses(changes: Iterable[Change]) -> list[str]:
    """What the changes lose, a line each."""
    return [f"{change.name}: {change.loss}" for change in changes if change.loss]
