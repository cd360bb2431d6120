"""One run: inventories, plan, workers, cleanbuffer, outcomes. The rest of the program is wiring around this."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from .advice import advice
from .agent import AgentClient
from .compression import NONE, agreed_filter, with_filters
from .concurrency import both
from .dataset import Inventory, parent_of
from .endpoint import Endpoint
from .errors import EXIT_INTERRUPTED, EXIT_OK, DatasetError, UsageError, ZfsError, ZfsyncError
from .events import Cleaned, Connected, Ended, Notice, Observer, Planned, Started, Status
from .ledger import Ledger
from .messages import CleanBuffer, Operation
from .plan import Plan, make_plan, place_for, snapshots_to_send, with_estimates
from .selection import EVERYTHING, Selection
from .source import Source
from .throttle import Throttle
from .workers import Workers


@dataclass(frozen=True, slots=True)
class Options:
    """How to go about it. ``owner`` is told to another run that wants the same target."""

    channels: int = 4
    recursive: bool = True
    dry_run: bool = False
    owner: str = ""
    selection: Selection = EVERYTHING
    compress: str = NONE
    """One of `zfsync_ssh.compression.CHOICES`."""
    rate_limit: int = 0
    """Bytes a second of all streams together; 0 for no limit."""


class Replication:
    """One run that brings a target up to date with a source. `run` it once."""

    def __init__(self, source: Source, target: Endpoint, options: Options, observe: Observer) -> None:
        self._source = source
        self._target = target
        self._options = options
        self._observe = observe
        self._ledger = Ledger(source.host, target.host, observe)

    async def run(self) -> int:
        """Do all of it; the exit code.

        `ZfsyncError` for what ends the run as a whole, after everything is tidied up.
        """
        started = time.monotonic()
        source = self._source.host.at(self._source.root)
        self._observe(Started(source, str(self._target), self._options.dry_run))
        code, message = ZfsyncError.exit_code, ""
        try:
            await self._run()
            code = DatasetError.exit_code if self._ledger.failed else EXIT_OK
        except ZfsyncError as error:
            code, message = error.exit_code, str(error)
            raise
        except asyncio.CancelledError:
            code = EXIT_INTERRUPTED
            raise
        finally:
            await asyncio.gather(self._target.close(), self._source.close())
            self._ledger.close()
            self._observe(Ended.of(self._ledger.outcomes.values(), time.monotonic() - started, code, message))
        return code

    async def _run(self) -> None:
        options = self._options
        source, (control, target) = await both(self._source.inventory(options.recursive), self._open_control())
        plan = make_plan(
            options.selection.datasets(source), target, host=self._target.host, selection=options.selection
        )
        ends = [(end.host, end.filters) for end in (self._source, self._target)]
        plan = with_filters(plan, agreed_filter(options.compress, ends))
        if plan.work:
            plan = with_estimates(plan, await self._source.written(snapshots_to_send(plan)))
        self._observe(Planned(len(plan.items), len(plan.work), plan.estimate))
        self._settle_the_rest(plan)
        if not plan.items:
            raise UsageError(
                f"Nothing of {self._source.root} is selected: check --include, --exclude and zfsync:exclude."
            )
        if (plan.work or plan.buffer_left or plan.leftovers) and not options.dry_run:
            workers = self._workers(target)
            await self._prepare(control, plan, target, workers.present)
            if plan.work:
                await workers.run(control, plan.work, options.channels)
            await self._clean_buffer(control, plan, workers)
        if all(outcome.status is Status.NO_SNAPSHOTS for outcome in self._ledger.outcomes.values()):
            raise ZfsError(
                f"Nothing below {self._source.root} has a snapshot to send: make one with "
                f"'zfs snapshot -r {self._source.root}@NAME'.",
                "empty",
            )

    async def _open_control(self) -> tuple[AgentClient, Inventory]:
        client, hello = await self._target.open()
        self._observe(Connected(hello.host, hello.python, self._target.cipher))
        if not self._options.dry_run:
            await client.lock(self._target.root, self._options.owner)
        return client, await self._target.inventory(client, self._options.recursive)

    def _workers(self, target: Inventory) -> Workers:
        present = {child for child, dataset in target.datasets.items() if dataset.complete}
        return Workers(
            self._source,
            self._target,
            present=present,
            selection=self._options.selection,
            throttle=Throttle(self._options.rate_limit) if self._options.rate_limit else None,
            ledger=self._ledger,
            observe=self._observe,
        )

    # -- before the streams --

    def _settle_the_rest(self, plan: Plan) -> None:
        """The outcomes of all datasets that have nothing to send; of all, in a dry run."""
        for item in plan.items:
            if item.problem:
                self._ledger.finish(item, Status.FAILED, code=item.code, message=item.problem)
            elif item.steps:
                if self._options.dry_run:
                    self._ledger.finish(item, Status.PLANNED)
            elif item.decision is None:
                name = item.source.name
                self._ledger.finish(
                    item, Status.NO_SNAPSHOTS, message=f"{name} has no snapshot, so there is nothing to send."
                )
            else:
                self._ledger.finish(item, Status.UP_TO_DATE)

    async def _prepare(self, control: AgentClient, plan: Plan, target: Inventory, present: set[str]) -> None:
        """Make what the streams will need: the root's ancestors, placeholders that can be made now, the buffer.

        ``present`` is the children in their own places; the placeholders made now are added to it.
        """
        operations = [Operation("ancestor", name) for name in plan.ancestors]
        for child in plan.placeholders:
            if parent_of(child) is None or parent_of(child) in present:
                present.add(child)
                operations.append(Operation("placeholder", self._target.root + child))
        places = [place_for(item, self._target.buffer, present) for item in plan.work]
        if target.buffer is None and any(place.startswith(self._target.buffer + "/") for place in places):
            operations.append(Operation("buffer", self._target.buffer))
        operations += [Operation("drop", name) for name in plan.leftovers]
        for result in await control.apply(operations):
            if not result.ok:
                what = f"{self._target.host} cannot prepare the dataset {result.name}: {result.message}"
                raise ZfsError(f"{what}{advice(result.code)}.", result.code)

    # -- after the streams --

    async def _clean_buffer(self, control: AgentClient, plan: Plan, workers: Workers) -> None:
        """Rename what waits into place, and say so of what cannot be."""
        late = tuple(child for child in plan.placeholders if child not in workers.present)
        if not (workers.buffered or plan.buffer_left or late):
            return
        results = await control.results(CleanBuffer(late))
        items = {item.child: item for item in plan.items}
        renamed = 0
        for result in results:
            item = items.get(result.name)
            if result.ok:
                renamed += 1
            elif item is not None:
                outcome = self._ledger.outcome(item)
                if outcome is None or outcome.status is not Status.FAILED:
                    message = (
                        f"{item.source.name} has arrived, but waits in {self._target.buffer}: {result.message}. "
                        f"It is renamed into place by the first run, or 'zfsync cleanbuffer', that can."
                    )
                    self._ledger.finish(item, Status.FAILED, code=result.code, message=message)
            else:
                where = self._target.host.at(self._target.buffer)
                self._observe(Notice(f"{result.name or 'Everything'} stays in {where}: {result.message}."))
        for child in workers.buffered - {result.name for result in results}:
            # Not there any more, or the buffer could not be read: it is not in its place in any case.
            message = f"{items[child].source.name} has arrived in {self._target.buffer}, but was not found there again."
            self._ledger.finish(items[child], Status.FAILED, code="stuck", message=message)
        self._observe(Cleaned(renamed))
