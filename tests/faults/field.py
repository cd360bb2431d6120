"""Two machines of the lab on which one fault after the other happens, each on the same prepared pools.

Either machine has a pool ``tank`` with sources and a pool ``pool`` with their copies, so that both push and pull are
run by zfsync on the machine ``here``. A checkpoint of each pool is what every cell begins from: pools are exported, and
imported as they were then. That takes a tenth of a second, and brings GUIDs and all back.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.lab.driver import Lab, Machine, open_lab

from .guest.look import KEY
from .steps import AT_SOURCE, Step, steps_of

GUEST = Path(__file__).parent / "guest"
RELAY = Path(__file__).parents[1] / "ssh" / "relay.py"
DIGEST = Path(__file__).parents[1] / "lab" / "digest.py"
SCRATCH = "/run/faults"
RECORD = "-"
"""The label to trace all steps with, and stop at none."""
DIRECTIONS = ("push", "pull")
RELAY_PORT = 2222
READY = "/run/faults-ready"
"""The FIFO of what runs zfsync."""
WAIT = f"""cd {SCRATCH}; exec 8<> <(:)
wait_for() {{
  local until=$((SECONDS + $1)); shift
  while [ $SECONDS -le $until ]; do
    for file; do [ -e $file ] && return; done
    read -rt 0.1 -u 8 || true
  done
}}"""
"""Waits without starting a process each time, which is what costs most on such a machine."""
QUIET_SECONDS = 25
"""As long as what a run has started at the far end may live on after it."""
RUN_SECONDS = 150


@dataclass(frozen=True)
class Look:
    """What `tests.faults.guest.look` saw at one end."""

    datasets: dict[str, dict[str, str]]
    snapshots: dict[str, str]
    """Full name -> GUID, oldest first."""
    held: list[str]
    contents: dict[str, str]
    """GUID -> digest."""
    properties: list[list[str]]
    processes: list[str]
    files: list[str]

    @classmethod
    def of(cls, text: str) -> Look:
        """What was printed."""
        return cls.of_seen(json.loads(text))

    @classmethod
    def of_seen(cls, seen: dict[str, Any]) -> Look:
        """The same, read already."""
        rows = seen["snapshots"]
        return cls(
            {one["name"]: one for one in seen["datasets"]},
            {name: guid for name, guid, _ in rows},
            [name for name, _, refs in rows if refs != "0"],
            seen["contents"],
            seen["properties"],
            seen["processes"],
            seen["files"],
        )

    def guids(self, dataset: str) -> list[str]:
        """GUIDs of a dataset's own snapshots, oldest first."""
        return [guid for name, guid in self.snapshots.items() if name.partition("@")[0] == dataset]


@dataclass
class Run:
    """A run of zfsync that has ended; ``code`` is None when its machine went off under it."""

    code: int | None
    err: str
    events: list[dict[str, Any]] = field(default_factory=list)

    def __str__(self) -> str:
        failed = [e["outcome"]["message"] for e in self.events if e["event"] == "finished" and e["outcome"]["message"]]
        return f"exit {self.code}: {' '.join([self.err.strip()[-600:], *failed[:3]]).strip()}"


