"""Changes of the tree itself: renames, clones, promotions, datasets and snapshots that go."""

from __future__ import annotations

import pytest

from tests.lab.conftest import World


def guids(world: World, machine: str, root: str) -> dict[str, str]:
    """The GUID of each dataset, which stays the same when it is renamed, and not when it is sent anew."""
    rows = getattr(world, machine).run(["zfs", "list", "-Hro", "name,guid", root]).stdout.splitlines()
    return {name[len(root) :]: guid for name, guid in (row.split("\t") for row in rows)}


def sent(run: object) -> dict[str, str]:
    """What was sent, by child's last part."""
    outcomes = run.outcomes  # type: ignore[attr-defined]
    return {name.rpartition("/")[2]: one["what"] for name, one in outcomes.items() if one["status"] == "sent"}


def grow(world: World) -> None:
    for child in ("/a", "/a/x", "/a/x/y", "/b", "/c"):
        world.create(child)
        world.write(child, 100)
    world.snapshot("1")
    assert world.push().status == 0


def grow_clone(world: World) -> None:
    world.create("/base")
    world.write("/base", 100)
    world.snapshot("1")
    world.sender.run(["zfs", "clone", f"{world.source}/base@1", f"{world.source}/clone"])
    world.snapshot("2")
    assert world.push().status == 0


def test_a_renamed_dataset_is_renamed_with_all_below_it_and_not_sent_again(world: World) -> None:
    grow(world)
    before = guids(world, "receiver", world.target)
    world.sender.run(["zfs", "rename", f"{world.source}/a", f"{world.source}/new name"])
    world.write("/new name/x", 20, "more")
    world.snapshot("2")
    dry = world.push("--dry-run")
    assert (
        f"would be done: {world.receiver.ssh_host}:{world.target}/a is renamed to {world.target}/new name" in dry.out
    ), dry
    run = world.push("--json")
    assert run.status == 0, run
    assert sent(run)["y"] == "@1 -> @2"
    after = guids(world, "receiver", world.target)
    assert after["/new name/x/y"] == before["/a/x/y"]
    assert after["/new name"] == before["/a"]
    world.assert_equal()


def test_a_move_below_a_new_parent_a_swap_and_a_move_out_of_a_subtree(world: World) -> None:
    grow(world)
    before = guids(world, "receiver", world.target)
    world.create("/parent")
    world.sender.run(["zfs", "rename", f"{world.source}/a/x", f"{world.source}/parent/x"])  # waits in the buffer
    for old, new in (("/b", "/t"), ("/c", "/b"), ("/t", "/c")):
        world.sender.run(["zfs", "rename", world.source + old, world.source + new])
    world.snapshot("2")
    run = world.push("--json")
    assert run.status == 0, run
    assert sent(run) == {
        world.source.rpartition("/")[2]: "@1 -> @2", "a": "@1 -> @2", "b": "@1 -> @2", "c": "@1 -> @2",
        "parent": "full -> @2", "x": "@1 -> @2", "y": "@1 -> @2",
    }  # fmt: skip
    after = guids(world, "receiver", world.target)
    assert after["/parent/x/y"] == before["/a/x/y"]
    assert (after["/b"], after["/c"]) == (before["/c"], before["/b"])
    world.assert_equal()


@pytest.mark.parametrize("choice", ["set-aside", "replace"])
def test_a_name_taken_over_from_a_dataset_that_is_gone_is_freed_and_the_copy_renamed(world: World, choice: str) -> None:
    grow(world)
    before = guids(world, "receiver", world.target)
    world.sender.run(["zfs", "destroy", "-r", f"{world.source}/b"])
    world.sender.run(["zfs", "rename", f"{world.source}/a", f"{world.source}/b"])
    world.snapshot("2")
    # Where it is not only tried, it puts what was below the renamed one below the copy of the one that is gone, which
    # therefore could not be replaced.
    refused = world.push("--json", *(["--dry-run"] if choice == "replace" else []))
    assert refused.status == 3, refused
    message = refused.outcomes[f"{world.source}/b"]["message"]
    assert "has no snapshot in common with" in message
    assert f"whose copy is {world.receiver.ssh_host}:{world.target}/a: rename the first there" in message
    world.snapshot("3")
    run = world.push("--on-divergence", choice, "--yes", "--json")
    assert run.status == 0, run
    assert sent(run)["b"] == "@1 -> @3"
    after = guids(world, "receiver", world.target)
    assert after["/b"] == before["/a"]
    if choice == "set-aside":
        (aside,) = (child for child in after if ".zfsync-aside-" in child)
        assert after[aside] == before["/b"]
        world.receiver.run(["zfs", "destroy", "-r", world.target + aside])
    assert before["/b"] not in guids(world, "receiver", world.target).values()
    world.assert_equal()


