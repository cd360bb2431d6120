"""The host backend: where this machine has ZFS, the machines of a run are this machine itself.

Each has a private sshd on a loopback port, with keys and configuration in the run directory; pools are made of sparse
files. Commands run here, as the user. `kill` ends the sshd and its connections; pools stay imported, because no plug is
pulled. At the end, pools on the run's files are destroyed.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from .backend import Installation, Reach
from .cache import Stage
from .errors import Unusable
from .pydeps import pydeps_stage
from .rundir import MachineConfig, RunDirectory

LOOPBACK = "127.0.0.1"
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PRIVILEGE_SEPARATION = Path("/run/sshd")

SERVER_CONFIGURATION = """\
ListenAddress {address}
Port {port}
HostKey {directory}/host_key
AuthorizedKeysFile {directory}/id.pub
PidFile none
PermitRootLogin yes
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM yes
StrictModes no
Subsystem sftp internal-sftp
"""

CLIENT_CONFIGURATION = """\
Host {address} {name}
  HostName {address}
  Port {port}
  User root
  IdentityFile {directory}/id
  IdentitiesOnly yes
  UserKnownHostsFile {directory}/known_hosts
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking yes
  BatchMode yes
"""


class HostBackend:
    """No guests: one private sshd per machine."""

    name = "host"
    port_kind: str | None = None
    ready_mark = f"Server listening on {LOOPBACK}"
    boot_seconds = 10.0

    def stages(self) -> tuple[Stage, ...]:
        return ()

    def pydeps(self, checkout: Path) -> Stage:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        return pydeps_stage(checkout, version=version, image=None)

    def endpoint(self, index: int) -> tuple[str, int]:
        with socket.socket() as probe:
            probe.bind((LOOPBACK, 0))
            return LOOPBACK, int(probe.getsockname()[1])

    def prepare(self, run: RunDirectory, config: MachineConfig) -> None:
        directory = run.machine(config.name)
        names = {"directory": directory, "address": config.address, "port": config.port, "name": config.name}
        for key in ("id", "host_key"):
            if not (directory / key).exists():
                _check(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "zfsync-lab", "-f", str(directory / key)])
        host_key = (directory / "host_key.pub").read_text()
        (directory / "known_hosts").write_text(f"[{config.address}]:{config.port} {host_key}")
        run.ssh_config(config.name).write_text(CLIENT_CONFIGURATION.format(**names))
        PRIVILEGE_SEPARATION.mkdir(mode=0o755, exist_ok=True)
        server = directory / "sshd_config"
        server.write_text(SERVER_CONFIGURATION.format(**names))
        # OpenSSH 9.8 and later refuse, for a while, who failed to log in: tests do that on purpose.
        if "persourcepenalties" in _check([_sshd(), "-T", "-f", str(server)]):
            server.write_text(server.read_text() + "PerSourcePenalties no\n")

    def launch(self, run: RunDirectory, config: MachineConfig) -> tuple[str, ...]:
        return (_sshd(), "-D", "-e", "-f", str(run.machine(config.name) / "sshd_config"))

    def master(self, run: RunDirectory, config: MachineConfig) -> tuple[str, ...]:
        return ()

    def command(self, run: RunDirectory, config: MachineConfig, argv: Sequence[str], *, tty: bool) -> list[str]:
        commands = Path(self.installation(run).command).parent
        path = f"PATH={commands}:{os.environ.get('PATH', SYSTEM_PATH)}"
        return ["env", path, *(argv or [os.environ.get("SHELL", "/bin/sh")])]

    def disk_paths(self, config: MachineConfig) -> tuple[str, ...]:
        return config.disks

    def reach(self, run: RunDirectory, config: MachineConfig) -> Reach:
        return Reach(config.address, config.port, ("-F", str(run.ssh_config(config.name))))

    def installation(self, run: RunDirectory) -> Installation:
        return Installation(
            f"{run.path}/product/zfsync", f"{run.path}/product/pydeps", f"{run.path}/product/bin/zfsync", sys.executable
        )

    def pydeps_script(self, run: RunDirectory, pydeps: Path) -> str | None:
        return f"ln -sfn '{pydeps}' '{self.installation(run).pydeps}'"

    def clean(self, run: RunDirectory, config: MachineConfig) -> None:
        """Destroy the pools that are made of the machine's disks: their files are about to go."""
        pools = _output(["zpool", "list", "-H", "-o", "name"]).split()
        for pool in pools:
            devices = _output(["zpool", "list", "-v", "-H", "-P", pool])
            if any(disk in devices for disk in config.disks):
                subprocess.run(["zpool", "destroy", "-f", pool], capture_output=True, check=False)


def _sshd() -> str:
    path = shutil.which("sshd", path=SYSTEM_PATH)
    if path is None:
        raise Unusable("this machine has no sshd: apt-get install openssh-server")
    return path


def _check(argv: list[str]) -> str:
    """The output of a command that must succeed."""
    try:
        result = subprocess.run(argv, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise Unusable(f"this machine has no {argv[0]} command") from None
    if result.returncode != 0:
        raise Unusable(f"{' '.join(argv)} failed: {result.stderr.strip()}")
    return result.stdout


def _output(argv: list[str]) -> str:
    """The output of a command, empty when it fails or is not there."""
    try:
        return subprocess.run(argv, capture_output=True, text=True, check=False).stdout
    except FileNotFoundError:
        return ""