class Field:
    """The two machines, and the cell that is at work on them. ``set_up`` once, then ``reset`` for each cell."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.direction = "push"
        self.scenario = "plain"
        self.options: tuple[str, ...] = ()
        self.more: tuple[str, ...] = ()
        """Options of the first run alone."""
        self.second: Run | None = None
        """A run that was made while the first one stood still."""
        self._threads = ThreadPoolExecutor(2)
        self._stopper: Machine
        self.here = lab.up("sender", disks=("1G", "1G"))
        self.far = lab.up("receiver", disks=("1G", "1G"))

    def close(self) -> None:
        """End the threads; the machines are the lab's."""
        self._threads.shutdown()

    @property
    def source_machine(self) -> Machine:
        """Where what is sent lies."""
        return self.here if self.direction == "push" else self.far

    @property
    def target_machine(self) -> Machine:
        """Where the copy lies."""
        return self.far if self.direction == "push" else self.here

    @property
    def above(self) -> str:
        """The dataset above the copies."""
        return "pool/keep"

    @property
    def source(self) -> str:
        """The root of what is sent."""
        return f"tank/{self.scenario}"

    @property
    def target(self) -> str:
        """The root of the copy."""
        return f"{self.above}/{self.scenario}"

    # -- machines and pools --

    def both(self, act: Callable[[Machine], object]) -> None:
        """Do something to both machines at the same time."""
        list(self._threads.map(act, (self.here, self.far)))

    def furnish(self, machine: Machine) -> None:
        """Put on a machine what every boot forgets."""
        machine.put(GUEST, "/root/faults")
        for program in (RELAY, DIGEST):
            machine.put(program, f"/root/faults/{program.name}")
        machine.run(["sh", "-c", f"cat > {KEY}"], input=bytes(range(32)))
        machine.sh(f"mkdir -p {SCRATCH}; python3 -m compileall -q /root/faults || true")
        if machine.name == self.here.name:
            self.lab.install(machine)
            path = "PYTHONPATH=/opt/zfsync:/opt/pydeps:/root/faults"
            start = f"{path} setsid python3 /root/faults/ready.py < /dev/null > /dev/null 2> {READY}.err &"
            machine.sh(f"{start} for _ in $(seq 100); do [ -p {READY} ] && break; sleep 0.2; done; [ -p {READY} ]")

    def set_up(self, build: Callable[[Field], None]) -> None:
        """Make the pools, have ``build`` fill them, and keep them as they are then."""
        self.both(self.furnish)
        self.both(lambda machine: machine.sh("zpool create tank /dev/ubda; zpool create pool /dev/ubdb"))
        self.both(lambda machine: machine.sh("zfs set canmount=off pool; zfs create pool/keep; zfs create pool/other"))
        build(self)
        self.both(lambda machine: machine.sh("zpool sync; zpool checkpoint tank; zpool checkpoint pool"))

    def power_on(self, machine: Machine) -> None:
        """Switch a machine on, if it is off, and import its pools as they were at that moment."""
        if machine.alive:
            return
        self.lab.up(machine.name)
        self.furnish(machine)
        machine.sh("zpool import -f -d /dev/ubda tank; zpool import -f -d /dev/ubdb pool")

    def reset(self, direction: str, scenario: str, options: Sequence[str], *, library: bool) -> None:
        """Begin anew: both pools as they were prepared, nothing running, nothing in the way."""
        self.direction, self.scenario, self.options, self.more = direction, scenario, tuple(options), ()
        self.second = None
        self.both(lambda machine: machine.run(["bash", "/root/faults/reset.sh", "yes" if library else "no"]))

    # -- running zfsync --

    def words(self, *more: str) -> list[str]:
        """The command line of this cell."""
        source, target = self.source, self.target
        if self.direction == "push":
            target = f"{self.far.ssh_host}:{target}"
        else:
            source = f"{self.far.ssh_host}:{source}"
        words = ["--json", "--channels", "2", "--buffer-behind", "0"]  # so small trees go through the buffer too
        return [self.direction, *words, *self.options, *more, source, target]

    def start(self, label: str, nth: int, *, keepalive: float = 0, silence: float = 0) -> None:
        """Start zfsync, to stop at a step; the seconds are those of `tests.faults.guest.tracing`."""
        self._stopper = self.here
        if label.startswith(("zfs ", RECORD)):
            verb, _, when = label.removeprefix("zfs ").partition(" ")
            self._stopper = self.source_machine if verb in AT_SOURCE else self.target_machine
            for end, machine in (("source", self.source_machine), ("target", self.target_machine)):
                if label == RECORD or machine.name == self._stopper.name:
                    machine.sh(
                        f"cp /root/faults/zfs /usr/local/sbin/zfs; cd {SCRATCH}; "
                        f"echo {end} > end; echo '{verb} {nth} {when}' > zfs"
                    )
        self._order("first", self.words(*self.more), label=label, nth=nth, keepalive=keepalive, silence=silence)

    def _order(self, name: str, words: list[str], **more: str | float) -> None:
        """Have zfsync run as ``name``; see `tests.faults.guest.ready`."""
        order = json.dumps({"name": name, "words": words, **more}) + "\n"
        script = f"cd {SCRATCH}; rm -f {name}.*; touch {name}.order; timeout 20 tee {READY} > /dev/null"
        self.here.sh(script, input=order)

    def steps(self) -> list[Step]:
        """The steps of a run without a fault, which is made now."""
        self.start(RECORD, 0)
        run = self.wait_ended()
        assert run is not None, "the traced run does not end"
        assert run.code == 0, run
        labels = [machine.sh(f"cat {SCRATCH}/labels 2>/dev/null || true").stdout for machine in (self.here, self.far)]
        return steps_of("".join(labels).splitlines())

    def wait_reached(self) -> int:
        """Wait until the run has stopped at its step; the process that did, or 0 when the run has ended before."""
        script = f"{WAIT}; wait_for 3 reached first.ended; cat reached 2>/dev/null || echo 0"
        deadline = time.monotonic() + RUN_SECONDS
        ended = False
        while time.monotonic() < deadline:
            if pid := int(self._stopper.sh(script).stdout):
                return pid
            if ended:
                break
            ended = self.here.run(["test", "-e", f"{SCRATCH}/first.ended"], check=False).returncode == 0
        return 0

    def go_on(self, pid: int) -> None:
        """Let what has stopped go on."""
        if self._stopper.alive:
            self._stopper.sh(f"kill -CONT {pid} 2>/dev/null || true")

    def wait_ended(self, name: str = "first") -> Run | None:
        """Wait for a run's end; None when it does not come."""
        if not self.here.alive:
            return Run(None, "")
        files = f"cat {name}.ended; printf '\\0'; cat {name}.err; printf '\\0'; cat {name}.out"
        script = f"{WAIT}; if [ -e {name}.order ]; then wait_for {RUN_SECONDS} {name}.ended; {files}; fi"
        done = self.here.sh(script, check=False, timeout=RUN_SECONDS + 60)
        if done.returncode:
            return None
        if not done.stdout:
            return Run(None, "")  # its machine went off, and is on again
        code, err, out = done.stdout.split("\0", 2)
        return Run(int(code), err, events_of(out))

    def run(self, *more: str) -> Run:
        """Run zfsync to its end, with ``more`` options and without any step to stop at."""
        self._order("again", self.words(*more), label="")
        return self.wait_ended("again") or Run(None, "it does not end")

    # -- looking --

    def look(self, *, contents: bool = False, source_contents: bool = False) -> tuple[Look, Look]:
        """Both ends: the source, and the target with all that is above it."""

        def at(machine: Machine, root: str, digest: bool) -> Look:
            words = ["python3", "/root/faults/look.py", *(["--contents"] if digest else []), root]
            return Look.of(machine.run(words).stdout)

        source = self._threads.submit(at, self.source_machine, self.source, source_contents)
        target = self._threads.submit(at, self.target_machine, self.above, contents)
        return source.result(), target.result()

    def look_when_quiet(self, *, contents: bool = False) -> tuple[Look, Look]:
        """Both ends, once nothing of a run is left on either machine, or some seconds later."""
        deadline = time.monotonic() + QUIET_SECONDS
        while True:
            looks = self.look(contents=contents)
            if time.monotonic() > deadline or not (looks[0].processes or looks[1].processes):
                return looks
            time.sleep(0.3)


def events_of(out: str) -> list[dict[str, Any]]:
    """What --json wrote, but for a last line that was cut off."""
    events = []
    for line in out.splitlines():
        try:
            events.append(json.loads(line))
        except ValueError:
            break
    return events


def open_field(run: str) -> tuple[Lab, Field]:
    """A lab of its own with a field on it."""
    lab = open_lab(run=run)
    try:
        return lab, Field(lab)
    except BaseException:
        lab.close()
        raise
