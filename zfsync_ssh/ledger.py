"""What has become of each dataset in a run, told to the observer as soon as it is known."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .dataset import Host
from .events import Finished, Observer, Outcome, Status
from .item import Item


class Ledger:
    """The outcomes of a run from ``source`` to ``target``, by the source dataset's name as the user knows it."""

    def __init__(self, source: Host, target: Host, observe: Observer) -> None:
        self._source = source
        self._target = target
        self._observe = observe
        self._unfinished: dict[str, Item] = {}
        self.outcomes: dict[str, Outcome] = {}

    def expect(self, items: Iterable[Item]) -> None:
        """These are to be sent."""
        self._unfinished.update((item.child, item) for item in items)

    def finish(self, item: Item, status: Status, **more: Any) -> None:
        """This is what became of ``item``; ``more`` are fields of `Outcome`."""
        outcome = Outcome(
            self._source.at(item.source.name),
            self._target.at(item.target),
            status,
            what=item.what,
            why=item.why,
            estimate=item.estimate,
            **more,
        )
        self.outcomes[outcome.source] = outcome
        self._unfinished.pop(item.child, None)
        self._observe(Finished(outcome))

    def outcome(self, item: Item) -> Outcome | None:
        """What became of it, if that is known."""
        return self.outcomes.get(self._source.at(item.source.name))

    @property
    def failed(self) -> bool:
        """Whether something failed, or has not come to its end."""
        return bool(self._unfinished) or any(outcome.status is Status.FAILED for outcome in self.outcomes.values())

    def close(self) -> None:
        """The run is over: what has not come to its end never will."""
        for item in tuple(self._unfinished.values()):
            message = f"{item.source.name} was not finished: the next run goes on with it."
            self.finish(item, Status.FAILED, code="unfinished", message=message)
