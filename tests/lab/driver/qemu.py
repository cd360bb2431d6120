"""The qemu backend: guests are Debian's stock kernel with zfs-dkms, emulated, or with a KVM that boots stock kernels.

The whole image is an initial RAM file system: no root disk, and as spotless at each boot as UML's.
"""

from __future__ import annotations

from pathlib import Path

from .backend import LAB_DIRECTORY
from .cache import Stage
from .guest import RECIPES, GuestBackend, guest_settings, rootfs_stage
from .network import Network
from .rundir import MachineConfig, RunDirectory

QEMU = LAB_DIRECTORY / "qemu"
KERNEL_SETTINGS = (
    "console=ttyS0 quiet panic=-1 rdinit=/sbin/lab-pre net.ifnames=0 nokaslr mitigations=off random.trust_cpu=on "
    "tsc=reliable lsm= audit=0 nowatchdog"
)
# How each accelerator is asked for. Emulation has one processor: with two, QEMU 7.2 now and then runs stale code while
# the kernel patches itself at boot ("Oops: int3"). Without AVX it is cheaper than with -cpu max.
ACCELERATORS = {
    "kvm": ("-accel", "kvm", "-cpu", "host", "-smp", "2"),
    "tcg": ("-accel", "tcg,tb-size=1024", "-cpu", "Nehalem,+aes,+pclmulqdq,+rdrand", "-smp", "1"),
}


class QemuBackend(GuestBackend):
    """One QEMU process per machine."""

    name = "qemu"
    port_kind: str | None = "tap"
    boot_seconds = 300.0

    def stages(self) -> tuple[Stage, ...]:
        return (_kernel_stage(), _image_stage())

    def launch(self, run: RunDirectory, config: MachineConfig) -> tuple[str, ...]:
        image = _image_stage().require()
        accelerator = (image / "accelerator").read_text().strip()
        settings = " ".join((KERNEL_SETTINGS, *guest_settings(run, config, interface="eth0")))
        argv = ["qemu-system-x86_64", "-name", config.name, "-machine", "q35", *ACCELERATORS[accelerator]]
        argv += ["-m", config.memory, "-nodefaults", "-no-reboot", "-display", "none"]
        argv += ["-serial", "stdio", "-kernel", str(_kernel_stage().require() / "vmlinux")]
        argv += ["-initrd", str(image / "image.cpio"), "-append", settings]
        tap = f"tap,id=net0,ifname={Network.of(run).interface(config.index)},script=no,downscript=no"
        argv += ["-netdev", tap]
        argv += ["-device", f"virtio-net-pci,netdev=net0,mac=02:00:00:00:00:{config.index:02x}"]
        for number, disk in enumerate(config.disks):
            # The host's page cache keeps what was written when the process is killed: a pulled plug, as with UML.
            argv += ["-drive", f"file={disk},if=none,format=raw,id=disk{number},cache=writeback"]
            argv += ["-device", f"virtio-blk-pci,drive=disk{number}"]
        return tuple(argv)

    def disk_paths(self, config: MachineConfig) -> tuple[str, ...]:
        return tuple(f"/dev/vd{chr(ord('a') + number)}" for number in range(len(config.disks)))

    def pydeps_script(self, run: RunDirectory, pydeps: Path) -> str | None:
        return None


def _kernel_stage() -> Stage:
    return Stage(
        name="qemu-kernel",
        script=QEMU / "build-kernel",
        inputs=(RECIPES,),
        needs_mb=3000,
        usually="6 to 12 minutes",
    )


def _image_stage() -> Stage:
    return Stage(
        name="qemu-image",
        script=QEMU / "build-image",
        inputs=(QEMU / "guest-pre", RECIPES),
        needs_mb=1000,
        usually="2 minutes",
        after=(rootfs_stage(), _kernel_stage()),
    )
