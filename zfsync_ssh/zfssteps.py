"""What an unattended job does to ZFS and over the network: `zfsync_ssh.jobsteps.Steps` on the replication engine.

Each step opens its own way to the ends that it needs, and gives it up again: between two steps a hook may run for
minutes, and a step that is tried again must not find a connection that has gone.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

from .advice import to_grant
from .blame import UNDONE
from .bookmarks import marks_of_partial, snapshot_name, spared
from .concurrency import both
from .config import Job
from .dataset import Dataset, Inventory
from .delegation import Use
from .endpoint import Endpoint
from .errors import ZfsError, ZfsyncError
from .events import Changed, Event, Observer, SendStarted, Status
from .item import Item
from .jobsteps import Brought, Pruned, Pushed, Rule, SourceState
from .listing import parse_sizes
from .location import Location, place
from .messages import Operation
from .orchestrator import Options, Replication
from .reach import buffer_of, endpoint_at, remembered, source_at
from .retention import taken_together
from .source import Source
from .thinning import destruction, doomed, held, thinned

_ADVICE = {
    "no-space": "; free space there",
    "pool": "; 'zpool status' says why, 'zpool clear' resumes it",
}


class ZfsSteps:
    """The steps of ``job``. ``owner`` is told to other runs that want a target, ``observe`` sees all that happens."""

    def __init__(self, job: Job, owner: str, observe: Observer) -> None:
        self._job = job
        self._owner = owner
        self._observe = observe
        self._common: defaultdict[str, set[int]] = defaultdict(set)
        """GUIDs of the newest snapshots that a source dataset has in common with each target, as far as was seen."""

    async def source(self) -> SourceState:
        """See `Steps`."""
        async with self._source() as source:
            inventory = await self._list(source)
            taking = self._taking(inventory)
            written = not self._job.retention.skip_unwritten or await self._written(source, taking)
        names = {snapshot.name for dataset in inventory.datasets.values() for snapshot in dataset.snapshots}
        for dataset in inventory.datasets.values():
            names |= {snapshot_name(mark.name) for mark in dataset.bookmarks}
        return SourceState(taken_together(taking, inventory.root), frozenset(names), written)

    async def _written(self, source: Source, datasets: Sequence[Dataset]) -> bool:
        """Whether anything was written to these since the newest snapshot of each that is sent.

        What ZFS calls written is since the newest of all, which may be another program's and not be sent.
        """
        unsent: list[str] = []
        for dataset in datasets:
            wanted = self._job.transfer.policy.selection.wanted(dataset.snapshots)
            if dataset.written or not any(wanted):
                return True
            newest = len(wanted) - wanted[::-1].index(True)
            unsent += [f"{dataset.name}@{snapshot.name}" for snapshot in dataset.snapshots[newest:]]
        sizes, _ = parse_sizes(await source.query("written", unsent) if unsent else ())
        return any(sizes.values())

    async def take(self, name: str) -> None:
        """See `Steps`. One transaction group, as far as `zfsync_ssh.driver.Driver.snapshot` can."""
        async with self._source() as source:
            names = [f"{dataset.name}@{name}" for dataset in self._taking(await self._list(source))]
            results = await source.apply([Operation("snapshot", snapshot) for snapshot in names])
            failed = [result for result in results if not result.ok]
            if not failed:
                return
            # Beyond one command or message the others were made: a snapshot of a part of the tree is none.
            await source.apply([Operation("destroy-snapshot", result.name) for result in results if result.ok])
        why = next((result for result in failed if result.code != UNDONE), failed[0])
        where = source.host.at(why.name)
        granted = to_grant(why.code, self._job.source.dataset, Use.SNAPSHOT)
        advice = f"; {granted}" if granted else _ADVICE.get(why.code, "")
        raise ZfsError(f"{where} cannot be taken: {why.message}{advice}.", why.code)

    async def push(self, target: Location) -> Pushed:
        """See `Steps`."""
        transfer, way = self._job.transfer, self._job.connection
        here = source_at(way, self._job.source, limited=transfer.rate_limit > 0)
        there = endpoint_at(way, target, buffer_of(target.dataset, transfer.buffer))
        begun: set[str] = set()
        problems: list[str] = []

        def watch(event: Event) -> None:
            if isinstance(event, SendStarted):
                begun.add(event.source)
            elif isinstance(event, Changed) and event.problem:
                problems.append(f"{event.target} was not changed as it should have been, {event.problem}.")
            self._observe(event)

        options = Options.of(transfer, owner=self._owner)
        if self._job.retention.keep is None:  # else every dataset has a new snapshot, and nothing could be spared
            options = replace(options, remembered=remembered(self._job.source, target, transfer.policy))
        replication = Replication(here, there, options, watch)
        try:
            code = await replication.run()
        finally:
            await self._mark_partial([item for item in replication.broken if item.source.name in begun], str(there))
        rows = []
        for item, outcome in replication.outcomes:
            failed = outcome.status is Status.FAILED
            common = item.base if failed else item.newest_after
            if common is not None:
                self._common[item.source.name].add(common.guid)
            newest, message = item.source.newest, outcome.message if failed else ""
            name, known = newest.name if newest else "", common.name if common else ""
            rows.append(Brought(item.source.name, failed, outcome.bytes, name, known, message))
        return Pushed(code, tuple(rows), tuple(problems))

    async def _mark_partial(self, items: Sequence[Item], target: str) -> None:
        """Bookmark what may have arrived of a push that was cut off: the source may prune it before the next one.

        The target's newest snapshot would be known to nobody then, and it could be sent nothing more. The next push
        that is well replaces these bookmarks by its own.
        """
        operations = [operation for item in items for operation in marks_of_partial(item, target)]
        if operations and self._job.transfer.policy.bookmark:
            with contextlib.suppress(ZfsyncError):  # the push itself has failed, and that is told
                async with self._source() as source:
                    await self._list(source)
                    await source.apply(operations)

    async def prune(self, target: Location | None, rule: Rule) -> Pruned:
        """See `Steps`."""
        async with self._source() as source:
            if target is None:
                here = await self._list(source)
                stays = held(await source.query("hold-counts", [source.root]))
                names = [name for dataset in self._taking(here)
                         for name in doomed(dataset, rule, stays, self._needed(dataset))]  # fmt: skip
                return thinned(source.host, await source.apply(destruction(names)), self._observe)
            endpoint = endpoint_at(self._job.connection, target, buffer_of(target.dataset, self._job.transfer.buffer))
            try:
                return await self._prune_target(source, endpoint, rule)
            finally:
                await endpoint.close()

    def _needed(self, dataset: Dataset) -> set[int]:
        """GUIDs of snapshots that some target needs at the source, as far as was seen, or bookmarks tell."""
        return self._common[dataset.name].union(*(spared(dataset, place(target)) for target in self._job.targets))

    async def _prune_target(self, source: Source, target: Endpoint, rule: Rule) -> Pruned:
        """Only what has its dataset at the source still: of another, what is there is all there is."""
        client, _ = await target.open()
        await client.lock(target.root, self._owner)
        recursive = self._job.transfer.recursive
        here, there = await both(self._list(source), target.inventory(client, recursive))
        stays = held(await client.query("hold-counts", [""]))
        names: list[str] = []
        for dataset in self._taking(here):
            copy = there.datasets.get(dataset.name[len(here.root) :])
            if copy is not None:
                known = {one.guid for one in dataset.snapshots} | {mark.guid for mark in dataset.bookmarks}
                base = next((one.guid for one in reversed(copy.snapshots) if one.guid in known), 0)
                if base:  # else it is the copy of another dataset of that name, which is gone
                    self._common[dataset.name].add(base)
                    names += doomed(copy, rule, stays, {base})
        return thinned(target.host, await client.apply(destruction(names)), self._observe)

    # -- the source --

    @contextlib.asynccontextmanager
    async def _source(self) -> AsyncIterator[Source]:
        source = source_at(self._job.connection, self._job.source)
        try:
            yield source
        finally:
            await source.close()

    async def _list(self, source: Source) -> Inventory:
        since = bool(self._job.transfer.policy.selection.since)
        return await source.inventory(self._job.transfer.recursive, creation=since)

    def _taking(self, inventory: Inventory) -> list[Dataset]:
        """The datasets that take part, parents first. Of what has only begun to arrive, there can be no snapshot."""
        taken = self._job.transfer.policy.selection.datasets(inventory).datasets.values()
        taking = [dataset for dataset in taken if dataset.complete]
        if not taking:
            raise ZfsError(f"Nothing of {inventory.root} takes part: check include, exclude and zfsync:exclude.")
        return taking
