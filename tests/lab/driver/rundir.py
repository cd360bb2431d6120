"""The run directory: what a run is made of, on disk. Names, the lock, and one directory per machine.

`BASE/RUN/MACHINE/` holds `config.json` (what the machine shall be, written by who starts it), `state.json` (what it
is, written by its keeper), its console, ssh configuration and sockets. Disks are elsewhere: BASE may be a small tmpfs.
Nothing here starts or ends a process.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .errors import LabError, NoSuchMachine, Unusable
from .process import ProcessId

RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}")
MACHINE_NAME = re.compile(r"[a-z][a-z0-9]{0,19}")
MAX_SOCKET_PATH_BYTES = 107  # sun_path of unix(7), less its end mark
SSH_SOCKET_SUFFIX_BYTES = 17  # ssh makes the control socket under a longer name and renames it
FIRST_INDEX = {"sender": 2, "receiver": 3}
FIRST_FREE_INDEX = 4
LAST_INDEX = 254


@dataclass(frozen=True)
class MachineConfig:
    """What a machine shall be. `disks` are files of this machine, `stages` are build results it uses."""

    name: str
    backend: str
    index: int
    memory: str
    disks: tuple[str, ...]
    owner: ProcessId | None
    boot: int
    address: str
    port: int
    stages: tuple[str, ...] = ()


@dataclass(frozen=True)
class MachineState:
    """What a machine is. `phase`: booting, up, off (pulled plug, or ended by itself), failed (never answered)."""

    phase: str
    boot: int
    keeper: ProcessId
    guest: ProcessId | None
    detail: str = ""


def base_directory() -> Path:
    return Path(os.environ.get("XDG_RUNTIME_DIR") or "/run") / "zfsync-lab"


@dataclass(frozen=True)
class RunDirectory:
    """One run: `path` is BASE/RUN."""

    path: Path

    @staticmethod
    def named(run: str) -> RunDirectory:
        if not RUN_NAME.fullmatch(run):
            raise LabError(f"run {run!r}: a run's name is 1-40 letters, digits, dots, dashes, underscores")
        directory = RunDirectory(base_directory() / run)
        longest = len(os.fsencode(directory.control_socket("m" * 20))) + SSH_SOCKET_SUFFIX_BYTES
        if longest > MAX_SOCKET_PATH_BYTES:
            raise Unusable(f"the sockets under {directory.path} would have too long paths: shorten the run's name")
        return directory

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def digest(self) -> str:
        """Eight letters that only this run has: names of things the whole machine shares are made of it."""
        return hashlib.sha256(os.fsencode(self.path)).hexdigest()[:8]

    def machine(self, name: str) -> Path:
        if not MACHINE_NAME.fullmatch(name):
            raise LabError(f"machine {name!r}: a machine's name is a lower-case letter and up to 19 letters or digits")
        return self.path / name

    def control_socket(self, name: str) -> Path:
        return self.machine(name) / "ctl"

    def console(self, name: str) -> Path:
        return self.machine(name) / "console.log"

    def ssh_config(self, name: str) -> Path:
        return self.machine(name) / "ssh_config"

    def machines(self) -> tuple[str, ...]:
        if not self.path.is_dir():
            return ()
        return tuple(sorted(entry.name for entry in self.path.iterdir() if (entry / "config.json").exists()))

    def free_index(self, name: str) -> int:
        """The last byte of a new machine's address. Sender and receiver always have the same."""
        if name in FIRST_INDEX:
            return FIRST_INDEX[name]
        used = {self.config(other).index for other in self.machines()}
        for index in range(FIRST_FREE_INDEX, LAST_INDEX + 1):
            if index not in used:
                return index
        raise LabError(f"run {self.name} is full: it has {len(used)} machines")

    def config(self, name: str) -> MachineConfig:
        try:
            data = json.loads((self.machine(name) / "config.json").read_text())
        except FileNotFoundError:
            raise NoSuchMachine(f"run {self.name} has no machine {name}: tests/lab/lab up {name}") from None
        try:
            owner = data.pop("owner")
            disks, stages = tuple(data.pop("disks")), tuple(data.pop("stages"))
            return MachineConfig(**data, owner=owner and ProcessId(**owner), disks=disks, stages=stages)
        except (KeyError, TypeError) as error:
            raise LabError(
                f"{self.machine(name)} is of another version of the lab: end it with that ({error})"
            ) from None

    def write_config(self, config: MachineConfig) -> None:
        _write_json(self.machine(config.name) / "config.json", dataclasses.asdict(config))

    def state(self, name: str) -> MachineState | None:
        try:
            data = json.loads((self.machine(name) / "state.json").read_text())
        except FileNotFoundError:
            return None
        keeper, guest = ProcessId(**data.pop("keeper")), data.pop("guest")
        return MachineState(**data, keeper=keeper, guest=guest and ProcessId(**guest))

    def write_state(self, name: str, state: MachineState) -> None:
        _write_json(self.machine(name) / "state.json", dataclasses.asdict(state))

    def forget(self, name: str) -> None:
        """Remove a machine's directory and disks, and the run's directory with its last machine."""
        config = self.config(name)
        for disk in config.disks:
            Path(disk).unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                Path(disk).parent.rmdir()
        shutil.rmtree(self.machine(name), ignore_errors=True)
        if not self.machines():
            shutil.rmtree(self.path, ignore_errors=True)


def runs() -> tuple[RunDirectory, ...]:
    """All runs of this machine."""
    base = base_directory()
    if not base.is_dir():
        return ()
    return tuple(RunDirectory(entry) for entry in sorted(base.iterdir()) if entry.is_dir())


@contextlib.contextmanager
def lab_lock() -> Iterator[None]:
    """One at a time makes or removes machines, namespaces and run directories. Held for fractions of a second."""
    base = base_directory()
    base.mkdir(parents=True, exist_ok=True)
    with (base / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _write_json(path: Path, data: dict[str, object]) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(data, indent=1))
    temporary.replace(path)
