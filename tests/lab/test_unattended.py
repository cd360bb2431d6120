"""Jobs that nobody looks at, on real ZFS: what they take, send and prune, and what they say of it."""

from __future__ import annotations

import textwrap

import pytest

from tests.lab.conftest import Run, World

DIRECTORY = "/root/jobs"


class JobWorld:
    """A world with a job of its own in a configuration file."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.name = world.above.rpartition("/")[2]
        self.config = f"{DIRECTORY}/{self.name}.toml"
        self.targets = [f"{world.receiver.ssh_host}:{world.target}"]

    def configure(self, more: str = "", *, port: int = 0) -> None:
        """Write the file; ``more`` are lines of the job besides source, target and port."""
        targets = ", ".join(f'"{target}"' for target in self.targets)
        text = (
            f'[job.{self.name}]\nsource = "{self.world.source}"\ntarget = [{targets}]\n'
            f"port = {port or self.world.receiver.ssh_port}\n{textwrap.dedent(more)}"
        )
        script = f"mkdir -p {DIRECTORY} && umask 077 && cat > {self.config}"
        self.world.sender.run(["sh", "-c", script], input=text)

    @property
    def argv(self) -> list[str]:
        return ["zfsync", "cron", "run", self.name, "--config", self.config]

    def run(self, *options: str) -> Run:
        return self.world.run([*self.argv, *options])

    def at_source(self, child: str = "") -> list[str]:
        return self._names(self.world.snapshots_of(self.world.sender, self.world.source + child))

    def at_target(self, child: str = "") -> list[str]:
        return self._names(self.world.snapshots_of(self.world.receiver, self.world.target + child))

    def _names(self, snapshots: list[str]) -> list[str]:
        """Names, with ``NEW`` for one that a job of this test took."""
        return [name if name.startswith("2020") or "_" not in name else "NEW" for name in snapshots]

    def old(self, *minutes: int, letter: str = "M") -> None:
        """Snapshots of the whole tree that a job might have taken in some minutes of the year 2020."""
        for minute in minutes:
            self.world.write("", 4, f"at{minute}")
            self.world.snapshot(f"20200101-{minute:04}_{letter}")


@pytest.fixture
def job(world: World) -> JobWorld:
    return JobWorld(world)


# ---- by hand ---------------------------------------------------------------------------------------------------------


def test_a_job_without_a_configuration_takes_sends_and_prunes_both_sides(job: JobWorld) -> None:
    world = job.world
    for child in ("/a", "/a/b", "/tmp"):
        world.create(child)
    job.old(0, 1, 2)
    world.snapshot("manual")
    job.old(3, 4)
    world.sender.run(["zfs", "hold", "keep", f"{world.source}/a@20200101-0000_M"])
    argv = ["zfsync", "cron", "run", "--port", str(world.receiver.ssh_port), "--exclude", "tmp", world.source,
            *job.targets, "--keep", "minutely=3", "--keep-target", "minutely=4"]  # fmt: skip
    run = world.run(argv)
    assert (run.status, run.out, run.err) == (0, "", ""), run

    assert job.at_source() == ["manual", "20200101-0003_M", "20200101-0004_M", "NEW"]
    assert job.at_source("/a/b") == job.at_source()
    assert job.at_source("/a") == ["20200101-0000_M", *job.at_source()]
    assert len(job.at_source("/tmp")) == 6  # neither taken nor pruned
    assert job.at_target() == ["20200101-0002_M", "manual", "20200101-0003_M", "20200101-0004_M", "NEW"]
    assert job.at_target("/a") == job.at_target("/a/b") == job.at_target()
    assert job.at_target("/tmp") == []
    newest = world.sender.run(["zfs", "list", "-Hprt", "snapshot", "-o", "name,createtxg", world.source]).stdout
    groups = {line.split("\t")[1] for line in newest.splitlines() if line.split("@")[1].startswith("2")
              and not line.split("@")[1].startswith("2020")}  # fmt: skip
    assert len(groups) == 1, newest

    again = world.run(argv)  # in the same minute, or the next one: nothing old goes that should stay
    assert (again.status, again.err) == (0, ""), again
    assert "manual" in job.at_source()
    assert "manual" in job.at_target()
    world.sender.run(["zfs", "release", "keep", f"{world.source}/a@20200101-0000_M"])
    world.assert_tidy()
