"""Two machines with real ZFS for the whole session, and for each test a source and a target of its own on them."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.driver import Lab, Machine, open_lab
from zfsync_ssh.lzc import VARIABLE

HERE = Path(__file__).parent
LOCKS = "ls /run/lock/zfsync-*.lock 2>/dev/null | grep -v /zfsync-serve@"
"""Names the locks that are held. The file of `zfsync_ssh.claims` stays, empty: record locks on it come and go."""
_numbers = itertools.count(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.lab)


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """The lab, with its machines up; all of it ends with the session, or with this process."""
    with open_lab(run=f"test{os.getpid()}") as opened:
        for name, pool in (("sender", "tank"), ("receiver", "pool")):
            backend = os.environ.get(f"ZFSYNC_LAB_{name.upper()}")  # tests/matrix/zfs: of another release of OpenZFS
            machine = opened.up(name, disks=("4G",), owner=os.getpid(), backend=backend)
            machine.put(HERE / "digest.py", "/root/digest.py")
            machine.run(["zpool", "create", "-O", "compression=lz4", pool, machine.disks[0]])
        opened.install(opened.machine("sender"))
        yield opened


class Run:
    """A `zfsync` that has ended."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        self.status = done.returncode
        self.out = done.stdout
        self.err = done.stderr

    def __repr__(self) -> str:
        # The failures first: pytest cuts off what is long.
        failures = [
            line
            for line in self.out.splitlines()
            if '"status": "failed"' in line or ('"problem": "' in line and '"problem": ""' not in line)
        ]
        return "\n".join((f"exit {self.status}", self.err, *failures, self.out))

    @property
    def events(self) -> list[dict[str, Any]]:
        """What --json wrote."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def outcomes(self) -> dict[str, dict[str, Any]]:
        """The last outcome of each dataset, by its name at the source, out of --json."""
        return {e["outcome"]["source"]: e["outcome"] for e in self.events if e["event"] == "finished"}


class World:
    """A source and a target that nothing else uses."""

    def __init__(self, sender: Machine, receiver: Machine) -> None:
        number = next(_numbers)
        self.sender = sender
        self.receiver = receiver
        self.source = f"tank/t{number}/src"
        self.above = f"pool/t{number}"
        self.target = f"{self.above}/dst"
        self.buffer = f"{self.target}.zfsyncbuffer"
        sender.run(["zfs", "create", "-p", self.source])
        receiver.run(["zfs", "create", self.above])

    # -- making a source --

    def create(self, child: str, *options: str) -> None:
        self.sender.run(["zfs", "create", *options, self.source + child])

    def write(self, child: str, kilobytes: int = 16, name: str = "file") -> None:
        """Write random bytes into a filesystem's file."""
        self.sender.sh(f"head -c {kilobytes}k /dev/urandom > '/{self.source}{child}/{name}'")

    def snapshot(self, name: str, child: str = "", recursive: bool = True) -> None:
        self.sender.run(["zfs", "snapshot", *(["-r"] if recursive else []), f"{self.source}{child}@{name}"])

    def make_buffer(self) -> None:
        """The buffer, as zfsync makes it."""
        mark = f"zfsync:placeholder={self.buffer}"
        self.receiver.run(["zfs", "create", "-o", "mountpoint=none", "-o", mark, self.buffer])

    # -- running zfsync --

    def argv(self, *options: str, target: str = "", user: str = "", source: str = "") -> list[str]:
        """The command line of a push of this source to this target."""
        host = f"{user}@{self.receiver.ssh_host}" if user else self.receiver.ssh_host
        where = target if ":" in target else f"{host}:{target or self.target}"
        return ["zfsync", "push", "--port", str(self.receiver.ssh_port), *options, source or self.source, where]

    def push(self, *options: str, **where: str) -> Run:
        return self.run(self.argv(*options, **where))

    def run(self, argv: list[str]) -> Run:
        return Run(self.sender.run(argv, check=False, timeout=300))

    def start(self, *options: str) -> Running:
        """Start a push and return at once."""
        return self.start_words(*self.argv("--json", *options))

    def start_words(self, *words: str) -> Running:
        """Start a `zfsync` with these words and return at once."""
        return Running(self, list(words))

    # -- looking at both sides --

    def digest(self, machine: Machine, root: str) -> list[str]:
        """Every snapshot below ``root``: its child and name, its GUID, a digest of its contents."""
        return sorted(machine.run(["python3", "/root/digest.py", root], timeout=300).stdout.splitlines())

    def assert_equal(self) -> None:
        """Every snapshot of the source is at the target, with its GUID and contents, and none else; all is tidy."""
        assert self.digest(self.receiver, self.target) == self.digest(self.sender, self.source)
        self.assert_tidy()

    def assert_tidy(self, buffered: bool = False, partial: bool = False) -> None:
        """No process, lock, hold, nor (but where told) buffered dataset or partial receive is left."""
        for machine in (self.sender, self.receiver):
            assert machine.sh("pgrep -af '[z]fs (send|receive)|[z]fsync' || true").stdout == ""
        assert self.receiver.sh(f"{LOCKS} || true").stdout == ""
        refs = self.sender.run(["zfs", "list", "-Hrt", "snapshot", "-o", "userrefs", self.source]).stdout.split()
        assert set(refs) <= {"0"}
        rows = self.receiver.run(["zfs", "list", "-Hro", "name,receive_resume_token", self.above]).stdout.splitlines()
        names = [row.split("\t")[0] for row in rows]
        assert any(name.startswith(self.buffer) for name in names) == buffered, names
        assert any(not row.endswith("\t-") for row in rows) == partial, rows

    def snapshots(self, root: str = "") -> list[str]:
        """The target's snapshots with their GUIDs."""
        listing = ["zfs", "list", "-Hrt", "snapshot", "-o", "name,guid", root or self.target]
        return self.receiver.run(listing, check=False).stdout.splitlines()

    def snapshots_of(self, machine: Machine, dataset: str) -> list[str]:
        """The names of a dataset's own snapshots, oldest first; none of one that is not there."""
        listing = ["zfs", "list", "-Hd1", "-t", "snapshot", "-s", "createtxg", "-o", "name", dataset]
        return [name.partition("@")[2] for name in machine.run(listing, check=False).stdout.splitlines()]

    def get(self, prop: str, child: str = "") -> str:
        """A property at the target."""
        return self.receiver.run(["zfs", "get", "-Ho", "value", prop, self.target + child]).stdout.strip()

    def wait_until(self, machine: Machine, script: str, seconds: int = 30) -> None:
        """Wait until a shell condition holds on a machine; fail when it does not within ``seconds``."""
        tries = f"for _ in $(seq {10 * seconds}); do if {script}; then exit 0; fi; sleep 0.1; done; exit 1"
        machine.sh(tries, timeout=300)

    def close(self) -> None:
        """Destroy what the test made."""
        self.sender.run(["zfs", "destroy", "-R", self.source.rpartition("/")[0]], check=False)
        self.receiver.run(["zfs", "destroy", "-R", self.above], check=False)
        # Where a host key is pinned, no other counts: it would for the tests that follow.
        self.sender.run(["rm", "-rf", "/etc/zfsync"])


