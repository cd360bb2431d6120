"""Which datasets begin at the target as clones, and of what. Pure.

A clone at the source stays one at the target, when its origin's snapshot is there or is sent in the same run. And a
copy that takes the place of one that was set aside begins as a clone of that, from the newest snapshot in common.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from .dataset import Dataset, Inventory, child_of
from .decision import NEW, decide, newest_common
from .item import Item, Origin
from .policy import Policy
from .steps import with_decision


def with_origins(
    items: list[Item], source: Inventory, target: Inventory, asides: Mapping[str, Dataset], policy: Policy
) -> list[Item]:
    """The items, those that can become clones at the target planned as such."""
    by_child = {item.child: item for item in items}
    made = []
    for item in items:
        if item.decision is not None and (item.decision.kind == NEW or (item.state.token and not item.state.newest)):
            origin, stream = _aside_origin(item, asides) or _clone_origin(item, by_child, source, target)
            if origin is not None and _follows(item, stream):
                flags = item.flags if item.raw or not stream else stream.replace("none", "")
                item = replace(item, origin=origin, flags=flags)
                decision = decide(item.source.snapshots, (), item.state, item.raw, origin.guid, item.flags)
                item = with_decision(item, decision, policy.selection)
        made.append(item)
    return made


def _follows(item: Item, stream: str) -> bool:
    """Whether the item's streams are of the kind that its origin, which remembers ``stream``, was received with."""
    return not stream or item.raw == (stream == "raw")


def _aside_origin(item: Item, asides: Mapping[str, Dataset]) -> tuple[Origin, str] | None:
    aside = asides.get(item.child)
    # Not the newest of all: a clone of that would have no snapshot of its own, and nothing could be sent that makes it.
    common = newest_common(item.source.snapshots[:-1], aside.snapshots) if aside is not None else None
    if aside is None or common is None:
        return None
    there = next(snapshot for snapshot in aside.snapshots if snapshot.guid == common.guid)
    return Origin(f"@{common.name}", common.guid, None, f"{aside.name}@{there.name}"), aside.stream


def _clone_origin(
    item: Item, by_child: Mapping[str, Item], source: Inventory, target: Inventory
) -> tuple[Origin | None, str]:
    """The source dataset's origin, if it is on the target, or will be; and what that remembers of its streams."""
    name, _, short = item.source.origin.partition("@")
    child = child_of(source.root, name) if name else None
    other = by_child.get(child) if child is not None else None
    if other is None or child == item.child:
        return None, ""
    snapshot = next((one for one in other.source.snapshots if one.name == short), None)
    there = target.find(other.child)
    if snapshot is None:
        return None, ""
    copy = next((one for one in there.snapshots if one.guid == snapshot.guid), None) if there is not None else None
    if there is not None and copy is not None:
        return Origin(item.source.origin, snapshot.guid, other.child, f"{there.name}@{copy.name}"), there.stream
    sent = any(snapshot in step.snapshots for step in other.steps) and not other.problem
    return (Origin(item.source.origin, snapshot.guid, other.child, "") if sent else None), other.pinned
