"""Whether a raw stream brings another key than the one that its dataset has at a confined receiver."""

from __future__ import annotations

from . import complaint, zfs
from .head import HEAD_BYTES, MAX_PAYLOAD_BYTES, BadHead
from .process import Outputs
from .tree import Tree
from .wrapping import wrapped_key


def rekeyed(record: bytes, snapshot: str, tree: Tree) -> str:
    """Why a raw stream, of which ``record`` is the first, must not follow ``snapshot``; empty when it may.

    The key that is there is in no property: what `zfs send` says of it is compared.
    """
    dataset, _, name = snapshot.partition("@")
    if not name:
        return "its dataset has nothing whose key could be compared"
    own = b""
    with Outputs([(*tree.command, *zfs.send(zfs.Stream(dataset, name, raw=True)))]) as sending:
        for chunk in sending:
            own += chunk
            if len(own) >= HEAD_BYTES + MAX_PAYLOAD_BYTES:
                break
    if sending.status:
        code, why = complaint.meaning(sending.stderr)
        allow = f"; 'zfs allow -u USER send {dataset}' there lets it be looked at" if code == "permission" else ""
        return f"the key of {dataset} cannot be compared: {why}{allow}"
    try:
        same = wrapped_key(own) == wrapped_key(record)
    except BadHead as error:
        return str(error)
    if same or tree.zfs(zfs.get_property(zfs.REKEY_PROPERTY, dataset)).stdout.strip() == "on":
        return ""
    return (
        f"its stream brings another key than {dataset} has, by which alone the older snapshots could be opened then; "
        f"if it was changed at either end on purpose, 'zfs set {zfs.REKEY_PROPERTY}=on {dataset}' there lets it come"
    )
