"""Two inventories -> a Plan: per dataset, what to do and why. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from .buffer import buffered_name
from .dataset import MAX_NAME_CHARS, Dataset, Host, Inventory, Snapshot, ancestors_of, child_of, parent_of, pool_of
from .decision import (
    FULL,
    INCREMENTAL,
    KINDS,
    NEW,
    REFUSED,
    RESUME,
    UPTODATE,
    Decision,
    TargetState,
    decide,
    newest_common,
    same_name_other_guid,
    state_of,
)
from .errors import RemoteProtocolError, UsageError, ZfsError
from .resume import BadToken, parse_token
from .selection import EVERYTHING, Selection


@dataclass(frozen=True, slots=True)
class Step:
    """One stream: everything after ``base`` up to ``to``, or the rest of a stream that was cut off, by ``token``."""

    to: Snapshot
    base: str = ""
    """``@name``, ``#name``, or empty for a full stream."""
    base_guid: int = 0
    token: str = ""
    single: bool = False
    """The snapshots between ``base`` and ``to`` are left out."""
    snapshots: tuple[Snapshot, ...] = ()
    """Those that arrive with it, ``to`` the last of them."""
    received: int = 0
    """Bytes of it that the target has already, for one that resumes."""


@dataclass(frozen=True, slots=True)
class Item:
    """One dataset of the source, and what is to be done about it."""

    child: str
    source: Dataset
    target: str
    """Its own place at the target."""
    place: str
    """The dataset at the target to receive into: one in the buffer, where it waits already, or its own place."""
    state: TargetState
    decision: Decision | None
    """None: the source has no snapshot, or ``problem`` says why nothing can be done."""
    steps: tuple[Step, ...] = ()
    problem: str = ""
    code: str = ""
    estimate: int = 0
    """Bytes that will be sent, about; before the filter."""
    filter: str = ""
    """What its streams are compressed by on their way, one of `zfsync_ssh.filters`; empty for nothing."""

    @property
    def what(self) -> str:
        """``full @a -> @c``, ``@a -> @c``, ``resume -> @c``."""
        if not self.steps:
            return ""
        first, last = self.steps[0], self.steps[-1]
        begin = "resume" if first.token else first.base or "full"
        if begin == "full" and first.to != last.to:
            begin = f"full @{first.to.name}"
        return f"{begin} -> @{last.to.name}"

    @property
    def why(self) -> str:
        """The decision, in a few words."""
        if self.problem:
            return "refused"
        if self.decision is None:
            return "no snapshots"
        dropped = ", a partial receive that no longer fits is dropped" if self.decision.discard else ""
        return _WHY[self.decision.kind] + dropped


_WHY = {
    NEW: "new at the target",
    FULL: "takes the place of an empty placeholder",
    INCREMENTAL: "newest snapshot in common is the target's newest",
    RESUME: "goes on where it was cut off",
    UPTODATE: "up to date",
}


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


def make_plan(source: Inventory, target: Inventory, *, host: Host, selection: Selection = EVERYTHING) -> Plan:
    """Compare the trees. ``host`` is only for messages. `ZfsError` when the target's pool is not there,
    `UsageError` when the target is a dataset of the source.
    """
    itself = target.datasets.get("")
    within = source.datasets.get(child_of(source.root, target.root) or "")
    if itself is not None and within is not None and (itself.name, itself.guid) == (within.name, within.guid):
        raise UsageError(f"{host.at(target.root)} is part of the source {source.root} itself: choose another target.")
    items = tuple(_item(child, source.datasets[child], target, host, selection) for child in source)
    ancestors: tuple[str, ...] = ()
    if "" not in target:
        there = set(target.ancestors)
        if pool_of(target.root) not in there:
            elsewhere = "" if host.name else "; on another host it is HOST:DATASET"
            message = f"There is no pool {pool_of(target.root)} on {host}, for the target {target.root} to be in"
            raise ZfsError(f"{message}{elsewhere}.", "missing")
        ancestors = tuple(name for name in ancestors_of(target.root) if name not in there)
    return Plan(items, ancestors, _placeholders(items, target), _leftovers(items), _buffer_left(target))


def _leftovers(items: tuple[Item, ...]) -> tuple[str, ...]:
    return tuple(item.place for item in items if item.decision and item.decision.discard and not item.steps)


def _buffer_left(target: Inventory) -> bool:
    return bool(target.buffered) or (target.buffer is not None and target.buffer.placeholder)


def _item(child: str, dataset: Dataset, target: Inventory, host: Host, selection: Selection) -> Item:
    own = target.root + child
    there = target.datasets.get(child) or target.buffered.get(child)
    item = Item(child, dataset, own, there.name if there else own, state_of(there), None)
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
    root = target.datasets.get("")
    if there is None and root is not None and root.encrypted and not dataset.encrypted:
        return replace(
            item,
            code="encryption",
            problem=f"{host.at(own)} would be below {host.at(root.name)}, which is encrypted, and {dataset.name} is "
            f"not: choose a target that is not encrypted, or encrypt the source.",
        )
    decision = decide(dataset.snapshots, dataset.bookmarks, item.state, dataset.encrypted)
    if decision.kind == REFUSED:
        assert there is not None  # nothing is refused where nothing is
        return replace(item, decision=decision, code="diverged", problem=_divergence(dataset, there, host))
    if there is not None and there.kind != dataset.kind:
        problem = f"{host.at(there.name)} is a {there.kind} and {dataset.name} a {dataset.kind}: rename one of them."
        return replace(item, decision=decision, code="exists", problem=problem)
    steps = tuple(_steps(dataset, decision, selection))
    if not steps and decision.kind in (NEW, FULL):
        return item  # none of its snapshots was selected
    return replace(item, decision=decision, steps=steps)


