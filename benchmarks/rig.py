"""The two machines of a benchmark: brought up in the lab, measured, made slow, and filled with datasets."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lab.driver import Lab, Machine, open_lab
from tests.lab.driver.network import address

from . import link
from .contestants import Contestant

HERE = Path(__file__).parent
POOL = "both"
COPY = "copy"
"""A pool of the sender, and what its copy at the receiver is called."""
SETTLE_SECONDS = 0.3
"""After a command, before the CPU seconds are read: what it has left at the far end comes to its end."""
COUNTER = "/run/zfs-commands"
_COUNTING = f"""#!/bin/sh
echo >> {COUNTER}
exec /usr/sbin/zfs "$@"
"""


@dataclass(frozen=True, slots=True)
class Sample:
    """What one run of a contestant took, at the sender (``here``) and the receiver (``there``)."""

    seconds: float
    cpu_here: float
    cpu_there: float
    processes_here: int
    processes_there: int
    until: float = 0.0
    """When it printed what was waited for."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What a contestant needs, seen in a run of its own, which is not timed. Memory in KiB."""

    own_here: int
    own_there: int
    largest_here: int
    largest_there: int
    zfs_here: int
    zfs_there: int


class ContestantFailed(Exception):
    """A contestant did not do what it was to do."""


class Probe:
    """`benchmarks.probe` on one machine; or another program there, ``path``, that answers questions like it."""

    def __init__(self, machine: Machine, path: str = "") -> None:
        self.machine = machine
        if not path:
            path = "/root/probe.py"
            machine.put(HERE / "probe.py", path)
        argv = ["sh", "-c", f"exec python3 -u {path} 2>> /root/probe.log"]
        self._process = machine.start(argv, stdin=subprocess.PIPE)

    def ask(self, do: str, **more: Any) -> dict[str, Any]:
        """One question and its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": do, **more}) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        """Let it end."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)


