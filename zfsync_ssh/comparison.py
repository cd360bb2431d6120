"""Two inventories side by side: which snapshots both trees have, by GUID, and which only one. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .dataset import Dataset, Inventory, Snapshot
from .decision import newest_common, same_name_other_guid


@dataclass(frozen=True, slots=True)
class Row:
    """One dataset of either tree. ``newest`` is the newest snapshot in common; ``words`` tell the difference."""

    child: str
    equal: bool
    words: str
    newest: Snapshot | None = None


def compare_inventories(first: Inventory, second: Inventory, *, names: tuple[str, str]) -> list[Row]:
    """A row for every dataset of either tree, parents first; ``names`` are what the trees are called in the words."""
    children = sorted({*first.datasets, *second.datasets}, key=lambda child: child.split("/"))
    return [_row(child, first.datasets.get(child), second.datasets.get(child), names) for child in children]


def _row(child: str, one: Dataset | None, two: Dataset | None, names: tuple[str, str]) -> Row:
    if one is None or two is None:
        return Row(child, False, f"it is only in {names[0] if two is None else names[1]}.")
    common = newest_common(one.snapshots, two.snapshots)
    guids = ({snapshot.guid for snapshot in one.snapshots}, {snapshot.guid for snapshot in two.snapshots})
    if guids[0] == guids[1]:
        return Row(child, True, "", common)
    parts = [f"newest in common is @{common.name}" if common else "no snapshot in common"]
    for mine, other, name in ((one, guids[1], names[0]), (two, guids[0], names[1])):
        alone = [snapshot for snapshot in mine.snapshots if snapshot.guid not in other]
        if alone:
            parts.append(f"{_list(alone)} only in {name}")
    impostors = same_name_other_guid(one.snapshots, two.snapshots)
    if impostors:
        parts.append(f"{_list(impostors)} of the same name but not the same")
    return Row(child, False, "; ".join(parts) + ".", common)


def _list(snapshots: Sequence[Snapshot]) -> str:
    """``@a``, ``@a and @b``, ``5 snapshots from @a to @e``."""
    if len(snapshots) > 2:
        return f"{len(snapshots)} snapshots from @{snapshots[0].name} to @{snapshots[-1].name}"
    return " and ".join(f"@{snapshot.name}" for snapshot in snapshots)
