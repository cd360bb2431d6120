"""What to tell a user about what ZFS refused at the target. Pure."""

from __future__ import annotations

from .dataset import Host
from .item import Item
from .messages import Result

_ADVICE = {
    "no-space": "; free space there, or raise the quota, and the next run goes on where this one stopped",
    "permission": "; log in as root, use --sudo if sudoers allows it, or grant it with 'zfs allow' there",
    "busy": "; another receive or a mount holds it: try again when that has ended",
    "feature": "; 'zpool upgrade' there enables the feature",
    "pool": "; 'zpool status' there says why, 'zpool clear' resumes it",
    "name": "; choose a shorter target, or a shorter --buffer",
    "cut": "; the next run goes on where this one stopped",
    "filter": "; the next run goes on where this one stopped",
}


def advice(code: str) -> str:
    """What to do about a refusal of this code (`zfsync_ssh.zfs.classify`), to go behind it; empty for others."""
    return _ADVICE.get(code, "")


def receive_failure(host: Host, item: Item, place: str, result: Result) -> str:
    """The sentence for a receive that failed."""
    where = host.at(place)
    newest = next((step.base for step in item.steps if step.base), "")
    if result.code == "modified" and newest:
        return (
            f"{where} was changed there since {newest}: keep the changes by renaming the dataset there, "
            f"or lose them with 'zfs rollback {place}{newest}' there."
        )
    return f"{where} cannot be received: {result.message}{advice(result.code)}."
