"""From two inventories to a plan that can be trusted: what changes at the target first, holds, sizes, preflight."""

from __future__ import annotations

import datetime
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace

from . import zfs
from .advice import why_not
from .agent import AgentClient
from .align import Change, Target, follow_promotions, follow_renames
from .compression import with_filters
from .dataset import Dataset, Inventory
from .endpoint import Endpoint
from .errors import UsageError
from .events import Changed, Notice, Observer
from .item import Item
from .keeping import Holds
from .listing import parse_numbers, parse_sizes
from .plan import Plan, check_apart, make_plan, snapshots_needed, with_estimates, without_empty
from .policy import Divergence, Policy
from .preflight import lineage_questions, parse_features, with_features, with_lineage, with_room
from .properties import for_copy, parse_listing
from .remembered import Remembered
from .room import make_room
from .settle import free_names, losses, settle_divergence
from .source import Source
from .unencrypted import by_buffer, is_encrypted_above

Confirm = Callable[[Sequence[str]], Awaitable[bool]]
"""Asks the user whether what these lines say may be lost."""


@dataclass(slots=True)
class Prepared:
    """What is to be done, and what it was made of."""

    source: Inventory
    """The whole tree."""
    target: Inventory
    plan: Plan
    asides: dict[str, Dataset] = field(default_factory=dict)
    """Copies that were set aside, by the child that they were."""
    changes: list[Change] = field(default_factory=list)
    refused: bool = False
    """Some change could not be made."""


