"""Which streams are compressed on their way, and by what. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from .dataset import Host
from .errors import UsageError
from .filters import FILTERS
from .item import Item
from .plan import Plan

NONE, AUTO = "none", "auto"
CHOICES = (NONE, AUTO, *FILTERS)


def agreed_filter(choice: str, ends: Sequence[tuple[Host, Sequence[str]]]) -> str:
    """The filter that ``choice`` comes to, for ends that have the programs of these filters; empty for none.

    `UsageError` for one by name that an end lacks.
    """
    if choice == NONE:
        return ""
    if choice == AUTO:
        return next((name for name in FILTERS if all(name in has for _, has in ends)), "")
    for host, has in ends:
        if choice not in has:
            raise UsageError(
                f"There is no program {choice} on {host}, for --compress: install it there, or take 'auto' (a confined "
                f"receiver takes no compressed streams)."
            )
    return choice


def filter_for(item: Item, agreed: str) -> str:
    """The filter that an item's streams go through.

    None for raw streams, which are encrypted and cannot be compressed; nor for one that ZFS compresses,
    whose blocks are sent as they lie on disk.
    """
    return "" if item.raw or item.source.compressed else agreed


def with_filters(plan: Plan, agreed: str) -> Plan:
    """The plan with each item's filter."""
    return replace(plan, items=tuple(replace(item, filter=filter_for(item, agreed)) for item in plan.items))
