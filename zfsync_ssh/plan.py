"""Two inventories -> a Plan: per dataset, what to do and why. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from types import MappingProxyType

from .align import Target
from .buffer import buffered_name
from .dataset import (
    MAX_NAME_CHARS,
    MAX_RECEIVED_CHARS,
    Dataset,
    Host,
    Inventory,
    ancestors_of,
    nearest_above,
    parent_of,
    pool_of,
)
from .decision import FULL, REFUSED, UPTODATE, decide, state_of
from .divergence import describe
from .errors import UsageError, ZfsError
from .item import Item, Step
from .location import overlap
from .origins import with_origins
from .policy import DEFAULT, Policy
from .resume import parse_token
from .room import takes_over
from .settle import taken_over
from .steps import UNWANTED, with_decision
from .unencrypted import by_buffer, comes_in_clear


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run will do, and everything that it looked at."""

    items: tuple[Item, ...]
    ancestors: tuple[str, ...]
    """Datasets above the target's root to make first, the topmost first."""
    placeholders: tuple[str, ...]
    """Children to make at the target because the source has no snapshot of them, parents first."""
    leftovers: tuple[str, ...]
    """Datasets at the target that are up to date, but for a partial receive that no longer fits."""
    buffer_left: bool
    """The buffer is there from an earlier run, with something in it or to be destroyed."""

    @property
    def work(self) -> tuple[Item, ...]:
        """The items that have something to send, the largest first, parents before children among equals."""
        items = [item for item in self.items if item.steps]
        return tuple(sorted(items, key=lambda item: (-item.estimate, item.child.count("/"), item.child)))

    @property
    def estimate(self) -> int:
        """Bytes that will be sent, about."""
        return sum(item.estimate for item in self.items)


def check_apart(source: Inventory, target: Inventory, host: Host) -> None:
    """`UsageError` when a dataset of the source is in the target's tree: ``host`` is another name of its machine."""
    mine = {(dataset.name, dataset.guid) for dataset in source.datasets.values()}
    if any((dataset.name, dataset.guid) in mine for dataset in target.datasets.values()):
        raise UsageError(f"{host} is the machine of the source: {overlap(source.root, target.root)} target.")


def make_plan(
    source: Inventory,
    target: Inventory,
    *,
    host: Host,
    policy: Policy = DEFAULT,
    asides: Mapping[str, Dataset] | None = None,
    whole: Inventory | None = None,
) -> Plan:
    """Compare the trees. ``host`` is only for messages; ``asides`` are copies set aside in this run, by child; of the
    ``whole`` source, ``source`` is what takes part.

    `ZfsError` when the target's pool is not there.
    """
    apart = by_buffer(whole or source, target, policy)
    items = [_item(child, source.datasets[child], target, host, policy, apart) for child in source]
    if policy.follow_renames and any(item.code == "diverged" for item in items):
        items = _told_of_copies(items, whole or source, source, target, host)
    items = with_origins(items, source, target, asides or {}, policy)
    ancestors: tuple[str, ...] = ()
    if "" not in target:
        there = set(target.ancestors)
        if pool_of(target.root) not in there:
            elsewhere = "" if host.name else "; on another host it is HOST:DATASET"
            message = f"There is no pool {pool_of(target.root)} on {host}, for the target {target.root} to be in"
            raise ZfsError(f"{message}{elsewhere}.", "missing")
        ancestors = tuple(name for name in ancestors_of(target.root) if name not in there)
    made = tuple(items)
    return Plan(made, ancestors, _placeholders(made, target), _leftovers(made), _buffer_left(target))


def _told_of_copies(
    items: list[Item], whole: Inventory, source: Inventory, target: Inventory, host: Host
) -> list[Item]:
    """The items; those in whose place the copy of a dataset that is gone stands say where their own copy is."""
    copies = {to: target.root + child for child, to in taken_over(whole, source, Target(target, ""))}

    def told(item: Item) -> Item:
        if item.code != "diverged" or item.child not in copies:
            return item
        return replace(item, problem=describe(item.source, target.datasets[item.child], host, copies[item.child]))

    return [told(item) for item in items]


def _leftovers(items: tuple[Item, ...]) -> tuple[str, ...]:
    return tuple(item.place for item in items if item.decision and item.decision.discard and not item.steps)


def _buffer_left(target: Inventory) -> bool:
    return bool(target.buffered) or (target.buffer is not None and target.buffer.placeholder)