class Running:
    """A push that runs."""

    def __init__(self, world: World, argv: list[str]) -> None:
        self._world = world
        self._process = world.sender.start(["sh", "-c", 'echo $$; exec "$@"', "sh", *argv])
        assert self._process.stdout is not None
        self._out = self._process.stdout
        self.pid = int(self._out.readline())
        self._lines: list[str] = []

    def wait_for(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Read events until one is as wanted."""
        for line in self._out:
            self._lines.append(line)
            event: dict[str, Any] = json.loads(line)
            if wanted(event):
                return event
        raise AssertionError(f"it ended before: {self.wait()}")

    def wait_for_bytes(self, count: int) -> None:
        """Wait until so many bytes of a dataset are on their way."""
        self.wait_for(lambda event: event["event"] == "progress" and event["bytes"] >= count)

    def signal(self, name: str) -> None:
        self._world.sender.run(["kill", f"-{name}", str(self.pid)])

    def wait(self) -> Run:
        """Its end."""
        out, err = self._process.communicate(timeout=120)
        done = subprocess.CompletedProcess([], self._process.returncode, "".join(self._lines) + out, err)
        return Run(done)


@pytest.fixture
def world(lab: Lab) -> Iterator[World]:
    """A source and a target for one test."""
    made = World(lab.machine("sender"), lab.machine("receiver"))
    yield made
    made.close()


@pytest.fixture
def by_command(world: World) -> Iterator[None]:
    """Both machines leave OpenZFS's library alone, so that streams have processes that can be found."""
    forbidden = "/usr/lib/python3/dist-packages/zfsync-lab.pth"  # every python reads it when it starts
    for machine in (world.sender, world.receiver):
        machine.sh(f"cat > {forbidden}", input=f"import os; os.environ['{VARIABLE}'] = 'off'\n")
    yield
    for machine in (world.sender, world.receiver):
        machine.sh(f"rm {forbidden}")
