"""Jobs that nobody looks at, on real ZFS: what they take, send and prune, and what they say of it."""

from __future__ import annotations

import contextlib
import json
import textwrap
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab.conftest import HERE, Run, World
from tests.lab.driver import Lab

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

    @property
    def look(self) -> list[str]:
        return ["zfsync", "status", self.name, "--config", self.config]

    def status(self) -> dict[str, Any]:
        """What ``zfsync status --json`` says."""
        document: dict[str, Any] = json.loads(self.world.run([*self.look, "--json"]).out)
        return document

    @contextlib.contextmanager
    def cron(self) -> Iterator[None]:
        """The job installed in a crontab that has a line of somebody else's, and a cron that runs it."""
        sender = self.world.sender
        # The lab's command is a wrapper with a PYTHONPATH, which the line of an installed zfsync does not need.
        paths = sender.sh('grep -o "PYTHONPATH=[^ ]*" "$(command -v zfsync)"').stdout.strip()
        others = f"# mine\n{paths}\n"
        sender.run(["crontab", "-"], input=others)
        sender.run(["zfsync", "cron", "install", self.name, "--config", self.config])
        assert sender.run(["zfsync", "cron", "list"]).stdout.startswith(f"{self.name}\t* * * * *\t")
        sender.sh("pgrep -x cron > /dev/null || cron < /dev/null > /dev/null 2>&1")
        try:
            yield
        finally:
            sender.run(["zfsync", "cron", "remove", self.name])
            assert sender.run(["crontab", "-l"]).stdout == others
            sender.sh("pkill -x cron; crontab -r")

    def wait_for_runs(self, log: str, count: int) -> None:
        """Wait until so many runs have sent and pruned, by the log; fail when that takes over two minutes a run."""
        done = f"[ $(grep -c '{self.world.source}: [0-9]* snapshots destroyed' {log}) -ge {count} ]"
        ended = "! pgrep -f '[c]ron run'"
        script = f"for _ in $(seq 240); do if {done} && {ended}; then exit 0; fi; sleep 0.5; done; cat {log}; exit 1"
        self.world.sender.run(["sh", "-c", script], timeout=200)

    def wait_for_failures(self, count: int) -> None:
        """Wait until at least so many runs have failed since one was well; for 0, until one was well again."""
        for _ in range(60):
            (target,) = self.status()["targets"]
            if target["failures"] >= count if count else target["failures"] == 0:
                return
            time.sleep(2)
        raise AssertionError(target)

    def give_key(self, *may: str) -> str:
        """Give the job a key of its own at the receiver; what was said."""
        receiver = self.world.receiver
        shown = receiver.run(["ssh-keygen", "-lf", "/etc/ssh/ssh_host_ed25519_key.pub"]).stdout.split()[1]
        words = ["--job", self.name, "--config", self.config, "--host-key", shown, "--install", *may]
        run = self.world.run(["zfsync", "key", "setup", f"{receiver.ssh_host}:{self.world.above}", *words])
        assert run.status == 0, run
        return run.err

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


def test_nothing_is_taken_when_nothing_was_written_since(job: JobWorld) -> None:
    job.world.create("/a")
    job.old(0, 1)
    job.configure('keep = "minutely=3"\nskip-unwritten = true\n')
    assert job.run().status == 0
    assert job.at_source() == job.at_target() == ["20200101-0000_M", "20200101-0001_M"]
    job.world.write("/a", 40)
    job.world.sender.run(["sync"])
    run = job.run()
    assert (run.status, run.out, run.err) == (0, "", ""), run
    assert job.at_source() == job.at_target("/a") == ["20200101-0000_M", "20200101-0001_M", "NEW"]
    job.world.assert_equal()


def test_what_a_target_needs_stays_while_it_cannot_be_reached(job: JobWorld) -> None:
    job.old(0)
    job.configure('keep = "minutely=2"\n')
    assert job.run().status == 0
    (common,) = [name for name in job.world.snapshots_of(job.world.sender, job.world.source) if "2020" not in name[:4]]
    job.old(1, 2, 3)
    job.configure('keep = "minutely=2"\n', port=1)
    run = job.run()
    assert (run.status, run.out) == (5, ""), run
    (paragraph,) = run.err.splitlines()
    assert paragraph.startswith(f"Job {job.name}: ")
    assert "cannot be reached" in paragraph
    assert job.world.snapshots_of(job.world.sender, job.world.source)[:2] == [common, "20200101-0003_M"]
    job.configure('keep = "minutely=2"\n')
    assert job.run().status == 0
    assert job.at_target()[-2:] == job.at_source()[-2:]
    job.world.assert_tidy()


