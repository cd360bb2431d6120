"""The job that compares contents: what two trees hold of each dataset's newest common snapshot, read at both ends.

Each end is behind agents, this machine too, so that nothing that is read here holds up the event loop. A lane is a
channel to each; it takes one dataset after the other. Only digests travel.
"""

from __future__ import annotations

import asyncio
import collections
import time
from dataclasses import dataclass
from typing import Any

from .agent import AgentClient
from .concurrency import both, task_group
from .dataset import Dataset, Inventory, Snapshot
from .decision import newest_common
from .endpoint import Endpoint
from .entry import EVERYTHING, Entry
from .errors import (
    AgentError,
    ConnectError,
    RemoteProtocolError,
    ZfsError,
)
from .events import (
    Connected,
    Finished,
    Notice,
    Observer,
    Opened,
    Outcome,
    Planned,
    Progress,
    SendEnded,
    SendStarted,
    Status,
)
from .messages import Digest, Result
from .source import no_such_dataset
from .telling import told
from .verification import Verification

PROGRESS_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class VerifyOptions:
    """How to go about it. ``snapshots`` are the names of those to compare, instead of the newest in common.

    Of each dataset the contents of about ``sample`` entries are read, or of all for 0, chosen by ``seed``.
    """

    channels: int = 4
    recursive: bool = True
    sample: int = 0
    seed: str = ""
    snapshots: tuple[str, str] = ("", "")


@dataclass(frozen=True, slots=True)
class _Item:
    """A dataset to compare, with the snapshot at either end."""

    child: str
    snapshots: tuple[Snapshot, Snapshot]

    @property
    def what(self) -> str:
        """The snapshots as the outcome names them."""
        one, two = self.snapshots
        return f"@{one.name}" if one.name == two.name else f"@{one.name}, @{two.name}"


@dataclass(slots=True)
class _Lane:
    """A channel to either end, and when its progress was last told."""

    index: int
    clients: tuple[AgentClient, AgentClient]
    told: float = 0.0


