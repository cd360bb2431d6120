"""What must hold after a fault, whatever it was: pure judgements over what was seen. Each returns what is wrong."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from .field import Look, Run

DONE = ("sent", "up-to-date")
KILLED = 137
RUN_LOCK = "/run/lock/zfsync-@run-"


@dataclass(frozen=True)
class Ends:
    """The roots at both ends."""

    source: str
    target: str

    @property
    def buffer(self) -> str:
        """Where children wait."""
        return f"{self.target}.zfsyncbuffer"


def first_run(run: Run, codes: Collection[int]) -> list[str]:
    """Whether a run that a fault has hit says one thing, and the right thing; without ``codes`` it was killed."""
    if not codes:
        return [] if run.code in (None, KILLED) else [f"it was killed, and ended with {run}"]
    wrong = []
    if run.code not in codes:
        wrong.append(f"exit code {run.code} is none of {list(codes)}: {run}")
    if "Traceback" in run.err:
        wrong.append(f"a traceback: {run}")
    if run.code and run.code > 3 and not (run.err.strip() and run.err.strip().endswith(".")):
        wrong.append(f"its last words are no sentence: {run}")
    failed = [event for event in run.events if event["event"] == "finished" and event["outcome"]["status"] == "failed"]
    refused = [event for event in run.events if event["event"] == "changed" and event["problem"]]
    last = {event["outcome"]["source"]: event["outcome"] for event in failed}
    if run.code == 3 and not failed and not refused:
        wrong.append("exit code 3, and nothing that failed")
    if run.code == 0 and failed:
        wrong.append(f"exit code 0, and {list(last)} failed")
    wrong += [f"{name} failed without a word" for name, outcome in last.items() if not outcome["message"]]
    return wrong


def asks_for(run: Run, option: str) -> bool:
    """Whether all that failed names an option with which it would not."""
    how, what = option.split(" ")
    outcomes = [event["outcome"] for event in run.events if event["event"] == "finished"]
    messages = [outcome["message"] for outcome in outcomes if outcome["status"] == "failed"]
    return bool(messages) and all(how in message and what in message for message in messages)


def claims(run: Run, source: Look, target: Look, ends: Ends) -> list[str]:
    """Whether each dataset that a run called done is there: in its place, or in the buffer if the run broke off."""
    names = dict(target_names(target, ends))
    wrong = []
    last = {e["outcome"]["source"]: e["outcome"] for e in run.events if e["event"] == "finished"}
    for name, outcome in last.items():
        if outcome["status"] not in DONE:
            continue
        child = name.partition(":")[2][len(ends.source) :] if ":" in name else name[len(ends.source) :]
        newest = source.guids(ends.source + child)[-1:]
        place = ends.target + child
        there = target.guids(place) if run.code in (0, 3) else target.guids(place) + names.get(child, [])
        if newest and newest[0] not in there:
            wrong.append(f"{name} was called {outcome['status']}, and its newest snapshot is not in {place}")
    if run.code == 0:
        for dataset in source.datasets:
            newest = source.guids(dataset)[-1:]
            if newest and newest[0] not in target.guids(ends.target + dataset[len(ends.source) :]):
                wrong.append(f"exit code 0, and the newest snapshot of {dataset} has not arrived")
        told = [event["text"] for event in run.events if event["event"] == "notice"]
        if not any(f"{ends.buffer} is not cleared up" in text for text in told):
            wrong += left_at_target(target, ends)
    return wrong


def target_names(target: Look, ends: Ends) -> list[tuple[str, list[str]]]:
    """The GUIDs that wait in the buffer, by child."""
    waiting = []
    for name in target.datasets:
        if name.startswith(ends.buffer + "/"):
            head, slash, below = name[len(ends.buffer) + 1 :].partition("/")
            waiting.append((bytes.fromhex(head).decode() + slash + below, target.guids(name)))
    return waiting


def left_at_target(target: Look, ends: Ends) -> list[str]:
    """What is not to be there once a run has ended well: buffer, partial receives, marks."""
    wrong = []
    for name, dataset in target.datasets.items():
        if name == ends.buffer or name.startswith(ends.buffer + "/"):
            wrong.append(f"{name} is left in the buffer")
        if dataset["receive_resume_token"] != "-":
            wrong.append(f"{name} is left partly received")
        if "%" in name.rpartition("/")[2]:
            wrong.append(f"{name} is left of a receive")
    marks = {"zfsync:path": "its mark of the buffer"}
    wrong += [f"{name} is left with {marks[prop]}, {value}" for name, prop, value in target.properties if prop in marks]
    for name, prop, value in target.properties:
        if prop == "zfsync:placeholder" and (value != name or target.guids(name)):
            wrong.append(f"{name} is left with the mark of a placeholder, {value}")
    return wrong


def left(source: Look, target: Look, last: Run) -> list[str]:
    """What no run may leave on either machine: holds, locks, processes, temporary files.

    The lock of a run that was killed, which nobody holds, goes with the next run that has something to hold.
    """
    held = any(event["event"] == "planned" and event["to_send"] for event in last.events)
    wrong = [f"{name} is still held" for name in (*source.held, *target.held)]
    wrong += [f"{name} still has {prop}" for name, prop, _ in source.properties if prop.startswith("zfsync:holds")]
    wrong += [f"a process is left: {line}" for line in (*source.processes, *target.processes)]
    files = [path for path in (*source.files, *target.files) if held or not path.startswith(RUN_LOCK)]
    return wrong + [f"a file is left: {path}" for path in files]


@dataclass(frozen=True)
class Expected:
    """What the ends have to be in the end: the digests of what was at either before, by GUID."""

    source: dict[str, str]
    target: dict[str, str]
    gone: Collection[str] = ()
    """GUIDs that may be missing at the target: somebody destroyed them there."""


def equal(source: Look, target: Look, ends: Ends, expected: Expected) -> list[str]:
    """Whether every snapshot of the source is at the target, in its place, with its contents; and nothing invented."""
    wrong = []
    for name, guid in source.snapshots.items():
        place = ends.target + name[len(ends.source) :]
        if target.snapshots.get(place) != guid and guid not in expected.gone:
            wrong.append(f"{place} is missing")
    for name, guid in target.snapshots.items():
        known = expected.source.get(guid) or expected.target.get(guid)
        if known is None:
            wrong.append(f"{name} is nobody's snapshot")
        elif target.contents[guid] != known:
            wrong.append(f"{name} has other contents")
    for name, dataset in source.datasets.items():
        copy = target.datasets.get(ends.target + name[len(ends.source) :])
        if copy and copy["origin"] != "-" and dataset["origin"] == "-":
            wrong.append(f"{copy['name']} stays a clone of {copy['origin']}")
    return wrong


def kept(target: Look, expected: Expected, may_go: Collection[str]) -> list[str]:
    """Whether the target still has, under some name, all snapshots that it had before."""
    there = set(target.snapshots.values())
    lost = [guid for guid in expected.target if guid not in there and guid not in may_go]
    return [f"the target has lost a snapshot that it had, GUID {guid}" for guid in lost]
