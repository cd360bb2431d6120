"""The uml backend: guests are User-Mode Linux kernels with OpenZFS built in. No hypervisor, no modules, 2 s to ssh."""

from __future__ import annotations

import os
from pathlib import Path

from .cache import Stage
from .guest import RECIPES, UML, GuestBackend, guest_settings
from .network import Network
from .rundir import MachineConfig, RunDirectory

RING_DEPTH = 64  # a deeper ring stalls
KERNEL_VARIABLE = "ZFSYNC_LAB_KERNEL"  # another kernel source than the pinned one, as in linux-source-6.18


class UmlBackend(GuestBackend):
    """One kernel process per machine."""

    name = "uml"
    port_kind: str | None = "veth"
    boot_seconds = 60.0
    mode: tuple[str, ...] = ("seccomp=on",)  # the ptrace mode is half as fast

    def kernel(self) -> Stage:
        return kernel_stage()

    def stages(self) -> tuple[Stage, ...]:
        return (self.kernel(), self.rootfs())

    def launch(self, run: RunDirectory, config: MachineConfig) -> tuple[str, ...]:
        interface = Network.of(run).interface(config.index)
        mac = f"02:00:00:00:00:{config.index:02x}"
        disks = (f"{name}={disk}" for name, disk in zip(_disk_names(config), config.disks, strict=True))
        return (
            str(self.kernel().require() / "linux"),
            f"umid={config.name}",
            f"uml_dir={run.machine(config.name) / 'uml'}/",
            f"mem={config.memory}",
            *self.mode,
            "root=/dev/root",
            "rootfstype=hostfs",
            f"rootflags={self.rootfs().require() / 'root'}",
            "ro",
            "init=/sbin/lab-pre",
            "con=null",
            "con0=null,fd:1",
            "quiet",
            *guest_settings(run, config, interface="vec0"),
            f"vec0:transport=raw,ifname={interface},depth={RING_DEPTH},gro=1,mac={mac}",
            *disks,
        )

    def disk_paths(self, config: MachineConfig) -> tuple[str, ...]:
        return tuple(f"/dev/{name}" for name in _disk_names(config))

    def pydeps_script(self, run: RunDirectory, pydeps: Path) -> str | None:
        # The guest sees this machine's files: nothing has to be copied. Old kernels take the path as the only option.
        mounts = (f"mount -t hostfs -o ro,{option}'{pydeps}' none /opt/pydeps" for option in ("hostfs=", ""))
        return " || ".join(("mountpoint -q /opt/pydeps", *mounts))


def _disk_names(config: MachineConfig) -> list[str]:
    return [f"ubd{chr(ord('a') + number)}" for number in range(len(config.disks))]


def kernel_stage() -> Stage:
    return Stage(
        name="uml-kernel",
        script=UML / "build-kernel",
        inputs=(UML / "kernel.config", RECIPES),
        needs_mb=7000,
        usually="8 to 13 minutes",
        environment={name: value for name, value in os.environ.items() if name == KERNEL_VARIABLE},
    )
