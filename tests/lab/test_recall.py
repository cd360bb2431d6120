"""What ZFS says of changes is to be relied upon: whatever is done between two runs, the second sees it."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.lab.conftest import World
from zfsync_ssh.remembered import SETTLED_SECONDS


def settle() -> None:
    """Let the second pass in which something was changed."""
    time.sleep(SETTLED_SECONDS + 1)


@pytest.fixture
def settled(world: World) -> World:
    """Three datasets, of which the last run remembers all snapshots at both ends."""
    for child in ("/a", "/b"):
        world.create(child)
        world.write(child)
    world.snapshot("1")
    world.snapshot("2")
    assert world.push().status == 0
    settle()
    assert world.push().status == 0
    return world


def listings(world: World) -> tuple[list[str], list[str]]:
    """Push, and the kinds that the run lists at the sender and at the receiver: by a `zfs` before the real one."""
    real = 'exec /usr/sbin/zfs "$@"'
    for machine in (world.sender, world.receiver):
        machine.sh(
            f"printf '%s\\n' '#!/bin/sh' 'echo \"$*\" >> /tmp/said' '{real}' > /usr/local/sbin/zfs; "
            "chmod +x /usr/local/sbin/zfs; rm -f /tmp/said"
        )
    try:
        run = world.push()
        assert run.status == 0, run
    finally:
        for machine in (world.sender, world.receiver):
            machine.sh("rm /usr/local/sbin/zfs")
    here, there = (machine.sh("cat /tmp/said").stdout.splitlines() for machine in (world.sender, world.receiver))
    return kinds(here), kinds(there)


def kinds(commands: list[str]) -> list[str]:
    words = [command.split() for command in commands]
    return [word[word.index("-t") + 1] for word in words if word[0] == "list"]


def test_when_nothing_has_changed_no_snapshots_are_listed(settled: World) -> None:
    assert listings(settled) == (["filesystem,volume,bookmark"], ["filesystem,volume,bookmark"])
    settled.assert_equal()


CHANGES: dict[str, Callable[[World], object]] = {
    "snapshot": lambda world: world.snapshot("3", "/a", recursive=False),
    "rename-snapshot": lambda world: world.sender.run(["zfs", "rename", f"{world.source}/a@2", "new"]),
    "destroy-and-snapshot": lambda world: world.sender.sh(
        f"zfs destroy {world.source}/a@1; zfs snapshot {world.source}/a@3"
    ),
    "rollback": lambda world: world.sender.sh(f"zfs rollback -r {world.source}/a@1; zfs snapshot {world.source}/a@3"),
    "rename-dataset": lambda world: world.sender.run(["zfs", "rename", f"{world.source}/a", f"{world.source}/c"]),
    "promote": lambda world: world.sender.sh(
        f"zfs clone {world.source}/a@2 {world.source}/c; zfs promote {world.source}/c"
    ),
    "another-of-the-name": lambda world: world.sender.sh(
        f"zfs destroy -r {world.source}/b; zfs create {world.source}/b; zfs snapshot {world.source}/b@1"
    ),
    "at-the-target": lambda world: world.receiver.run(["zfs", "destroy", f"{world.target}/a@2"]),
    "bookmark-for-snapshot": lambda world: world.sender.sh(
        f"zfs bookmark {world.source}/a@2 {world.source}/a#2; zfs destroy {world.source}/a@%; "
        f"zfs snapshot {world.source}/a@3"
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_run_that_remembers_plans_what_one_that_lists_all_would(settled: World, change: str) -> None:
    CHANGES[change](settled)
    plans = [settled.push("--dry-run", "--verbose", *options) for options in ((), ("--list-all",))]
    remembering, listing = ([line for line in plan.out.splitlines() if " s" not in line[-4:]] for plan in plans)
    assert remembering == listing
    assert plans[0].status == plans[1].status


def test_a_promotion_is_seen_by_the_origin_alone(settled: World) -> None:
    """The one change that leaves no trace in snapshots_changed of the dataset that has the snapshots then."""
    settled.sender.run(["zfs", "clone", f"{settled.source}/a@2", f"{settled.source}/c"])
    settled.snapshot("3", "/c", recursive=False)
    assert settled.push().status == 0
    settle()
    assert settled.push().status == 0
    settled.sender.run(["zfs", "promote", f"{settled.source}/c"])
    settled.snapshot("4", "/c", recursive=False)
    plans = [settled.push("--dry-run", *options) for options in ((), ("--list-all",))]
    assert plans[0].status == plans[1].status == 0
    assert settled.push().status == 0
    settled.assert_equal()