class Verify:
    """One comparison of the contents of two trees. `run` it once."""

    def __init__(self, first: Endpoint, second: Endpoint, options: VerifyOptions, observe: Observer) -> None:
        self._ends = (first, second)
        self._names = (str(first), str(second))
        self._options = options
        self._observe = observe
        self._queue: collections.deque[_Item] = collections.deque()
        self._outcomes: list[Outcome] = []
        self._errors: list[AgentError] = []
        self._not_compared: collections.Counter[str] = collections.Counter()

    async def run(self) -> int:
        """Do all of it; the exit code, which is that of a failed dataset for a difference."""
        with told(self._observe, self._names, lambda: self._outcomes) as job:
            try:
                await self._run()
                equal = (Status.EQUAL, Status.NO_SNAPSHOTS)
                job.ends(well=all(outcome.status in equal for outcome in self._outcomes))
            finally:
                await asyncio.gather(*(end.close() for end in self._ends))
        return job.code

    async def _run(self) -> None:
        if self._options.sample:
            self._observe(
                Notice(
                    f"Reading the contents of about {self._options.sample} entries of each dataset: "
                    f"the same ones again with --seed {self._options.seed}."
                )
            )
        (one, here), (two, there) = await both(self._open(self._ends[0]), self._open(self._ends[1]))
        self._choose(here, there)
        if self._queue:
            wanted = min(self._options.channels, len(self._queue))
            more = await both(self._ends[0].open_many(wanted - 1), self._ends[1].open_many(wanted - 1))
            pairs = list(zip([one, *more[0]], [two, *more[1]], strict=False))
            self._observe(Opened(len(pairs), wanted, "reading"))
            async with task_group() as group:
                for index, clients in enumerate(pairs):
                    group.create_task(self._work(_Lane(index, clients)))
        for word, count in sorted(self._not_compared.items()):
            self._observe(Notice(f"The {word} of {count} datasets could not be compared: one end cannot see them."))
        for end in self._ends:
            if end.lost:
                raise ConnectError(f"The connection to {end.host} was lost.")
        if self._queue and self._errors:
            raise self._errors[0]

    async def _open(self, end: Endpoint) -> tuple[AgentClient, Inventory]:
        client, hello = await end.open()
        self._observe(Connected(hello.host, hello.python, end.cipher))
        inventory = await end.inventory(client, self._options.recursive)
        if "" not in inventory:
            raise no_such_dataset(end.root, end.host)
        return client, inventory

    # -- which snapshots --

    def _choose(self, here: Inventory, there: Inventory) -> None:
        """Queue the datasets that can be compared, and finish the others."""
        children = sorted({*here.datasets, *there.datasets}, key=lambda child: child.split("/"))
        self._observe(Planned(len(children), len(children), 0))
        for child in children:
            one, two = here.datasets.get(child), there.datasets.get(child)
            if one is None or two is None:
                where = self._names[0] if two is None else self._names[1]
                self._finish(child, Status.DIFFERENT, code="missing", message=f"it is only in {where}.")
            elif not (one.snapshots or two.snapshots):
                self._finish(child, Status.NO_SNAPSHOTS, message="it has no snapshot, so there is nothing to compare.")
            else:
                self._choose_snapshots(child, one, two)

    def _choose_snapshots(self, child: str, one: Dataset, two: Dataset) -> None:
        wanted = self._options.snapshots
        common = newest_common(one.snapshots, two.snapshots)
        if wanted != ("", ""):
            pair = (_named(one, wanted[0]), _named(two, wanted[1]))
            lacking = [f"@{name} in {end}" for name, end, it in zip(wanted, self._names, pair, strict=True) if not it]
            why = f"there is no {' and no '.join(lacking)}."
        else:
            pair = (common, next((other for other in two.snapshots if common and other.guid == common.guid), None))
            why = "no snapshot in common, so nothing can be compared."
        if pair[0] and pair[1]:
            self._queue.append(_Item(child, (pair[0], pair[1])))
        else:
            self._finish(child, Status.DIFFERENT, code="no-common", message=why)

    # -- reading --

    async def _work(self, lane: _Lane) -> None:
        """Take datasets until there are none, or an agent has gone."""
        while self._queue:
            item = self._queue.popleft()
            source = self._names[0] + item.child
            self._observe(SendStarted(lane.index, source, item.what, 0, False))
            try:
                await self._verify(lane, item, time.monotonic())
            except AgentError as error:
                self._errors.append(error)
                self._finish(item.child, Status.FAILED, what=item.what, code="agent", message=str(error))
                return
            finally:
                self._observe(SendEnded(lane.index, source))

    async def _verify(self, lane: _Lane, item: _Item, started: float) -> None:
        seed = self._options.seed
        one, two = (Digest(item.child, snapshot.name, snapshot.guid, seed) for snapshot in item.snapshots)
        results = await both(lane.clients[0].result(one), lane.clients[1].result(two))
        problems = [
            f"{end}{item.child} cannot be read: {result.message}"
            for end, result in zip(self._names, results, strict=True)
            if not result.ok
        ]
        if problems:
            code = next(result.code for result in results if not result.ok)
            self._finish(item.child, Status.FAILED, what=item.what, code=code, message="; ".join(problems) + ".")
            return
        found = Verification(self._names)
        try:
            await self._merge(lane, found, self._share(results))
        except ZfsError as error:
            message = f"its contents cannot be read: {error}."
            self._finish(item.child, Status.FAILED, what=item.what, code=error.code, message=message)
            return
        self._not_compared.update(found.not_compared)
        status = Status.FAILED if found.unreadable else Status.DIFFERENT if found.differences else Status.EQUAL
        self._finish(
            item.child,
            status,
            what=item.what,
            code="unreadable" if found.unreadable else "",
            message=f"{item.what} differs in its contents: {found.words}." if found.differences else "",
            bytes=found.bytes,
            seconds=time.monotonic() - started,
        )

    def _share(self, results: tuple[Result, Result]) -> int:
        """How much of a dataset to read, for about as many entries as are wanted: the same at both ends."""
        total = max(result.length for result in results)
        wanted = self._options.sample
        return EVERYTHING if not wanted or wanted >= total else wanted * EVERYTHING // total

    async def _merge(self, lane: _Lane, found: Verification, share: int) -> None:
        """Read both ends to their end, each a batch ahead of what is compared."""
        ahead = [asyncio.ensure_future(client.batch(share)) for client in lane.clients]
        try:
            while True:
                wanting = [end for end in (0, 1) if found.wants(end)]
                if not wanting:
                    return
                for end in wanting:
                    entries, more = await ahead[end]
                    if more:
                        ahead[end] = asyncio.ensure_future(lane.clients[end].batch(share))
                    _feed(found, end, entries, self._ends[end])
                    if not more:
                        found.end(end)
                if time.monotonic() > lane.told + PROGRESS_SECONDS:
                    lane.told = time.monotonic()
                    self._observe(Progress(lane.index, found.bytes))
        finally:
            for future in ahead:
                future.cancel()
            await asyncio.gather(*ahead, return_exceptions=True)

    def _finish(self, child: str, status: Status, **facts: Any) -> None:
        outcome = Outcome(self._names[0] + child, self._names[1] + child, status, **facts)
        self._outcomes.append(outcome)
        self._observe(Finished(outcome))


def _named(dataset: Dataset, name: str) -> Snapshot | None:
    return next((snapshot for snapshot in dataset.snapshots if snapshot.name == name), None)


def _feed(found: Verification, end: int, entries: list[Entry], where: Endpoint) -> None:
    try:
        found.feed(end, entries)
    except ValueError as error:
        raise RemoteProtocolError(f"The agent on {where.host} broke the protocol: it sent {error}.") from error