def _item(child: str, dataset: Dataset, target: Inventory, host: Host, policy: Policy, apart: set[str]) -> Item:
    own = target.root + child
    there = target.find(child)
    raw = dataset.encrypted and policy.raw
    state = state_of(there)
    if state.token and not policy.resume:
        state = state._replace(token=UNWANTED)
    encrypted = _encrypted_above(child, target)
    item = Item(
        child,
        dataset,
        own,
        there.name if there else own,
        state,
        None,
        raw=raw,
        flags="" if raw else _flags(there, policy, encrypted),
        stream_there=there.stream if there else "",
        newest_there=there.newest.name if there and there.newest else "",
        in_place=bool(child and not raw and "" in target and encrypted) and not comes_in_clear(child, apart, target),
        by_buffer=child in apart,
    )
    if not dataset.snapshots:
        return item
    longest = max(len(snapshot.name) for snapshot in dataset.snapshots)
    if len(own) + 1 + longest > MAX_NAME_CHARS:
        return replace(
            item,
            code="name",
            problem=f"{host.at(own)} with its longest snapshot name would have {len(own) + 1 + longest} characters, "
            f"and ZFS allows {MAX_NAME_CHARS}: choose a shorter target.",
        )
    decision = decide(dataset.snapshots, dataset.bookmarks, item.state, raw, flags=item.flags)
    above = nearest_above(child, target.datasets) if there is not None and there.name == own else None
    if decision.kind == FULL and there is not None and not takes_over(dataset, there, above, raw=raw):
        problem = (
            f"{host.at(there.name)} is an empty placeholder, whose place no stream of {dataset.name} can take: destroy "
            f"it there, once what is below it has been renamed to somewhere else."
        )
        return replace(item, decision=decision, code="exists", problem=problem)
    if decision.kind == REFUSED:
        assert there is not None  # nothing is refused where nothing is
        return replace(item, decision=decision, code="diverged", problem=describe(dataset, there, host))
    cannot_wait = not child or item.in_place or (there is not None and there.name == own)
    if len(own) > MAX_RECEIVED_CHARS and cannot_wait and decision.kind != UPTODATE:
        problem = (
            f"{host.at(own)} has {len(own)} characters, and ZFS can only bring datasets up to date whose names have at "
            f"most {MAX_RECEIVED_CHARS}: choose a shorter target."
        )
        return replace(item, decision=decision, code="name", problem=problem)
    if there is not None and there.kind != dataset.kind:
        problem = (
            f"{host.at(there.name)} is a {there.kind} and {dataset.name} a {dataset.kind}: rename one of them; "
            f"--on-divergence set-aside renames the one there, replace destroys it, and a full copy is made."
        )
        return replace(item, decision=decision, code="exists", problem=problem)
    if there is not None and there.snapshots and (problem := _mixed(item, there, host)):
        return replace(item, decision=decision, code="encryption", problem=problem)
    planned = with_decision(item, decision, policy.selection)
    if there is not None and planned.steps and (name := _taken(planned, there)):
        problem = (
            f"{host.at(there.name)} has another snapshot @{name} than {dataset.name}: give the one there another name, "
            f"by 'zfs rename {there.name}@{name} ...'."
        )
        return replace(planned, steps=(), code="exists", problem=problem)
    return planned


def _taken(item: Item, there: Dataset) -> str:
    """A name of what is to be sent that another snapshot has there; empty when there is none."""
    names = {snapshot.name for snapshot in there.snapshots}
    return next((one.name for step in item.steps for one in step.snapshots if one.name in names), "")


def _flags(there: Dataset | None, policy: Policy, encrypted: bool) -> str:
    """The flags of `zfs send`: those that the copy was begun with, else the policy's.

    Embedded data cannot be received below an ``encrypted`` dataset.
    """
    pinned = there.stream if there is not None and (there.snapshots or there.token) else ""
    if pinned in ("", "raw"):
        return policy.flags.replace("e", "") if encrypted else policy.flags
    return pinned.replace("none", "")


def _encrypted_above(child: str, target: Inventory) -> bool:
    """Whether a dataset that is made as ``child`` takes its encryption from the one above it."""
    above = nearest_above(child, target.datasets) or target.datasets.get("")
    return target.encrypted if above is None else above.encrypted


def _mixed(item: Item, there: Dataset, host: Host) -> str:
    """Why streams of this kind must not follow those that the copy was made of; empty when they may."""
    name = host.at(there.name)
    if item.raw and (not there.encrypted or there.stream not in ("", "raw")):
        return (
            f"{name} was not received raw, and {item.source.name} is encrypted: go on with --no-raw, as it was begun, "
            f"or rename it there, or choose another target."
        )
    if not item.raw and there.stream == "raw":
        return f"{name} was received raw: leave out --no-raw, or rename it there, or choose another target."
    return ""


