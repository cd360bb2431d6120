"""What can happen to a run: each fault, where it can happen, and which exit codes the run may then have."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from tests.lab.driver import Machine

from .field import RELAY_PORT, SCRATCH, Field, Run
from .steps import COLUMNS

SEND = "pgrep -o -f '^(/usr/sbin/)?zfs send'"
RECEIVE = "pgrep -o -f '^(/usr/sbin/)?zfs receive'"
AGENTS = "pgrep -f '^[^ ]*python3[^ ]* -I -c'"
SSHD = (
    f'p=$({AGENTS} | head -1); until [ -z "$p" -o "$(ps -o comm= -p $p)" = sshd-session ]; do '
    "p=$(ps -o ppid= -p $p | tr -d ' '); done; echo $p"
)
KEEPALIVE = 1.0
"""Seconds, instead of 15: a connection that has gone silent is given up after 4 of them, instead of 60."""
SILENCE = 12.0
EVERYWHERE = frozenset(COLUMNS)
BEFORE_STREAMS = EVERYWHERE - {"rename", "bookmark", "release", "report"}


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong.

    ``strike`` makes it happen while the run stands still, and is given the cell's number to choose by; ``mend`` takes
    its cause away when the run has ended; ``landed`` tells whether it really happened.
    """

    name: str
    what: str
    strike: Callable[[Field, int], None]
    codes: Collection[int] = ()
    """The exit codes that the run may have; none when the program itself is killed."""
    mend: Callable[[Field], None] = lambda field: None
    ready: Callable[[Field], None] = lambda field: None
    """Done before the run begins."""
    landed: Callable[[Field], bool] = lambda field: True
    columns: Collection[str] = EVERYWHERE
    directions: Collection[str] = ("push", "pull")
    scenarios: Collection[str] = ("plain", "moved", "aside")
    keepalive: float = 0
    silence: float = 0
    """Seconds after which an agent gives a silent client up, instead of 300."""
    tampers: bool = False
    """Somebody changes datasets meanwhile: what was said about them before may not be true afterwards."""


# -- processes --


def arm(machine: Machine, find: str) -> None:
    """Kill what ``find`` finds on a machine, now or as soon as there is one."""
    machine.sh(
        f'cd {SCRATCH}; cat > find; setsid sh -c \'echo $$ > armed; until p=$(sh ./find) && [ -n "$p" ]; do '
        "sleep 0.05; done; kill -9 $p; echo $p > struck' < /dev/null > /dev/null 2>&1 & "
        "for _ in $(seq 6); do [ -e struck ] && break; sleep 0.1; done",
        input=find,
    )


def has_struck(field: Field) -> bool:
    """Whether what was armed has killed something, or done its work."""
    here, far = (machine.run(["test", "-e", f"{SCRATCH}/struck"], check=False) for machine in (field.here, field.far))
    return 0 in (here.returncode, far.returncode)


def agents(number: int) -> str:
    """One agent: the first there was, which is the one in control, or the last."""
    return f"{AGENTS} | {'head' if number % 2 else 'tail'} -1"


def kill_program(field: Field, _: int) -> None:
    field.here.sh(f"kill -9 $(cat {SCRATCH}/first.pid)")


# -- the connection --


def through_relay(field: Field) -> None:
    host = field.far.ssh_host
    field.here.sh(
        f"cd {SCRATCH}; printf 'Host {host}\\n HostName 127.0.0.1\\n Port {RELAY_PORT}\\n' > ssh_config; "
        f"setsid python3 /root/faults/cut.py {RELAY_PORT} {field.far.config.address} </dev/null >/dev/null 2>&1 & "
        "for _ in $(seq 50); do ss -Hltn sport = :2222 | grep -q . && break; sleep 0.05; done"
    )
    field.more = ("-F", f"{SCRATCH}/ssh_config")


def cut(field: Field, _: int) -> None:
    field.here.sh("pkill -TERM -f '^python3 /root/faults/cut.py'")