class Rig:
    """A sender with pool ``tank`` and a receiver with pool ``pool``, each with a probe."""

    def __init__(self, lab: Lab, sender: Machine, receiver: Machine) -> None:
        self.lab = lab
        self.sender = sender
        self.receiver = receiver
        self.here = Probe(sender)
        self.there = Probe(receiver)

    # -- measuring --

    def measure(self, script: str, *, until: str = "", timeout: float = 1800.0) -> Sample:
        """Run a shell script at the sender, to its good end."""
        before = self.here.ask("read"), self.there.ask("read")
        done = self.here.ask("run", argv=["bash", "-euo", "pipefail", "-c", script], until=until, timeout=timeout)
        time.sleep(SETTLE_SECONDS)
        after = self.here.ask("read"), self.there.ask("read")
        if done["status"] != 0:
            raise ContestantFailed(f"{script!r} ended with {done['status']}: {done['tail']}")
        cpu, processes = (
            [now[key] - then[key] for then, now in zip(before, after, strict=True)] for key in ("cpu", "processes")
        )
        return Sample(done["seconds"], cpu[0], cpu[1], int(processes[0]), int(processes[1]), done["until"])

    def before(self, contestant: Contestant) -> None:
        """What comes before each of its runs, at the sender."""
        if contestant.before:
            self.sender.sh(contestant.before)

    def needs(self, script: str, *, timeout: float = 1800.0) -> tuple[Needs, dict[str, Any]]:
        """Run it once more for what cannot be seen without slowing it down; and how its memory went at each end."""
        with self._counting():
            for probe in (self.here, self.there):
                probe.ask("sample")
            self.measure(script, timeout=timeout)
            here, there = (probe.ask("sampled") for probe in (self.here, self.there))
            counts = [self._counted(machine) for machine in (self.sender, self.receiver)]
        series = {"here": here.pop("series"), "there": there.pop("series")}
        return Needs(here["own"], there["own"], here["largest"], there["largest"], *counts), series

    @contextlib.contextmanager
    def _counting(self) -> Iterator[None]:
        wrapper = "/usr/local/sbin/zfs"
        for machine in (self.sender, self.receiver):
            machine.sh(f": > {COUNTER}; cat > {wrapper}; chmod 755 {wrapper}", input=_COUNTING)
        try:
            yield
        finally:
            for machine in (self.sender, self.receiver):
                machine.run(["rm", wrapper])

    @staticmethod
    def _counted(machine: Machine) -> int:
        return int(machine.sh(f"wc -l < {COUNTER}").stdout)

    # -- the line between --

    @contextlib.contextmanager
    def delayed(self, round_trip_ms: int) -> Iterator[None]:
        """A line with this round-trip time, half of it on either way; 0 for the line as it is.

        In user space, between the machines: with the guests' netem, 100 ms made a pipe of 128 MiB take 157 s.
        """
        if not round_trip_ms:
            yield
            return
        receiver = self.sender.sh("getent hosts receiver | cut -d' ' -f1").stdout.strip()
        between = address(1)
        argv = [sys.executable, link.__file__, "22", "--to", receiver, "--at", between, "--rtt", str(round_trip_ms)]
        with subprocess.Popen(
            self.lab.inside(argv), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            way = f"Host receiver\nHostName {between}\nPort {int(process.stdout.readline())}\nHostKeyAlias receiver\n"
            self.sender.sh("cat > /root/.ssh/config", input=way)
            try:
                yield
            finally:
                self.sender.run(["rm", "/root/.ssh/config"])

    # -- datasets --

    def new_pool(self) -> None:
        """An empty pool `POOL` at the sender, on a disk of its own."""
        self.sender.run(
            ["zpool", "create", "-f", "-O", "compression=lz4", "-O", "atime=off", POOL, self.sender.disks[1]]
        )

    def copy_pool(self) -> None:
        """The same pool at the receiver, nothing of it mounted: copied as it lies on its disk, which nobody writes to.

        To send it would take long, and so would it to unmount and mount it all.
        """
        here, there = self.sender.disks[1], self.receiver.disks[1]
        unpack = f"lzop -dc | dd of={there} bs=1M status=none"
        self.sender.sh(
            f"zpool sync {POOL}; dd if={here} bs=1M status=none | lzop -1c | ssh receiver '{unpack}'", timeout=900
        )
        self.receiver.run(["zpool", "import", "-f", "-N", "-d", there, POOL, COPY], timeout=600)

    def drop_pool(self) -> None:
        """Give both up."""
        self.sender.run(["zpool", "destroy", POOL], timeout=600)
        self.receiver.run(["zpool", "destroy", COPY], timeout=600)

    def make_tree(self, root: str, children: int, snapshots: int, *, deep: bool = False) -> None:
        """A filesystem with so many below it, each with a small file and so many snapshots, in a few commands.

        ``deep``: as groups of ten, one below the other, instead of all in one row.
        """
        program = (HERE / "maketree.py").read_text()
        options = [root, str(children), str(snapshots), str(int(deep))]
        self.sender.run(["python3", "-", *options], input=program, timeout=1800)

    def change(self, root: str, snapshot: str) -> None:
        """Write a little into each filesystem of a tree, and take a snapshot of all."""
        script = f"for d in $(zfs list -Hro mountpoint {root}); do head -c 8k /dev/urandom > $d/file; done"
        self.sender.sh(f"{script}; zfs snapshot -r {root}@{snapshot}", timeout=600)

    def destroy(self, machine: Machine, root: str) -> None:
        """Destroy a tree, with all that is in it, if it is there."""
        machine.sh(f"! zfs list {root} >/dev/null 2>&1 || zfs destroy -R {root}", timeout=1800)


@contextlib.contextmanager
def open_rig(disks: tuple[str, str] = ("12G", "1G")) -> Iterator[Rig]:
    """Bring both machines up, with zfsync and its peers at the sender; all of it ends with the block."""
    import bzfs_main

    with open_lab(run=f"benchmark{time.time_ns() % 1_000_000}") as lab:
        pools = (("sender", "tank"), ("receiver", "pool"))
        machines = []
        for name, pool in pools:
            machine = lab.up(name, disks=disks, memory="3G")
            machine.run(["zpool", "create", "-O", "compression=lz4", "-O", "atime=off", pool, machine.disks[0]])
            machines.append(machine)
        sender, receiver = machines
        lab.install(sender)
        sender.put(Path(bzfs_main.__file__).parent, "/opt/bzfs/bzfs_main")
        sender.sh("python3 -m compileall -q /opt/bzfs; ssh receiver true")
        rig = Rig(lab, sender, receiver)
        try:
            yield rig
        finally:
            rig.here.close()
            rig.there.close()
