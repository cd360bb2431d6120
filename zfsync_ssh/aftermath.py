"""What a run does when the streams have arrived: the buffer, what was set aside, bookmarks, and what is to go."""

from __future__ import annotations

import datetime

from .advice import to_grant, why_not
from .agent import AgentClient
from .bookmarks import bookmark_operations
from .dataset import Inventory
from .delegation import Use
from .dispatch import Dispatch
from .endpoint import Endpoint
from .events import Changed, Cleaned, Notice, Observer, Status
from .item import Item
from .ledger import Ledger
from .messages import CleanBuffer, Operation, Result
from .plan import Plan
from .policy import Policy
from .preparation import Prepared
from .prune import Orphan, destroyed, guids_of, orphans, surplus_snapshots
from .source import Source
from .zfs import ASIDE_MARK


class Aftermath:
    """Ends a run from ``source`` to ``target``; in a ``dry_run`` only says what it would do."""

    def __init__(
        self,
        source: Source,
        target: Endpoint,
        *,
        policy: Policy,
        dry_run: bool,
        recursive: bool,
        ledger: Ledger,
        observe: Observer,
    ) -> None:
        self._source = source
        self._target = target
        self._policy = policy
        self._dry_run = dry_run
        self._recursive = recursive
        self._ledger = ledger
        self._observe = observe
        self.refused = False
        """Something could not be done that was asked for."""

    async def clean_buffer(self, control: AgentClient, plan: Plan, dispatch: Dispatch) -> None:
        """Rename what waits into place, and say so of what cannot be."""
        late = tuple(child for child in plan.placeholders if child not in dispatch.present)
        if not (dispatch.buffered or plan.buffer_left or late):
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
                if result.name.startswith("/"):
                    self._observe(Notice(f"{result.name} stays in {where}: {result.message}."))
                else:
                    self._observe(Notice(f"{where} is not cleared up: {result.message}. The next run tries again."))
        for child in dispatch.buffered - {result.name for result in results}:
            # Not there any more, or the buffer could not be read: it is not in its place in any case.
            message = f"{items[child].source.name} has arrived in {self._target.buffer}, but was not found there again."
            self._ledger.finish(items[child], Status.FAILED, code="stuck", message=message)
        self._observe(Cleaned(renamed))

    async def finish(self, control: AgentClient, made: Prepared) -> None:
        """All that is done once everything is in its place."""
        arrived = [item for item in made.plan.items if self._arrived(item)]
        if not self._dry_run:
            await self._promote(control, made, arrived)
            await self._bookmark(arrived)
        if self._policy.inherit_encryption_root:
            await self._inherit_keys(control, made, arrived)
        if self._policy.delete_datasets or self._policy.delete_snapshots:
            await self._delete(control, made, arrived)

    def _arrived(self, item: Item) -> bool:
        """Whether the target is, or in a dry run will be, up to date."""
        outcome = self._ledger.outcome(item)
        return outcome is not None and outcome.status in (Status.SENT, Status.UP_TO_DATE, Status.PLANNED)

    # -- at both ends --

    async def _promote(self, control: AgentClient, made: Prepared, arrived: list[Item]) -> None:
        """Copies that began as clones of what was set aside own the snapshots from now on, so that that one can go."""
        names = [
            item.target
            for item in arrived
            if (item.steps and item.origin and item.origin.child is None) or _was_to_be_promoted(item, made.target)
        ]
        operations = [Operation("promote", name) for name in names]
        for operation, result in zip(operations, await control.apply(operations), strict=True):
            if not result.ok:
                problem = why_not(operation, result, self._target.host, self._target.root)
                what = f"{self._target.host.at(result.name)} stays a clone of what was set aside"
                self._observe(Notice(f"{what}, which therefore cannot be destroyed: {problem}."))

    async def _bookmark(self, arrived: list[Item]) -> None:
        if not self._policy.bookmark:
            return
        copied = [(item.source, newest) for item in arrived if (newest := item.newest_after) is not None]
        made, replaced = bookmark_operations(copied, str(self._target))
        results = await self._source.apply(made) if made else []
        failed = [result for result in results if not result.ok]
        without = {result.name.partition("#")[0] for result in failed}  # they keep the old one
        replaced = [one for one in replaced if one.name.partition("#")[0] not in without]
        if replaced:
            failed += [result for result in await self._source.apply(replaced) if not result.ok]
        if failed:
            advice = to_grant(failed[0].code, self._source.root, Use.BOOKMARK)
            advice += "; " * bool(advice)
            self._observe(
                Notice(
                    f"{len(failed)} bookmarks cannot be kept at the source (the first: {failed[0].name}, "
                    f"{failed[0].message}): {advice}--no-bookmark goes without.",
                    failed[0].code == "missing",
                )
            )

    async def _inherit_keys(self, control: AgentClient, made: Prepared, arrived: list[Item]) -> None:
        for item in arrived:
            if item.source.encryption_root == item.source.name or not item.raw or not item.child:
                continue
            there = made.target.datasets.get(item.child)
            if there is not None and there.encryption_root != there.name:
                continue
            name = self._target.host.at(item.target)
            above = made.target.datasets.get(item.child.rpartition("/")[0])
            if there is None or not there.key_loaded or above is None or not above.key_loaded:
                message = f"{name} stays an encryption root of its own until its key and its parent's are loaded there"
                self._observe(Notice(f"{message} ('zfs load-key -r'): run this again then."))
                continue
            await self._change(
                control,
                item.target,
                "becomes part of its parent's encryption root",
                (Operation("inherit-key", item.target),),
            )

    # -- what is to go --

    async def _delete(self, control: AgentClient, made: Prepared, arrived: list[Item]) -> None:
        """Destroy at the target what is gone at the source, by two listings of it."""
        newest = {item.child: guid for item in arrived if (guid := _base_after(item))}
        now, policy = datetime.datetime.now(datetime.UTC), self._policy

        def wanted(source: Inventory) -> tuple[list[Orphan], list[str]]:
            gone, names = list[Orphan](), list[str]()
            if policy.delete_datasets:
                gone = orphans(source, made.target, policy.selection, age=policy.delete_age, now=now)
            if policy.delete_snapshots:
                names = surplus_snapshots(source, made.target, newest)
            return gone, names

        gone, names = wanted(made.source)
        if (gone or names) and not self._dry_run:
            # A listing takes a while, and sees neither name of what is renamed meanwhile, nor what a promotion moves.
            again = await self._source.inventory(self._recursive)
            gone_still, surplus_still = wanted(again)
            still = {(one.child, one.words) for one in gone_still}
            new = guids_of(again) - guids_of(made.source)
            gone = [one for one in gone if (one.child, one.words) in still]
            gone = [one for one in gone if not (new and new & guids_of(made.target, one.child))]
            kept = set(names) - set(surplus_still)
            names = [name for name in names if name not in kept]
        await self._delete_datasets(control, made, gone)  # first: a clone would keep the snapshot that it came from
        await self._delete_snapshots(control, names)

    async def _delete_snapshots(self, control: AgentClient, names: list[str]) -> None:
        results = [Result(True, name=name) for name in names]
        if not self._dry_run:
            results = await control.apply([Operation("destroy-snapshot", name) for name in names])
        for dataset, words, failed in destroyed(results):
            if words:
                name = self._target.host.at(dataset)
                lost = "loses snapshots that the source no longer has"
                self._observe(Changed(name, lost, loss=words, planned=self._dry_run))
            for result in failed:
                self._observe(Notice(f"{self._target.host.at(result.name)} stays: {result.message}."))

    async def _delete_datasets(self, control: AgentClient, made: Prepared, found: list[Orphan]) -> None:
        if found and (self._ledger.failed or made.refused):
            self._observe(Notice("No dataset is destroyed at the target, because something failed before."))
            found = [orphan for orphan in found if orphan.back]  # an old mark would destroy it when it is next gone
        for orphan in found:
            await self._change(control, orphan.name, orphan.words, orphan.operations, orphan.loss)

    async def _change(
        self, control: AgentClient, name: str, words: str, operations: tuple[Operation, ...], loss: str = ""
    ) -> None:
        where, problem = self._target.host.at(name), ""
        for operation in operations:
            if not (self._dry_run or problem):
                (result,) = await control.apply([operation])
                problem = why_not(operation, result, self._target.host, self._target.root)
        self.refused |= bool(problem)
        self._observe(Changed(where, words, loss="" if problem else loss, planned=self._dry_run, problem=problem))


def _was_to_be_promoted(item: Item, target: Inventory) -> bool:
    """Whether a run that was cut off has left a copy as a clone of what it had set aside.

    Following the source's promotions (`align`) sees that of a child alone: what a root was is not in its tree.
    """
    there = target.find(item.child)  # perhaps in the buffer, from where it was renamed into place since
    return there is not None and ASIDE_MARK in there.origin.partition("@")[0] and not item.source.origin


def _base_after(item: Item) -> int:
    """The GUID of the snapshot that the next incremental stream will begin from."""
    if item.steps:
        return item.steps[-1].to.guid
    return item.decision.base if item.decision is not None else 0
