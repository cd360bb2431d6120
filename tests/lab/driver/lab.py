"""The lab of one run: its machines, from `up` to `close`."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from . import cache
from .backend import LAB_DIRECTORY, Backend, backend_named, choose
from .errors import LabError
from .machine import END_SECONDS, Machine
from .network import Network
from .process import ProcessId
from .rundir import FIRST_INDEX, MachineConfig, RunDirectory, lab_lock
from .teardown import release, sweep

CHECKOUT = LAB_DIRECTORY.parents[1]
THIS_PROCESS = 0  # as an owner's pid, like getpgid(0)
SIZE = re.compile(r"([0-9]+)([MGT])", re.IGNORECASE)
UNIT_BYTES = {"M": 2**20, "G": 2**30, "T": 2**40}
MAX_DISKS = 8
DISK_FLOOR_MB = 500  # disks are sparse: this much must be there at least
KEEPER_MODULE = f"{__package__}.keeper"  # not imported: it is a program of its own


def _say_nothing(_line: str) -> None:
    return


class Lab:
    """One run on one backend. Used as a context manager it closes itself."""

    def __init__(self, run: RunDirectory, backend: Backend) -> None:
        self._run = run
        self._backend = backend

    def __enter__(self) -> Lab:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def run_name(self) -> str:
        return self._run.name

    @property
    def backend_name(self) -> str:
        return self._backend.name

    @property
    def machines(self) -> tuple[Machine, ...]:
        return tuple(self._machine(name) for name in self._run.machines())

    def machine(self, name: str) -> Machine:
        """A machine that `up` made. Raises NoSuchMachine."""
        return self._machine(self._run.config(name).name)

    def up(
        self,
        name: str,
        *,
        disks: Sequence[str] = (),
        memory: str = "2G",
        owner: int | None = THIS_PROCESS,
        backend: str | None = None,
    ) -> Machine:
        """Start a machine and wait until it answers; or switch on again one that is off, with the disks it had.

        `disks` are sizes, as in ("1G", "512M"): sparse files. The machine ends with the process `owner`: a pid,
        this process by default, or None: then it stays until `down`. `backend` is for a new machine that is to have
        another than the lab: guests of uml and of its releases can be in one run.
        """
        holder = self._owner(owner)
        sizes = [_size_bytes(size) for size in disks]
        with lab_lock():
            sweep()
            if name in self._run.machines():
                boot = self._start_again(name, sizes=sizes, owner=holder)
            else:
                chosen = choose(backend) if backend else self._backend
                boot = self._start_new(name, chosen, sizes=sizes, memory=memory, owner=holder)
        machine = self._machine(name)
        try:
            machine.wait_for("up", boot=boot, timeout=self._backend_of(name).boot_seconds + END_SECONDS)
        except BaseException:
            if boot == 1:
                machine.down()
            raise
        self._introduce(machine)
        return machine

    def install(self, machine: Machine, checkout: Path = CHECKOUT, say: Callable[[str], None] = _say_nothing) -> None:
        """Put the product, its dependencies and the command `zfsync` on a machine. Again after each boot.

        Dependencies that are not in the cache are fetched, which takes some 20 s.
        """
        backend = self._backend_of(machine.name)
        place = backend.installation(self._run)
        stage = cache.build(backend.pydeps(checkout), lab=LAB_DIRECTORY, say=say)
        pydeps = stage / "site"
        self._note_stage(machine.name, str(stage))
        machine.sh(f"rm -rf '{place.checkout}'")
        machine.put(checkout, place.checkout)
        script = backend.pydeps_script(self._run, pydeps)
        if script is None:
            machine.put(pydeps, place.pydeps, leave_out=())
            script = ":"
        wrapper = f'#!/bin/sh\nPYTHONPATH={place.checkout}:{place.pydeps} exec {place.python} -m zfsync_ssh "$@"\n'
        machine.sh(
            f"{script}\nmkdir -p '{Path(place.command).parent}'\ncat > '{place.command}'\n"
            f"chmod 755 '{place.command}'\n{place.python} -m compileall -q '{place.checkout}/zfsync_ssh' || true",
            input=wrapper,
        )

    def separate(self, apart: bool) -> None:
        """Drop all packets between the machines, or let them through again; each still answers the lab."""
        for name in self._run.machines():
            Network.of(self._run).separate(self._run.config(name).index, apart)

    def inside(self, argv: Sequence[str]) -> list[str]:
        """A command of this machine's that uses the network of the run, in which it is `network.address(1)`."""
        return ["ip", "netns", "exec", Network.of(self._run).namespace, *argv]

    def build(self, say: Callable[[str], None] = _say_nothing) -> None:
        """Make what the backend needs, and is not in the cache."""
        for stage in (*self._backend.stages(), self._backend.pydeps(CHECKOUT)):
            cache.build(stage, lab=LAB_DIRECTORY, say=say)

    def close(self) -> None:
        """End all machines of the run, and the run. Disks and network go too."""
        keepers = [state.keeper for name in self._run.machines() if (state := self._run.state(name))]
        for keeper in keepers:
            keeper.send(signal.SIGTERM)
        for keeper in keepers:
            if not keeper.wait(END_SECONDS):
                keeper.send(signal.SIGKILL)
                keeper.wait(END_SECONDS)
        with lab_lock():
            sweep()

    def _start_new(self, name: str, backend: Backend, *, sizes: list[int], memory: str, owner: ProcessId | None) -> int:
        stages = tuple(str(stage.require()) for stage in backend.stages())
        if not SIZE.fullmatch(memory):
            raise LabError(f"memory {memory!r}: a size is a number and M or G, as in 2G")
        directory = self._run.machine(name)
        index = self._run.free_index(name)
        disks = self._make_disks(name, sizes)
        endpoint = backend.endpoint(index)
        directory.mkdir(parents=True)
        config = MachineConfig(
            name=name,
            backend=backend.name,
            index=index,
            memory=memory,
            disks=disks,
            owner=owner,
            boot=1,
            address=endpoint[0],
            port=endpoint[1],
            stages=stages,
        )
        self._run.write_config(config)
        try:
            if backend.port_kind:
                network = Network.of(self._run)
                network.ensure()
                network.add_port(index, backend.port_kind)
            backend.prepare(self._run, config)
        except BaseException:
            release(self._run, name)
            raise
        _start_keeper(self._run, name)
        return config.boot

    def _start_again(self, name: str, *, sizes: list[int], owner: ProcessId | None) -> int:
        config, state = self._run.config(name), self._run.state(name)
        if state is None or self._machine(name).alive:
            raise LabError(f"{name} is running already in run {self._run.name}")
        if sizes and len(sizes) != len(config.disks):
            raise LabError(f"{name} is off and has {len(config.disks)} disks already: down takes them away")
        backend = self._backend_of(name)
        stages = tuple(str(stage.require()) for stage in backend.stages())
        config = replace(config, boot=config.boot + 1, owner=owner, stages=stages)
        self._run.write_config(config)
        backend.prepare(self._run, config)
        state.keeper.send(signal.SIGHUP)
        return config.boot

    def _note_stage(self, name: str, stage: str) -> None:
        """Record that a machine uses a build result, which pruning then keeps."""
        with lab_lock():
            config = self._run.config(name)
            if stage not in config.stages:
                self._run.write_config(replace(config, stages=(*config.stages, stage)))

    def _make_disks(self, name: str, sizes: list[int]) -> tuple[str, ...]:
        if len(sizes) > MAX_DISKS:
            raise LabError(f"{name}: a machine has {MAX_DISKS} disks at most")
        if not sizes:
            return ()
        directory = cache.cache_directory() / "disks" / self._run.digest
        directory.parent.mkdir(parents=True, exist_ok=True)
        cache.check_disk(directory.parent, DISK_FLOOR_MB, purpose=f"machine {name}")
        directory.mkdir(exist_ok=True)
        paths = tuple(str(directory / f"{name}-{number}") for number in range(len(sizes)))
        for path, size in zip(paths, sizes, strict=True):
            with open(path, "wb") as disk:
                disk.truncate(size)
        return paths

    def _introduce(self, machine: Machine) -> None:
        """Tell the machines that run already a name they did not boot with."""
        if self._backend_of(machine.name).port_kind is None or machine.name in FIRST_INDEX:
            return
        line = f"{machine.config.address} {machine.name}"
        for other in self.machines:
            if other.name != machine.name and other.alive:
                other.run(["sh", "-c", 'grep -qxF "$1" /etc/hosts || echo "$1" >> /etc/hosts', "hosts", line])

    def _owner(self, pid: int | None) -> ProcessId | None:
        if pid is None:
            return None
        owner = ProcessId.of(pid or os.getpid())
        if owner is None:
            raise LabError(f"there is no process {pid} that could own a machine")
        return owner

    def _machine(self, name: str) -> Machine:
        return Machine(self._run, name, self._backend_of(name))

    def _backend_of(self, name: str) -> Backend:
        """A machine's own backend."""
        return backend_named(self._run.config(name).backend)


def _start_keeper(run: RunDirectory, name: str) -> None:
    """Start the keeper of a machine, whose configuration is written; back when its state can be read."""
    kept = ("PATH", "HOME", "LANG", "XDG_RUNTIME_DIR", "XDG_CACHE_HOME")
    environment = {key: os.environ[key] for key in kept if key in os.environ}
    with (run.machine(name) / "keeper.log").open("wb") as log:
        subprocess.run(
            [sys.executable, "-m", KEEPER_MODULE, str(run.path), name],
            env={**environment, "PYTHONPATH": str(CHECKOUT), "PYTHONDONTWRITEBYTECODE": "1"},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            check=False,
        )


def open_lab(run: str = "default", backend: str | None = None) -> Lab:
    """The lab of a run, on the backend named, or on the one that probing finds. Starts and builds nothing."""
    return Lab(RunDirectory.named(run), choose(backend))


def _size_bytes(size: str) -> int:
    match = SIZE.fullmatch(size)
    if not match:
        raise LabError(f"size {size!r}: a size is a number and M, G or T, as in 1G")
    return int(match[1]) * UNIT_BYTES[match[2].upper()]
