"""What the guests of all virtual backends have in common: the image's keys, users and init, and the way in by ssh."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from . import ssh
from .backend import LAB_DIRECTORY, Installation, Reach
from .cache import Stage
from .network import address
from .pydeps import pydeps_stage
from .rundir import FIRST_INDEX, MachineConfig, RunDirectory

GUEST_PYTHON = "3.13"
SSH_PORT = 22
RECIPES = LAB_DIRECTORY / "recipes.sh"
UML = LAB_DIRECTORY / "uml"


def rootfs_stage() -> Stage:
    """Debian's userland as a directory, with the lab's key and users: UML's root, and what QEMU's image is made of."""
    return Stage(
        name="uml-rootfs",
        script=UML / "build-rootfs",
        inputs=(UML / "guest-pre", UML / "guest-init", UML / "zvol-links", RECIPES),
        needs_mb=1000,
        usually="1 to 3 minutes",
    )


class GuestBackend:
    """The half of a backend that is the same for every kind of guest."""

    ready_mark = "LAB-READY"

    def rootfs(self) -> Stage:
        return rootfs_stage()

    def pydeps(self, checkout: Path) -> Stage:
        return pydeps_stage(checkout, version=GUEST_PYTHON, image=rootfs_stage())

    def endpoint(self, index: int) -> tuple[str, int]:
        return address(index), SSH_PORT

    def prepare(self, run: RunDirectory, config: MachineConfig) -> None:
        rootfs = self.rootfs().require()
        ssh.write_configuration(run, config, identity=rootfs / "id", host_key=rootfs / "host.pub")

    def master(self, run: RunDirectory, config: MachineConfig) -> tuple[str, ...]:
        return ssh.master_argv(run, config)

    def command(self, run: RunDirectory, config: MachineConfig, argv: Sequence[str], *, tty: bool) -> list[str]:
        return ssh.command_argv(run, config, argv, tty=tty)

    def reach(self, run: RunDirectory, config: MachineConfig) -> Reach:
        return Reach(config.name, config.port)

    def installation(self, run: RunDirectory) -> Installation:
        return Installation("/opt/zfsync", "/opt/pydeps", "/usr/local/bin/zfsync")

    def clean(self, run: RunDirectory, config: MachineConfig) -> None:
        return


def guest_settings(run: RunDirectory, config: MachineConfig, *, interface: str) -> tuple[str, ...]:
    """What guest-init reads from the kernel's command line."""
    names = ",".join(f"{name}:{ip}" for name, ip in _hosts(run).items())
    return (
        f"lab_name={config.name}",
        f"lab_ip={config.address}",
        f"lab_hosts={names}",
        f"lab_interface={interface}",
    )


def _hosts(run: RunDirectory) -> dict[str, str]:
    """Names and addresses of a run: sender and receiver always, the others that are there."""
    indexes = FIRST_INDEX | {name: run.config(name).index for name in run.machines()}
    return {name: address(index) for name, index in indexes.items()}
