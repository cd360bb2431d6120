"""Whether a run has done what it was to do: what the faults' checks say of both ends, and what a copy may not keep.
Pure; each function returns what is wrong.
"""

from __future__ import annotations

from collections.abc import Collection

from tests.faults import checks
from tests.faults.checks import Ends, Expected
from tests.faults.field import Look, Run

from .ground import TARGETS, Plan, Seen


def judge(plan: Plan, run: Run, source: Seen, target: Seen, moved: Collection[str] = ()) -> list[str]:
    """All that is wrong after a run; ``moved``: GUIDs of snapshots that a promotion has given to another dataset."""
    ends = plan.ends
    expected = Expected(source.look.contents, {}, overtaken(source, target, ends, moved))
    wrong = checks.first_run(run, (0,))
    wrong += [f"{name}: {message}" for name, message in _failures(run)]
    wrong += checks.claims(run, source.look, target.look, ends)
    wrong += checks.equal(source.look, target.look, ends, expected)
    wrong += checks.left_at_target(target.look, ends) + checks.left(source.look, target.look, run)
    wrong += properties(run, source, target, ends)
    if plan.deletes:
        wrong += surplus(source, target, ends)
    return list(dict.fromkeys(wrong + digests(source, target)))


def digests(source: Seen, target: Seen) -> list[str]:
    """Both digests of what has other contents, or what was said instead of one."""
    here, there = source.look.contents, target.look.contents
    pairs = ((guid, here[guid], there[guid]) for guid in target.look.snapshots.values() if guid in here)
    return [f"GUID {guid}: {one} at the source, {other} in the copy" for guid, one, other in pairs if one != other]


def overtaken(source: Seen, target: Seen, ends: Ends, moved: Collection[str]) -> list[str]:
    """GUIDs of snapshots that came to their dataset by a promotion when its copy, no clone there, was newer already.

    No stream can bring them: what is received goes behind a copy's newest snapshot (docs/reliability-soak.md).
    """
    late = []
    for dataset in source.look.datasets:
        there = set(target.look.guids(ends.target + dataset[len(ends.source) :]))
        guids = source.look.guids(dataset)
        newest = max((at for at, guid in enumerate(guids) if guid in there), default=0)
        late += [guid for guid in guids[:newest] if guid in moved and guid not in there]
    return late


def changed_hands(before: Look, after: Look) -> set[str]:
    """GUIDs of snapshots that belong to another dataset than before."""
    owners = {guid: name.partition("@")[0] for name, guid in before.snapshots.items()}
    return {guid for name, guid in after.snapshots.items() if owners.get(guid, "") not in ("", name.partition("@")[0])}


def _failures(run: Run) -> list[tuple[str, str]]:
    last = {e["outcome"]["source"]: e["outcome"] for e in run.events if e["event"] == "finished"}
    return [(name, one["message"]) for name, one in last.items() if one["status"] == "failed"]


def surplus(source: Seen, target: Seen, ends: Ends) -> list[str]:
    """What a copy still has after a run that was to delete it; a snapshot that a later stream may begin at may stay."""
    at = len(ends.target)
    marked = {guid for _, guid in source.bookmarks}
    known = set(source.look.snapshots.values()) | marked
    copies = [name for name in target.look.datasets if name == ends.target or name.startswith(ends.target + "/")]
    wrong = [f"{name} is gone at the source" for name in copies if ends.source + name[at:] not in source.look.datasets]
    for name, guid in target.look.snapshots.items():
        if name.partition("@")[0] in copies and guid not in known:
            wrong.append(f"{name} is gone at the source")
    return wrong


def properties(run: Run, source: Seen, target: Seen, ends: Ends) -> list[str]:
    """Whether what was sent has the source's properties."""
    wrong = []
    for event in run.events:
        if event["event"] != "finished" or event["outcome"]["status"] != "sent":
            continue
        name = event["outcome"]["source"].rpartition(":")[2]
        for (dataset, prop), value in source.values.items():
            copy = target.values.get((ends.target + name[len(ends.source) :], prop))
            if dataset == name and copy != value:
                wrong.append(f"{name} has {prop}={value}, and its copy {copy}")
    return wrong


def figures(source: Seen, target: Seen) -> dict[str, float]:
    """What is counted after a run, of both ends together where it does not say which."""
    both = (source, target)
    names = list(target.look.datasets)
    told = {
        "agent_peak": max(one.figures["agent_peak"] for one in both),
        "client_files": max(one.figures["client_files"] for one in both),
        "agent_files": max(one.figures["agent_files"] for one in both),
        "agents": sum(one.figures["agents"] for one in both),
        "holds": sum(len(one.look.held) for one in both),
        "bookmarks": len(source.bookmarks),
        "bookmarks_over": max(0, len(source.bookmarks) - len(TARGETS) * len(source.look.datasets)),
        "buffered": sum(".zfsyncbuffer" in name for name in names),
        "partial": sum(row["receive_resume_token"] != "-" for row in target.look.datasets.values()),
        "datasets": len(source.look.datasets),
        "snapshots": len(source.look.snapshots),
        "copied": len(target.look.snapshots),
    }
    for end, seen in (("source", source), ("target", target)):
        for what in ("processes", "open_files", "state_files", "state_bytes", "locks"):
            told[f"{what}_{end}"] = seen.figures[what]
    return told
