"""What the user wants of a run, beyond where from and where to. Frozen values, checked where they are made."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from .selection import EVERYTHING, Selection
from .zfs import STREAM_FLAGS


class Divergence(StrEnum):
    """What to do with a dataset at the target that has something of its own after the newest snapshot in common."""

    FAIL = "fail"
    """Leave it alone, and say what differs."""
    SET_ASIDE = "set-aside"
    """Give it a dated name, and receive afresh. Nothing is lost."""
    ROLLBACK = "rollback"
    """Take it back to the newest snapshot in common. What is newer is lost."""
    REPLACE = "replace"
    """Receive in full in its place. All that it holds is lost."""


@dataclass(frozen=True, slots=True)
class Properties:
    """What becomes of ZFS properties at the target: ``set`` there, ``preserve``d from the source, not taken."""

    set: tuple[tuple[str, str], ...] = ()
    preserve: tuple[str, ...] = ()
    """Names; ``all`` stands for every one that was set at the source, but those that say where it is mounted."""
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Policy:
    """All choices about what is sent, and what is done at the target. The defaults destroy nothing."""

    selection: Selection = EVERYTHING
    raw: bool = True
    """Encrypted datasets are sent as they are, and the target never sees their key."""
    flags: str = STREAM_FLAGS
    resume: bool = True
    skip_empty: bool = False
    """Of snapshots between which nothing was written only the newest is sent."""
    hold: bool = True
    bookmark: bool = True
    follow_renames: bool = True
    on_divergence: Divergence = Divergence.FAIL
    delete_snapshots: bool = False
    delete_datasets: bool = False
    delete_age: float = 0.0
    """Seconds that a dataset has to be gone at the source before it is destroyed at the target."""
    properties: Properties = Properties()
    inherit_encryption_root: bool = False
    preflight: bool = True
    buffer_behind: int = 8 << 20
    """Bytes of a new dataset up to which those below it wait until it has arrived, instead of in the buffer: so small a
    one is there about as soon as a rename out of the buffer would be done."""
    usable: bool = False
    """The copy is to be mounted and written to, as after a restore: no canmount=noauto, no readonly=on."""

    @property
    def may_recall(self) -> bool:
        """Whether the plan may be made from snapshots remembered: what may destroy anything looks for itself."""
        destroys = self.delete_snapshots or self.delete_datasets or self.on_divergence is not Divergence.FAIL
        return not (destroys or self.usable or self.selection.since)


DEFAULT = Policy()