def test_one_target_that_cannot_be_reached_does_not_stop_the_other(job: JobWorld) -> None:
    job.old(0)
    job.targets.insert(0, "nowhere.invalid:pool/x")
    job.configure('keep = "minutely=2"\n')
    run = job.run()
    assert (run.status, run.out, len(run.err.splitlines())) == (5, "", 1), run
    assert "nowhere.invalid" in run.err
    job.world.assert_equal()
    known = job.status()
    assert [(row["target"], row["last_exit_code"]) for row in known["targets"]] == [
        ("nowhere.invalid:pool/x", 5),
        (job.targets[1], 0),
    ]


def test_a_run_in_progress_ends_the_next_one_with_4_or_has_it_wait(job: JobWorld) -> None:
    world, mark = job.world, f"{DIRECTORY}/{job.name}"
    script = f"touch {mark}.started; while [ ! -e {mark}.go ]; do sleep 0.1; done"
    job.configure(f'keep = "minutely=9"\n[job.{job.name}.hooks]\nbefore_push = ["sh", "-c", "{script}"]\n')
    first = world.start_words(*job.argv)
    world.wait_until(world.sender, f"[ -e {mark}.started ]")
    second = job.run()
    assert (second.status, second.out) == (4, ""), second
    assert second.err.startswith(f"Job {job.name}: It is running already: zfsync on ")
    assert len(second.err.splitlines()) == 1
    third = world.start_words(*job.argv, "--wait", "60s")
    world.sender.sh(f"touch {mark}.go")
    assert [run.status for run in (first.wait(), third.wait())] == [0, 0]
    world.assert_equal()


def test_hooks_are_run_in_order_and_one_that_fails_keeps_what_comes_after_it_from_being_done(job: JobWorld) -> None:
    world, log = job.world, f"{DIRECTORY}/{job.name}.hooks"
    note = f"echo $ZFSYNC_HOOK $ZFSYNC_EXIT_CODE >> {log}"
    names = ("before_snapshot", "after_snapshot", "before_push", "after_push", "on_failure")
    job.old(0)

    def configure(**more: str) -> None:
        hooks = "".join(f'{name} = ["sh", "-c", "{note}; {more.get(name, "true")}"]\n' for name in names)
        job.configure(f'keep = "minutely=9"\n[job.{job.name}.hooks]\n{hooks}')

    configure()
    assert job.run().status == 0
    assert world.sender.sh(f"cat {log}; rm {log}").stdout.splitlines() == [
        "before_snapshot", "after_snapshot 0", "before_push", "after_push 0",
    ]  # fmt: skip
    world.sender.sh(f"zfs list -Ht snapshot -o name {world.source} | grep -v _M@2020 | tail -n 1 | xargs zfs destroy")
    configure(before_snapshot="echo no quiesce >&2; exit 3")
    run = job.run()
    assert run.status == 8, run
    assert "The hook before_snapshot" in run.err
    assert "no quiesce" in run.err
    lines = world.sender.sh(f"cat {log}").stdout.splitlines()
    assert lines == ["before_snapshot", "after_snapshot 8", "before_push", "after_push 0", "on_failure 8"]


def test_a_source_behind_an_agent_is_snapshotted_pulled_and_pruned(job: JobWorld) -> None:
    """The receiver has the source here: the job runs on the sender, and pulls."""
    world = job.world
    source, target = f"{world.above}/web", f"{world.source}/pulled"
    for child in ("", "/a", "/tmp"):
        world.receiver.run(["zfs", "create", source + child])
    for minute in range(3):
        world.receiver.run(["zfs", "snapshot", "-r", f"{source}@20200101-000{minute}_M"])
    run = world.run(
        ["zfsync", "cron", "run", "--port", str(world.receiver.ssh_port), "--exclude", "tmp",
         f"{world.receiver.ssh_host}:{source}", target, "--keep", "minutely=2"]
    )  # fmt: skip
    assert (run.status, run.out, run.err) == (0, "", ""), run
    assert len(world.snapshots_of(world.receiver, source)) == 2
    assert len(world.snapshots_of(world.receiver, f"{source}/tmp")) == 3
    assert world.snapshots_of(world.sender, f"{target}/a")[2:] == world.snapshots_of(world.receiver, f"{source}/a")
    world.sender.run(["zfs", "destroy", "-r", target])


