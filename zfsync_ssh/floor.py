"""The floor of a confined receiver: the snapshots that stay there, whatever a client asks. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from .dataset import Snapshot
from .errors import UsageError
from .units import parse_span, span_words

DESTROYING_VERBS = frozenset({"destroy-snapshot", "rollback", "hollow", "destroy"})


@dataclass(frozen=True, slots=True)
class Floor:
    """What stays of each dataset: its newest snapshots, and those that are younger than a span of time."""

    count: int = 0
    age: timedelta = timedelta(0)

    def __bool__(self) -> bool:
        return bool(self.count or self.age)

    def __str__(self) -> str:
        """As `parse_floor` reads it."""
        parts = [str(self.count)] if self.count else []
        parts += [f"{int(self.age.total_seconds())}s"] if self.age else []
        return ",".join(parts) or "0"

    @property
    def words(self) -> str:
        """What it says, for a sentence."""
        parts = [f"the newest {self.count} snapshots"] if self.count else []
        parts += [f"all snapshots younger than {span_words(self.age)}"] if self.age else []
        return " and ".join(parts)

    def kept(self, snapshots: Sequence[Snapshot], now: float) -> set[str]:
        """The names of those of a dataset's ``snapshots``, oldest first and with their times, that stay.

        ``now`` is in seconds since 1970. A snapshot from the future is young.
        """
        newest = {snapshot.name for snapshot in snapshots[-self.count :]} if self.count else set()
        oldest = now - self.age.total_seconds()
        return newest | {one.name for one in snapshots if self.age and one.creation > oldest}


NO_FLOOR = Floor()


def parse_floor(text: str) -> Floor:
    """``10`` snapshots, those younger than ``30d``, or ``10,30d`` for both; `UsageError` for what is none of these."""
    count, age = 0, timedelta(0)
    try:
        for part in text.split(","):
            if part.isascii() and part.isdigit():
                count = int(part)
            else:
                age = parse_span(part)
    except ValueError as error:
        raise UsageError(
            f"--keep-at-least {text} is not possible: give a number of snapshots, an age as 30d, or both as 10,30d."
        ) from error
    return Floor(count, age)


def below_floor(verb: str, name: str, snapshots: Sequence[Snapshot] | None, floor: Floor, now: float) -> str:
    """Why a dataset with these ``snapshots`` would keep less than it has to; None: it is not there."""
    dataset, _, short = name.partition("@")
    if snapshots is None:
        return f"{dataset} is not there"
    names = [snapshot.name for snapshot in snapshots]
    if verb == "destroy-snapshot":
        names = [short]
    elif verb == "rollback" and short in names:
        names = names[names.index(short) + 1 :]
    lost = floor.kept(snapshots, now).intersection(names)
    return f"{floor.words} of each dataset stay (zfsync serve --keep-at-least)" if lost else ""