def _placeholders(items: tuple[Item, ...], target: Inventory) -> tuple[str, ...]:
    """Parents that will not come by themselves: those without snapshots, above something that is to be sent."""
    by_child = {item.child: item for item in items}
    wanted: set[str] = set()
    for item in items:
        if item.steps or item.child in target.buffered:
            parent = parent_of(item.child)
            while parent is not None and parent not in target and parent not in wanted:
                above = by_child.get(parent)
                if above is None or not (above.steps or above.problem or parent in target.buffered):
                    wanted.add(parent)
                parent = parent_of(parent)
    return tuple(sorted(wanted, key=lambda child: child.split("/")))


def snapshots_needed(plan: Plan) -> list[str]:
    """The full names of all snapshots that the plan sends, or begins a stream from."""
    names: dict[str, None] = {}
    for item in plan.items:
        for step in item.steps:
            if "@" in step.base:
                names[step.base if step.base[0] != "@" else item.source.name + step.base] = None
            elif step.token and item.origin is not None:
                base = item.origin.base
                names[item.source.name + base if base[0] == "@" else base] = None
            elif step.token and item.state.newest:
                names.update(
                    (f"{item.source.name}@{one.name}", None)
                    for one in item.source.snapshots
                    if one.guid == item.state.newest
                )
            names.update((f"{item.source.name}@{snapshot.name}", None) for snapshot in step.snapshots)
    return list(names)


def without_empty(plan: Plan, written: Mapping[str, int], policy: Policy) -> Plan:
    """The plan without snapshots before and after which nothing was written: they hold what their neighbours do."""

    def thinned(item: Item) -> Item:
        snapshots = item.source.snapshots
        empty = [written.get(f"{item.source.name}@{snapshot.name}") == 0 for snapshot in snapshots]
        left_out = {one.guid for one, pair in zip(snapshots, pairwise(empty), strict=False) if all(pair)}
        if not item.steps or item.decision is None or not left_out:
            return item
        return with_decision(item, item.decision, policy.selection, frozenset(left_out))

    return replace(plan, items=tuple(map(thinned, plan.items)))


def with_estimates(
    plan: Plan, written: Mapping[str, int], referenced: Mapping[str, int] = MappingProxyType({})
) -> Plan:
    """The plan with each item's estimate, out of the bytes that each snapshot has written, and refers to in all."""

    def estimated(item: Item) -> Item:
        return replace(item, estimate=sum(_bytes_left(item, step, written, referenced) for step in item.steps))

    return replace(plan, items=tuple(map(estimated, plan.items)))


def _bytes_left(item: Item, step: Step, written: Mapping[str, int], referenced: Mapping[str, int]) -> int:
    """What its snapshots have written; but those that are left out before the first of them have written too.

    So it is at least what the last one refers to more than the base, and all of that for a full stream.
    """
    name = item.source.name
    total = sum(written.get(f"{name}@{snapshot.name}", 0) for snapshot in step.snapshots)
    full = not (step.base or (step.token and parse_token(step.token).from_guid))
    before = 0 if full else referenced.get(name + step.base if step.base.startswith("@") else step.base)
    if before is not None:
        total = max(total, referenced.get(f"{name}@{step.to.name}", 0) - before)
    return max(0, total - step.received)


def place_for(item: Item, buffer: str, present: Collection[str], ahead: Collection[str] = ()) -> str:
    """Where to receive a dataset now.

    ``present`` is the children in their own places at the target, ``ahead`` those that will be when this one comes.
    """
    parent = parent_of(item.child)
    if item.state.exists or item.in_place or parent is None:
        return item.place
    there = parent in present or parent in ahead
    if there and not item.by_buffer and len(item.place) <= MAX_RECEIVED_CHARS:
        return item.place
    return _waiting(item, buffer)


def in_place_without_room(plan: Plan, buffer: str) -> Plan:
    """The plan in which what has snapshots of such long names that there is no room in ``buffer`` goes in place.

    So does all above it: its parent has to be in place before it.
    """
    in_place: set[str] = set()
    for item in plan.items:
        if len(_waiting(item, buffer)) + 1 + _longest(item) > MAX_NAME_CHARS:
            child: str | None = item.child
            while child:
                in_place.add(child)
                child = parent_of(child)
    items = (replace(item, in_place=True) if item.child in in_place else item for item in plan.items)
    return replace(plan, items=tuple(items)) if in_place else plan


def _waiting(item: Item, buffer: str) -> str:
    return buffered_name(buffer, item.child, _longest(item))


def _longest(item: Item) -> int:
    return max((len(snapshot.name) for snapshot in item.source.snapshots), default=0)
