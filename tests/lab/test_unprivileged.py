"""Runs between two accounts that are not root, at real ZFS: nothing but `zfs allow`, no sudo at either end.

What is allowed is what `zfsync_ssh.delegation` says; these tests show that it is enough, and what fails without each.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator

import pytest

from tests.lab.conftest import Run, Running, World
from tests.lab.driver import Lab, Machine
from zfsync_ssh.delegation import Use, grant, permissions, source_uses, target_uses
from zfsync_ssh.lzc import VARIABLE
from zfsync_ssh.policy import DEFAULT, Divergence, Policy, Properties

USER = "plain"
AS_USER = (
    *("setpriv", "--reuid", USER, "--regid", USER, "--init-groups"),
    *("env", f"HOME=/home/{USER}", f"USER={USER}", f"LOGNAME={USER}", "PATH=/usr/local/bin:/usr/bin:/bin"),
)
"""As a login or cron would, but the process that is started is the command's own, and can be killed."""


class Delegated(World):
    """A world in which zfsync is run by, and logs in as, an account that may do no more than was allowed."""

    environment = ""
    """One variable more, for what is run at the sender."""

    def __init__(self, sender: Machine, receiver: Machine) -> None:
        super().__init__(sender, receiver)
        self.allow(Policy())

    def allow(self, policy: Policy, *, at_source: Iterable[str] = (), at_target: Iterable[str] = ()) -> None:
        """Allow what a job with this policy needs, and not what is to be taken away at an end."""
        source = permissions(source_uses(policy, snapshots=True, prunes=True), policy)
        target = permissions(target_uses(policy, prunes=True), policy)
        for machine, dataset, names, taken in (
            (self.sender, self.source, source, at_source),
            (self.receiver, self.above, target, at_target),
        ):
            assert set(taken) <= set(names), "nothing that was never given can be taken"
            machine.run(["zfs", "unallow", "-u", USER, dataset], check=False)
            left = [name for name in names if name not in set(taken)]
            machine.run(shlex.split(grant(USER, dataset, left)))

    def run(self, argv: list[str]) -> Run:
        return super().run([*AS_USER, *self.environment.split(), *argv])

    def start_words(self, *words: str) -> Running:
        return super().start_words(*AS_USER, *words)

    def job(self, *options: str) -> Run:
        """A job without a configuration: it takes a snapshot, sends, and prunes both sides."""
        where = f"{self.receiver.ssh_host}:{self.target}"
        words = ["zfsync", "cron", "run", "--port", str(self.receiver.ssh_port), *options, self.source, where]
        return self.run([*words, "--keep", "minutely=3", "--keep-target", "minutely=4"])

    def old(self, *minutes: int) -> None:
        for minute in minutes:
            self.write("", 4, f"at{minute}")
            self.snapshot(f"20200101-{minute:04}_M")

    def at_source(self, child: str = "") -> list[str]:
        return self.snapshots_of(self.sender, self.source + child)

    def at_target(self, child: str = "") -> list[str]:
        return self.snapshots_of(self.receiver, self.target + child)

    def assert_nothing_mounted(self) -> None:
        """Nothing of the copies is mounted, nor would be when the receiver starts."""
        listing = ["zfs", "list", "-Hrt", "filesystem", "-o", "name,mounted,canmount,readonly", self.target]
        rows = [line.split("\t") for line in self.receiver.run(listing).stdout.splitlines()]
        assert rows
        assert [row for row in rows if row[1:3] not in (["no", "noauto"], ["no", "off"]) or row[3] != "on"] == []


@pytest.fixture
def delegated(lab: Lab) -> Iterator[Delegated]:
    made = Delegated(lab.machine("sender"), lab.machine("receiver"))
    yield made
    made.close()


def grow(world: World) -> None:
    """A tree in which the children are sent before their parents."""
    world.create("/a")
    world.create("/a/b")
    world.create("/vol", "-s", "-V", "8M")
    for child, size in (("", 30), ("/a", 100), ("/a/b", 3000)):
        world.write(child, size)


@pytest.mark.parametrize("driver", ["", f"{VARIABLE}=off"])
def test_a_job_takes_sends_and_prunes_without_root_at_either_end(delegated: Delegated, driver: str) -> None:
    delegated.environment = driver
    grow(delegated)
    delegated.old(0, 1, 2, 3)
    run = delegated.job("--buffer-behind", "0")
    assert (run.status, run.out, run.err) == (0, "", ""), run
    history = delegated.receiver.run(["zpool", "history", "-il", "pool"]).stdout
    assert f"rename {delegated.buffer}/2F612F62" in history.replace("  ", " "), "the buffer was not used"
    for child in ("", "/a", "/a/b", "/vol"):
        assert delegated.at_source(child)[:2] == ["20200101-0002_M", "20200101-0003_M"]
        assert delegated.at_target(child)[:3] == ["20200101-0001_M", "20200101-0002_M", "20200101-0003_M"]
        assert delegated.at_target(child)[1:] == delegated.at_source(child)
    delegated.assert_nothing_mounted()
    delegated.assert_tidy()
    delegated.old(4)  # by its place, not its name, the newest
    delegated.write("/a/b", 200, "more")
    delegated.snapshot("more")
    run = delegated.push("--json", "--delete-snapshots")
    assert run.status == 0, run
    assert '"event": "notice"' not in run.out, run
    delegated.assert_equal()
    marks = ["zfs", "list", "-Hrt", "bookmark", "-o", "name", delegated.source]
    assert len(delegated.sender.run(marks).stdout.splitlines()) == 4  # one each, the older ones are gone


