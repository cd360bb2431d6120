"""When a job runs: as the five fields of a crontab or in words, and the same for systemd. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from .units import parse_span


@dataclass(frozen=True, slots=True)
class _Field:
    """What one field of a crontab may be. ``names`` stand for the numbers from ``low`` on."""

    what: str
    low: int
    high: int
    names: tuple[str, ...] = ()


_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of the month", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("day of the week", 0, 7, _DAYS),
)
_WORDS: Mapping[str, str] = {
    "minutely": "* * * * *",
    "hourly": "0 * * * *",
    "daily": "0 0 * * *",
    "weekly": "0 0 * * 1",
    "monthly": "0 0 1 * *",
    "yearly": "0 0 1 1 *",
}
_FORMS = "write five fields as in a crontab, 'every 15m', or one of " + ", ".join(_WORDS)


@dataclass(frozen=True, slots=True)
class Schedule:
    """The five fields of a crontab: minute, hour, day of the month, month, day of the week."""

    fields: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join(self.fields)

    def calendar(self) -> tuple[str, ...]:
        """The same as values of systemd's ``OnCalendar=``; two where cron goes by either kind of day."""
        minutes, hours, days, months = (
            "*" if len(values) > field.high - field.low else ",".join(map(str, sorted(values)))
            for field, values in zip(_FIELDS[:4], map(_values, _FIELDS, self.fields), strict=False)
        )
        time = f"{hours}:{minutes}:00"
        if self.fields[4] == "*":
            return (f"*-{months}-{days} {time}",)
        numbers = sorted({number % 7 for number in _values(_FIELDS[4], self.fields[4])})
        names = ",".join(_DAYS[number].capitalize() for number in numbers)
        if self.fields[2].startswith("*") or self.fields[4].startswith("*"):
            return (f"{names} *-{months}-{days} {time}",)
        return f"*-{months}-{days} {time}", f"{names} *-{months}-* {time}"


def parse_schedule(text: str) -> Schedule:
    """``*/15 * * * *``, ``every 15m`` or ``daily``; `ValueError`, a clause, for what is none."""
    words = text.lower().split()
    if len(words) == 1:
        fields = _WORDS.get(words[0].removeprefix("@"), "").split()
    elif len(words) == 2 and words[0] == "every":
        fields = _every(words[1])
    else:
        fields = words
    if len(fields) != len(_FIELDS):
        raise ValueError(f"{text!r} is no schedule: {_FORMS}")
    for field, value in zip(_FIELDS, fields, strict=True):
        _values(field, value)
    return Schedule(tuple(fields))


def _every(text: str) -> list[str]:
    """The fields for a span that divides an hour or a day, for cron knows nothing of what was before."""
    minutes, rest = divmod(int(parse_span(text).total_seconds()), 60)
    hours, odd = divmod(minutes, 60)
    if not rest and 0 < minutes < 60 and 60 % minutes == 0:
        return ["*" if minutes == 1 else f"*/{minutes}", "*", "*", "*", "*"]
    if not rest and not odd and 0 < hours <= 24 and 24 % hours == 0:
        return ["0", "0" if hours == 24 else "*" if hours == 1 else f"*/{hours}", "*", "*", "*"]
    raise ValueError(f"cron cannot run something every {text}: give a span that divides an hour or a day, as 15m or 6h")


def _values(field: _Field, text: str) -> set[int]:
    """The numbers that a field stands for; `ValueError` when it is none."""
    numbers: set[int] = set()
    for part in text.split(","):
        found = re.fullmatch(r"(\*|([0-9a-z]+)(?:-([0-9a-z]+))?)(?:/([0-9]{1,2}))?", part)
        low = _number(field, found[2]) if found and found[2] else field.low
        high = _number(field, found[3]) if found and found[3] else field.high if found and found[1] == "*" else low
        if not found or low is None or high is None or low > high or found[4] in ("0", "00"):
            raise ValueError(f"{part!r} is no {field.what}: it goes from {field.low} to {field.high}")
        if found[4] and low == high:
            raise ValueError(f"{part!r} is no {field.what}: a step needs a range, as in */{found[4]}")
        numbers.update(range(low, high + 1, int(found[4] or 1)))
    return numbers


def _number(field: _Field, text: str) -> int | None:
    if text in field.names:
        return field.names.index(text) + field.low
    return int(text) if re.fullmatch("[0-9]{1,2}", text) and field.low <= int(text) <= field.high else None
