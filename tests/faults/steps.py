"""The steps of a run, and the columns of the table that they fall into. Pure.

What steps a run has is never written down: a faultless run is traced (`tests.faults.guest.tracing`), and its labels are
the steps. Here is only which column a label belongs to. `tests/unit/test_fault_steps.py` holds that every event,
message and verb of the program has a column, or is listed as what is no step.
"""

from __future__ import annotations

import collections
import re
from collections.abc import Iterable
from dataclasses import dataclass

COLUMNS = (
    "connect", "push agent", "hello", "lock", "inventory", "changes", "plan", "hold", "prepare", "channels", "sync",
    "stream start", "stream middle", "stream end", "result", "rename", "bookmark", "release", "report",
)  # fmt: skip

EVENTS = {
    "Started": "connect", "Connected": "hello", "Changed": "changes", "Planned": "plan", "Opened": "channels",
    "SendStarted": "stream start", "SendEnded": "stream end", "Finished": "result", "Cleaned": "rename",
    "Ended": "report",
}  # fmt: skip
NO_EVENTS = {
    "Notice": "words",
    "Question": "asked of a user on a terminal alone",
    "Answered": "asked of a user on a terminal alone",
    "Progress": "comes with the clock, between pieces of data",
}

MESSAGES = {
    "Begin": "hello", "Hello": "hello", "Lock": "lock", "Inventory": "inventory", "Query": "plan", "Sync": "sync",
    "Stream": "stream start", "Send": "stream start", "Data": "stream middle", "End": "stream end",
    "Abort": "stream end", "CleanBuffer": "rename", "Close": "report",
}  # fmt: skip
"""What is said, and what comes unasked. An answer has the column of its question, but for `RESULTS`."""
BY_VERB = ("Apply",)
ANSWERS = ("Answer", "Bye", "Listed", "Result", "Results", "Output")
RESULTS = {"Stream": "result", "Send": "stream end"}
"""Where the Result of a stream goes."""
OUTPUTS = {"Send": "stream middle"}
NO_MESSAGES = {
    "Digest": "verify alone asks it",
    "More": "verify alone asks it",
    "Ping": "comes with the clock",
    "Beat": "comes with the clock",
    "Pong": "comes with the clock",
    "Failure": "the agent's end, as if it had been killed",
}

VERBS = {
    "hold": "hold", "announce": "hold", "let-go": "hold", "release": "release", "forget": "release",
    "bookmark": "bookmark", "unbookmark": "bookmark", "ancestor": "prepare", "placeholder": "prepare",
    "buffer": "prepare", "drop": "prepare", "rename": "changes", "park": "changes", "aside": "changes",
    "rollback": "changes", "hollow": "changes", "vacate": "changes", "destroy": "changes", "promote": "rename",
    "mark": "report", "unmark": "report", "inherit-key": "report", "destroy-snapshot": "report", "nothing": "bookmark",
}  # fmt: skip
NO_VERBS = {"alive": "asked for by 'zfsync holds' alone", "snapshot": "asked for by 'zfsync cron' alone"}

ZFS = {
    "create": "prepare", "set": "changes", "rename": "rename", "promote": "rename", "receive": "stream start",
    "inherit": "rename", "destroy": "rename", "rollback": "changes", "hold": "hold", "release": "release",
    "bookmark": "bookmark",
}  # fmt: skip
"""Commands of zfs at the target, and some at the source, that the wrapper `tests/faults/guest/zfs` stops at."""
AT_SOURCE = ("hold", "release", "bookmark")


@dataclass(frozen=True, order=True)
class Step:
    """The ``nth`` time that ``label`` comes; ``of`` how often it came in the run that was traced."""

    label: str
    nth: int
    of: int

    def __str__(self) -> str:
        return f"{self.label} {self.nth}/{self.of}"

    @property
    def column(self) -> str:
        """Where it is in the table."""
        return column(self.label)


def column(label: str) -> str:
    """The column of a label; `KeyError` when it has none."""
    if label == "push agent":
        return label
    if label.startswith("event:"):
        return EVENTS[label.removeprefix("event:")]
    if label.startswith("zfs "):
        return "stream end" if label == "zfs receive after" else ZFS[label.split()[1]]
    if label.startswith("source:"):
        verb = label.removeprefix("source:").removesuffix(" done")
        return "stream start" if verb == "send" else VERBS[verb]
    asked = re.fullmatch(r"(?:to|from) \w+:(\w+)(?: of)?(?: (\w+))?(?: ([\w-]+))?", label)
    if asked is None:
        raise KeyError(label)
    name, question, verb = asked.groups()
    if name in ANSWERS:
        if question == "Apply":
            return VERBS[verb]
        special = OUTPUTS if name == "Output" else RESULTS if name == "Result" else {}
        return special.get(question) or MESSAGES[question]
    if name == "Apply":
        return VERBS[question if verb is None else verb]
    return MESSAGES[name]


def is_step(label: str) -> bool:
    """Whether a label is one to stop at."""
    if label.startswith("event:"):
        return label.removeprefix("event:") not in NO_EVENTS
    return not any(label.partition(":")[2].startswith(name) for name in NO_MESSAGES)


def steps_of(labels: Iterable[str]) -> list[Step]:
    """Every step of a run that was traced. Of data and the like, which may be fewer in the next run, the first half."""
    counts = collections.Counter(label for label in labels if is_step(label))
    steps = []
    for label, count in counts.items():
        last = (count + 1) // 2 if column(label) == "stream middle" or "Output" in label else count
        steps += [Step(label, nth, count) for nth in range(1, last + 1)]
    return steps
