"""A copy that has something of its own: what each choice does with it, and what is lost, which is nothing unasked."""

from __future__ import annotations

import pytest

from tests.lab.conftest import World


def diverge(world: World, child: str = "/a") -> None:
    """A tree at both ends, whose copy of ``child`` then gets a snapshot of its own, and its source goes on."""
    for one in ("/a", "/a/below", "/b"):
        world.create(one)
        world.write(one, 200)
    world.snapshot("1")
    world.write("/a", 100, "two")
    world.snapshot("2")
    assert world.push().status == 0
    world.receiver.sh(
        f"zfs set readonly=off {world.target}; zfs mount {world.target}{child}; "
        f"echo mine > /{world.target}{child}/mine; zfs snapshot {world.target}{child}@mine; "
        f"echo more > /{world.target}{child}/more; sync; zfs unmount {world.target}{child}; "
        f"zfs set readonly=on {world.target}"
    )
    world.write("/a", 50, "three")
    world.write("/a/below", 50, "three")
    world.snapshot("3")


def asides(world: World) -> list[str]:
    """What was set aside."""
    listed = world.receiver.run(["zfs", "list", "-Hro", "name", world.above]).stdout.splitlines()
    return [name for name in listed if ".zfsync-aside-" in name.rpartition("/")[2]]


def test_it_fails_by_default_and_says_what_differs_and_what_would_help(world: World) -> None:
    diverge(world)
    before = world.digest(world.receiver, f"{world.target}/a")
    run = world.push("--json")
    assert run.status == 3, run
    outcomes = run.outcomes
    message = outcomes[f"{world.source}/a"]["message"]
    assert "has @mine after @2, the newest in common" in message
    assert "bytes written since" in message
    assert "--on-divergence set-aside keeps them" in message
    assert outcomes[f"{world.source}/a/below"]["status"] == "sent"
    after = world.digest(world.receiver, f"{world.target}/a")
    assert set(before) <= set(after)
    world.assert_tidy()


@pytest.mark.parametrize("child", ["/a", ""])
def test_set_aside_loses_nothing_and_goes_on_from_the_snapshot_in_common(world: World, child: str) -> None:
    diverge(world, child)
    run = world.push("--on-divergence", "set-aside", "--json")
    assert run.status == 0, run
    assert run.outcomes[world.source + child]["what"] == "clone of @2 -> @3"
    (aside,) = asides(world)
    kept = world.digest(world.receiver, aside)
    assert any(line.startswith("@mine\t") for line in kept)
    # The new copy owns what both had, so what was set aside can go by itself.
    assert world.receiver.run(["zfs", "get", "-Ho", "value", "origin", world.target + child]).stdout.strip() == "-"
    world.receiver.sh(
        f"zfs mount {aside} && grep -q mine /{aside}/mine && grep -q more /{aside}/more && zfs unmount {aside}"
    )
    world.receiver.run(["zfs", "destroy", "-r", aside])
    world.assert_equal()


def test_set_aside_without_a_snapshot_in_common_sends_in_full(world: World) -> None:
    world.create("/a")
    world.write("/a", 100)
    world.snapshot("1")
    world.receiver.sh(f"zfs create -p {world.target}/a && zfs snapshot {world.target}/a@other")
    world.receiver.sh(f"zfs set zfsync:placeholder={world.target} readonly=on canmount=off {world.target}")
    run = world.push("--on-divergence", "set-aside", "--json")
    assert run.status == 0, run
    (aside,) = asides(world)
    assert aside.startswith(f"{world.target}/a.zfsync-aside-")
    world.receiver.run(["zfs", "destroy", "-r", aside])
    world.assert_equal()


def test_rollback_loses_what_is_newer_and_says_so(world: World) -> None:
    diverge(world)
    dry = world.push("--on-divergence", "rollback", "--dry-run")
    assert dry.status == 0, dry
    assert (
        f"would be done: {world.receiver.ssh_host}:{world.target}/a is rolled back to @2; lost: @mine and " in dry.out
    )
    run = world.push("--on-divergence", "rollback")
    assert run.status == 0, run
    assert f"{world.target}/a is rolled back to @2; lost: @mine and " in run.out
    world.assert_equal()


def test_what_was_only_written_is_rolled_back_as_well(world: World) -> None:
    world.write("", 100)
    world.snapshot("1")
    assert world.push().status == 0
    world.receiver.sh(
        f"zfs set readonly=off {world.target}; zfs mount {world.target}; echo mine > /{world.target}/mine; sync; "
        f"zfs unmount {world.target}; zfs set readonly=on {world.target}"
    )
    world.snapshot("2")
    failed = world.push()
    assert failed.status == 3, failed
    assert world.push("--on-divergence", "rollback").status == 0
    world.assert_equal()


@pytest.mark.parametrize("child", ["/b", "/a"])
def test_replace_sends_in_full_and_leaves_children_alone(world: World, child: str) -> None:
    diverge(world, child)
    run = world.push("--on-divergence", "replace", "--json")
    assert run.status == 0, run
    assert run.outcomes[world.source + child]["what"] == "full @1 -> @3"
    assert run.outcomes[f"{world.source}/a/below"]["what"] == "@2 -> @3"
    world.assert_equal()


def test_a_dataset_of_another_kind_is_replaced_or_set_aside(world: World) -> None:
    world.create("/v", "-s", "-V", "8M")
    world.snapshot("1")
    world.receiver.sh(f"zfs create -p {world.target}/v && zfs snapshot {world.target}/v@x")
    world.receiver.sh(f"zfs set zfsync:placeholder={world.target} readonly=on canmount=off {world.target}")
    assert world.push().status == 3
    assert world.push("--on-divergence", "set-aside").status == 0
    (aside,) = asides(world)
    world.receiver.run(["zfs", "destroy", "-r", aside])
    world.assert_equal()


def test_on_a_terminal_it_asks_and_no_means_no(world: World) -> None:
    diverge(world)
    before = world.snapshots()
    command = " ".join(f"'{word}'" for word in world.argv("--on-divergence", "rollback"))
    run = world.run(["bash", "-c", f'echo n | script -qec "{command}" /dev/null'])
    assert "This will be lost:" in run.out, run
    assert "@mine" in run.out
    assert "was not confirmed" in run.out
    assert world.snapshots() == before
    world.assert_tidy()
    run = world.run(["bash", "-c", f'echo y | script -qec "{command}" /dev/null'])
    assert run.status == 0, run
    world.assert_equal()
