"""The way from the driver to a guest: an ssh configuration per machine, and one connection that all commands share.

Everything runs inside the run's network namespace, so that no connection can stray to the machine's own network.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from .network import Network
from .rundir import MachineConfig, RunDirectory

HOST_KEY_ALIAS = "zfsync-lab"

CONFIGURATION = """\
Host {name}
  HostName {address}
  Port {port}
  User root
  IdentityFile {identity}
  IdentitiesOnly yes
  UserKnownHostsFile {known_hosts}
  GlobalKnownHostsFile /dev/null
  HostKeyAlias {alias}
  StrictHostKeyChecking yes
  BatchMode yes
  LogLevel ERROR
  ConnectTimeout 5
  ConnectionAttempts 3
  ServerAliveInterval 5
  ServerAliveCountMax 4
  ControlPath {control}
"""


def write_configuration(run: RunDirectory, config: MachineConfig, *, identity: Path, host_key: Path) -> None:
    """What `ssh -F` needs to reach this machine, with nothing of the user's own ssh configuration."""
    known_hosts = run.machine(config.name) / "known_hosts"
    known_hosts.write_text(f"{HOST_KEY_ALIAS} {host_key.read_text()}")
    run.ssh_config(config.name).write_text(
        CONFIGURATION.format(
            name=config.name,
            address=config.address,
            port=config.port,
            identity=identity,
            known_hosts=known_hosts,
            alias=HOST_KEY_ALIAS,
            control=run.control_socket(config.name),
        )
    )


def master_argv(run: RunDirectory, config: MachineConfig) -> tuple[str, ...]:
    """The shared connection. Its parent, the keeper, is in the namespace already."""
    return ("ssh", "-F", str(run.ssh_config(config.name)), "-M", "-N", config.name)


def command_argv(run: RunDirectory, config: MachineConfig, argv: Sequence[str], *, tty: bool) -> list[str]:
    """Run `argv` on the machine, word for word; the one place where words are quoted for its shell."""
    ssh = ["nsenter", f"--net={Network.of(run).path}", "ssh", "-F", str(run.ssh_config(config.name))]
    if tty:
        ssh.append("-t")
    return [*ssh, config.name, *(["--", shlex.join(argv)] if argv else [])]
