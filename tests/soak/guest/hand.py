"""Runs on each machine of a soak, for as long as it goes on: changes the source, runs zfsync, and tells what is there.

One JSON object a line: a question on stdin, its answer on stdout. To log in and start a Python for each would take
longer than all that is done. Beside this file lie `tests.faults.guest.look`, `tests.lab.digest` and `benchmarks.probe`.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import digest  # type: ignore[import-not-found]  # beside this file, on the machine
import look  # type: ignore[import-not-found]
import probe  # type: ignore[import-not-found]

WATCH_SECONDS = 0.2
QUIET_SECONDS = 15
STATE = Path("/var/lib/zfsync")
KEY = "/root/soak.key"
DIGEST_CHARS = 64
OUT = Path("/run/soak")


class Watch(threading.Thread):
    """Samples what agents, and the client, need while a run goes on."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._before = probe.pids()
        self._ended = threading.Event()
        self.client = ""
        self.found: dict[str, dict[str, int]] = {}
        """By process: the peak of its resident memory in KiB, and the most open files seen."""
        self.start()

    def run(self) -> None:
        while not self._ended.wait(WATCH_SECONDS):
            for pid in probe.pids() - self._before:
                try:
                    self._sample(pid)
                except OSError:
                    continue  # it has ended

    def _sample(self, pid: str) -> None:
        process = Path("/proc") / pid
        if pid != self.client and pid not in self.found and not is_agent((process / "cmdline").read_bytes()):
            return
        status = (process / "status").read_text()
        peak = int(status.partition("VmHWM:")[2].split(None, 1)[0] or 0)
        files = len(os.listdir(process / "fd"))
        most = self.found.setdefault(pid, {"peak": 0, "files": 0})
        most["peak"], most["files"] = max(most["peak"], peak), max(most["files"], files)

    def end(self) -> dict[str, Any]:
        """What was seen: of the client, and of all agents together and the largest."""
        self._ended.set()
        self.join()
        client = self.found.pop(self.client, {"peak": 0, "files": 0})
        agents = list(self.found.values())
        return {
            "client_files": client["files"],
            "agents": len(agents),
            "agent_peak": max((one["peak"] for one in agents), default=0),
            "agent_files": max((one["files"] for one in agents), default=0),
        }


def is_agent(line: bytes) -> bool:
    words = line.split(b"\0")
    return os.path.basename(words[0]).startswith(b"python") and words[1:2] == [b"-I"]


class Hand:
    """Answers questions."""

    def __init__(self) -> None:
        self._watch = Watch()
        self._digests: dict[str, str] = {}
        OUT.mkdir(exist_ok=True)

    def change(self, steps: Sequence[Sequence[str]]) -> dict[str, Any]:
        """Do all steps; the first that fails is told, with what it said."""
        for step in steps:
            if step[0] == "write":
                write(step[1], int(step[2]), step[3])
                continue
            done = subprocess.run(step, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
            if done.returncode:
                return {"failed": f"{' '.join(step)}: {done.stdout.decode().strip()}"}
        return {"failed": ""}

    def watch(self) -> dict[str, Any]:
        """Begin to sample."""
        self._watch.end()
        self._watch = Watch()
        return {}

    def run(self, words: Sequence[str], timeout: float) -> dict[str, Any]:
        """Run zfsync to its end, and tell what it said and needed."""
        begun = time.monotonic()
        with open(OUT / "out", "wb") as out, open(OUT / "err", "wb") as err:
            process = subprocess.Popen(
                ["zfsync", *words], stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True
            )
            self._watch.client = str(process.pid)
            timer = threading.Timer(timeout, os.killpg, (process.pid, signal.SIGKILL))
            timer.start()
            _, status, usage = os.wait4(process.pid, 0)
            timer.cancel()
        return {
            "code": os.waitstatus_to_exitcode(status),
            "out": (OUT / "out").read_text(),
            "err": (OUT / "err").read_text(),
            "seconds": time.monotonic() - begun,
            "peak": usage.ru_maxrss,
        }

    def look(self, root: str, fresh: bool, properties: str) -> dict[str, Any]:
        """All that is there, once nothing of a run is left; digests only of snapshots that were not read before.

        ``fresh``: all are read again.
        """
        usage = self._watch.end()
        deadline = time.monotonic() + QUIET_SECONDS
        while (processes := look.processes()) and time.monotonic() < deadline:
            time.sleep(0.1)
        datasets, rows = look.datasets([root]), look.snapshots([root])
        kinds = {one["name"]: one["type"] for one in datasets}
        if fresh:
            self._digests.clear()
        get = ("get", "-Hpr", "-slocal", "-tfilesystem,volume", "-oname,property,value")
        new = {guid: contents(name, kinds) for name, guid, _ in rows if guid not in self._digests}
        self._digests.update(new)
        state = [path for path in STATE.rglob("*") if path.is_file()]
        return {
            "datasets": datasets,
            "snapshots": rows,
            "contents": self._digests if fresh else new,
            "properties": look.own_properties([root]),
            "processes": processes,
            "files": look.files(),
            "bookmarks": look.zfs("list", "-Hpr", "-tbookmark", "-oname,guid", root),
            "values": look.zfs(*get, properties, root),
            "figures": {
                **usage,
                "processes": sum(1 for pid in probe.pids() if has_command(pid)),
                "open_files": int(Path("/proc/sys/fs/file-nr").read_text().split()[0]),
                "state_files": len(state),
                "state_bytes": sum(path.stat().st_size for path in state),
                "locks": len(list(Path("/run/lock").glob("zfsync*"))),
            },
        }


def has_command(pid: str) -> bool:
    try:
        return bool((Path("/proc") / pid / "cmdline").read_bytes())
    except OSError:
        return False


def write(dataset: str, count: int, seed: str) -> None:
    """Write bytes that the seed decides into one of four files of a filesystem, or somewhere into a volume."""
    chance = random.Random(seed)
    data = chance.randbytes(count)
    mountpoint = Path("/") / dataset
    if mountpoint.is_dir():
        (mountpoint / f"file{chance.randrange(4)}").write_bytes(data)
        return
    device = os.open(digest.device_of(dataset), os.O_WRONLY)
    os.pwrite(device, data, chance.randrange(8) * 4096)
    os.fsync(device)
    os.close(device)


def contents(snapshot: str, kinds: dict[str, str]) -> str:
    """A digest of what a snapshot holds. What cannot be read before its key is loaded is read then."""
    dataset = snapshot.partition("@")[0]
    if kinds[dataset] == "volume":
        return str(digest.of_volume(snapshot))
    found = look.contents(snapshot)
    if len(found) != DIGEST_CHARS:
        ((root,),) = look.zfs("get", "-Ho", "value", "encryptionroot", dataset)  # a clone's is what it came from
        subprocess.run(["zfs", "load-key", "-L", f"file://{KEY}", root], stderr=subprocess.DEVNULL, check=False)
        found = look.contents(snapshot)
    return str(found)


def main() -> None:
    """Answer until the end of input."""
    hand = Hand()
    for line in sys.stdin:
        question = json.loads(line)
        print(json.dumps(getattr(hand, question.pop("do"))(**question)), flush=True)


if __name__ == "__main__":
    main()
