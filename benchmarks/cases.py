"""The cases of many datasets: nothing changed, a little changed, all for the first time, and many snapshots."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from . import contestants
from .contestants import Contestant, Job
from .rig import COPY, POOL, Rig
from .rounds import Entry, Names, Result, compete, say

SNAPSHOTS = 20
MANY = ((1000, 20), (500, 200))
"""Datasets, and snapshots of each."""


def unchanged(rig: Rig, size: int, who: Sequence[Contestant], rounds: int, few: dict[str, int]) -> Result:
    """Nothing has changed in ``size`` datasets of 20 snapshots each; beside it, the two listings alone."""
    result = Result("unchanged", f"nothing changed, datasets of {SNAPSHOTS} snapshots", {"datasets": size})
    entries = []
    jobs = _both_sides(rig, who, size, SNAPSHOTS)
    for one, job in zip(who, jobs, strict=True):
        before = partial(rig.before, one)
        entries.append(Entry(one.name, one.title, partial(one.script, job), before, few.get(one.name, 0)))
        if one is contestants.ZFSYNC:
            limit = contestants.LIMIT
            entries.append(Entry(limit.name, limit.title, partial(limit.script, job)))
    compete(rig, result, entries, rounds)
    rig.drop_pool()
    return result


def changed(rig: Rig, size: int, who: Sequence[Contestant], rounds: int, few: dict[str, int], rtt: int = 0) -> Result:
    """A small file has changed in each of ``size`` datasets, and one snapshot was taken of all."""
    result = Result("changed", "one small incremental in each dataset", {"datasets": size, "rtt_ms": rtt})
    entries = []
    jobs = _both_sides(rig, who, size, 2)
    for one, job in zip(who, jobs, strict=True):
        names = Names(job.last)

        def prepare(one: Contestant = one, job: Job = job, names: Names = names) -> None:
            rig.before(one)
            rig.change(job.source, names.next())

        def script(one: Contestant = one, job: Job = job, names: Names = names) -> str:
            return one.script(Job(job.source, job.target, names.last, names.base))

        entries.append(Entry(one.name, one.title, script, prepare, few.get(one.name, 0)))
    with rig.delayed(rtt):
        compete(rig, result, entries, rounds)
    rig.drop_pool()
    return result


def first(
    rig: Rig, size: int, who: Sequence[Contestant], rounds: int, few: dict[str, int], rtt: int = 0, snapshots: int = 2
) -> Result:
    """A tree of small datasets, ten levels deep, is sent for the first time."""
    about = f"first push of a tree of small datasets in chains of ten, {snapshots} snapshots each"
    result = Result("first", about, {"datasets": size, "rtt_ms": rtt})
    entries = []
    rig.make_tree("tank/first", size - 1, snapshots, deep=True)
    for one in who:
        job = Job("tank/first", f"pool/{one.name}", f"s{snapshots - 1:04}")

        def prepare(one: Contestant = one, job: Job = job) -> None:
            rig.before(one)
            rig.destroy(rig.receiver, job.target)

        entries.append(Entry(one.name, one.title, partial(one.script, job), prepare, few.get(one.name, 0)))
    with rig.delayed(rtt):
        compete(rig, result, entries, rounds)
    rig.destroy(rig.sender, "tank/first")
    for one in who:
        rig.destroy(rig.receiver, f"pool/{one.name}")
    return result


def inventory(rig: Rig, rounds: int, datasets: int, snapshots: int) -> Result:
    """Very many snapshots at each end, of which nothing has changed, against the two listings alone."""
    count = datasets * snapshots
    about = "nothing changed, until the plan is made"
    result = Result("inventory", about, {"snapshots": count, "datasets": datasets})
    rig.new_pool()
    rig.make_tree(f"{POOL}/tree", datasets - 1, snapshots)
    rig.copy_pool()
    job = Job(f"{POOL}/tree", f"{COPY}/tree", "")
    push = f"zfsync push --json --dry-run {job.source} receiver:{job.target}"
    entries = [
        Entry("zfsync", "zfsync", lambda: push, until='"event": "planned"'),
        Entry("listing-all", "zfsync, all listed", lambda: push + " --list-all", until='"event": "planned"'),
        Entry("limit", "two listings", lambda: contestants.limit(job)),
    ]
    compete(rig, result, entries, rounds)
    rig.drop_pool()
    return result


def first_byte(rig: Rig, rounds: int) -> Result:
    """From the start of the command to the start of `zfs send`, against a login and the listings."""
    result = Result("first-byte", "start of the command until a stream begins, 10 datasets", {"datasets": 10})
    (job,) = _both_sides(rig, [contestants.ZFSYNC], 10, SNAPSHOTS)
    names = Names(job.last)
    push = f"zfsync push --json {job.source} receiver:{job.target}"
    listing = "zfs list -Hprt snapshot,bookmark -o name,guid,createtxg"
    entries = [
        Entry(
            "zfsync",
            "zfsync",
            lambda: push,
            lambda: rig.change(job.source, names.next()),
            until='"event": "send-started"',
        ),
        Entry("login", "`ssh host true`", lambda: "ssh receiver true"),
        Entry("listing", "`zfs list` there", lambda: f"ssh receiver {listing} {job.target} > /dev/null"),
        Entry("import", "`import asyncssh`", lambda: f"PYTHONPATH={contestants.PATH} python3 -c 'import asyncssh'"),
    ]
    compete(rig, result, entries, rounds)
    rig.drop_pool()
    return result


def _both_sides(rig: Rig, who: Sequence[Contestant], size: int, snapshots: int) -> list[Job]:
    """A tree of its own for each contestant, the same at both ends."""
    say(f"making {size} datasets for each of {len(who)}")
    rig.new_pool()
    for one in who:
        rig.make_tree(f"{POOL}/{one.name}", size - 1, snapshots)
    rig.copy_pool()
    return [Job(f"{POOL}/{one.name}", f"{COPY}/{one.name}", f"s{snapshots - 1:04}") for one in who]
