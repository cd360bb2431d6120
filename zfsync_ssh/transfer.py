"""How a replication goes about it: the options of ``zfsync push`` as frozen values, and how they are read. Pure.

A command line and a configuration file say the same things with the same words, so both are read here.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from .compression import CHOICES, NONE
from .config_values import (
    Table,
    as_bytes,
    as_count,
    as_dataset,
    as_flag,
    as_list,
    as_one_of,
    as_patterns,
    as_rate,
    as_snapshot_patterns,
    as_span,
    as_text,
)
from .policy import DEFAULT, Divergence, Policy, Properties
from .properties import check
from .selection import Selection
from .units import parse_span
from .watchdog import MIN_STALL_SECONDS, STALL_SECONDS

MAX_CHANNELS = 256
MAX_LATEST = 10**6


@dataclass(frozen=True, slots=True)
class Transfer:
    """What is sent, what is done at the target, and how the streams go."""

    policy: Policy = DEFAULT
    channels: int = 4
    recursive: bool = True
    buffer: str | None = None
    """Where children wait for their parents; None for the usual place beside the target."""
    compress: str = NONE
    rate_limit: int = 0
    """Bytes per second of all streams together; 0 for no limit."""
    stall_timeout: float = STALL_SECONDS
    """Seconds after which a stream that stands still is ended; 0 for never."""


def read_transfer(table: Table) -> Transfer:
    """The options in ``table``, by their names on a command line without the dashes in front."""
    selection = Selection(
        table.take("include", as_patterns, ()),
        table.take("exclude", as_patterns, ()),
        table.take("snapshots", as_snapshot_patterns, ()),
        table.take("exclude-snapshots", as_snapshot_patterns, ()),
        not table.take("no-intermediates", as_flag, False),
        table.take("latest", as_count(0, MAX_LATEST), 0),
        table.take("since", as_time, 0.0),
    )
    age = table.take("delete-datasets", _as_age, None)
    policy = Policy(
        selection=selection,
        raw=not table.take("no-raw", as_flag, False),
        resume=not table.take("no-resume", as_flag, False),
        skip_empty=table.take("skip-empty", as_flag, False),
        hold=not table.take("no-hold", as_flag, False),
        bookmark=not table.take("no-bookmark", as_flag, False),
        follow_renames=not table.take("no-follow-renames", as_flag, False),
        on_divergence=Divergence(table.take("on-divergence", as_one_of(tuple(Divergence)), Divergence.FAIL)),
        delete_snapshots=table.take("delete-snapshots", as_flag, False),
        delete_datasets=age is not None,
        delete_age=age.total_seconds() if age is not None else 0.0,
        properties=Properties(
            table.take("set", _as_settings, ()),
            table.take("preserve", _as_preserved, ()),
            table.take("exclude-property", _as_property_names, ()),
        ),
        inherit_encryption_root=table.take("inherit-encryption-root", as_flag, False),
        buffer_behind=table.take("buffer-behind", as_bytes, DEFAULT.buffer_behind),
        preflight=not table.take("skip-preflight", as_flag, False),
    )
    return Transfer(
        policy,
        table.take("channels", as_count(1, MAX_CHANNELS), 4),
        not table.take("no-recursive", as_flag, False),
        table.take("buffer", as_dataset, None),
        table.take("compress", as_one_of(CHOICES), NONE),
        table.take("rate-limit", as_rate, 0),
        table.take("stall-timeout", _as_stall_timeout, STALL_SECONDS),
    )


def as_time(value: object) -> float:
    """Seconds since 1970 of a date, or of so long ago."""
    text = as_text(value)
    now = datetime.datetime.now(datetime.UTC)
    try:
        return (now - parse_span(text)).timestamp()
    except ValueError:
        pass
    try:
        when = datetime.datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is no time: give 30d, 12h, 2026-01-31 or 2026-01-31T18:00") from error
    return (when if when.tzinfo else when.replace(tzinfo=datetime.UTC)).timestamp()


def _as_age(value: object) -> datetime.timedelta:
    return as_span(value, "30d")


def _as_stall_timeout(value: object) -> float:
    seconds = as_span(value).total_seconds()
    if 0 < seconds < MIN_STALL_SECONDS:
        raise ValueError(f"it has to be at least {MIN_STALL_SECONDS}s, or 0s for no limit")
    return seconds


def _as_settings(value: object) -> tuple[tuple[str, str], ...]:
    pairs = []
    for text in as_list(value):
        name, equals, setting = text.partition("=")
        if not equals:
            raise ValueError(f"{text!r} sets nothing: give PROPERTY=VALUE")
        pairs.append((name, setting))
    return check(Properties(set=tuple(pairs))).set


def _as_preserved(value: object) -> tuple[str, ...]:
    return check(Properties(preserve=tuple(name for names in as_list(value) for name in names.split(",")))).preserve


def _as_property_names(value: object) -> tuple[str, ...]:
    return check(Properties(exclude=as_list(value))).exclude
