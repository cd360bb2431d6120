"""The cases of large datasets: one that is pushed, one that is pulled, several over a long line, and a long stream."""

from __future__ import annotations

from functools import partial

from . import contestants
from .contestants import Job
from .rig import Rig
from .rounds import Entry, Result, compete

CIPHER = "aes128-gcm@openssh.com"


def one_large(rig: Rig, mebibytes: int, rounds: int) -> list[Result]:
    """One dataset, pushed and pulled, beside the pipe with ssh's own cipher and with zfsync's."""
    results = []
    _fill(rig, "tank/large", mebibytes)
    job = Job("tank/large", "pool/large", "1")
    send = f"zfs send -Lec {job.source}@1"
    receive = f"ssh %s receiver zfs receive -u {job.target}"
    values = {"MiB": mebibytes}

    def again() -> None:
        rig.destroy(rig.receiver, job.target)

    pushed = Result("push-large", "one large dataset, pushed", dict(values))
    entries = [
        Entry("zfsync", "zfsync", lambda: contestants.zfsync(job), again),
        Entry("pipe", "pipe", lambda: f"{send} | {receive % ''}", again),
        Entry("pipe-gcm", "pipe, AES-GCM", lambda: f"{send} | {receive % f'-c {CIPHER}'}", again),
    ]
    results.append(compete(rig, pushed, entries, rounds))

    def away() -> None:
        rig.destroy(rig.sender, "tank/pulled")

    pulled = Result("pull-large", "one large dataset, pulled", dict(values))
    remote = f"zfs send -Lec {job.target}@1"
    entries = [
        Entry("zfsync", "zfsync", lambda: f"zfsync pull receiver:{job.target} tank/pulled", away),
        Entry("pipe", "pipe", lambda: f"ssh receiver {remote} | zfs receive -u tank/pulled", away),
        Entry(
            "pipe-gcm", "pipe, AES-GCM", lambda: f"ssh -c {CIPHER} receiver {remote} | zfs receive -u tank/pulled", away
        ),
    ]
    results.append(compete(rig, pulled, entries, rounds))
    away()
    again()
    rig.destroy(rig.sender, "tank/large")
    return results


def several_large(
    rig: Rig, mebibytes: int, rounds: int, rtts: tuple[int, ...], channels: tuple[int, ...]
) -> list[Result]:
    """Eight datasets below one root, over lines of some round-trip times, over some numbers of channels."""
    results = []
    root, target = "tank/several", "pool/several"
    rig.sender.run(["zfs", "create", root])
    for number in range(8):
        _fill(rig, f"{root}/{number}", mebibytes, snapshot=False)
    rig.sender.run(["zfs", "snapshot", "-r", f"{root}@1"])
    for rtt in rtts:
        result = Result("several-large", "eight large datasets", {"MiB": 8 * mebibytes, "rtt_ms": rtt})

        def again() -> None:
            rig.destroy(rig.receiver, target)

        entries = [Entry("pipe", "`-R` pipe", partial(contestants.pipe, Job(root, target, "1")), again)]
        for count in channels:
            job = Job(root, target, "1", channels=count)
            name = "zfsync" if count == max(channels) else f"zfsync-{count}"
            entries.append(Entry(name, f"zfsync, {count} channels", partial(contestants.zfsync, job), again))
        with rig.delayed(rtt):
            results.append(compete(rig, result, entries, rounds))
        again()
    rig.destroy(rig.sender, root)
    return results


def large_parent(rig: Rig, mebibytes: int, rounds: int, rtt: int) -> Result:
    """A large dataset with three below it over a long line, for the first time: these wait in the buffer, or do not."""
    root, target = "tank/parent", "pool/parent"
    result = Result(
        "parent", "four large datasets, three of them below the first", {"MiB": 4 * mebibytes, "rtt_ms": rtt}
    )
    _fill(rig, root, mebibytes, snapshot=False)
    for number in range(3):
        _fill(rig, f"{root}/{number}", mebibytes, snapshot=False)
    rig.sender.run(["zfs", "snapshot", "-r", f"{root}@1"])
    job = Job(root, target, "1")

    def again() -> None:
        rig.destroy(rig.receiver, target)

    who = (contestants.ZFSYNC, contestants.WAITING, contestants.PIPE)
    entries = [Entry(one.name, one.title, partial(one.script, job), again) for one in who]
    with rig.delayed(rtt):
        compete(rig, result, entries, rounds)
    again()
    rig.destroy(rig.sender, root)
    return result


def long_stream(rig: Rig, mebibytes: int) -> Result:
    """One stream that is long enough to see whether memory grows with it."""
    result = Result("memory", "memory while one long stream runs", {"MiB": mebibytes})
    rig.sender.run(["zfs", "create", "-o", "compression=off", "-o", "recordsize=1M", "tank/long"])
    rig.sender.sh(f"head -c {mebibytes}M /dev/zero > /tank/long/file; zfs snapshot tank/long@1", timeout=1800)
    job = Job("tank/long", "pool/long", "1")
    entry = Entry(
        "zfsync", "zfsync", lambda: contestants.zfsync(job), lambda: rig.destroy(rig.receiver, job.target), series=True
    )
    compete(rig, result, [entry], 0)
    rig.destroy(rig.receiver, job.target)
    rig.destroy(rig.sender, job.source)
    return result


def _fill(rig: Rig, dataset: str, mebibytes: int, *, snapshot: bool = True) -> None:
    """A filesystem with random bytes, a snapshot of it, and both in the pool's cache."""
    rig.sender.run(["zfs", "create", dataset])
    rig.sender.sh(f"head -c {mebibytes}M /dev/urandom > /{dataset}/file", timeout=600)
    if snapshot:
        rig.sender.run(["zfs", "snapshot", f"{dataset}@1"])
