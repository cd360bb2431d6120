"""The two machines of a soak. The source and zfsync's pushes are at ``sender``, both copies, and the pulls, at
``receiver``. One program on each (`tests.soak.guest.hand`) does everything there, for a look costs more to start than
to do.
"""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import rig
from tests.faults import field
from tests.faults.checks import Ends
from tests.faults.field import Look, Run
from tests.lab import driver

from . import changes
from .changes import Step

SOURCE = "tank/soak"
ABOVE = "pool/keep"
TARGETS = {"push": f"{ABOVE}/pushed", "pull": f"{ABOVE}/pulled"}
RUN_SECONDS = 300
PROPERTIES = f"compression,{changes.NOTE}"
DELETING = ("--delete-snapshots", "--delete-datasets", "--yes")
_HERE = Path(__file__).parent
_PROGRAMS = {
    field.GUEST / "look.py": "look.py",
    _HERE.parent / "lab/digest.py": "digest.py",
    Path(rig.__file__).parent / "probe.py": "probe.py",
    _HERE / "guest/hand.py": "hand.py",
}


@dataclass(frozen=True)
class Plan:
    """How zfsync is run. Every run takes properties over and follows renames."""

    direction: str
    deletes: bool
    """Whether what is gone at the source goes at the copy; a run that deletes nothing remembers what it has listed."""

    def __str__(self) -> str:
        return f"{self.direction}{' with deletions' if self.deletes else ''}"

    @property
    def ends(self) -> Ends:
        """Its roots."""
        return Ends(SOURCE, TARGETS[self.direction])

    @classmethod
    def draw(cls, seed: int, number: int) -> Plan:
        """That of a run: one in four is a pull, two in three delete."""
        chance = random.Random(f"plan {seed} {number}")
        return cls("pull" if chance.random() < 0.25 else "push", chance.random() < 0.67)


@dataclass(frozen=True)
class Seen:
    """One end after a run: what the faults' checks judge, and what they do not ask for."""

    look: Look
    bookmarks: list[list[str]]
    """Full name and GUID."""
    values: dict[tuple[str, str], str]
    """Of dataset and property, where it is set on the dataset itself."""
    figures: dict[str, float]


class ChangeFailed(Exception):
    """A step of a change was refused: something holds what it was to change, or the drawing is wrong."""


class Ground:
    """Both machines, and what was read on them."""

    def __init__(self, lab: driver.Lab) -> None:
        self.lab = lab
        self._threads = ThreadPoolExecutor(2)
        self._digests: dict[str, dict[str, str]] = {"sender": {}, "receiver": {}}
        self.sender = lab.up("sender", disks=("2G",))
        self.receiver = lab.up("receiver", disks=("2G",))
        key = bytes(range(32))
        for machine, pool in ((self.sender, "tank"), (self.receiver, "pool")):
            lab.install(machine)
            machine.put(field.GUEST, "/root/soak")
            for program, name in _PROGRAMS.items():
                machine.put(program, f"/root/soak/{name}")
            machine.run(["sh", "-c", f"cat > {changes.KEY}"], input=key)
            machine.sh(f"rm -rf /tmp/* /var/tmp/*; zpool create {pool} {machine.disks[0]}")
        self.receiver.sh(f"zfs create -o mountpoint=none {ABOVE}; ssh sender true")
        self._hands = {
            machine.name: rig.Probe(machine, "/root/soak/hand.py") for machine in (self.sender, self.receiver)
        }

    def close(self) -> None:
        """End the threads; the machines are the lab's."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def change(self, steps: list[Step]) -> None:
        """Change the source. Raises `ChangeFailed`."""
        if failed := self._hands["sender"].ask("change", steps=steps)["failed"]:
            raise ChangeFailed(failed)

    def replicate(self, plan: Plan) -> tuple[Run, dict[str, float]]:
        """Run zfsync to its end, and what it needed."""
        for hand in self._hands.values():
            hand.ask("watch")
        source, target = plan.ends.source, plan.ends.target
        client, ends = {
            "push": ("sender", [source, f"{self.receiver.ssh_host}:{target}"]),
            "pull": ("receiver", [f"{self.sender.ssh_host}:{source}", target]),
        }[plan.direction]
        words = [plan.direction, "--json", "--preserve", PROPERTIES, *(DELETING if plan.deletes else ()), *ends]
        done = self._hands[client].ask("run", words=words, timeout=RUN_SECONDS)
        run = Run(done["code"], done["err"], field.events_of(done["out"]))
        return run, {"seconds": done["seconds"], "client_peak": done["peak"]}

    def look(self, *, fresh: bool = False) -> tuple[Seen, Seen]:
        """Both ends, and every digest of their snapshots; ``fresh``: all contents are read again, not only new ones."""
        source = self._threads.submit(self._look, "sender", SOURCE, fresh)
        target = self._threads.submit(self._look, "receiver", ABOVE, fresh)
        return source.result(), target.result()

    def _look(self, name: str, root: str, fresh: bool) -> Seen:
        seen: dict[str, Any] = self._hands[name].ask("look", root=root, fresh=fresh, properties=PROPERTIES)
        look = Look.of_seen(seen)
        digests = self._digests[name]
        digests.update(look.contents)
        look = replace(look, contents=dict(digests))
        values = {(dataset, prop): value for dataset, prop, value in seen["values"]}
        return Seen(look, seen["bookmarks"], values, seen["figures"])
