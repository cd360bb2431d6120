"""What to tell a user about what ZFS refused. Pure."""

from __future__ import annotations

from .dataset import Host
from .delegation import USE_OF, Use, delegated, grant, permissions
from .errors import ZfsError
from .item import Item
from .messages import Listed, Operation, Result

_ADVICE = {
    "no-space": "; free space there, or raise the quota, and the next run goes on where this one stopped",
    "busy": "; another receive or a mount holds it: try again when that has ended",
    "feature": "; 'zpool upgrade' there enables the feature",
    "newer": ", which only a newer OpenZFS than the one there knows",
    "property": "; --exclude-property leaves out what the OpenZFS there does not know",
    "pool": "; 'zpool status' there says why, 'zpool clear' resumes it",
    "name": "; choose a shorter target, or a shorter --buffer",
    "cut": "; the next run goes on where this one stopped",
    "filter": "; the next run goes on where this one stopped",
}


def advice(code: str, host: Host, dataset: str, *uses: Use) -> str:
    """What to do about a refusal of this code (`zfsync_ssh.complaint.classify`), to go behind it; empty for others.

    ``uses`` are what permissions on ``dataset`` would be for.
    """
    if code != "permission":
        return _ADVICE.get(code, "")
    return f"; {_as_root(host)}, or grant it there: '{grant('USER', dataset, permissions(uses))}'"


def _as_root(host: Host) -> str:
    return "log in as root, or use --sudo if sudoers allows it" if host.name else "run zfsync as root"


def why_not(operation: Operation, result: Result, host: Host, root: str) -> str:
    """Why an operation on the tree of ``root``, a target, was refused, and what to do; empty when it was not."""
    if result.ok or result.code != "permission":
        return result.message
    return result.message + advice(result.code, host, delegated(root), USE_OF[operation.verb])


def to_grant(code: str, dataset: str, *uses: Use) -> str:
    """How what ``uses`` need can be granted; empty when it was refused for another reason."""
    return f"'{grant('USER', dataset, permissions(uses))}' grants it" if code == "permission" else ""


def check_prepared(operation: Operation, result: Result, host: Host, root: str) -> None:
    """`ZfsError` when ``operation``, without which nothing can be received into the target ``root``, was refused."""
    if not result.ok:
        what = f"{host} cannot prepare the dataset {result.name}: {result.message}"
        to_do = advice(result.code, host, delegated(root), USE_OF[operation.verb], Use.MOVE)
        raise ZfsError(f"{what}{to_do}.", result.code)


def receive_failure(host: Host, item: Item, place: str, result: Result) -> str:
    """The sentence for a receive that failed."""
    where = host.at(place)
    above = delegated(item.target[: len(item.target) - len(item.child)])
    newest = next((step.base for step in item.steps if step.base), "")
    if result.code == "modified" and newest:
        return (
            f"{where} was changed there since {newest}: --on-divergence set-aside keeps the changes by renaming the "
            f"dataset there, rollback loses them."
        )
    if result.code == "unset" and "permission denied" not in result.message:
        return f"{where} has arrived, but {result.message}: set that there by 'zfs set'."
    if result.code == "unset":
        allowed = grant("USER", above, permissions((Use.RECEIVE, Use.MOVE)))
        return (
            f"{where} has arrived, but {result.message}: set that there as root, by 'zfs set', and grant it for what "
            f"is still to come: '{allowed}', and each other property by its name."
        )
    return f"{where} cannot be received: {result.message}{advice(result.code, host, above, Use.RECEIVE, Use.MOVE)}."


def cannot_list(host: Host, root: str, answer: Listed) -> str:
    """The sentence for a tree that an agent cannot list."""
    if answer.code == "no-zfs":
        return f"There is no working zfs on {host}: {answer.message}."
    if answer.code == "permission":
        return f"{host} does not let this user run zfs: {answer.message}; {_as_root(host)}, or see 'zfs allow' there."
    return f"{host.at(root)} cannot be listed: {answer.message}."
