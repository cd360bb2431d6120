"""A machine of the lab, as tests use it: run commands on it, copy to it, pull its plug."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from .backend import Backend
from .errors import CommandFailed, CommandTimedOut, LabError, MachineGone
from .rundir import MachineConfig, MachineState, RunDirectory, lab_lock
from .teardown import sweep

LEFT_OUT = (".git", "__pycache__", ".*_cache", ".venv", "*.egg-info")
SSH_FAILED = 255
END_SECONDS = 20.0
POLL_SECONDS = 0.01


class Machine:
    """One machine. The object holds no process: any number of them may speak for the same machine."""

    def __init__(self, run: RunDirectory, name: str, backend: Backend) -> None:
        self._run = run
        self._backend = backend
        self.name = name

    def __repr__(self) -> str:
        return f"<Machine {self._run.name}/{self.name}>"

    @property
    def config(self) -> MachineConfig:
        return self._run.config(self.name)

    @property
    def state(self) -> MachineState | None:
        return self._run.state(self.name)

    @property
    def alive(self) -> bool:
        state = self.state
        return bool(state and state.phase in ("booting", "up") and state.guest and state.guest.alive)

    @property
    def disks(self) -> tuple[str, ...]:
        """Paths on the machine that pools can be made of. They survive `kill` and `up`, and go with `down`."""
        return self._backend.disk_paths(self.config)

    @property
    def memory(self) -> str:
        return self.config.memory

    @property
    def ssh_host(self) -> str:
        """The name by which the other machines of the run reach this one."""
        return self._backend.reach(self._run, self.config).host

    @property
    def ssh_port(self) -> int:
        return self._backend.reach(self._run, self.config).port

    @property
    def ssh_options(self) -> tuple[str, ...]:
        """Options that ssh needs on the other machines to reach this one; none among guests."""
        return self._backend.reach(self._run, self.config).options

    @property
    def console(self) -> Path:
        """What the machine's kernel or sshd wrote, a file on the host."""
        return self._run.console(self.name)

    def run(
        self,
        argv: Sequence[str],
        *,
        input: str | bytes | None = None,
        check: bool = True,
        timeout: float = 120.0,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as root, word for word, and wait for it.

        Raises CommandFailed (with `check`), CommandTimedOut, or MachineGone when the machine is or goes off. After a
        timeout the command may still run on the machine. Output that is not UTF-8 comes with surrogate escapes.
        """
        data = input.encode() if isinstance(input, str) else input
        self._require_alive()
        try:
            done = subprocess.run(
                self.argv(argv),
                input=data,
                stdin=subprocess.DEVNULL if data is None else None,
                capture_output=True,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise CommandTimedOut(f"{self.name}: {list(argv)} did not end within {timeout:g} s") from None
        stdout, stderr = (text.decode(errors="surrogateescape") for text in (done.stdout, done.stderr))
        if done.returncode == SSH_FAILED and not self.alive:
            raise MachineGone(f"{self.name} went off while {list(argv)} ran on it")
        if check and done.returncode != 0:
            raise CommandFailed(self.name, argv, returncode=done.returncode, stdout=stdout, stderr=stderr)
        return subprocess.CompletedProcess(list(argv), done.returncode, stdout, stderr)

    def sh(
        self,
        script: str,
        *,
        input: str | bytes | None = None,
        check: bool = True,
        timeout: float = 120.0,
    ) -> subprocess.CompletedProcess[str]:
        """Run a bash script, which stops at the first command that fails, in a pipe too."""
        return self.run(["bash", "-euo", "pipefail", "-c", script], input=input, check=check, timeout=timeout)

    def start(
        self, argv: Sequence[str], *, stdin: int = subprocess.DEVNULL, stderr: int = subprocess.PIPE
    ) -> subprocess.Popen[str]:
        """Start a command and return at once: for what runs while the test does something else.

        Ending the returned process does not end the command on the machine; `kill` of the machine ends both.
        """
        self._require_alive()
        return subprocess.Popen(
            self.argv(argv),
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            errors="surrogateescape",
        )

    def argv(self, argv: Sequence[str], *, tty: bool = False) -> list[str]:
        """The argv on the host that runs `argv` on the machine; without words, a login shell."""
        return self._backend.command(self._run, self.config, argv, tty=tty)

    def put(self, src: Path, dst: str, *, leave_out: Sequence[str] = LEFT_OUT, timeout: float = 120.0) -> None:
        """Copy a directory's contents to the directory `dst`, or a file to the file `dst`; caches are left out.

        `leave_out`: tar's patterns.
        """
        self._require_alive()
        if not src.is_dir():
            mode = f"{src.stat().st_mode & 0o777:o}"
            script = 'mkdir -p "${1%/*}/" && cat > "$1" && chmod "$2" "$1"'
            self.run(["sh", "-c", script, "put", dst, mode], input=src.read_bytes(), timeout=timeout)
            return
        excludes = [f"--exclude={pattern}" for pattern in leave_out]
        packer = ["tar", "-C", str(src), *excludes, "--owner=0", "--group=0", "-cf", "-", "."]
        with subprocess.Popen(packer, stdout=subprocess.PIPE) as packing:
            unpacker = self.argv(["sh", "-c", 'mkdir -p "$1" && tar -C "$1" -xf -', "put", dst])
            try:
                done = subprocess.run(unpacker, stdin=packing.stdout, capture_output=True, timeout=timeout, check=False)
            except subprocess.TimeoutExpired:
                packing.kill()
                raise CommandTimedOut(f"{self.name}: copying {src} did not end within {timeout:g} s") from None
            if packing.stdout:
                packing.stdout.close()
        if done.returncode != 0 or packing.returncode != 0:
            raise LabError(f"{self.name}: cannot copy {src} to {dst}: {done.stderr.decode(errors='replace')}")

    def kill(self) -> None:
        """Pull the plug: the machine is off at once, its disks keep what was written. `Lab.up` starts it again."""
        state = self.state
        if state is None or state.guest is None:
            raise MachineGone(f"{self.name} is off already")
        state.guest.send(signal.SIGKILL)
        self.wait_for("off", boot=state.boot, timeout=END_SECONDS)

    def down(self) -> None:
        """End the machine; its disks go with it, and with the run's last machine the run goes."""
        state = self.state
        if state is None:
            return
        state.keeper.send(signal.SIGTERM)
        if not state.keeper.wait(END_SECONDS):
            state.keeper.send(signal.SIGKILL)
            state.keeper.wait(END_SECONDS)
        with lab_lock():
            sweep()  # for a keeper that was killed, now or before

    def wait_for(self, phase: str, *, boot: int, timeout: float) -> None:
        """Wait for a phase of a boot. Raises when the machine failed, its keeper died, or time is up."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            state = self.state
            if state is None or not state.keeper.alive:
                raise LabError(f"{self.name}: its keeper died: {self._tail('keeper.log')}")
            if state.boot == boot and state.phase == phase:
                return
            if state.boot == boot and state.phase in ("off", "failed"):
                raise LabError(f"{self.name} did not come up, {state.detail}: {self._tail('console.log')}")
            time.sleep(POLL_SECONDS)
        raise LabError(f"{self.name} is not {phase} after {timeout:.0f} s: see {self.console}")

    def _require_alive(self) -> None:
        if not self.alive:
            raise MachineGone(f"{self.name} is powered off: up starts it again")

    def _tail(self, log: str) -> str:
        try:
            text = (self._run.machine(self.name) / log).read_text(errors="replace")
        except OSError:
            return "it left no log"
        return text.strip()[-1500:] or "its log is empty"
