"""What stands at the target where a copy is to be and cannot be received onto, though nothing would be lost. Pure.

It goes, and what is below it waits in the buffer meanwhile, by changes as in `align`.
"""

from __future__ import annotations

from .align import Change, Target
from .dataset import Dataset, Inventory, nearest_above
from .decision import RESUME, decide, state_of
from .messages import Operation
from .policy import Policy
from .resume import BadToken, parse_token
from .zfs import STREAM_FLAGS


def make_room(source: Inventory, target: Target, policy: Policy) -> list[Change]:
    """Let go what is in the way of the copies of ``source``, the datasets that take part.

    What is below first: it waits in the buffer by itself when what is above goes.
    """
    changes = []
    empty = [child for child, there in target.datasets.items() if not there.snapshots and child in source]
    for child in sorted(empty, key=lambda child: child.split("/"), reverse=True):
        there, children = target.datasets[child], target.children(child)
        if target.holds_buffer(child):
            continue
        above = nearest_above(child, target.datasets)
        verb = _let_go(source.datasets[child], there, above, policy, parent=bool(children))
        if verb and all(target.can_park(other, other) for other in children):
            operations = [operation for other in children for operation in target.park(other, other)]
            operations.append(Operation(verb, there.name))
            del target.datasets[child]
            words = "makes room: it is empty, and this stream cannot take its place"
            if verb == "drop":
                words = "makes room: it is the beginning of a stream that nothing follows any more"
            changes.append(Change("make-room", child, there.name, words, tuple(operations)))
    return changes


def _let_go(dataset: Dataset, there: Dataset, above: Dataset | None, policy: Policy, *, parent: bool) -> str:
    """The operation that lets ``there``, which has no snapshot, go; empty where it is not in the way."""
    if there.placeholder and not there.token:
        fits = dataset.kind == there.kind or not parent  # nothing can be below a volume
        return "vacate" if dataset.snapshots and fits and not takes_over(dataset, there, above, raw=policy.raw) else ""
    if there.complete or there.placeholder:
        return ""
    if not dataset.snapshots:
        return "drop"
    # A partial receive that is dropped goes with its dataset, which cannot go while something is below it.
    # Whether it can be resumed is for the plan to say, which knows its flags and what it is a clone of.
    raw, origin = dataset.encrypted and policy.raw, _base_of(there.token) if dataset.origin else 0
    decision = decide(dataset.snapshots, dataset.bookmarks, state_of(there), raw, origin, STREAM_FLAGS)
    return "drop" if parent and not (policy.resume and decision.kind == RESUME) else ""


def _base_of(token: str) -> int:
    try:
        return parse_token(token).from_guid
    except BadToken:
        return 0


def takes_over(dataset: Dataset, there: Dataset, above: Dataset | None, *, raw: bool) -> bool:
    """Whether ZFS lets a full stream of ``dataset`` take the place of ``there``, below ``above`` (`zfs receive -F`).

    It does not where any is encrypted, for the new one would be so in another way; nor where the kinds differ.
    """
    encrypted = there.encrypted or (above is not None and above.encrypted) or (dataset.encrypted and raw)
    return dataset.kind == there.kind and not encrypted
