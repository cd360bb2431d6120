"""In which order datasets are sent, when some need others to be at the target first. Without I/O.

A dataset that is new at the target goes into its place when its parent has arrived, or is ahead of it on the same
channel, which keeps the order. Else it waits for a parent that is small and under way; behind a large one it goes to
the buffer, and so does what cannot be received below its parent (`unencrypted`). A clone needs its origin, and what
takes its encryption from its parent cannot wait in the buffer for it.

What has most to send, with all that is below it, goes first.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import replace

from .dataset import parent_of
from .item import Item
from .policy import Policy
from .steps import without_origin

MAX_BEHIND = 4
"""A channel that has so many on their way takes no more below them: other channels can, when they have arrived."""

_Entry = tuple[int, str]
"""An item's rank, the lowest of which goes first, and its child."""


class Dispatch:
    """What is still to be sent. ``present`` is the children in their own places at the target, and grows."""

    def __init__(self, items: Iterable[Item], present: set[str], policy: Policy) -> None:
        ranked = _ranked(list(items))
        self._ranks = {item.child: rank for rank, item in enumerate(ranked)}
        self._left = {item.child: item for item in ranked}
        self._under_way: dict[str, Item] = {}
        self._places: dict[str, str] = {}
        self._policy = policy
        self.present = present
        self.buffered: set[str] = set()
        """Children that were received into the buffer."""
        # Heaps, in which there may still be what was taken from another one.
        self._placed: list[_Entry] = []
        """What can go to its place."""
        self._loose: list[_Entry] = []
        """What can only go to the buffer: its parent is not in its place, nor on its way."""
        self._below: dict[str, list[_Entry]] = defaultdict(list)
        """What is new, by the parent that is yet to arrive."""
        self._clones: dict[str, list[Item]] = defaultdict(list)
        """What is to become a clone, by the dataset of its origin, which is yet to arrive."""
        for item in ranked:
            self._file(item)

    def __len__(self) -> int:
        """How many have not been taken."""
        return len(self._left)

    def take(self, ahead: Collection[str] = ()) -> Item | None:
        """The next item that can be sent now; None when none is left, or each waits for one that is on its way.

        ``ahead`` is the children on their way to their own places over the channel that would take the item.
        """
        child = self._next(ahead)
        if child is None and self._left and not self._under_way:
            # They wait for each other: a parent to become a clone of its child, that for its parent. Without its
            # origin the parent can go, and whatever comes of it, the run has to come to its end.
            child = min(self._left, key=lambda child: child.count("/"))
        if child is None:
            return None
        item = self._under_way[child] = self._left.pop(child)
        return self._resolved(item)

    def is_awaited(self, child: str) -> bool:
        """Whether something may wait for ``child``, to go below it or to become a clone of it."""
        return bool(self._below.get(child) or self._clones.get(child))

    def arrived(self, item: Item, place: str) -> None:
        """``item`` has been received into the dataset ``place``."""
        self._places[item.child] = place
        (self.present if place == item.target else self.buffered).add(item.child)
        self._settled(item.child)

    def failed(self, item: Item) -> None:
        """``item`` has not arrived, and will not in this run."""
        self._settled(item.child)

    def _settled(self, child: str) -> None:
        """File what has waited for ``child`` anew."""
        del self._under_way[child]
        waiting = [self._left[below] for _, below in self._below.pop(child, ()) if below in self._left]
        for item in (*waiting, *self._clones.pop(child, ())):
            self._file(item)

    def _file(self, item: Item) -> None:
        origin, parent = item.origin, parent_of(item.child)
        if origin is not None and not origin.at and origin.child is not None and self._pending(origin.child):
            self._clones[origin.child].append(item)
            return
        if parent is None or parent in self.present or (item.state.exists and not item.in_place):
            heap = self._placed
        elif self._pending(parent):
            heap = self._below[parent]
        else:
            heap = self._placed if item.in_place else self._loose
        heapq.heappush(heap, (self._ranks[item.child], item.child))

    def _pending(self, child: str) -> bool:
        return child in self._left or child in self._under_way

    def _next(self, ahead: Collection[str]) -> str | None:
        """The child to take: the first that has a place to go to, or a larger one that goes to the buffer."""
        small = self._policy.buffer_behind
        placed = self._first(self._placed)
        if placed is None and len(ahead) < MAX_BEHIND:
            placed = self._first(*(self._below[child] for child in ahead if child in self._below))
        large = [child for child, item in self._under_way.items() if item.estimate > small and child not in ahead]
        loose = self._first(self._loose, *(self._below[child] for child in large if child in self._below))
        if loose is not None and self._left[loose[1]].in_place:
            loose = None
        if placed and loose and (placed < loose or self._left[loose[1]].estimate <= small):
            loose = None
        chosen = loose or placed
        return chosen[1] if chosen else None

    def _first(self, *heaps: list[_Entry]) -> _Entry | None:
        for heap in heaps:
            while heap and heap[0][1] not in self._left:
                heapq.heappop(heap)
        return min((heap[0] for heap in heaps if heap), default=None)

    def _resolved(self, item: Item) -> Item:
        """The item, its origin with the place where it arrived; in full, if it did not arrive."""
        origin = item.origin
        if origin is None or origin.at or origin.child is None:
            return item
        place = self._places.get(origin.child)
        if place is None:
            return without_origin(item, self._policy)
        return replace(item, origin=replace(origin, at=f"{place}@{origin.base.rpartition('@')[2]}"))


def _ranked(items: list[Item]) -> list[Item]:
    """``items``, those first that have most to send, each with what is new below it."""
    weights = {item.child: item.estimate for item in items}
    for item in sorted(items, key=lambda item: -item.child.count("/")):
        parent = parent_of(item.child)
        if parent in weights and not item.state.exists:
            weights[parent] += weights[item.child]
    return sorted(items, key=lambda item: -weights[item.child])