def test_a_snapshot_of_a_part_of_the_tree_is_none(job: JobWorld) -> None:
    """The name is too long for one dataset: then no other has the snapshot, and the rest of the job is done."""
    world = job.world
    world.create("/" + "l" * 230)
    world.snapshot("s")
    job.configure('keep = "minutely=9"\n')
    run = job.run()
    assert (run.status, len(run.err.splitlines())) == (7, 1), run
    assert " cannot be taken: " in run.err
    assert "too long" in run.err
    assert job.at_source() == job.at_target() == ["s"]
    world.assert_equal()


# ---- looking on ------------------------------------------------------------------------------------------------------


def test_status_tells_what_both_sides_have(job: JobWorld) -> None:
    world = job.world
    world.create("/a")
    job.old(0)
    job.configure('keep = "minutely=9"\n')
    nothing = world.run([*job.look, "--offline", "--warn", "1h"])
    assert (nothing.status, nothing.out) == (3, "ZFSYNC UNKNOWN: no run is known yet\n"), nothing
    assert job.run().status == 0
    fine = world.run([*job.look, "--warn", "1h", "--crit", "2h"])
    assert fine.status == 0, fine
    assert fine.out.startswith("ZFSYNC OK: 2 datasets up to date"), fine
    job.old(1)
    world.sender.run(["zfs", "hold", "keep", f"{world.source}/a@20200101-0001_M"])
    (target,) = job.status()["targets"]
    assert (target["last_exit_code"], target["failures"]) == (0, 0)
    for child, held in (("", 0), ("/a", 1)):
        row = next(row for row in target["datasets"] if row["dataset"] == world.source + child)
        assert (row["source_newest"], row["behind"], row["held"]) == ("20200101-0001_M", 1, held)
        assert row["target_newest"] == world.snapshots_of(world.receiver, world.target + child)[-1]
    lines = world.run(job.look).out.splitlines()
    assert lines[0].startswith(f"{job.name} to {job.targets[0]}: last run "), lines
    assert "newest 20200101-0001_M, there 2" in lines[1]
    assert "1 behind" in lines[1]
    world.sender.run(["zfs", "release", "keep", f"{world.source}/a@20200101-0001_M"])

    job.configure('keep = "minutely=9"\n', port=1)
    assert job.run().status == 5
    down = world.run([*job.look, "--warn", "1h"])
    assert down.status == 0, down  # it fails, but what is there is not old yet
    assert world.run(job.look).status == 2
    assert world.run([*job.look, "--prometheus", f"{DIRECTORY}/m.prom"]).out == ""
    metrics = world.sender.sh(f"cat {DIRECTORY}/m.prom").stdout
    assert f'zfsync_last_run_exit_code{{target="{job.targets[0]}",zfsync_job="{job.name}"}} 5.0' in metrics


def test_status_tells_of_a_receive_that_can_be_resumed_and_the_next_run_resumes_it(job: JobWorld) -> None:
    world = job.world
    world.create("/a")
    world.write("/a", 20000)
    job.configure('keep = "minutely=9"\nrate-limit = "1M"\n')
    run = world.start_words(*job.argv)
    there = f"zfs list -Hro receive_resume_token {world.above} | grep -q 1-"
    world.wait_until(world.receiver, there)
    run.signal("KILL")
    run.wait()
    world.wait_until(world.receiver, f"! pgrep -f '[z]fs receive|[p]ython3 -I' && {there}")
    (target,) = job.status()["targets"]
    assert [row["dataset"] for row in target["datasets"] if row["partial"]] == [f"{world.source}/a"]
    job.configure('keep = "minutely=9"\n')
    assert job.run().status == 0
    (target,) = job.status()["targets"]
    assert [(row["partial"], row["behind"]) for row in target["datasets"]] == [(False, 0), (False, 0)]
    world.assert_equal()