def test_what_was_cut_off_is_resumed_without_root(delegated: Delegated) -> None:
    delegated.create("/a")
    delegated.write("/a", 60_000)
    delegated.snapshot("1")
    running = delegated.start("--rate-limit", "3M")
    running.wait_for_bytes(9_000_000)
    running.signal("KILL")
    running.wait()
    delegated.wait_until(delegated.receiver, f"zfs list -Hro receive_resume_token {delegated.above} | grep -q 1-")
    run = delegated.push("--json")
    assert run.status == 0, run
    assert run.outcomes[delegated.source + "/a"]["what"].startswith("resume")
    delegated.assert_equal()


def test_a_partial_receive_that_no_longer_fits_is_dropped_without_root(delegated: Delegated) -> None:
    delegated.create("/a")
    delegated.write("/a", 60_000)
    delegated.snapshot("1")
    running = delegated.start("--rate-limit", "3M")
    running.wait_for_bytes(9_000_000)
    running.signal("KILL")
    running.wait()
    delegated.wait_until(delegated.receiver, f"zfs list -Hro receive_resume_token {delegated.above} | grep -q 1-")
    delegated.sender.run(["sh", "-c", f"zfs holds -H {delegated.source}/a@1 | cut -f2 > /tmp/tag"])
    delegated.sender.sh(
        f"for d in '' /a; do zfs release $(cat /tmp/tag) {delegated.source}$d@1 || true; done\n"
        f"zfs destroy {delegated.source}/a@1; zfs snapshot -r {delegated.source}@2"
    )
    run = delegated.push("--json")
    assert run.status == 0, run
    assert delegated.at_target("/a") == ["2"]


def test_renames_clones_and_promotions_are_followed_without_root(delegated: Delegated) -> None:
    grow(delegated)
    delegated.snapshot("1")
    assert delegated.push("--json").status == 0
    sender, source = delegated.sender, delegated.source
    sender.run(["zfs", "rename", f"{source}/a", f"{source}/z"])
    sender.run(["zfs", "rename", f"{source}/z/b", f"{source}/b"])
    sender.run(["zfs", "rename", f"{source}/vol", f"{source}/z/vol"])
    sender.run(["zfs", "clone", f"{source}/z@1", f"{source}/clone"])
    delegated.snapshot("2")
    run = delegated.push("--json")
    assert run.status == 0, run
    delegated.assert_equal()
    sender.run(["zfs", "promote", f"{source}/clone"])
    delegated.snapshot("3")
    run = delegated.push("--json")
    assert run.status == 0, run
    assert "promote" in run.out
    delegated.assert_equal()


@pytest.mark.parametrize("how", [Divergence.SET_ASIDE, Divergence.ROLLBACK, Divergence.REPLACE])
def test_divergence_is_settled_without_root(delegated: Delegated, how: Divergence) -> None:
    delegated.allow(Policy(on_divergence=how))
    grow(delegated)
    delegated.snapshot("1")
    assert delegated.push("--json").status == 0
    delegated.receiver.run(["zfs", "snapshot", f"{delegated.target}/a@theirs"])
    delegated.snapshot("2")
    run = delegated.push("--json", "--yes", "--on-divergence", how.value)
    assert run.status == 0, run
    assert delegated.at_target("/a/b") == ["1", "2"]
    assert delegated.at_target("/a")[-1] == "2"
    if how is Divergence.SET_ASIDE:
        names = delegated.receiver.run(["zfs", "list", "-Hro", "name", delegated.above]).stdout
        (aside,) = [name for name in names.split() if name.rpartition("/")[2].startswith("a.zfsync-aside-")]
        assert delegated.snapshots_of(delegated.receiver, aside)[-1] == "theirs"
    else:
        delegated.assert_equal()


def test_what_the_source_no_longer_has_is_destroyed_without_root(delegated: Delegated) -> None:
    delegated.allow(Policy(delete_snapshots=True, delete_datasets=True))
    grow(delegated)
    delegated.snapshot("1")
    delegated.snapshot("2")
    assert delegated.push("--json").status == 0
    delegated.sender.run(["zfs", "destroy", "-r", f"{delegated.source}/a"])
    delegated.sender.run(["zfs", "destroy", "-r", f"{delegated.source}/vol"])
    delegated.sender.run(["zfs", "destroy", f"{delegated.source}@1"])
    delegated.snapshot("3")
    run = delegated.push("--json", "--yes", "--delete-snapshots", "--delete-datasets")
    assert run.status == 0, run
    delegated.assert_equal()


