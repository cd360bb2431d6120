"""What a copy has of its own, that its source has not: found, and said in words. Pure."""

from __future__ import annotations

from .dataset import Dataset, Host, Snapshot
from .decision import INCREMENTAL, REFUSED, decide, newest_common, same_name_other_guid, state_of


def has_diverged(dataset: Dataset, there: Dataset) -> bool:
    """Whether ``there`` cannot take what follows, or not without losing what was written to it."""
    if there.kind != dataset.kind:
        return not there.placeholder
    decision = decide(dataset.snapshots, dataset.bookmarks, state_of(there))
    return decision.kind == REFUSED or (decision.kind == INCREMENTAL and there.written > 0)


def written_since(there: Dataset) -> str:
    """What to say of a copy that was written to, so that ZFS may refuse what follows: a clause, or nothing."""
    if not there.written:
        return ""
    return f"{there.written:,} bytes were written there since, and where files were changed, ZFS refuses it"


def newest_base(dataset: Dataset, there: Dataset) -> Snapshot | None:
    """The newest snapshot of ``there`` that a stream of ``dataset`` can follow: it, or a bookmark of it, is known."""
    newest = dataset.newest
    known = {snapshot.guid for snapshot in dataset.snapshots}
    known |= {mark.guid for mark in dataset.bookmarks if newest is not None and mark.createtxg < newest.createtxg}
    return next((one for one in reversed(there.snapshots) if one.guid in known), None)


def newer_than(there: Dataset, common: Snapshot | None) -> tuple[Snapshot, ...]:
    """The snapshots of ``there`` after the one in common, which is looked for by GUID; all when there is none."""
    at = next((index for index, one in enumerate(there.snapshots) if common and one.guid == common.guid), -1)
    return there.snapshots[at + 1 :]


def named(snapshots: tuple[Snapshot, ...]) -> str:
    """``@a``, or ``3 snapshots from @a to @c``."""
    if len(snapshots) == 1:
        return f"@{snapshots[0].name}"
    return f"{len(snapshots)} snapshots from @{snapshots[0].name} to @{snapshots[-1].name}"


def describe(dataset: Dataset, there: Dataset, host: Host, copy: str = "") -> str:
    """Why nothing can be received onto ``there``, what it has of its own, and what each option would do about it.

    ``copy`` is the name that the copy of ``dataset`` has there, when it cannot get its own because ``there`` has that.
    """
    name = host.at(there.name)
    if not there.snapshots:
        return (
            f"{name} exists but has no snapshot, so it is no copy of {dataset.name}: destroy it there if it is empty, "
            f"or choose another target; --on-divergence set-aside renames it, replace destroys it, and a full copy is "
            f"made."
        )
    common = newest_base(dataset, there)
    impostors = same_name_other_guid(dataset.snapshots, there.snapshots)
    if common is None:
        same = f" (@{impostors[-1].name} exists on both, but with different GUIDs)" if impostors else ""
        if copy:
            return (
                f"{name} has no snapshot in common with {dataset.name}{same}, whose copy is {host.at(copy)}: rename "
                f"the first there, as --on-divergence set-aside does, and the copy gets its name and goes on."
            )
        return (
            f"{name} has no snapshot in common with {dataset.name}{same}: choose another target; --on-divergence "
            f"set-aside renames it there, replace destroys it, and a full copy is made."
        )
    newer = newer_than(there, common)
    same = f", of which @{impostors[-1].name} has the name but not the GUID of one here" if impostors else ""
    written = f", and {there.written:,} bytes written since" if there.written else ""
    known = newest_common(dataset.snapshots[:-1], there.snapshots)
    goes_on = f"goes on from @{known.name}" if known else "sends it in full"  # nothing becomes a clone from a bookmark
    return (
        f"{name} has {named(newer)} after @{common.name}, the newest in common, that {dataset.name} has not{same}"
        f"{written}: --on-divergence set-aside keeps them by renaming the dataset there and {goes_on}, "
        f"rollback loses them, replace loses all of the dataset and sends it in full."
    )
