"""What is in clear at the source below something that is encrypted, and stays so at the target. Pure.

ZFS receives nothing but raw streams below a copy whose key is not loaded: all else would take its encryption. So such
a dataset is received into the buffer, which is beside the target's root, and renamed into place.
"""

from __future__ import annotations

from collections.abc import Iterable

from .dataset import Inventory, nearest_above, parent_of
from .policy import Policy


def by_buffer(source: Inventory, target: Inventory, policy: Policy) -> set[str]:
    """The children of ``source``, all of it, that can only come by way of the buffer when they are new."""
    if not policy.raw or _encrypts(source, target):
        return set()
    found = set()
    for child, dataset in source.datasets.items():
        above = nearest_above(child, source.datasets)
        if not dataset.encrypted and above is not None and above.encrypted:
            found.add(child)
    return found


def comes_in_clear(child: str, apart: set[str], target: Inventory) -> bool:
    """Whether ``child``, or something above it that is yet to come, is one of ``apart``, as `by_buffer` has them."""
    while child not in apart:
        above = parent_of(child)
        if not above or above in target.datasets:
            return False
        child = above
    return True


def _encrypts(source: Inventory, target: Inventory) -> bool:
    """Whether the target lies below an encrypted dataset: then nothing is to lie there in clear, nor in its buffer."""
    here, there = source.datasets.get(""), target.datasets.get("")
    if target.encrypted or (target.buffer is not None and target.buffer.encrypted):
        return True
    return there is not None and there.encrypted and (here is None or not here.encrypted)


def is_encrypted_above(lines: Iterable[str]) -> bool:
    """The answer to `zfsync_ssh.zfs.ABOVE_QUERY`: whether the nearest dataset above the target is encrypted."""
    rows = [line.split("\t") for line in lines]
    return bool(rows) and rows[-1][-1] not in ("-", "off")
