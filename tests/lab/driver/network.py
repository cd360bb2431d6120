"""The lab's own network: a namespace per run with a bridge, and one port per machine. No traffic of a run leaves it.

Interface names are the same in every run, because each run has a namespace of its own; only the namespace's name
belongs to the whole machine, and it is made of the run's digest.
"""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .errors import Unusable
from .rundir import RunDirectory

SUBNET = "10.77.0"
BRIDGE = "labbr"
# UML's packet sockets inherit the machine-wide default: with Linux's 208 kB big segments are dropped and TCP stalls.
BUFFER_BYTES = {"net.core.rmem_default": 16 * 2**20, "net.core.wmem_default": 4 * 2**20}
BUFFER_RECORD = Path("/run/zfsync-lab-sysctl")  # not under XDG: the settings belong to the whole machine


def address(index: int) -> str:
    return f"{SUBNET}.{index}"


@dataclass(frozen=True)
class Network:
    """The network of one run. All methods want root and the lab's lock."""

    namespace: str

    @staticmethod
    def of(run: RunDirectory) -> Network:
        return Network(f"zl-{run.digest}")

    @property
    def path(self) -> Path:
        return Path("/run/netns") / self.namespace

    def interface(self, index: int) -> str:
        """The name of the interface that the machine with this index uses, inside the namespace."""
        return f"lab{index}"

    def ensure(self) -> None:
        """Make the namespace and its bridge, unless they are there."""
        _hold_buffers(self.namespace)
        if self.path.exists():
            return
        _run("ip", "netns", "add", self.namespace)
        self._link("set", "lo", "up")
        self._link("add", BRIDGE, "type", "bridge")
        _run("ip", "-n", self.namespace, "addr", "add", f"{address(1)}/24", "dev", BRIDGE)
        self._link("set", BRIDGE, "up")

    def add_port(self, index: int, kind: str) -> None:
        """Make the port of a machine: `veth` (a raw socket at its other end) or `tap`."""
        name, plug = self.interface(index), f"port{index}"
        if self._has(name):
            return
        if kind == "tap":
            _run("ip", "-n", self.namespace, "tuntap", "add", "dev", name, "mode", "tap")
            self._link("set", name, "master", BRIDGE)
        else:
            self._link("add", plug, "type", "veth", "peer", "name", name)
            self._link("set", plug, "master", BRIDGE)
            self._link("set", plug, "up")
        self._link("set", name, "up")

    def separate(self, index: int, apart: bool) -> None:
        """Drop, or let through again, every packet between this machine and others that are apart; none is told."""
        plug = f"port{index}"
        name = plug if self._has(plug) else self.interface(index)
        self._link("set", "dev", name, "type", "bridge_slave", "isolated", "on" if apart else "off")

    def remove_port(self, index: int) -> None:
        if self.path.exists() and self._has(self.interface(index)):
            self._link("del", self.interface(index))

    def remove(self) -> None:
        """Remove the namespace with all that is in it, and with the machine's last one the bigger buffers."""
        if self.path.exists():
            _run("ip", "netns", "del", self.namespace)
        _release_buffers(self.namespace)

    def _link(self, *arguments: str) -> None:
        _run("ip", "-n", self.namespace, "link", *arguments)

    def _has(self, interface: str) -> bool:
        argv = ["ip", "-n", self.namespace, "link", "show", "dev", interface]
        return subprocess.run(argv, capture_output=True, check=False).returncode == 0


def _hold_buffers(user: str) -> None:
    """Raise the buffers on behalf of `user`; the values from before are kept until the last user is gone."""
    BUFFER_RECORD.mkdir(exist_ok=True)
    saved = BUFFER_RECORD / "saved.json"
    if not saved.exists():
        saved.write_text(json.dumps({key: int(_sysctl(key).read_text()) for key in BUFFER_BYTES}))
    (BUFFER_RECORD / user).touch()
    for key, value in BUFFER_BYTES.items():
        if int(_sysctl(key).read_text()) < value:
            _sysctl(key).write_text(str(value))


def _release_buffers(user: str) -> None:
    (BUFFER_RECORD / user).unlink(missing_ok=True)
    saved = BUFFER_RECORD / "saved.json"
    if not saved.exists() or [name for name in os.listdir(BUFFER_RECORD) if name != saved.name]:
        return
    for key, value in json.loads(saved.read_text()).items():
        _sysctl(key).write_text(str(value))
    saved.unlink()
    BUFFER_RECORD.rmdir()


def _sysctl(key: str) -> Path:
    return Path("/proc/sys") / key.replace(".", "/")


def _run(*argv: str) -> None:
    try:
        result = subprocess.run(argv, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise Unusable(f"this machine has no {argv[0]} command: apt-get install iproute2") from None
    if result.returncode != 0:
        raise Unusable(f"{' '.join(argv)} failed: {result.stderr.strip()}")
