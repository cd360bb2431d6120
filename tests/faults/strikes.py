"""How each fault is made to happen, and its cause taken away again: what is done to the machines and their pools."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.lab.driver import Machine

from .field import RELAY_PORT, SCRATCH, Field, Run

SEND = "pgrep -o -f '^(/usr/sbin/)?zfs send'"
RECEIVE = "pgrep -o -f '^(/usr/sbin/)?zfs receive'"
AGENTS = "pgrep -f '^[^ ]*python3[^ ]* -I -c'"
SSHD = (
    f'p=$({AGENTS} | head -1); until [ -z "$p" -o "$(ps -o comm= -p $p)" = sshd-session ]; do '
    "p=$(ps -o ppid= -p $p | tr -d ' '); done; echo $p"
)


# -- processes --


def arm(machine: Machine, find: str) -> None:
    """Kill what ``find`` finds on a machine, now or as soon as there is one."""
    machine.sh(
        f'cd {SCRATCH}; cat > find; setsid sh -c \'echo $$ > armed; until p=$(sh ./find) && [ -n "$p" ]; do '
        "sleep 0.05; done; kill -9 $p; echo $p > struck' < /dev/null > /dev/null 2>&1 & "
        "for _ in $(seq 6); do [ -e struck ] && break; sleep 0.1; done",
        input=find,
    )


def disarm(field: Field) -> None:
    """Let nothing be killed any more."""
    field.both(lambda machine: machine.sh(f"kill -9 $(cat {SCRATCH}/armed) 2>/dev/null || true"))


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
        f"zfs create -o refreservation=$size pool/other/hog && touch {SCRATCH}/struck && break; done"
    )


def make_room(field: Field) -> None:
    field.target_machine.sh(f"[ ! -e {SCRATCH}/struck ] || zfs destroy pool/other/hog")


def limit(field: Field, _: int) -> None:
    field.target_machine.sh(f"zfs set quota=$(($(zfs get -Hpo value used {field.above}) + 524288)) {field.above}")


def at_target(field: Field, script: str) -> None:
    field.target_machine.sh(script)


def export(field: Field, _: int) -> None:
    field.target_machine.sh(f"zpool export -f pool && touch {SCRATCH}/struck || true")


def reimport(field: Field) -> None:
    field.target_machine.sh("zpool list pool >/dev/null 2>&1 || zpool import -f -d /dev/ubdb pool")


def suspend(field: Field, _: int) -> None:
    """Let every write to the target's pool fail, so that ZFS suspends it; the disk is well again five seconds later."""
    suspended = "grep -q SUSPENDED /proc/spl/kstat/zfs/pool/state"
    field.target_machine.sh(
        "for what in write probe; do zinject -d ubdb -e io -T $what pool > /dev/null; done; "
        f"cd {SCRATCH}; setsid sh -c 'zfs set lab:write=1 pool/other & "
        f"for _ in $(seq 100); do {suspended} && touch struck && break; sleep 0.1; done; sleep 5; "
        "zinject -c all; zpool clear pool' < /dev/null > /dev/null 2>&1 & "
        "for _ in $(seq 100); do [ -e struck ] && break; sleep 0.1; done"
    )


def resume(field: Field) -> None:
    field.target_machine.sh("zinject -c all > /dev/null; zpool clear pool")


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


def second_was_right(field: Field) -> bool:
    assert isinstance(field.second, Run)
    locked = field.second.code == 4 and "is locked by" in field.second.err
    assert locked or field.second.code == 0, f"the second run: {field.second}"
    return True
