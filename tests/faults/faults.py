"""What can happen to a run: each fault, where it can happen, and which exit codes the run may then have."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from . import strikes
from .field import Field
from .steps import COLUMNS

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
    scenarios: Collection[str] = ("plain", "moved", "aside", "sealed")
    keepalive: float = 0
    silence: float = 0
    """Seconds after which an agent gives a silent client up, instead of 300."""
    tampers: bool = False
    """Somebody changes datasets meanwhile: what was said about them before may not be true afterwards."""
    needs_command: bool = False
    """It strikes processes of zfs, which the library spares."""
    advice: tuple[str, ...] = ()
    """The option that the next run may ask for, since something would be lost that is not zfsync's to lose unasked."""


LOST = (0, 5)
REFUSED = (0, 3, 7)

FAULTS = (
    Fault("kill zfsync", "SIGKILL of the program", strikes.kill_program),
    Fault(
        "kill target's agent",
        "SIGKILL of one of the agents at the target: the one in control, or one that receives",
        lambda field, number: strikes.arm(field.target_machine, strikes.agents(number)),
        (0, 3, 6),
        landed=strikes.has_struck,
    ),
    Fault(
        "kill source's agent",
        "SIGKILL of one of the agents at the source",
        lambda field, number: strikes.arm(field.source_machine, strikes.agents(number)),
        (0, 3, 6),
        landed=strikes.has_struck,
        directions=("pull",),
    ),
    Fault(
        "kill zfs send",
        "SIGKILL of the `zfs send` that runs, or of the next",
        lambda field, _: strikes.arm(field.source_machine, strikes.SEND),
        (0, 3),
        landed=strikes.has_struck,
        columns=BEFORE_STREAMS,
        needs_command=True,
    ),
    Fault(
        "kill zfs receive",
        "SIGKILL of the `zfs receive` that runs, or of the next",
        lambda field, _: strikes.arm(field.target_machine, strikes.RECEIVE),
        (0, 3),
        landed=strikes.has_struck,
        columns=BEFORE_STREAMS,
        needs_command=True,
    ),
    Fault(
        "kill sshd",
        "SIGKILL of the connection's sshd",
        lambda field, _: strikes.arm(field.far, strikes.SSHD),
        LOST,
        landed=strikes.has_struck,
    ),
    Fault("cut", "The connection is reset, at both ends (RST)", strikes.cut, LOST, ready=strikes.through_relay),
    Fault(
        "silent",
        "Nothing goes through any more, and nothing says so",
        strikes.silence,
        LOST,
        strikes.hear,
        keepalive=KEEPALIVE,
    ),
    Fault("silent 2 s", "Nothing goes through for two seconds", strikes.silence_briefly, (0,), strikes.hear),
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
        strikes.fill,
        REFUSED,
        strikes.make_room,
        landed=strikes.has_struck,
    ),
    Fault(
        "quota",
        "A quota above the target leaves 512 KiB",
        strikes.limit,
        REFUSED,
        lambda field: strikes.at_target(field, f"zfs set quota=none {field.above}"),
    ),
    Fault(
        "suspended",
        "Writes to the target's pool fail, so that ZFS suspends it, for five seconds",
        strikes.suspend,
        REFUSED,
        strikes.resume,
        landed=strikes.has_struck,
    ),
    Fault(
        "exported",
        "The target's pool is exported",
        strikes.export,
        REFUSED,
        strikes.reimport,
        landed=strikes.has_struck,
    ),
    Fault(
        "source snapshot gone",
        "A snapshot is destroyed at the source",
        strikes.by_hand("source", "destroy {}", "/c@3", "/a@4", "/c@2", "/n/m@3"),
        (0, 3),
        landed=strikes.has_struck,
        scenarios=("plain",),
        tampers=True,
    ),
    Fault(
        "target snapshot gone",
        "The newest common snapshot is destroyed at the target",
        strikes.by_hand("target", "destroy {}", "/c@2", "/a/b@2"),
        (0, 3),
        landed=strikes.has_struck,
        scenarios=("plain",),
        tampers=True,
        advice=("--on-divergence", "rollback"),  # what @2 had brought to /c is still there, and in no snapshot
    ),
    Fault(
        "source renamed",
        "A dataset is renamed at the source",
        strikes.by_hand("source", "rename {0} {0}2", "/c", "/a/b", "/n/m"),
        (0, 3, 7),
        landed=strikes.has_struck,
        scenarios=("plain",),
        tampers=True,
    ),
    Fault(
        "source dataset gone",
        "A dataset is destroyed at the source",
        strikes.by_hand("source", "destroy -r {}", "/c", "/a/b", "/n/m"),
        (0, 3, 7),
        landed=strikes.has_struck,
        scenarios=("plain",),
        tampers=True,
    ),
    Fault(
        "target renamed",
        "A dataset is renamed at the target",
        strikes.by_hand("target", "rename {0} {0}2", "/c", "/a/b"),
        (0, 3),
        landed=strikes.has_struck,
        scenarios=("plain",),
        tampers=True,
    ),
    Fault(
        "target dataset gone",
        "A dataset is destroyed at the target",
        strikes.by_hand("target", "destroy -r {}", "/c", "/a/b"),
        (0, 3),
        landed=strikes.has_struck,
        scenarios=("plain",),
        tampers=True,
    ),
    Fault(
        "second run", "A second run to the same target begins", strikes.second, (0, 4), landed=strikes.second_was_right
    ),
)
BY_NAME = {fault.name: fault for fault in FAULTS}
