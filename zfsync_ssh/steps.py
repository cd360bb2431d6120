"""A decision -> the streams that carry it out, for one dataset. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from .decision import CLONE, FULL, INCREMENTAL, KINDS, NEW, REFUSED, RESUME, UPTODATE, Decision, decide
from .errors import RemoteProtocolError
from .item import Item, Step
from .policy import DEFAULT, Policy
from .resume import BadToken, parse_token
from .selection import Selection

UNWANTED = "unwanted"
"""Stands for a resume token that is not to be used; being none, it makes both sides drop the partial receive."""


def with_decision(item: Item, decision: Decision, selection: Selection, left_out: frozenset[int] = frozenset()) -> Item:
    """The item with ``decision``, and the streams for it, without the snapshots of the GUIDs in ``left_out``."""
    steps = tuple(_steps(item, decision, selection, left_out))
    if not steps and decision.kind in (NEW, CLONE, FULL):
        return item  # none of its snapshots was selected
    return replace(item, decision=decision, steps=steps)


def _steps(
    item: Item, decision: Decision, selection: Selection, left_out: frozenset[int] = frozenset()
) -> Iterator[Step]:
    """The streams that bring the target from the decision's base to the newest snapshot that is wanted."""
    dataset = item.source
    snapshots = dataset.snapshots
    positions = {snapshot.guid: index for index, snapshot in enumerate(snapshots)}
    wanted = [index for index, taken in enumerate(selection.wanted(snapshots)) if taken]
    base, base_guid, at = "", 0, -1
    if decision.kind == UPTODATE:
        return
    if decision.kind == RESUME:
        token = parse_token(decision.token)
        if token.raw != item.raw:
            raise BadToken("of a stream that was not raw as this one has to be, or the other way round")
        at = positions[token.to_guid]
        yield Step(
            snapshots[at], "", decision.base, decision.token, snapshots=snapshots[at : at + 1], received=token.received
        )
        base, base_guid = f"@{snapshots[at].name}", snapshots[at].guid
    elif decision.kind == CLONE and item.origin is not None and not item.origin.base.startswith("@"):
        base, base_guid = item.origin.base, item.origin.guid
    elif decision.base in positions:
        at = positions[decision.base]
        base, base_guid = f"@{snapshots[at].name}", decision.base
    elif decision.kind == INCREMENTAL:
        mark = next(bookmark for bookmark in dataset.bookmarks if bookmark.guid == decision.base)
        at = next(index for index, snapshot in enumerate(snapshots) if snapshot.createtxg > mark.createtxg) - 1
        base, base_guid = f"#{mark.name}", mark.guid
    wanted = [index for index in wanted if index > at and snapshots[index].guid not in left_out]
    makes_clone = decision.kind == CLONE
    while wanted:
        # One stream takes all that follow each other; but a full one, one that makes a clone, or one from a bookmark
        # takes a single snapshot.
        many = base.startswith("@") and not makes_clone
        count = 1
        while many and count < len(wanted) and wanted[0] == at + 1 and wanted[count] == at + 1 + count:
            count += 1
        end, wanted = wanted[count - 1], wanted[count:]
        makes_clone = False
        taken = snapshots[end - count + 1 : end + 1]
        yield Step(snapshots[end], base, base_guid, single=bool(base) and count == 1, snapshots=taken)
        base, base_guid, at = f"@{snapshots[end].name}", snapshots[end].guid, end


def one_by_one(steps: Iterable[Step], most: int | None = None) -> Iterator[Step]:
    """The same snapshots, each in a stream of its own; but steps of more than ``most`` snapshots stay as they are.

    Several in one stream are a package, into which none can look, and which the library cannot make.
    """
    for step in steps:
        if step.token or step.single or not step.base or (most is not None and len(step.snapshots) > most):
            yield step
            continue
        base, base_guid = step.base, step.base_guid
        for snapshot in step.snapshots:
            yield Step(snapshot, base, base_guid, single=True, snapshots=(snapshot,))
            base, base_guid = f"@{snapshot.name}", snapshot.guid


def without_origin(item: Item, policy: Policy) -> Item:
    """The item in full, because its origin did not arrive."""
    state = item.state._replace(token=UNWANTED if item.state.token else "")
    decision = decide(item.source.snapshots, (), state, item.raw, flags=item.flags)
    return with_decision(replace(item, origin=None, state=state), decision, policy.selection)


def replan(item: Item, decision: Decision, place: str, policy: Policy = DEFAULT) -> Item:
    """The item after a receiver that looked for itself has decided anew, for the dataset ``place`` there.

    `RemoteProtocolError` when the decision is none that these snapshots allow.
    """
    state = item.state._replace(exists=decision.kind not in (NEW, CLONE), newest=decision.base, token=decision.token)
    changed = replace(item, place=place, state=state, decision=decision, steps=())
    if decision.kind == REFUSED:
        return replace(changed, code="diverged", problem=decision.why or "the agent refused it")
    known = {snapshot.guid for snapshot in item.source.snapshots} | {mark.guid for mark in item.source.bookmarks}
    known |= {item.origin.guid} if item.origin else set()
    needs_base = decision.base != 0 or decision.kind == UPTODATE
    try:
        if decision.kind not in KINDS or (needs_base and decision.base not in known):
            raise KeyError(decision.kind)
        return replace(changed, steps=tuple(_steps(item, decision, policy.selection)))
    except (KeyError, StopIteration, RuntimeError, BadToken) as error:
        raise RemoteProtocolError(f"answered a Sync of {item.source.name} with a base that is none") from error
