"""Progress events: what happened, never how it is shown. Frozen values, and the `Observer` that takes them."""

from __future__ import annotations

import collections
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """How it ended for one dataset."""

    SENT = "sent"
    UP_TO_DATE = "up-to-date"
    NO_SNAPSHOTS = "no-snapshots"
    FAILED = "failed"
    PLANNED = "planned"
    """Only in a dry run."""
    RENAMED = "renamed"
    """Only in a cleanbuffer by hand."""
    EQUAL = "equal"
    DIFFERENT = "different"
    """Only in a comparison."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of the story of one dataset. Bytes are those of its streams, or that were compared; ``message`` is a
    sentence, where one is due.
    """

    source: str
    target: str
    status: Status
    what: str = ""
    """``@a -> @b``, ``full @a -> @c``, ..."""
    why: str = ""
    """Why that was done, in a few words: the decision."""
    code: str = ""
    message: str = ""
    bytes: int = 0
    estimate: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Started:
    """The run begins. ``target`` includes the host."""

    source: str
    target: str
    dry_run: bool


@dataclass(frozen=True, slots=True)
class Connected:
    """The target's agent has answered."""

    host: str
    python: str
    cipher: str


@dataclass(frozen=True, slots=True)
class Notice:
    """Something worth a line. ``verbose`` ones only for those who asked."""

    text: str
    verbose: bool = False


@dataclass(frozen=True, slots=True)
class Changed:
    """Something at the target was changed besides what was received there, or in a dry run would be.

    ``words`` go after the dataset's name, ``loss`` is what is lost by it, ``problem`` why it could not be done.
    """

    target: str
    words: str
    loss: str = ""
    planned: bool = False
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Question:
    """The user is asked something, and answers on the terminal."""

    text: str


@dataclass(frozen=True, slots=True)
class Answered:
    """The user has answered, and the run goes on or ends."""

    yes: bool


@dataclass(frozen=True, slots=True)
class Planned:
    """The plan is made: datasets in all and to be sent, bytes to send (an estimate), channels to send them over."""

    datasets: int
    to_send: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Opened:
    """Channels that could be opened, of those that were wanted, and what they will be doing."""

    channels: int
    wanted: int
    doing: str = "sending"


@dataclass(frozen=True, slots=True)
class SendStarted:
    """A channel begins to send a dataset, or to read it at both ends."""

    channel: int
    source: str
    what: str
    estimate: int
    buffered: bool


@dataclass(frozen=True, slots=True)
class Progress:
    """Bytes of the current dataset that a channel has sent, or compared, so far."""

    channel: int
    bytes: int


@dataclass(frozen=True, slots=True)
class SendEnded:
    """A channel is through with a dataset; its outcome may still be out."""

    channel: int
    source: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The outcome of one dataset is known."""

    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Cleaned:
    """The buffer was emptied: datasets renamed into place."""

    renamed: int


@dataclass(frozen=True, slots=True)
class Ended:
    """The run is over. ``bytes`` is what was sent, ``message`` the error that ended it, if one did."""

    counts: dict[Status, int]
    bytes: int
    seconds: float
    exit_code: int
    message: str = ""

    @classmethod
    def of(cls, outcomes: Collection[Outcome], seconds: float, exit_code: int, message: str = "") -> Ended:
        """The end of a run with these outcomes."""
        counts = collections.Counter(outcome.status for outcome in outcomes)
        return cls(dict(counts), sum(outcome.bytes for outcome in outcomes), seconds, exit_code, message)


Event = (
    Started
    | Connected
    | Notice
    | Changed
    | Question
    | Answered
    | Planned
    | Opened
    | SendStarted
    | Progress
    | SendEnded
    | Finished
    | Cleaned
    | Ended
)
Observer = Callable[[Event], None]
