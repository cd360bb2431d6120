"""The keeper: a small process that is the parent of one machine's program, from `up` to `down`.

The machine dies with its keeper (the kernel sees to that), and the keeper ends when the owner's process ends, however
that was. It holds the shared ssh connection, writes the machine's state, and at its end takes away what the machine
leaves; the last one takes the run away.

Signals: SIGTERM ends it, SIGHUP switches a machine that is off on again (its configuration is read anew).
Run as `python3 -m tests.lab.driver.keeper RUN-DIRECTORY MACHINE`; it goes to the background once the state is written.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

from .backend import backend_named
from .cache import in_use
from .network import Network
from .process import ProcessId, adopt_orphans, children_of, die_with_parent, enter_network_namespace
from .rundir import MachineState, RunDirectory, lab_lock
from .teardown import release

BOOT_POLL_SECONDS = 0.02
IDLE_POLL_SECONDS = 5.0
MASTER_RETRY_SECONDS = 0.3
GUEST_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}


class Keeper:
    """One machine. Single-threaded: the kernel ends a child with the thread that started it."""

    def __init__(self, run: RunDirectory, name: str) -> None:
        self._run = run
        self._name = name
        self._config = run.config(name)
        self._backend = backend_named(self._config.backend)
        self._program: subprocess.Popen[bytes] | None = None
        self._master: subprocess.Popen[bytes] | None = None
        self._master_not_before = 0.0
        self._boot_deadline = 0.0
        self._owner: int | None = None
        me = ProcessId.of(os.getpid())
        if me is None:
            raise OSError("/proc does not show this process")
        self._state = MachineState(phase="off", boot=0, keeper=me, guest=None)

    def serve(self, announce: int) -> None:
        """Hold the machine until it shall end. A byte goes to `announce` when the state is there to be read."""
        adopt_orphans()
        with contextlib.ExitStack() as held:
            for stage in self._config.stages:
                held.enter_context(in_use(Path(stage)))
            home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            if self._backend.port_kind:
                enter_network_namespace(Network.of(self._run).path)
            signals = _signal_pipe()
            ending = not self._power_on()
            os.write(announce, b"!")
            os.close(announce)
            while not ending:
                received = self._wait(signals)
                self._watch_program()
                self._watch_boot()
                self._watch_master()
                if signal.SIGHUP in received and self._program is None:
                    ending = not self._power_on()
                ending = ending or signal.SIGTERM in received or self._owner_is_gone()
            self._end_children()
            # The machine-wide settings that are restored can be written from its own namespace only.
            enter_network_namespace(Path(f"/proc/self/fd/{home}"))
        with lab_lock():
            release(self._run, self._name)

    def _wait(self, signals: int) -> set[int]:
        """Sleep until something happens; the signals that came."""
        poller = select.poll()
        poller.register(signals, select.POLLIN)
        if self._owner is not None:
            poller.register(self._owner, select.POLLIN)
        busy = self._state.phase == "booting" or (self._program is not None and self._master is None)
        poller.poll(1000 * (BOOT_POLL_SECONDS if busy else IDLE_POLL_SECONDS))
        try:
            return set(os.read(signals, 4096))
        except BlockingIOError:
            return set()

    def _power_on(self) -> bool:
        """Start the machine as its configuration says now; False when its owner has died meanwhile."""
        self._config = self._run.config(self._name)
        if self._owner is not None:
            os.close(self._owner)
            self._owner = None
        if self._config.owner is not None:
            self._owner = self._config.owner.open()
            if self._owner is None:
                return False
        with self._run.console(self._name).open("wb") as console:
            self._program = subprocess.Popen(
                self._backend.launch(self._run, self._config),
                env=GUEST_ENVIRONMENT,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        self._boot_deadline = time.monotonic() + self._backend.boot_seconds
        self._note("booting")
        return True

    def _watch_program(self) -> None:
        if self._program is None or self._program.poll() is None:
            return
        code = self._program.returncode
        self._end_children()
        self._note("failed" if self._state.phase == "booting" else "off", f"its program ended with {code}")

    def _watch_boot(self) -> None:
        """From the first sign of the sshd to the open connection."""
        if self._state.phase != "booting" or self._program is None:
            return
        console = self._run.console(self._name).read_text(errors="replace")
        if self._backend.ready_mark in console:
            needs_master = bool(self._backend.master(self._run, self._config))
            if self._master is None and needs_master:
                self._start_master()
            elif not needs_master or self._run.control_socket(self._name).exists():
                self._note("up")
                return
        if time.monotonic() > self._boot_deadline:
            self._end_children()
            self._note("failed", f"it did not answer within {self._backend.boot_seconds:.0f} s")

    def _watch_master(self) -> None:
        """A connection that broke (a restarted sshd, a cut network) is opened again."""
        if self._master is not None and self._master.poll() is not None:
            self._master = None
            self._master_not_before = time.monotonic() + MASTER_RETRY_SECONDS
        if self._master is None and self._state.phase == "up" and time.monotonic() > self._master_not_before:
            self._start_master()

    def _start_master(self) -> None:
        argv = self._backend.master(self._run, self._config)
        if not argv:
            return
        self._run.control_socket(self._name).unlink(missing_ok=True)
        self._master = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )

    def _end_children(self) -> None:
        """Kill the program, the connection, and what their ends leave to this process."""
        for child in (self._program, self._master):
            if child is not None:
                child.kill()
                child.wait()
        self._program = self._master = None
        while orphans := children_of(os.getpid()):
            for pid in orphans:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
        self._run.control_socket(self._name).unlink(missing_ok=True)

    def _owner_is_gone(self) -> bool:
        if self._owner is None:
            return False
        poller = select.poll()
        poller.register(self._owner, select.POLLIN)
        return bool(poller.poll(0))

    def _note(self, phase: str, detail: str = "") -> None:
        guest = ProcessId.of(self._program.pid) if self._program else None
        self._state = replace(self._state, phase=phase, boot=self._config.boot, guest=guest, detail=detail)
        self._run.write_state(self._name, self._state)


def main(directory: str, name: str) -> int:
    """The front process ends when the keeper behind it has written its state, or has ended."""
    read_end, write_end = os.pipe()
    if os.fork():
        os.close(write_end)
        return 0 if os.read(read_end, 1) else 1
    os.close(read_end)
    os.setsid()
    Keeper(RunDirectory(Path(directory)), name).serve(write_end)
    return 0


def _signal_pipe() -> int:
    """From now on the numbers of the keeper's signals arrive, a byte each, at the returned end of a pipe."""
    read_end, write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    for signum in (signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(signum, lambda _signum, _frame: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return read_end


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