def _divergence(dataset: Dataset, there: Dataset, host: Host) -> str:
    """Why nothing can be received onto ``there``, and what to do."""
    name = host.at(there.name)
    if not there.snapshots:
        return (
            f"{name} exists but has no snapshot, so it is no copy of {dataset.name}: "
            f"rename it or, if it is empty, destroy it there, or choose another target."
        )
    common = newest_common(dataset.snapshots, there.snapshots)
    impostors = same_name_other_guid(dataset.snapshots, there.snapshots)
    if common is None:
        same = f" (@{impostors[-1].name} exists on both, but with different GUIDs)" if impostors else ""
        return (
            f"{name} has no snapshot in common with {dataset.name}{same}: "
            f"rename it there, or choose another target, and a full copy will be made."
        )
    at = next(index for index, snapshot in enumerate(there.snapshots) if snapshot.guid == common.guid)
    newer = there.snapshots[at + 1 :]
    same = f", of which @{impostors[-1].name} has the name but not the GUID of one here" if impostors else ""
    return (
        f"{name} has {len(newer)} snapshot{'s' * (len(newer) != 1)} after @{common.name}, the newest in common, that "
        f"{dataset.name} has not (newest: @{newer[-1].name}{same}): keep them by renaming the dataset there, "
        f"or lose them there with 'zfs rollback -r {there.name}@{common.name}'."
    )


def _steps(dataset: Dataset, decision: Decision, selection: Selection) -> Iterator[Step]:
    """The streams that bring the target from the decision's base to the newest snapshot that is wanted."""
    snapshots = dataset.snapshots
    positions = {snapshot.guid: index for index, snapshot in enumerate(snapshots)}
    wanted = [index for index, taken in enumerate(selection.wanted(snapshots)) if taken]
    base, base_guid, at = "", 0, -1
    if decision.kind == UPTODATE:
        return
    if decision.kind == RESUME:
        token = parse_token(decision.token)
        if token.raw != dataset.encrypted:
            raise BadToken("of a stream that was not raw as this one has to be, or the other way round")
        at = positions[token.to_guid]
        yield Step(
            snapshots[at], "", decision.base, decision.token, snapshots=snapshots[at : at + 1], received=token.received
        )
        base, base_guid = f"@{snapshots[at].name}", snapshots[at].guid
    elif decision.base in positions:
        at = positions[decision.base]
        base, base_guid = f"@{snapshots[at].name}", decision.base
    elif decision.kind == INCREMENTAL:
        mark = next(bookmark for bookmark in dataset.bookmarks if bookmark.guid == decision.base)
        at = next(index for index, snapshot in enumerate(snapshots) if snapshot.createtxg > mark.createtxg) - 1
        base, base_guid = f"#{mark.name}", mark.guid
    wanted = [index for index in wanted if index > at]
    while wanted:
        # One stream takes all that follow each other; but a full one, or one from a bookmark, takes a single snapshot.
        count = 1
        while base.startswith("@") and count < len(wanted) and wanted[0] == at + 1 and wanted[count] == at + 1 + count:
            count += 1
        end, wanted = wanted[count - 1], wanted[count:]
        single = base.startswith("@") and end != at + count
        first = end if single or not base.startswith("@") else at + 1
        yield Step(snapshots[end], base, base_guid, single=single, snapshots=snapshots[first : end + 1])
        base, base_guid, at = f"@{snapshots[end].name}", snapshots[end].guid, end


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


def replan(item: Item, decision: Decision, place: str, selection: Selection = EVERYTHING) -> Item:
    """The item after a receiver that looked for itself has decided anew, for the dataset ``place`` there.

    `RemoteProtocolError` when the decision is none that these snapshots allow.
    """
    state = item.state._replace(exists=decision.kind != NEW, newest=decision.base, token=decision.token)
    changed = replace(item, place=place, state=state, decision=decision, steps=())
    if decision.kind == REFUSED:
        return replace(changed, code="diverged", problem=decision.why or "the agent refused it")
    known = {snapshot.guid for snapshot in item.source.snapshots} | {mark.guid for mark in item.source.bookmarks}
    needs_base = decision.base != 0 or decision.kind == UPTODATE
    try:
        if decision.kind not in KINDS or (needs_base and decision.base not in known):
            raise KeyError(decision.kind)
        return replace(changed, steps=tuple(_steps(item.source, decision, selection)))
    except (KeyError, StopIteration, RuntimeError, BadToken) as error:
        raise RemoteProtocolError(f"answered a Sync of {item.source.name} with a base that is none") from error


def snapshots_to_send(plan: Plan) -> list[str]:
    """The full names of all snapshots that the plan sends: those whose sizes make its estimate."""
    return [
        f"{item.source.name}@{snapshot.name}"
        for item in plan.items
        for step in item.steps
        for snapshot in step.snapshots
    ]


def with_estimates(plan: Plan, written: Mapping[str, int]) -> Plan:
    """The plan with each item's estimate, out of the bytes that each snapshot, by full name, has written."""
    return replace(plan, items=tuple(_estimated(item, written) for item in plan.items))


def _estimated(item: Item, written: Mapping[str, int]) -> Item:
    total = sum(
        max(
            0, sum(written.get(f"{item.source.name}@{snapshot.name}", 0) for snapshot in step.snapshots) - step.received
        )
        for step in item.steps
    )
    return replace(item, estimate=total)


def place_for(item: Item, buffer: str, present: set[str]) -> str:
    """Where to receive a dataset now, ``present`` being the children that are in their own places at the target."""
    if item.state.exists or parent_of(item.child) is None or parent_of(item.child) in present:
        return item.place
    return buffered_name(buffer, item.child, max(len(snapshot.name) for snapshot in item.source.snapshots))