def test_properties_are_set_and_a_volume_and_an_encrypted_tree_arrive_without_root(delegated: Delegated) -> None:
    delegated.allow(Policy(properties=Properties(set=(("compression", "off"),), preserve=("atime",))))
    delegated.sender.sh(f"echo 12345678 | zfs create -o encryption=on -o keyformat=passphrase {delegated.source}/e")
    delegated.create("/e/f")
    delegated.write("/e/f", 200)
    delegated.sender.run(["zfs", "set", "atime=off", f"{delegated.source}/e"])
    delegated.snapshot("1")
    run = delegated.push("--json", "--set", "compression=off", "--preserve", "atime")
    assert run.status == 0, run
    assert delegated.get("compression", "/e/f") == "off"
    assert delegated.get("atime", "/e") == "off"
    assert delegated.get("keystatus", "/e/f") == "unavailable"
    delegated.snapshot("2")
    assert delegated.push("--json").status == 0
    assert delegated.at_target("/e/f") == ["1", "2"]


# ---- one permission is missing ---------------------------------------------------------------------------------------

TARGET = ("create", "mount", "receive", "canmount", "readonly", "userprop")


@pytest.mark.parametrize("taken", TARGET)
def test_without_a_permission_to_receive_nothing_is_called_up_to_date(delegated: Delegated, taken: str) -> None:
    """Of these the last three are those without which `zfs receive` itself succeeds, and leaves properties unset."""
    grow(delegated)
    delegated.snapshot("1")
    delegated.allow(DEFAULT, at_target=[taken])
    run = delegated.push("--json")
    assert run.status in (3, 7), run
    assert "permission denied" in run.out + run.err
    allowed = grant("USER", delegated.above, permissions((Use.RECEIVE, Use.MOVE)))
    assert allowed in run.out + run.err, run


@pytest.mark.parametrize("taken", ["canmount", "readonly", "userprop"])
def test_a_copy_without_its_properties_is_told_of(delegated: Delegated, taken: str) -> None:
    """One dataset, so that there is no buffer to fail first."""
    delegated.snapshot("1")
    delegated.allow(DEFAULT, at_target=[taken])
    run = delegated.push("--json")
    assert run.status == 3, run
    message = run.outcomes[delegated.source]["message"]
    wanted = {"canmount": "canmount=noauto", "readonly": "readonly=on", "userprop": "zfsync:stream=Lec"}[taken]
    assert f"has arrived, but {wanted} could not be set (permission denied)" in message


def test_without_rename_what_has_arrived_waits_in_the_buffer(delegated: Delegated) -> None:
    grow(delegated)
    delegated.snapshot("1")
    delegated.allow(DEFAULT, at_target=["rename"])
    run = delegated.push("--json", "--buffer-behind", "0")
    assert run.status == 3, run
    assert "but waits in" in run.out
    delegated.allow(DEFAULT)
    assert delegated.push("--json").status == 0
    delegated.assert_equal()


@pytest.mark.parametrize(
    ("taken", "says"),
    [
        ("hold", "lets nothing be held"),
        ("release", "stays held"),
        ("bookmark", "bookmarks cannot be kept"),
        ("userprop", "lets nothing be held"),
    ],
)
def test_a_source_that_may_not_hold_or_bookmark_sends_all_the_same_and_says_so(
    delegated: Delegated, taken: str, says: str
) -> None:
    delegated.create("/a")
    delegated.snapshot("1")
    delegated.allow(DEFAULT, at_source=[taken])
    delegated.environment = f"{VARIABLE}=off"  # holds that go with the process need neither release nor userprop
    run = delegated.push("--json")
    assert run.status == 0, run
    assert says in run.out
    assert delegated.at_target("/a") == ["1"]
    delegated.sender.sh(
        f"zfs list -Hrt snapshot -o name {delegated.source} | xargs zfs holds -H"
        " | while read -r n t r; do zfs release $t $n; done"
    )


def test_without_send_or_snapshot_a_job_fails_and_names_what_to_allow(delegated: Delegated) -> None:
    delegated.old(0)
    delegated.allow(DEFAULT, at_source=["snapshot"])
    run = delegated.job()
    assert run.status == 7, run
    assert f"'zfs allow -u USER snapshot {delegated.source}' grants it" in run.err
    assert delegated.at_target() == ["20200101-0000_M"]  # what there was is sent
    delegated.snapshot("more")
    delegated.allow(DEFAULT, at_source=["send"])
    run = delegated.push("--json")
    assert run.status == 3, run
    assert "permission denied" in run.out