class Preparation:
    """Makes the plan of a run from ``source`` to ``target``."""

    def __init__(
        self,
        source: Source,
        target: Endpoint,
        *,
        policy: Policy,
        recursive: bool,
        channels: int,
        dry_run: bool,
        holds: Holds,
        confirm: Confirm | None,
        observe: Observer,
    ) -> None:
        self._source = source
        self._target = target
        self._policy = policy
        self._recursive = recursive
        self._channels = channels
        self._dry_run = dry_run
        self._holds = holds
        self._confirm = confirm
        self._observe = observe

    async def source_inventory(self, remembered: Remembered | None = None) -> Inventory:
        """What the source has."""
        return await self._source.inventory(
            self._recursive,
            holds=self._holds.property,
            creation=bool(self._policy.selection.since),
            remembered=remembered,
        )

    async def prepare(self, control: AgentClient, source: Inventory, target: Inventory, agreed: str) -> Prepared:
        """The plan; ``agreed`` is the filter for what is not compressed."""
        if not self._dry_run:
            await self._holds.tidy(source)
        made = await self._align(control, source, target)
        await self._look_above(control, made)
        made = self._planned(made, agreed)
        if not self._dry_run:  # while the rest is looked at
            for end in (self._target, self._source):
                end.open_ahead(min(self._channels, len(made.plan.work)))
        written, referenced = await self._hold_and_measure(made)
        if gone := self._gone(made, written):
            names = f"{gone[0]} and {len(gone) - 1} more have" if len(gone) > 1 else f"{gone[0]} has"
            self._observe(Notice(f"{names} been destroyed since it was listed: planning anew.", True))
            made.source = await self.source_inventory()
            made = self._planned(made, agreed)
            written, referenced = await self._hold_and_measure(made)
        plan = made.plan
        if self._policy.skip_empty:
            plan = without_empty(plan, written, self._policy)
        plan = with_estimates(plan, written, referenced)
        if self._policy.preflight:
            plan = await self._preflight(control, plan, made.target)
        made.plan = await self._with_properties(plan)
        return made

    async def _look_above(self, control: AgentClient, made: Prepared) -> None:
        """Learn whether the target lies below an encrypted dataset, where that matters and its root does not tell."""
        root = made.target.datasets.get("")
        if root is None or not root.encrypted:
            return
        if by_buffer(made.source, made.target, self._policy) - made.target.datasets.keys():
            made.target.encrypted = is_encrypted_above(await control.query(zfs.ABOVE_QUERY, [""]))

    def _planned(self, made: Prepared, agreed: str) -> Prepared:
        plan = make_plan(
            self._policy.selection.datasets(made.source),
            made.target,
            host=self._target.host,
            policy=self._policy,
            asides=made.asides,
            whole=made.source,
        )
        made.plan = with_filters(plan, agreed)
        return made

    # -- what changes at the target first --

    async def _align(self, control: AgentClient, source: Inventory, target: Inventory) -> Prepared:
        policy, host = self._policy, self._target.host
        whole = target
        if not self._recursive and policy.on_divergence in (Divergence.SET_ASIDE, Divergence.REPLACE):
            whole = await self._target.inventory(control, True)  # what is below must not go along
        check_apart(source, whole, host)
        aligned = Target(whole, self._target.buffer)
        changes: list[Change] = []
        now = datetime.datetime.now(datetime.UTC)
        selected = policy.selection.datasets(source)
        if policy.follow_renames and self._recursive:
            changes += free_names(source, selected, aligned, host=host, policy=policy, now=now)
            changes += follow_renames(source, aligned) + follow_promotions(source, aligned)
        changes += settle_divergence(selected, aligned, host=host, policy=policy, now=now)
        if self._recursive:  # else it is not known what is below
            changes += make_room(selected, aligned, policy)
        made = Prepared(source, aligned.inventory(), _NO_PLAN, aligned.asides, changes)
        if not changes:
            made.target = target
        elif self._dry_run:
            for change in changes:
                self._observe(Changed(host.at(change.name), change.words, loss=change.loss, planned=True))
        else:
            lost = losses(changes)
            if lost and self._confirm is not None and not await self._confirm([host.at(line) for line in lost]):
                raise UsageError("Nothing was changed, and nothing sent: what would be lost was not confirmed.")
            await self._carry_out(control, changes, made)
            made.target = await self._target.inventory(control, self._recursive)
        return made

    async def _carry_out(self, control: AgentClient, changes: list[Change], made: Prepared) -> None:
        """Carry out ``changes``, as long as each name still means what it meant when they were thought out."""
        stopped = ""
        for change in changes:
            if stopped:
                problem = f"{stopped} had to be changed before, and was not"
                self._observe(Changed(self._target.host.at(change.name), change.words, problem=problem))
            elif not await self._change(control, change):
                made.refused = True
                # After a rename that was refused, the next name may be that of another dataset.
                stopped = self._target.host.at(change.name) if change.kind in ("rename", "promote") else ""

    async def _change(self, control: AgentClient, change: Change) -> bool:
        """Carry out one change, until one of its operations fails."""
        name = self._target.host.at(change.name)
        for operation in change.operations:
            (result,) = await control.apply([operation])
            if not result.ok:
                problem = why_not(operation, result, self._target.host, self._target.root)
                self._observe(Changed(name, change.words, problem=problem))
                return False
        self._observe(Changed(name, change.words, loss=change.loss))
        return True

    # -- what is looked at before the plan is trusted --

    async def _hold_and_measure(self, made: Prepared) -> tuple[dict[str, int], dict[str, int]]:
        """What each snapshot has written, and refers to, in bytes: of those that are needed and are there, held."""
        needed = snapshots_needed(made.plan)
        if needed and not self._dry_run and self._policy.hold:
            await self._holds.hold(needed)
        return parse_sizes(await self._source.query("written", needed) if needed else ())

    def _gone(self, made: Prepared, written: dict[str, int]) -> list[str]:
        return [name for name in snapshots_needed(made.plan) if name not in written]

    async def _with_properties(self, plan: Plan) -> Plan:
        """The plan with what each copy is given and does not take; what it is made of is remembered with it."""
        wanted = self._policy.properties
        own: dict[str, dict[str, str]] = {}
        if wanted.preserve and plan.work:
            own = parse_listing(await self._source.query("own-properties", [item.source.name for item in plan.work]))

        def given(item: Item) -> Item:
            usable = _usable(item) if self._policy.usable else {}
            mine = {name: value for name, value in own.get(item.source.name, {}).items() if name not in usable}
            values = usable | dict(pair.split("=", 1) for pair in for_copy(item.source.kind, mine, wanted))
            if item.pinned != item.stream_there or not item.state.newest:
                values[zfs.STREAM_PROPERTY] = item.pinned
            pairs = tuple(f"{name}={value}" for name, value in values.items())
            if item.steps and len(json.dumps(pairs)) > MAX_PROPERTY_BYTES:
                problem = (
                    f"{item.source.name} has more than {MAX_PROPERTY_BYTES >> 10} KiB of properties to preserve: name "
                    f"those that matter, instead of --preserve all."
                )
                return replace(item, steps=(), problem=problem, code="properties", estimate=0)
            return replace(item, properties=pairs, excluded=wanted.exclude) if item.steps else item

        return replace(plan, items=tuple(map(given, plan.items)))

    async def _preflight(self, control: AgentClient, plan: Plan, target: Inventory) -> Plan:
        if not plan.work:
            return plan
        host = self._target.host
        features = parse_features(await control.query(zfs.FEATURES_QUERY, [""]))
        names = [item.source.name for item in plan.work] if features else []
        traits = parse_listing(await self._source.query("traits", names)) if names else {}
        plan = with_features(plan, features, host, traits)
        if bases := lineage_questions(plan):
            here = parse_numbers(await self._source.query("iv-sets", [base for base, _ in bases]))
            there = parse_numbers(await control.query("iv-sets", [base for _, base in bases]))
            plan = with_lineage(plan, here, there, host)
        return with_room(plan, target, host)


_NO_PLAN = Plan((), (), (), (), False)

MAX_PROPERTY_BYTES = 64 << 10
"""Of all properties of one dataset, as JSON: a `Sync` of as many snapshots as it may have leaves so much room."""


def _usable(item: Item) -> dict[str, str]:
    """What undoes the care that is taken of a copy, for one that is to be worked with."""
    values = {"canmount": "on"} if item.source.kind == "filesystem" else {}
    return values | ({} if item.child else {"readonly": "off"})
