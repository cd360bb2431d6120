"""One run: inventories, plan, workers, cleanbuffer, outcomes. The rest of the program is wiring around this."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any

from .advice import check_prepared, why_not
from .aftermath import Aftermath
from .agent import AgentClient
from .compression import NONE, agreed_filter
from .concurrency import after, both, task_group
from .dataset import Inventory, child_of, parent_of
from .dispatch import Dispatch
from .divergence import written_since
from .endpoint import Endpoint
from .errors import AgentError, ConnectError, SilenceError, UsageError, ZfsError
from .events import Changed, Connected, Event, Observer, Outcome, Planned, Status
from .item import Item
from .keeping import Holds
from .ledger import Ledger
from .messages import Hello, Operation
from .plan import Plan, in_place_without_room
from .planfile import check_record, record
from .policy import DEFAULT, Policy
from .preparation import Confirm, Preparation, Prepared
from .remembered import Remembered
from .source import Source
from .telling import told
from .throttle import Throttle
from .transfer import Transfer
from .watchdog import STALL_SECONDS
from .workers import Workers, connection_lost


@dataclass(frozen=True, slots=True)
class Options:
    """How to go about it. ``owner`` is told to another run that wants the same target."""

    channels: int = 4
    recursive: bool = True
    dry_run: bool = False
    owner: str = ""
    policy: Policy = DEFAULT
    compress: str = NONE
    """One of `zfsync_ssh.compression.CHOICES`."""
    rate_limit: int = 0
    """Bytes a second of all streams together; 0 for no limit."""
    stall_timeout: float = STALL_SECONDS
    """Seconds after which a stream that stands still is ended; 0 for never."""
    confirm: Confirm | None = None
    """Asks before something is lost that the policy allows to be lost; None: nobody is there to ask."""
    expected: dict[str, Any] | None = None
    """A plan that was written down: the run goes on only if its own is the same."""
    remembered: tuple[Remembered, Remembered] | None = None
    """What is remembered of the source and of the target; None where all is to be listed."""
    write_plan: Callable[[dict[str, Any]], None] | None = None
    """Takes the plan, to be written down."""

    @classmethod
    def of(cls, transfer: Transfer, **more: Any) -> Options:
        """What the user wants of a transfer; ``more`` are the other fields."""
        return cls(
            channels=transfer.channels,
            recursive=transfer.recursive,
            policy=transfer.policy,
            compress=transfer.compress,
            rate_limit=transfer.rate_limit,
            stall_timeout=transfer.stall_timeout,
            **more,
        )


class Replication:
    """One run that brings a target up to date with a source. `run` it once."""

    def __init__(self, source: Source, target: Endpoint, options: Options, observe: Observer) -> None:
        self._source = source
        self._target = target
        self._options = options
        self._observe = observe
        self._ledger = Ledger(source.host, target.host, observe)
        self._holds = Holds(source, str(target), observe)
        self._refused = False
        self._plan: Plan | None = None
        self._remembered = options.remembered or (None, None)

    @property
    def outcomes(self) -> list[tuple[Item, Outcome]]:
        """What was planned for each dataset, and what became of it."""
        items = self._plan.items if self._plan is not None else ()
        return [(item, outcome) for item in items if (outcome := self._ledger.outcome(item)) is not None]

    @property
    def broken(self) -> list[Item]:
        """What was to be sent and did not arrive as a whole, once the run is over."""
        return [item for item, outcome in self.outcomes if item.steps and outcome.status is Status.FAILED]

    async def run(self) -> int:
        """Do all of it; the exit code.

        `ZfsyncError` for what ends the run as a whole, after everything is tidied up.
        """
        ends = (self._source.host.at(self._source.root), str(self._target))
        well = False
        with told(self._observe, ends, lambda: self._ledger.outcomes.values(), dry_run=self._options.dry_run) as job:
            try:
                try:
                    await self._run_or_lose()
                finally:
                    await self._holds.release()
                well = not self._ledger.failed and not self._refused
                job.ends(well=well)
            finally:
                await asyncio.gather(self._target.close(), self._source.close())
                self._ledger.close()
                for remembered in filter(None, self._remembered):
                    if not well:  # for whatever reason: the next run looks for itself
                        remembered.forget()
                    remembered.save()
        return job.code

    async def _run_or_lose(self) -> None:
        """`_run`, and of an agent that has gone with all others at its end, that the way there was lost."""
        try:
            await self._run()
        except SilenceError as error:
            raise ConnectError(f"{error} Run the same command again: it goes on where it was cut off.") from error
        except AgentError as error:
            for end in (self._target, self._source):
                if end.lost:
                    raise connection_lost(end.host) from error
            raise

    async def _run(self) -> None:
        options, policy = self._options, self._options.policy
        if not options.recursive:  # what is below the root is not listed at the source, and so not gone
            policy = replace(policy, delete_datasets=False)
        preparation = self._preparation(dry_run=options.dry_run, observe=self._observe)
        source, (control, target) = await both(preparation.source_inventory(self._remembered[0]), self._open_control())
        ends = [(end.host, end.filters) for end in (self._source, self._target)]
        agreed = agreed_filter(options.compress, ends)
        if options.expected is not None and not options.dry_run:
            # Before anything is changed at the target, which is part of preparing.
            would = await self._preparation(dry_run=True, observe=_nobody).prepare(control, source, target, agreed)
            check_record(options.expected, self._record(would))
        made = await preparation.prepare(control, source, target, agreed)
        plan = self._plan = in_place_without_room(made.plan, self._target.buffer)
        self._check_record(made)
        self._observe(Planned(len(plan.items), len(plan.work), plan.estimate))
        self._settle_the_rest(plan, made.target)
        if not plan.items:
            raise UsageError(
                f"Nothing of {self._source.root} is selected: check --include, --exclude and zfsync:exclude."
            )
        aftermath = Aftermath(
            self._source,
            self._target,
            policy=policy,
            dry_run=options.dry_run,
            recursive=options.recursive,
            ledger=self._ledger,
            observe=self._observe,
        )
        if (plan.work or plan.buffer_left or plan.leftovers or made.changes) and not options.dry_run:
            present = {child for child, dataset in made.target.datasets.items() if dataset.complete}
            made.refused |= not await self._prepare(control, plan, present)
            dispatch = Dispatch(plan.work, present, policy)
            self._ledger.expect(plan.work)
            if plan.work:
                await self._workers(made.target.buffer is not None).run(control, dispatch, options.channels)
            await aftermath.clean_buffer(control, plan, dispatch)
        await aftermath.finish(control, made)
        self._refused = made.refused or aftermath.refused
        if all(outcome.status is Status.NO_SNAPSHOTS for outcome in self._ledger.outcomes.values()):
            raise ZfsError(
                f"Nothing below {self._source.root} has a snapshot to send: make one with "
                f"'zfs snapshot -r {self._source.root}@NAME'.",
                "empty",
            )

    def _preparation(self, *, dry_run: bool, observe: Observer) -> Preparation:
        return Preparation(
            self._source,
            self._target,
            policy=self._options.policy,
            recursive=self._options.recursive,
            channels=self._options.channels,
            dry_run=dry_run,
            holds=self._holds,
            confirm=self._options.confirm,
            observe=observe,
        )

    async def _open_control(self) -> tuple[AgentClient, Inventory]:
        """An agent that has the target's lock, and what it sees there: all asked at once, since it answers in order."""
        client, hello = await self._target.begin()
        listing = self._target.inventory(client, self._options.recursive, remembered=self._remembered[1])
        async with task_group() as group:
            connected = group.create_task(self._connected(hello))  # what it says to that is why it refuses the rest
            if not self._options.dry_run:
                group.create_task(after(connected, client.lock(self._target.root, self._options.owner)))
            inventory = group.create_task(after(connected, listing))
        return client, inventory.result()

    async def _connected(self, hello: Coroutine[Any, Any, Hello]) -> None:
        said = await hello
        self._observe(Connected(said.host, said.python, self._target.cipher))

    def _record(self, made: Prepared) -> dict[str, Any]:
        source = self._source.host.at(self._source.root)
        return record(made.plan, made.changes, source=source, target=str(self._target))

    def _check_record(self, made: Prepared) -> None:
        """Compare the plan with the one that was written down, and write it down, as far as that was asked for."""
        if self._options.expected is not None:
            check_record(self._options.expected, self._record(made))
        if self._options.write_plan is not None:
            self._options.write_plan(self._record(made))

    def _workers(self, buffer_there: bool) -> Workers:
        limit = self._options.rate_limit
        return Workers(
            self._source,
            self._target,
            policy=self._options.policy,
            throttle=Throttle(limit) if limit else None,
            stall_timeout=self._options.stall_timeout,
            buffer_there=buffer_there,
            ledger=self._ledger,
            observe=self._observe,
        )

    # -- before the streams --

    def _settle_the_rest(self, plan: Plan, target: Inventory) -> None:
        """The outcomes of all datasets that have nothing to send; of all, in a dry run."""
        for item in plan.items:
            if item.problem:
                self._ledger.finish(item, Status.FAILED, code=item.code, message=item.problem)
            elif item.steps:
                if self._options.dry_run:
                    there = target.find(item.child)
                    message = written_since(there) if there is not None and there.snapshots else ""
                    self._ledger.finish(item, Status.PLANNED, message=message)
            elif item.decision is None:
                name = item.source.name
                self._ledger.finish(
                    item, Status.NO_SNAPSHOTS, message=f"{name} has no snapshot, so there is nothing to send."
                )
            else:
                self._ledger.finish(item, Status.UP_TO_DATE)

    async def _prepare(self, control: AgentClient, plan: Plan, present: set[str]) -> bool:
        """Make what the streams will need: the root's ancestors, and placeholders that can be made now.

        ``present`` is the children in their own places; the placeholders made now are added to it. If all went well.
        """
        host, root = self._target.host, self._target.root
        operations = [Operation("ancestor", name) for name in plan.ancestors]
        for child in plan.placeholders:
            if parent_of(child) is None or parent_of(child) in present:
                present.add(child)
                operations.append(Operation("placeholder", root + child))
        operations += [Operation("drop", name) for name in plan.leftovers]
        well = True
        for operation, result in zip(operations, await control.apply(operations), strict=True):
            name, below = host.at(operation.name), child_of(root, operation.name)
            if operation.verb == "ancestor" or operation.name == root:
                check_prepared(operation, result, host, root)  # nothing can be received without it
            elif not result.ok:
                present.discard(below or "")
                self._observe(Changed(name, _WITHOUT[operation.verb], problem=why_not(operation, result, host, root)))
                well = False
            elif result.message:
                self._observe(Changed(name, f"{_WITHOUT[operation.verb]}, {result.message}"))
        return well


_WITHOUT = {
    "placeholder": "is made, empty, for what is to be below it",
    "drop": "loses the beginning of a stream that nothing follows any more",
}
"""What is done before the streams, and what may fail without keeping all others from being sent."""


def _nobody(_: Event) -> None:
    """Observes for nobody."""
