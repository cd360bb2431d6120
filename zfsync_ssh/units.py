"""How users write spans of time (``48h``) and numbers of bytes, and how they are told to them. Pure."""

from __future__ import annotations

import re
from datetime import timedelta

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
MAX_SPAN = timedelta(days=100 * 366)
"""Longer ones are slips of the keyboard, and dates overflow with them."""


def parse_span(text: str) -> timedelta:
    """``90s``, ``15m``, ``48h``, ``2d``, ``1w`` and sums of them (``1h30m``); `ValueError`, a clause, for others."""
    if not re.fullmatch(r"([0-9]{1,12}[smhdw])+", text):
        raise ValueError(f"{text!r} is no span of time: write it as 30s, 15m, 48h, 2d or 1w")
    seconds = sum(int(count) * _SECONDS[unit] for count, unit in re.findall(r"([0-9]+)([smhdw])", text))
    if seconds > MAX_SPAN.total_seconds():
        raise ValueError(f"{text!r} is more than a hundred years")
    return timedelta(seconds=seconds)


_MULTIPLES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def parse_bytes(text: str) -> int:
    """Bytes out of ``500K``, ``8M`` or ``1G``, binary multiples; `ValueError`, a clause, for others."""
    found = re.fullmatch(r"([0-9]{1,12})([KMGT]?)", text.upper())
    if not found:
        raise ValueError(f"{text!r} is no size: give bytes, or K, M, G and T, which are 2^10 to 2^40, as in 8M")
    return int(found[1]) * _MULTIPLES[found[2]]


def span_words(span: timedelta) -> str:
    """A span, to its two largest units: ``2d 4h``, ``15m``, ``0s``. Reads back with the spaces taken out."""
    rest = max(0, int(span.total_seconds()))
    words = []
    for unit in ("d", "h", "m", "s"):
        count, rest = divmod(rest, _SECONDS[unit])
        if count:
            words.append(f"{count}{unit}")
    return " ".join(words[:2]) or "0s"
