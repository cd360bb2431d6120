"""Two fake machines: this one, and one behind an OpenSSH sshd of its own; and zfsync between them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from tests import agents, fakezfs
from tests.fakezfs import State
from tests.ssh.processes import MARK, Running, eventually, marked
from zfsync_ssh.lock import Lock

SSHD = shutil.which("sshd") or "/usr/sbin/sshd"
REPOSITORY = Path(fakezfs.__file__).parent.parent
ENDS_SECONDS = 60


AT_ONCE = ("--buffer-behind", "0")
"""With these, what is below a new root does not wait for it, though it is small: several channels are at work."""


@dataclass(frozen=True)
class Keys:
    """Files made once for all tests."""

    host: Path
    user: Path
    other: Path
    """A key that nobody has heard of."""


@dataclass(frozen=True)
class Run:
    """A `zfsync` that has ended."""

    status: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """What it said on stderr, which is one line that begins with its name."""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        assert lines[0].startswith("zfsync: "), self.err
        return lines[0].removeprefix("zfsync: ")

    @property
    def events(self) -> list[dict[str, Any]]:
        """What --json wrote."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def outcomes(self) -> dict[str, dict[str, Any]]:
        """The last outcome of each dataset, by its name at the source without the pool, out of --json."""
        finished = [event["outcome"] for event in self.events if event["event"] == "finished"]
        return {outcome["source"].partition("/")[2]: outcome for outcome in finished}


