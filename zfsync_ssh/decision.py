"""What a receiver answers to a `sync`: where the stream for a dataset has to begin. Pure.

The words are those of the original zfsync, which answered with the newest snapshot in common, NEW or FULL; here they
are separate kinds, so that no snapshot's name can be taken for one, and a base is known by its GUID. Sender and
receiver call the same function: the sender to plan, the receiver to answer, so that they agree unless the target has
changed in between.

Also shipped to the far end: standard library only, Python >= 3.8.
"""

from __future__ import annotations

from typing import Container, Dict, NamedTuple, Optional, Sequence, Tuple

from .dataset import Bookmark, Dataset, Snapshot
from .resume import BadToken, ResumeToken, parse_token

NEW = "NEW"
"""The target does not have the dataset: a full stream makes it."""
CLONE = "CLONE"
"""The target does not have the dataset, but the snapshot ``base``: an incremental stream makes a clone of it."""
FULL = "FULL"
"""The target has only zfsync's own placeholder for it: a full stream takes its place."""
INCREMENTAL = "INCREMENTAL"
"""``base`` is the newest snapshot in common."""
RESUME = "RESUME"
"""A receive was cut off there, and goes on with ``token``."""
UPTODATE = "UPTODATE"
"""The target's newest snapshot is the source's newest."""
REFUSED = "REFUSED"
"""Nothing can be received without losing what the target has. ``why`` says what that is."""

KINDS = (NEW, CLONE, FULL, INCREMENTAL, RESUME, UPTODATE, REFUSED)


class TargetState(NamedTuple):
    """What decides about a dataset at the target. ``newest`` is the GUID of its newest snapshot, 0 for none."""

    exists: bool
    placeholder: bool = False
    newest: int = 0
    token: str = ""


class Decision(NamedTuple):
    """Where the stream begins. ``base`` is a snapshot's GUID, ``why`` the end of a sentence."""

    kind: str
    base: int = 0
    token: str = ""
    discard: bool = False
    """A partial receive is there that nothing can be done with; it is dropped (`zfs receive -A`) first."""
    why: str = ""


ABSENT = TargetState(False)


def state_of(dataset: Optional[Dataset]) -> TargetState:
    """The state that an inventory shows, for the dataset at the target or None."""
    if dataset is None:
        return ABSENT
    newest = dataset.newest.guid if dataset.newest else 0
    return TargetState(True, dataset.placeholder, newest, dataset.token)


def decide(
    snapshots: Sequence[Snapshot],
    bookmarks: Sequence[Bookmark],
    target: TargetState,
    raw: bool = False,
    origin: int = 0,
    flags: str = "",
) -> Decision:
    """Compare the source's snapshots, oldest first and at least one, with the target.

    ``raw`` tells that the source is encrypted and its streams go raw: a partial receive that did not is never resumed,
    for `zfs send -t` would send what is in it in clear. ``origin`` is the GUID of a snapshot at the target of which a
    dataset that is not there can become a clone. ``flags`` are those of `zfs send` that its streams have: a partial
    receive of others is not resumed, for `zfs send -t` goes on with those that it was begun with.

    The base is always the target's newest snapshot: a stream from an older one would not be received without
    rolling the target back, which is never done unasked.
    """
    positions = {snapshot.guid: index for index, snapshot in enumerate(snapshots)}
    if target.token:
        if _resumable(target, positions, {mark.guid for mark in bookmarks}, (raw, flags), origin):
            return Decision(RESUME, target.newest, target.token)
        discard = True
    else:
        discard = False
    if not target.exists or (discard and not target.newest and not target.placeholder):
        # The partial receive of a full stream is all there is of such a dataset, and it goes with its token.
        return Decision(CLONE if origin else NEW, origin, discard=discard)
    if not target.newest:
        if target.placeholder:
            return Decision(FULL, discard=discard)
        return Decision(REFUSED, why="it exists there without any snapshot, so it is not a copy of this one")
    if target.newest in positions:
        if positions[target.newest] == len(snapshots) - 1:
            return Decision(UPTODATE, target.newest, discard=discard)
        return Decision(INCREMENTAL, target.newest, discard=discard)
    mark = next((bookmark for bookmark in bookmarks if bookmark.guid == target.newest), None)
    if mark is not None:
        newer = mark.createtxg < snapshots[-1].createtxg
        return Decision(INCREMENTAL if newer else UPTODATE, target.newest, discard=discard)
    return Decision(REFUSED, why="its newest snapshot there is not one of the source's")


def newest_common(source: Sequence[Snapshot], target: Sequence[Snapshot]) -> Optional[Snapshot]:
    """The source's newest snapshot that the target has as well, by GUID."""
    there = {snapshot.guid for snapshot in target}
    return next((snapshot for snapshot in reversed(source) if snapshot.guid in there), None)


def same_name_other_guid(source: Sequence[Snapshot], target: Sequence[Snapshot]) -> Tuple[Snapshot, ...]:
    """The target's snapshots that have the name of a source's snapshot, but are not it."""
    guids = {snapshot.name: snapshot.guid for snapshot in source}
    return tuple(other for other in target if guids.get(other.name, other.guid) != other.guid)


def _resumable(
    target: TargetState, positions: Dict[int, int], marks: Container[int], kind: Tuple[bool, str], origin: int
) -> bool:
    try:
        token = parse_token(target.token)
    except BadToken:
        return False
    # The base of a partial receive is the newest snapshot, or a clone's origin: else the receive would not have begun.
    base = target.newest or (token.from_guid and origin)
    known = not base or base == origin or base in positions or base in marks
    return _of_kind(token, *kind) and token.to_guid in positions and token.from_guid == base and known


def _of_kind(token: ResumeToken, raw: bool, flags: str) -> bool:
    """Whether the stream was of this kind, as far as it tells: a flag that it made no use of is not in its token."""
    return token.raw == raw and (raw or set(token.flags) <= set(flags))