# ---- a real cron -----------------------------------------------------------------------------------------------------


@pytest.mark.timeout(600)
def test_a_job_that_cron_runs_every_minute(job: JobWorld) -> None:
    """Three runs, told by the log; after each, what `status` says is what is there."""
    world, log = job.world, f"{DIRECTORY}/{job.name}.log"
    world.create("/a")
    job.old(0, 1)
    job.configure(f'schedule = "minutely"\nkeep = "minutely=2"\nkeep-target = "minutely=3"\nlog-file = "{log}"\n')
    with job.cron():
        for runs in range(1, 4):
            world.write("/a", 16, f"file{runs}")
            job.wait_for_runs(log, runs)
            (target,) = job.status()["targets"]
            assert target["failures"] == 0, target
            for row in target["datasets"]:
                newest = world.snapshots_of(world.sender, row["dataset"])[-1]
                assert (row["source_newest"], row["target_newest"], row["behind"]) == (newest, newest, 0)
    for child in ("", "/a"):
        assert len(world.snapshots_of(world.sender, world.source + child)) == 2
        assert len(world.snapshots_of(world.receiver, world.target + child)) == 3
    world.assert_tidy()


@pytest.mark.long
@pytest.mark.timeout(1500)
def test_ten_minutes_with_a_reboot_of_the_receiver_in_the_middle(job: JobWorld, lab: Lab) -> None:
    """Run by ``pytest -m long tests/lab/test_unattended.py``. After four snapshots the receiver loses its power.

    The job has a key of its own, which the receiver ties to the tree and to a floor of three snapshots.
    """
    world, log = job.world, f"{DIRECTORY}/{job.name}.log"
    world.create("/a")
    job.old(0, 1)
    job.configure(f'schedule = "minutely"\nkeep = "minutely=3"\nkeep-target = "minutely=5"\nlog-file = "{log}"\n')

    def write_until_taken(count: int) -> None:
        world.write("/a", 64, f"file{count}")
        world.sender.sh(
            f"for _ in $(seq 260); do if [ $(grep -c ': took ' {log}) -ge {count} ]; then exit 0; fi; sleep 0.5; done; "
            f"cat {log}; exit 1",
            timeout=200,
        )

    lab.install(world.receiver)
    said = job.give_key("--keep-at-least", "3")
    assert f"Logged in with the key: it reaches {world.above} alone." in said, said
    with job.cron():
        for count in range(1, 5):
            write_until_taken(count)
        world.receiver.kill()
        job.wait_for_failures(1)
        write_until_taken(6)
        (target,) = job.status()["targets"]
        assert target["last_exit_code"] == 5, target
        lab.up("receiver")
        world.receiver.run(["zpool", "import", world.above.partition("/")[0]])
        world.receiver.put(HERE / "digest.py", "/root/digest.py")
        lab.install(world.receiver)  # nothing but its disks lasts in the lab: neither the program nor the key's line
        assert "There is the key" in job.give_key("--keep-at-least", "3")
        for count in range(7, 11):
            write_until_taken(count)
        job.wait_for_failures(0)
        world.sender.sh("for _ in $(seq 240); do pgrep -f '[c]ron run' || exit 0; sleep 0.5; done; exit 1", timeout=200)
        (target,) = job.status()["targets"]
        assert [row["behind"] for row in target["datasets"]] == [0, 0], target
    for child in ("", "/a"):
        here = world.snapshots_of(world.sender, world.source + child)
        there = world.snapshots_of(world.receiver, world.target + child)
        assert (len(here), len(there)) == (3, 5)
        assert there[-3:] == here
    contents = [set(world.digest(machine, root)) for machine, root in
                ((world.sender, world.source), (world.receiver, world.target))]  # fmt: skip
    assert len(contents[0]) == 6
    assert contents[0] <= contents[1]
    # The key reaches nothing else.
    stays = world.push("-i", f"/etc/zfsync/keys/{job.name}", target=f"{world.above}-other")
    assert "is not in" in stays.out + stays.err, stays
    world.assert_tidy()
    print(world.sender.sh(f"cat {log}").stdout)