def silence(field: Field, _: int = 0) -> None:
    """Let what each machine sends to the other go nowhere; the lab's own way to them stays."""
    for machine, other in ((field.here, field.far), (field.far, field.here)):
        to = other.config.address
        machine.sh(
            f"dev=$(ip -o route get {to} | sed 's/.* dev \\([^ ]*\\) .*/\\1/'); "
            f"ip neigh replace {to} lladdr 02:00:00:00:ff:ff dev $dev nud permanent"
        )


def hear(field: Field) -> None:
    for machine, other in ((field.here, field.far), (field.far, field.here)):
        machine.sh(f"ip neigh flush to {other.config.address} nud permanent", check=False)


def silence_briefly(field: Field, _: int) -> None:
    silence(field)
    time.sleep(2)
    hear(field)


# -- machines and pools --


def fill(field: Field, _: int) -> None:
    """Leave nothing in the pool but 1 MiB, or as little more as ZFS lets us."""
    field.target_machine.sh(
        "for left in 1 2 4 8 16; do "
        "size=$(($(zfs get -Hpo value available pool) - (left << 20))); "
        "zfs create -o refreservation=$size pool/other/hog && break; done"
    )


def limit(field: Field, _: int) -> None:
    field.target_machine.sh(f"zfs set quota=$(($(zfs get -Hpo value used {field.above}) + 524288)) {field.above}")


def _at_target(field: Field, script: str) -> None:
    field.target_machine.sh(script)


def onto_memory(field: Field) -> None:
    """Move the target's pool to a disk that can be made to fail: a loop device on a file in memory."""
    field.target_machine.sh(
        "zpool export pool; mkdir -p /run/frail; mount -t tmpfs -o size=400M frail /run/frail; "
        "cp --sparse=always /dev/ubdb /run/frail/disk; "  # which leaves out even the smallest piece that is empty
        "losetup /dev/loop0 /run/frail/disk; zpool import -d /dev/loop0 pool"
    )


def suspend(field: Field, _: int) -> None:
    """Let every write to a new place on the disk fail, until the pool is suspended and for two seconds more."""
    wait = "until grep -q SUSPENDED /proc/spl/kstat/zfs/pool/state; do sleep 0.05; done"
    heal = "rm fill; zpool clear pool"
    field.target_machine.sh(
        "cd /run/frail; head -c 1G /dev/zero > fill 2>/dev/null || true; "
        f"setsid sh -c 'echo $$ > {SCRATCH}/armed; {wait}; touch {SCRATCH}/struck; sleep 2; {heal}' "
        "< /dev/null > /dev/null 2>&1 &"
    )


def unsuspend(field: Field) -> None:
    field.target_machine.sh("rm -f /run/frail/fill; zpool clear pool || true")


def export(field: Field, _: int) -> None:
    field.target_machine.sh(f"zpool export -f pool && touch {SCRATCH}/struck || true")


def reimport(field: Field) -> None:
    field.target_machine.sh("zpool list pool >/dev/null 2>&1 || zpool import -f -d /dev/ubdb pool")


# -- somebody else's hands --


def by_hand(at: str, command: str, *names: str) -> Callable[[Field, int], None]:
    """Somebody runs zfs at the source or the target; ``names`` are what the cell's number chooses from."""

    def act(field: Field, number: int) -> None:
        root, machine = (field.source, field.source_machine) if at == "source" else (field.target, field.target_machine)
        name = root + names[number % len(names)]
        machine.sh(f"/usr/sbin/zfs {command.format(name)} && touch {SCRATCH}/struck || true")

    return act


def second(field: Field, _: int) -> None:
    field.second = field.run()


def _second_was_right(field: Field) -> bool:
    assert isinstance(field.second, Run)
    locked = field.second.code == 4 and "is locked by" in field.second.err
    assert locked or field.second.code == 0, f"the second run: {field.second}"
    return True


LOST = (0, 5)
REFUSED = (0, 3, 7)

