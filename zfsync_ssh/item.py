"""One dataset in a plan, and the streams that it takes. Frozen values."""

from __future__ import annotations

from dataclasses import dataclass

from .dataset import Dataset, Snapshot
from .decision import CLONE, FULL, INCREMENTAL, NEW, RESUME, UPTODATE, Decision, TargetState


@dataclass(frozen=True, slots=True)
class Step:
    """One stream: everything after ``base`` up to ``to``, or the rest of a stream that was cut off, by ``token``."""

    to: Snapshot
    base: str = ""
    """``@name``, ``#name``, the full name of a clone's origin, or empty for a full stream."""
    base_guid: int = 0
    token: str = ""
    single: bool = False
    """The snapshots between ``base`` and ``to`` are left out."""
    snapshots: tuple[Snapshot, ...] = ()
    """Those that arrive with it, ``to`` the last of them."""
    received: int = 0
    """Bytes of it that the target has already, for one that resumes."""


@dataclass(frozen=True, slots=True)
class Origin:
    """The snapshot that a dataset at the target becomes a clone of."""

    base: str
    """At the source: a full name, or ``@name`` for one of the dataset's own."""
    guid: int
    child: str | None
    """The dataset that it belongs to; None for one that was set aside."""
    at: str
    """At the target, its full name; empty when it is sent in this run, and has there the name that it has here."""


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
    raw: bool = False
    flags: str = ""
    """Of `zfs send`, when it is not raw."""
    origin: Origin | None = None
    in_place: bool = False
    """It cannot wait in the buffer: it takes its encryption from its parent, or the names of its snapshots, or of those
    below it, are too long."""
    by_buffer: bool = False
    """It can only come by way of the buffer: see `zfsync_ssh.unencrypted`."""
    stream_there: str = ""
    """As `pinned`, what the copy that is there remembers."""
    newest_there: str = ""
    """The name of the target's newest snapshot."""
    properties: tuple[str, ...] = ()
    """``NAME=VALUE``, to be set at the target."""
    excluded: tuple[str, ...] = ()
    """Properties not to be taken from the stream."""

    @property
    def pinned(self) -> str:
        """What the copy remembers of the streams that it was made of: streams of another kind must not follow."""
        return "raw" if self.raw else self.flags or "none"

    @property
    def base(self) -> Snapshot | None:
        """The source's snapshot that the target has now, or the stream begins from; None for none, or a bookmark."""
        base = self.decision.base if self.decision is not None else 0
        return next((snapshot for snapshot in reversed(self.source.snapshots) if snapshot.guid == base), None)

    @property
    def newest_after(self) -> Snapshot | None:
        """The newest of the source's snapshots that the target has once all is sent."""
        if self.steps:
            return self.steps[-1].to
        return self.base if self.decision is not None and self.decision.kind == UPTODATE else None

    @property
    def what(self) -> str:
        """``full @a -> @c``, ``@a -> @c``, ``resume -> @c``."""
        if not self.steps:
            return ""
        first, last = self.steps[0], self.steps[-1]
        begin = "resume" if first.token else first.base or "full"
        if self.decision is not None and self.decision.kind == CLONE and not first.token:
            begin = f"clone of {first.base}"
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
    CLONE: "begins from a snapshot that the target has, as a clone",
    INCREMENTAL: "newest snapshot in common is the target's newest",
    RESUME: "goes on where it was cut off",
    UPTODATE: "up to date",
}
