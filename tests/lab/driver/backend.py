"""The seam between the lab and what runs its machines: the interface, and the choice by probing.

A backend knows what to build, which program is a machine, and how to reach it. It starts nothing: keepers do.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from .cache import Stage
from .errors import Unusable
from .rundir import MachineConfig, RunDirectory

BACKEND_VARIABLE = "ZFSYNC_LAB"
LAB_DIRECTORY = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Reach:
    """How another machine of the run reaches this one: `ssh OPTIONS -p PORT HOST`."""

    host: str
    port: int
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Installation:
    """The product on a machine: where the checkout, its dependencies and the command are."""

    checkout: str
    pydeps: str
    command: str
    python: str = "python3"


class Backend(Protocol):
    """What the lab asks of a backend."""

    @property
    def name(self) -> str: ...

    @property
    def port_kind(self) -> str | None:
        """`veth` or `tap`: what a machine is plugged into; None when the lab makes no network."""

    @property
    def ready_mark(self) -> str:
        """What the machine's program writes on its console once its sshd listens."""

    @property
    def boot_seconds(self) -> float:
        """A machine that has not answered after this has failed."""

    def stages(self) -> tuple[Stage, ...]:
        """What `lab build` makes, the product's dependencies not counted."""

    def pydeps(self, checkout: Path) -> Stage:
        """The product's Python dependencies for this backend's Python."""

    def endpoint(self, index: int) -> tuple[str, int]:
        """Address and port of the sshd of a new machine with this index."""

    def prepare(self, run: RunDirectory, config: MachineConfig) -> None:
        """Write what the machine's program and the ssh to it read, before the first start."""

    def launch(self, run: RunDirectory, config: MachineConfig) -> tuple[str, ...]:
        """The program that is the machine."""

    def master(self, run: RunDirectory, config: MachineConfig) -> tuple[str, ...]:
        """The ssh that keeps a connection open for all commands; empty when commands need none."""

    def command(self, run: RunDirectory, config: MachineConfig, argv: Sequence[str], *, tty: bool) -> list[str]:
        """The argv on this machine that runs `argv` on that machine; without argv, a login shell."""

    def disk_paths(self, config: MachineConfig) -> tuple[str, ...]:
        """The machine's disks, as the machine names them."""

    def reach(self, run: RunDirectory, config: MachineConfig) -> Reach: ...

    def installation(self, run: RunDirectory) -> Installation: ...

    def pydeps_script(self, run: RunDirectory, pydeps: Path) -> str | None:
        """A shell script for the machine that makes the dependencies appear; None: they must be copied."""

    def clean(self, run: RunDirectory, config: MachineConfig) -> None:
        """Undo what a machine leaves on this one, after its end."""


@dataclass(frozen=True)
class Choice:
    name: str
    why: str


def probe() -> Choice:
    """Which backend this machine gets, and why."""
    forced = os.environ.get(BACKEND_VARIABLE)
    if forced:
        return Choice(forced, f"{BACKEND_VARIABLE} says so")
    root = os.geteuid() == 0
    if Path("/dev/zfs").exists() and root:
        return Choice("host", "/dev/zfs is there and the user is root")
    if platform.system() == "Linux" and platform.machine() == "x86_64" and root:
        return Choice("uml", "x86_64 Linux and root, and no /dev/zfs that root could use")
    if root:
        return Choice("qemu", f"User-Mode Linux wants x86_64 Linux, this is {platform.system()} {platform.machine()}")
    raise Unusable("the lab needs root: for network namespaces, or for pools on this machine")


def backend_named(name: str) -> Backend:
    # Imported here: a backend imports this module's classes.
    from .host import HostBackend
    from .qemu import QemuBackend
    from .releases import RELEASES, OtherRelease
    from .uml import UmlBackend

    if name == "uml":
        return UmlBackend()
    if name == "host":
        return HostBackend()
    if name == "qemu":
        return QemuBackend()
    if name in RELEASES:
        return OtherRelease(name)
    raise Unusable(f"there is no lab backend {name!r}: {BACKEND_VARIABLE} is uml, qemu, host, {', '.join(RELEASES)}")


def choose(name: str | None) -> Backend:
    """The backend of that name, or the one that probing finds. Raises when the user may not use it."""
    backend = backend_named(name or probe().name)
    if os.geteuid() != 0:
        raise Unusable(f"the {backend.name} backend needs root")
    return backend