FAULTS = (
    Fault("kill zfsync", "SIGKILL of the program", kill_program),
    Fault(
        "kill target's agent",
        "SIGKILL of one of the agents at the target: the one in control, or one that receives",
        lambda field, number: arm(field.target_machine, agents(number)),
        (0, 3, 6),
        landed=has_struck,
    ),
    Fault(
        "kill source's agent",
        "SIGKILL of one of the agents at the source",
        lambda field, number: arm(field.source_machine, agents(number)),
        (0, 3, 6),
        landed=has_struck,
        directions=("pull",),
    ),
    Fault(
        "kill zfs send",
        "SIGKILL of the `zfs send` that runs, or of the next",
        lambda field, _: arm(field.source_machine, SEND),
        (0, 3),
        landed=has_struck,
        columns=BEFORE_STREAMS,
    ),
    Fault(
        "kill zfs receive",
        "SIGKILL of the `zfs receive` that runs, or of the next",
        lambda field, _: arm(field.target_machine, RECEIVE),
        (0, 3),
        landed=has_struck,
        columns=BEFORE_STREAMS,
    ),
    Fault(
        "kill sshd", "SIGKILL of the connection's sshd", lambda field, _: arm(field.far, SSHD), LOST, landed=has_struck
    ),
    Fault("cut", "The connection is reset, at both ends (RST)", cut, LOST, ready=through_relay),
    Fault("silent", "Nothing goes through any more, and nothing says so", silence, LOST, hear, keepalive=KEEPALIVE),
    Fault("silent 2 s", "Nothing goes through for two seconds", silence_briefly, (0,), hear),
    Fault(
        "far off",
        "Power off of the other machine: the receiver of a push, the sender of a pull",
        lambda field, _: field.far.kill(),
        LOST,
        lambda field: field.power_on(field.far),
        keepalive=KEEPALIVE,
    ),
    Fault(
        "here off",
        "Power off of the machine that zfsync runs on: the sender of a push, the receiver of a pull",
        lambda field, _: field.here.kill(),
        (),
        lambda field: field.power_on(field.here),
        silence=SILENCE,
    ),
    Fault(
        "pool full",
        "The target's pool is full but for 1 MiB",
        fill,
        REFUSED,
        lambda field: _at_target(field, "zfs destroy pool/other/hog"),
    ),
    Fault(
        "quota",
        "A quota above the target leaves 512 KiB",
        limit,
        REFUSED,
        lambda field: _at_target(field, f"zfs set quota=none {field.above}"),
    ),
    Fault(
        "suspended",
        "The disk of the target's pool fails, and the pool is suspended for two seconds",
        suspend,
        (0, 3, 5, 7),
        unsuspend,
        onto_memory,
        has_struck,
    ),
    Fault("exported", "The target's pool is exported", export, REFUSED, reimport, landed=has_struck),
    Fault(
        "source snapshot gone",
        "A snapshot is destroyed at the source",
        by_hand("source", "destroy {}", "/c@3", "/a@4", "/c@2", "/n/m@3"),
        (0, 3),
        landed=has_struck,
        scenarios=("plain",),
        tampers=True,
    ),
    Fault(
        "target snapshot gone",
        "The newest common snapshot is destroyed at the target",
        by_hand("target", "destroy {}", "/c@2", "/a/b@2"),
        (0, 3),
        landed=has_struck,
        scenarios=("plain",),
        tampers=True,
    ),
    Fault(
        "source renamed",
        "A dataset is renamed at the source",
        by_hand("source", "rename {0} {0}2", "/c", "/a/b", "/n/m"),
        (0, 3, 7),
        landed=has_struck,
        scenarios=("plain",),
        tampers=True,
    ),
    Fault(
        "source dataset gone",
        "A dataset is destroyed at the source",
        by_hand("source", "destroy -r {}", "/c", "/a/b", "/n/m"),
        (0, 3, 7),
        landed=has_struck,
        scenarios=("plain",),
        tampers=True,
    ),
    Fault(
        "target renamed",
        "A dataset is renamed at the target",
        by_hand("target", "rename {0} {0}2", "/c", "/a/b"),
        (0, 3),
        landed=has_struck,
        scenarios=("plain",),
        tampers=True,
    ),
    Fault(
        "target dataset gone",
        "A dataset is destroyed at the target",
        by_hand("target", "destroy -r {}", "/c", "/a/b"),
        (0, 3),
        landed=has_struck,
        scenarios=("plain",),
        tampers=True,
    ),
    Fault("second run", "A second run to the same target begins", second, (0, 4), landed=_second_was_right),
)
BY_NAME = {fault.name: fault for fault in FAULTS}
