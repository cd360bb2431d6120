"""In which order datasets are sent, when some need others to be at the target first. Without I/O.

Few do: a clone needs its origin, and a dataset that takes its encryption from its parent cannot wait in the buffer for
it. All others are sent as they come, the largest first.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from .dataset import parent_of
from .item import Item
from .policy import Policy
from .steps import without_origin


class Dispatch:
    """What is still to be sent. ``present`` is the children in their own places at the target, and grows."""

    def __init__(self, items: Iterable[Item], present: set[str], policy: Policy) -> None:
        self._queue = list(items)
        self._pending = {item.child for item in self._queue}
        """Children that are not settled: neither arrived nor failed."""
        self._places: dict[str, str] = {}
        self._policy = policy
        self.present = present
        self.buffered: set[str] = set()
        """Children that were received into the buffer."""

    def __len__(self) -> int:
        """How many have not been taken."""
        return len(self._queue)

    def take(self) -> Item | None:
        """The next item that can be sent now; None when none is left, or each waits for one that is on its way."""
        nothing_under_way = len(self._pending) == len(self._queue)
        for index, item in enumerate(self._queue):
            if self._ready(item):
                del self._queue[index]
                return self._resolved(item)
        if self._queue and nothing_under_way:
            # They wait for each other: a parent to become a clone of its child, that for its parent. Without its
            # origin the parent can go, and whatever comes of it, the run has to come to its end.
            first = min(range(len(self._queue)), key=lambda index: self._queue[index].child.count("/"))
            return self._resolved(self._queue.pop(first))
        return None

    def _ready(self, item: Item) -> bool:
        origin, parent = item.origin, parent_of(item.child)
        if origin is not None and not origin.at and origin.child in self._pending:
            return False
        return not item.in_place or parent in self.present or parent not in self._pending

    def _resolved(self, item: Item) -> Item:
        """The item, its origin with the place where it arrived; in full, if it did not arrive."""
        origin = item.origin
        if origin is None or origin.at or origin.child is None:
            return item
        place = self._places.get(origin.child)
        if place is None:
            return without_origin(item, self._policy)
        return replace(item, origin=replace(origin, at=f"{place}@{origin.base.rpartition('@')[2]}"))

    def arrived(self, item: Item, place: str) -> None:
        """``item`` has been received into the dataset ``place``."""
        self._pending.discard(item.child)
        self._places[item.child] = place
        (self.present if place == item.target else self.buffered).add(item.child)

    def failed(self, item: Item) -> None:
        """``item`` has not arrived, and will not in this run."""
        self._pending.discard(item.child)