class Sshd:
    """A sshd in the foreground, and what it logged."""

    def __init__(self, directory: Path, keys: Keys, settings: dict[str, str]) -> None:
        self.log_path = directory / "sshd.log"
        self._settings = {
            "HostKey": str(keys.host),
            "AuthorizedKeysFile": str(directory / "authorized_keys"),
            "PidFile": "none",
            "StrictModes": "no",
            "UsePAM": "no",
            "PasswordAuthentication": "no",
            "KbdInteractiveAuthentication": "no",
            "PermitRootLogin": "prohibit-password",
            "LogLevel": "VERBOSE",
            **settings,
        }
        self._directory = directory
        shutil.copy(keys.user.with_suffix(".pub"), directory / "authorized_keys")
        self.port, self._process = eventually("sshd listens", self._start)

    def _start(self) -> tuple[int, subprocess.Popen[bytes]] | None:
        """Start it on a free port; None when somebody else took that first."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        lines = {"ListenAddress": f"127.0.0.1:{port}", **self._settings}
        config = self._directory / "sshd_config"
        config.write_text("".join(f"{name} {value}\n" for name, value in lines.items()))
        with self.log_path.open("wb") as log:
            process = subprocess.Popen([SSHD, "-D", "-e", "-f", config], stdin=subprocess.DEVNULL, stderr=log)
        eventually("sshd starts", lambda: "Server listening" in self.log or process.poll() is not None)
        if process.poll() is None:
            return port, process
        assert "Address already in use" in self.log, self.log
        return None

    @property
    def log(self) -> str:
        """All of it so far."""
        return self.log_path.read_text("utf-8", "replace")

    @property
    def connections(self) -> int:
        """TCP connections so far."""
        return len(re.findall(r"^Connection from ", self.log, re.MULTILINE))

    @property
    def logins(self) -> int:
        """Logins so far that were let in."""
        return len(re.findall(r"^Accepted publickey for ", self.log, re.MULTILINE))

    @property
    def sessions(self) -> int:
        """Sessions so far."""
        return len(re.findall(r"^Starting session: ", self.log, re.MULTILINE))

    @property
    def pid(self) -> int:
        """Of the one that listens; each connection has a child of it."""
        return self._process.pid

    def stop(self) -> None:
        """End it; connections that are still there end with their clients."""
        self._process.terminate()
        self._process.wait(ENDS_SECONDS)


@dataclass
class Site:
    """The source ``src/tree`` here and the pool ``POOL`` there, with a PATH for each that has its own `zfs`."""

    directory: Path
    keys: Keys
    sender: State
    receiver: State
    pool: str
    """Differs from test to test: locks are the machine's."""
    sshds: list[Sshd] = field(default_factory=list)
    runs: list[subprocess.Popen[str]] = field(default_factory=list)

    # -- before --

    @classmethod
    def make(cls, directory: Path, keys: Keys, pool: str) -> Site:
        """Files, PATHs and pools; no sshd yet."""
        for name in ("home/.ssh", "near", "far", "far-home"):
            (directory / name).mkdir(parents=True)
        site = cls(directory, keys, State(str(directory / "sender")), State(str(directory / "receiver")), pool)
        site.sender.create("src/tree")
        site.receiver.create(pool)
        site.script("near/zfs", zfs_script(site.sender))
        site.be_slow(0)
        if agents.IS_ANOTHER:
            site.script("far/python3", f'exec {shlex.quote(agents.PYTHON)} "$@"')
        (directory / "ssh_config").touch()
        return site

    def script(self, name: str, text: str) -> Path:
        """An executable shell script."""
        path = self.directory / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return path

    def be_slow(self, seconds: float) -> None:
        """How long every `zfs receive` that begins from now on sleeps after each 64 KiB."""
        slow = f"FAKEZFS_SLOW={seconds} " if seconds else ""
        new = self.script("far/zfs.new", slow + self.zfs_there)
        new.replace(self.directory / "far/zfs")

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Let every `zfs receive` of the target that begins in the block wait for the block's end."""
        held = self.directory / "held"
        held.touch()
        wait = f'case "$1 $*" in "receive "*{self.root}*) while [ -e {held} ]; do sleep 0.02; done;; esac'
        self.script("far/zfs.new", f"{wait}\n{self.zfs_there}").replace(self.directory / "far/zfs")
        try:
            yield
        finally:
            held.unlink()

    @property
    def zfs_there(self) -> str:
        """The line of shell that is the far machine's zfs."""
        return zfs_script(self.receiver)

    def tree(self, *children: str, size: int = 100_000) -> None:
        """Datasets below the source with one snapshot of ``size`` bytes each; the root's own is small."""
        if not self.sender.guids("src/tree")[""]:
            self.sender.snapshot("src/tree@1", 1000)
        for child in children:
            self.sender.create(f"src/tree/{child}")
            self.sender.snapshot(f"src/tree/{child}@1", size)

    def sshd(self, **settings: str) -> Sshd:
        """Start a sshd with these lines in its sshd_config, and put its host key into known_hosts."""
        directory = self.directory / f"sshd-{len(self.sshds)}"
        directory.mkdir()
        environment = {
            MARK: self.mark,
            "HOME": str(self.directory / "far-home"),
            "PATH": f"{self.directory}/far:/usr/local/bin:/usr/bin:/bin",
        }
        settings.setdefault("SetEnv", " ".join(f"{name}={value}" for name, value in environment.items()))
        sshd = Sshd(directory, self.keys, settings)
        self.sshds.append(sshd)
        self.trust(self.keys.host, sshd.port)
        return sshd

    def trust(self, key: Path, port: int, marker: str = "") -> None:
        """Put a host key into known_hosts."""
        kind, data = key.with_suffix(".pub").read_text().split()[:2]
        with (self.directory / "home/.ssh/known_hosts").open("a") as file:
            file.write(f"{marker} [127.0.0.1]:{port} {kind} {data}\n".lstrip())

    # -- zfsync --

    @property
    def mark(self) -> str:
        """The value of `MARK` at the far end."""
        return str(self.directory / "far")

    @property
    def root(self) -> str:
        """The target, without its host."""
        return f"{self.pool}/tree"

    @cached_property
    def environment(self) -> dict[str, str]:
        """The environment of zfsync."""
        return {
            MARK: str(self.directory / "near"),
            "HOME": str(self.directory / "home"),
            "PATH": f"{self.directory}/near:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "TERM": "xterm-256color",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONWARNINGS": "error",
        }

    def arguments(self, port: int, *more: str, to: str = "127.0.0.1") -> list[str]:
        """What `zfsync` is given to push the source to the sshd at ``port``; ``more`` comes last, and so wins."""
        key, config = str(self.keys.user), str(self.directory / "ssh_config")
        target = f"{to}:{self.root}"
        return ["push", "src/tree", target, "--port", str(port), "--identity", key, "--ssh-config", config, *more]

    def start(self, arguments: list[str], **options: Any) -> subprocess.Popen[str]:
        """Start `zfsync`; it ends with the test."""
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        run: subprocess.Popen[str] = subprocess.Popen(
            [sys.executable, "-m", "zfsync_ssh", *arguments],
            **{"text": True, "cwd": REPOSITORY, "env": self.environment, **pipes},
        )
        self.runs.append(run)
        return run

    def wait(self, run: subprocess.Popen[str]) -> Run:
        """Wait for its end."""
        out, err = run.communicate(timeout=ENDS_SECONDS)
        return Run(run.returncode, out, err)

    def push(self, port: int, *more: str, **options: Any) -> Run:
        """Start `zfsync push`, and wait for its end."""
        return self.wait(self.start(self.arguments(port, *more), **options))

    # -- what is seen of it --

    @property
    def arrived(self) -> bool:
        """Whether the target has every snapshot that the source has, in its place."""
        done = self.receiver.guids(self.root) == self.sender.guids("src/tree")
        return done and not self.receiver.guids(self.root + ".zfsyncbuffer")

    @property
    def far(self) -> list[Running]:
        """All that sshd has started and that still runs."""
        return marked(self.mark)

    @property
    def near(self) -> list[Running]:
        """zfsync and all that it has started that still run."""
        return marked(self.environment[MARK])

    @property
    def agents(self) -> list[Running]:
        """The agents that run."""
        return [process for process in self.far if process.is_agent]

    @property
    def control_agent(self) -> Running | None:
        """The agent that holds the lock."""
        return next((agent for agent in self.agents if agent.has_open(self.lock)), None)

    def agent_of(self, child: str) -> Running | None:
        """The agent that has a `zfs receive` of this dataset run now."""
        receive = self.receives(child)
        return next((agent for agent in self.agents if receive and agent.pid == receive.parent), None)

    def receives(self, child: str = "") -> Running | None:
        """The `zfs receive` of a dataset that runs now, wherever it goes; its parent is the agent."""
        hexed = "".join(f"{byte:02X}" for byte in f"/{child}".encode()) if child else ""
        names = (f"/tree/{child}", hexed)
        return next((process for process in self.far if any(name and process.receives(name) for name in names)), None)

    @property
    def resumed(self) -> int:
        """Streams so far that went on where an earlier one was cut off."""
        return sum(command[0] == "send" and "-t" in command for command in self.sender.commands())

    @property
    def lock(self) -> Path:
        """The file of the target's lock."""
        return Path(Lock(self.root).path)

    def nothing_is_left(self) -> None:
        """Check that no process of a run is left at either end, and no lock."""
        eventually("all processes here have ended", lambda: not self.near)
        eventually("all processes there have ended", lambda: not self.far)
        assert not self.lock.exists()

    # -- after --

    def end(self) -> None:
        """End all that was started, and show the logs, which pytest prints for a test that failed."""
        for run in self.runs:
            if run.poll() is None:
                run.kill()
            run.communicate(timeout=ENDS_SECONDS)
        for process in (*self.near, *self.far):
            process.kill()
        for sshd in self.sshds:
            sshd.stop()
            print(f"-- sshd on port {sshd.port}\n{sshd.log}")
        self.lock.unlink(missing_ok=True)


def zfs_script(state: State) -> str:
    """A line of shell that is the fake `zfs` of one machine. -I -S: it needs no more, and starts twice as fast."""
    return f'exec {shlex.join(fakezfs.command(state.path))} "$@"'


def login_shell(shell: str, before: str = "") -> str:
    """A script that runs what sshd was asked to run as ``shell`` would as a login shell, after ``before``, in sh."""
    return f'{before}\nexec {shell} -c "$SSH_ORIGINAL_COMMAND"'


def prepare_machine() -> None:
    """What OpenSSH's sshd wants to be there when root starts it."""
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