def test_renames_are_not_followed_where_that_is_not_wanted(world: World) -> None:
    grow(world)
    world.sender.run(["zfs", "rename", f"{world.source}/b", f"{world.source}/bb"])
    run = world.push("--no-follow-renames", "--json")
    assert run.status == 0, run
    assert sent(run) == {"bb": "full -> @1"}
    assert "/b" in guids(world, "receiver", world.target)
    world.assert_tidy()


def test_a_clone_stays_a_clone_whatever_comes_first(world: World) -> None:
    world.create("/base")
    world.write("/base", 3000)
    world.snapshot("1")
    world.sender.run(["zfs", "clone", f"{world.source}/base@1", f"{world.source}/a-clone"])
    world.write("/a-clone", 20, "own")
    world.snapshot("2")
    run = world.push("--json")
    assert run.status == 0, run
    assert sent(run)["a-clone"] == f"clone of {world.source}/base@1 -> @2"
    assert world.get("origin", "/a-clone") == f"{world.target}/base@1"
    # One that is cloned later, of a snapshot that is there; and a clone of a clone, both at once.
    world.sender.run(["zfs", "clone", f"{world.source}/base@2", f"{world.source}/later"])
    world.sender.run(["zfs", "clone", f"{world.source}/a-clone@2", f"{world.source}/second"])
    world.snapshot("3")
    run = world.push("--json")
    assert run.status == 0, run
    assert world.get("origin", "/later") == f"{world.target}/base@2"
    assert world.get("origin", "/second") == f"{world.target}/a-clone@2"
    world.assert_equal()


def test_a_clone_that_was_cut_off_goes_on(world: World) -> None:
    world.create("/base")
    world.write("/base", 100)
    world.snapshot("1")
    world.sender.run(["zfs", "clone", f"{world.source}/base@1", f"{world.source}/clone"])
    world.write("/clone", 30_000, "own")
    world.snapshot("2", "/clone", recursive=False)
    running = world.start("--rate-limit", "4M")
    running.wait_for_bytes(6 << 20)
    running.signal("INT")
    assert running.wait().status == 130
    run = world.push("--json")
    assert run.status == 0, run
    assert run.outcomes[f"{world.source}/clone"]["what"] == "resume -> @2"
    world.assert_equal()
    assert world.get("origin", "/clone") == f"{world.target}/base@1"


def test_a_promotion_is_followed(world: World) -> None:
    grow_clone(world)
    world.sender.run(["zfs", "promote", f"{world.source}/clone"])
    world.write("/clone", 30, "after")
    world.snapshot("3")
    run = world.push("--json")
    assert run.status == 0, run
    assert world.get("origin", "/clone") == "-"
    assert world.get("origin", "/base") == f"{world.target}/clone@1"
    world.assert_equal()


def test_a_promotion_is_followed_in_the_run_that_renames_what_it_was_a_clone_of(world: World) -> None:
    world.create("/base")
    world.snapshot("1")
    world.sender.run(["zfs", "clone", f"{world.source}/base@1", f"{world.source}/clone"])
    world.snapshot("2")
    assert world.push().status == 0
    world.sender.run(["zfs", "promote", f"{world.source}/clone"])
    assert world.push().status == 0
    assert world.get("origin", "/base") == f"{world.target}/clone@1"
    world.sender.run(["zfs", "promote", f"{world.source}/base"])
    world.sender.run(["zfs", "rename", f"{world.source}/clone", f"{world.source}/other"])
    run = world.push("--json")
    assert run.status == 0, run
    assert (world.get("origin", "/base"), world.get("origin", "/other")) == ("-", f"{world.target}/base@1")
    world.assert_equal()


