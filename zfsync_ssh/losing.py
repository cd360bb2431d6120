"""The operations at a target by which something is lost, with what the agent compares before it does them. Pure.

Between a listing and an operation there may be as long as a user takes to answer a question. So each of them says which
snapshot was the newest that was seen, and is refused when there is another one now.
"""

from __future__ import annotations

from .dataset import Dataset, Snapshot
from .messages import Operation


def destroy(there: Dataset) -> tuple[Operation, ...]:
    """Destroy the dataset and its snapshots; it may have no children."""
    return (*_without_partial(there), Operation("destroy", there.name, (_newest(there),)))


def hollow(there: Dataset) -> tuple[Operation, ...]:
    """Make a placeholder of the filesystem, without snapshots, for its children alone."""
    return (*_without_partial(there), Operation("hollow", there.name, (_newest(there),)))


def rollback(there: Dataset, to: Snapshot) -> tuple[Operation, ...]:
    """Take the dataset back to one of its snapshots."""
    return (*_without_partial(there), Operation("rollback", f"{there.name}@{to.name}", (_newest(there),)))


def _newest(there: Dataset) -> str:
    return str(there.newest.guid) if there.newest else ""


def _without_partial(there: Dataset) -> tuple[Operation, ...]:
    """A partial receive, which ZFS has as a hidden clone, is in the way when snapshots are to go."""
    return (Operation("drop", there.name),) if there.token else ()
