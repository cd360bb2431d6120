"""Which permissions of `zfs allow` an account without root needs: at which end, for what. Pure.

What is said here was found out by taking one permission after the other away, on Linux (docs/security.md has the
table). On Linux only root mounts: everything here therefore mounts nothing, but ZFS wants ``mount`` all the same, of
whoever makes, receives, renames or destroys a dataset.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from .policy import Divergence, Policy


class Use(StrEnum):
    """What an account does at one end; the value is how it is told."""

    SEND = "sending"
    HOLD = "holding what is sent"
    BOOKMARK = "bookmarking what was sent"
    SNAPSHOT = "taking snapshots"
    PRUNE = "destroying snapshots"
    RECEIVE = "receiving"
    MOVE = "emptying the buffer, and following renames"
    DROP = "dropping partial receives that no longer fit"
    DELETE = "destroying datasets"
    ROLLBACK = "rolling back"
    PROMOTE = "following promotions"
    HOLLOW = "making placeholders of datasets"
    MARK = "marking what is gone at the source"
    INHERIT_KEY = "making one encryption root of several"
    SET = "setting properties"


PERMISSIONS: dict[Use, tuple[str, ...]] = {
    Use.SEND: ("send", "hold"),  # `zfs send -I` holds what it sends by itself
    Use.HOLD: ("hold", "release", "userprop"),
    Use.BOOKMARK: ("bookmark", "destroy", "mount"),
    Use.SNAPSHOT: ("snapshot",),
    Use.PRUNE: ("destroy", "mount"),
    Use.RECEIVE: ("receive", "create", "mount", "canmount", "readonly", "userprop"),
    Use.MOVE: ("rename", "create", "mount", "userprop"),
    Use.DROP: ("destroy", "mount"),
    Use.DELETE: ("destroy", "mount"),
    Use.ROLLBACK: ("rollback", "destroy", "mount"),
    Use.PROMOTE: ("promote", "mount"),
    Use.HOLLOW: ("canmount", "destroy", "mount", "readonly", "userprop"),
    Use.MARK: ("userprop",),
    Use.INHERIT_KEY: ("change-key",),
    Use.SET: (),
}
"""What each needs; `Use.SET` needs a permission of each property's own name (`set_permissions`)."""


USE_OF = {
    "hold": Use.HOLD, "release": Use.HOLD, "announce": Use.HOLD, "forget": Use.HOLD, "let-go": Use.HOLD,
    "bookmark": Use.BOOKMARK, "unbookmark": Use.BOOKMARK, "snapshot": Use.SNAPSHOT, "destroy-snapshot": Use.PRUNE,
    "ancestor": Use.RECEIVE, "placeholder": Use.RECEIVE, "buffer": Use.RECEIVE, "drop": Use.DROP, "vacate": Use.DROP,
    "rename": Use.MOVE, "park": Use.MOVE, "aside": Use.MOVE, "rollback": Use.ROLLBACK, "hollow": Use.HOLLOW,
    "destroy": Use.DELETE, "promote": Use.PROMOTE, "mark": Use.MARK, "unmark": Use.MARK,
    "inherit-key": Use.INHERIT_KEY,
}  # fmt: skip
"""What each verb of `zfsync_ssh.operations` is a use of."""


def source_uses(policy: Policy, *, snapshots: bool = False, prunes: bool = False) -> tuple[Use, ...]:
    """What a run does at its source; a job takes ``snapshots`` there besides, and ``prunes`` them."""
    chosen = {
        Use.SEND: True,
        Use.HOLD: policy.hold,
        Use.BOOKMARK: policy.bookmark,
        Use.SNAPSHOT: snapshots,
        Use.PRUNE: prunes,
    }
    return tuple(use for use, wanted in chosen.items() if wanted)


def target_uses(policy: Policy, *, prunes: bool = False) -> tuple[Use, ...]:
    """What a run does at its target; a job that has ``keep-target`` ``prunes`` there besides.

    Without what `Use.DROP` needs a run goes on all the same, until a partial receive is in its way.
    """
    diverging = policy.on_divergence
    chosen = {
        Use.RECEIVE: True,
        Use.MOVE: True,
        Use.DROP: True,
        Use.PRUNE: prunes or policy.delete_snapshots,
        Use.DELETE: policy.delete_datasets or diverging is Divergence.REPLACE,
        Use.HOLLOW: diverging is Divergence.REPLACE,
        Use.MARK: policy.delete_datasets,
        Use.ROLLBACK: diverging is Divergence.ROLLBACK,
        Use.PROMOTE: policy.follow_renames,
        Use.INHERIT_KEY: policy.inherit_encryption_root,
        Use.SET: bool(set_permissions(policy)),
    }
    return tuple(use for use, wanted in chosen.items() if wanted)


def set_permissions(policy: Policy) -> tuple[str, ...]:
    """The permissions to set what ``--set`` and ``--preserve`` name; what ``--preserve all`` means nobody can know."""
    names = {name for name, _ in policy.properties.set} | set(policy.properties.preserve) - {"all"}
    return tuple(sorted({"userprop" if ":" in name else name for name in names}))


def permissions(uses: Iterable[Use], policy: Policy | None = None) -> tuple[str, ...]:
    """All that ``uses`` need, each once, in the order of the alphabet."""
    found = {name for use in uses for name in PERMISSIONS[use]}
    if policy is not None and Use.SET in uses:
        found |= set(set_permissions(policy))
    return tuple(sorted(found))


def delegated(root: str) -> str:
    """The dataset that a target's account has to be allowed to use: the one above, where the buffer is made too."""
    return root.rpartition("/")[0] or root


def grant(user: str, dataset: str, names: Iterable[str]) -> str:
    """The command by which root gives ``user`` the permissions ``names`` on ``dataset`` and all below it."""
    return f"zfs allow -u {user} {','.join(names)} {dataset}"