def test_a_clone_of_a_clone_is_promoted_over_both(world: World) -> None:
    for child, origin in (("/base", ""), ("/mid", "/base@base"), ("/top", "/mid@mid")):
        if origin:
            world.sender.run(["zfs", "clone", world.source + origin, world.source + child])
        else:
            world.create(child)
        world.write(child, 100, child[1:])
        world.sender.run(["zfs", "snapshot", f"{world.source}{child}@{child[1:]}"])
    world.snapshot("1")
    assert world.push().status == 0
    for _ in range(2):
        world.sender.run(["zfs", "promote", f"{world.source}/top"])
    world.snapshot("2")
    run = world.push("--json")
    assert run.status == 0, run
    assert sent(run)["top"] == "@1 -> @2"
    origins = {child: world.get("origin", child) for child in ("/base", "/mid", "/top")}
    assert origins == {"/base": f"{world.target}/top@base", "/mid": f"{world.target}/top@mid", "/top": "-"}
    world.assert_equal()


def test_snapshots_that_are_gone_go_but_not_held_ones_nor_the_base(world: World) -> None:
    world.create("/a")
    for name in ("1", "2", "3", "4"):
        world.write("/a", 10, name)
        world.snapshot(name)
    assert world.push().status == 0
    world.receiver.run(["zfs", "hold", "mine", f"{world.target}/a@2"])
    world.sender.run(["zfs", "destroy", "-r", f"{world.source}@1,2,4"])
    dry = world.push("--delete-snapshots", "--dry-run")
    assert "would be done" in dry.out, dry
    assert len(world.snapshots()) == 8
    run = world.push("--delete-snapshots")
    assert run.status == 0, run
    # @4 is the newest at the target, and only the source's bookmark knows it: the base of what comes.
    assert [row.split("\t")[0] for row in world.snapshots(f"{world.target}/a")] == [
        f"{world.target}/a@{name}" for name in ("2", "3", "4")
    ]
    assert "@2 stays" in run.err
    world.receiver.run(["zfs", "release", "mine", f"{world.target}/a@2"])
    world.snapshot("5")
    assert world.push("--delete-snapshots").status == 0
    world.assert_equal()


def test_datasets_that_are_gone_go_when_that_is_asked_for(world: World) -> None:
    grow(world)
    world.sender.run(["zfs", "destroy", "-r", f"{world.source}/a"])
    assert world.push().status == 0
    assert "/a/x/y" in guids(world, "receiver", world.target)
    world.sender.run(["zfs", "destroy", "-r", f"{world.source}/c"])
    world.receiver.run(["zfs", "hold", "mine", f"{world.target}/c@1"])
    run = world.push("--delete-datasets")
    assert run.status == 3, run
    assert f"{world.target}/c: FAILED: that it is destroyed" in run.err
    assert set(guids(world, "receiver", world.target)) == {"", "/b", "/c"}
    world.receiver.run(["zfs", "release", "mine", f"{world.target}/c@1"])
    assert world.push("--delete-datasets").status == 0
    world.assert_equal()


def test_a_clone_that_is_gone_and_the_snapshot_that_it_came_from_go_in_one_run(world: World) -> None:
    grow_clone(world)
    world.sender.run(["zfs", "destroy", "-r", f"{world.source}/clone"])
    world.sender.run(["zfs", "destroy", f"{world.source}/base@1"])
    run = world.push("--delete-datasets", "--delete-snapshots")
    assert run.status == 0, run
    world.assert_equal()


def test_with_an_age_they_are_marked_first_and_the_mark_goes_when_they_are_back(world: World) -> None:
    grow(world)
    world.sender.run(["zfs", "rename", f"{world.source}/a", f"{world.source.rpartition('/')[0]}/elsewhere"])
    assert world.push("--delete-datasets=1h").status == 0
    stamp = world.get("zfsync:gone", "/a/x")  # what lies below inherits it
    assert stamp.startswith("20")
    assert world.push("--delete-datasets=1h").status == 0
    assert world.get("zfsync:gone", "/a") == stamp
    world.sender.run(["zfs", "rename", f"{world.source.rpartition('/')[0]}/elsewhere", f"{world.source}/a"])
    assert world.push("--delete-datasets=1h").status == 0
    assert world.get("zfsync:gone", "/a") == "-"
    world.sender.run(["zfs", "destroy", "-r", f"{world.source}/a"])
    world.receiver.run(["zfs", "set", "zfsync:gone=2026-01-02T00:00:00Z", f"{world.target}/a"])
    assert world.push("--delete-datasets=30d").status == 0
    world.assert_equal()
