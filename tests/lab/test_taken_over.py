"""Copies that syncoid began, and source trees that came back by a restore: as docs/questions.md tells it."""

from __future__ import annotations

import pytest

from tests.lab.conftest import Run, World

PASSWORD = "correct horse"


def syncoid(world: World, *options: str) -> None:
    """Bring the target up to date by syncoid."""
    if world.sender.run(["sh", "-c", "command -v syncoid"], check=False).returncode:
        pytest.skip("there is no syncoid")
    where = f"root@{world.receiver.ssh_host}:{world.target}"
    port = f"--sshport={world.receiver.ssh_port}"
    world.sender.run(["syncoid", "--recursive", port, *options, world.source, where], timeout=300)


def take_over(world: World) -> None:
    """What docs/questions.md says to do at the receiver."""
    world.receiver.sh(
        f"zfs unmount {world.target} 2>/dev/null || true; zfs set readonly=on {world.target}; "
        f"zfs list -rHo name -t filesystem {world.target} | xargs -d '\\n' zfs set canmount=noauto"
    )


def restore(world: World, *words: str, child: str = "") -> Run:
    """Bring the source, or a child of it, back from the target; ``words`` are options, and the snapshot at the end."""
    there = f"{world.receiver.ssh_host}:{world.target}{child}"
    options = [word for word in words if not word.startswith("@")]
    snapshot = [word for word in words if word.startswith("@")]
    port = ["--port", str(world.receiver.ssh_port)]
    return world.run(["zfsync", "restore", *port, *options, there, *snapshot, world.source + child])


def test_a_copy_of_syncoid_goes_on_from_its_snapshot(world: World) -> None:
    world.create("/a")
    world.write("/a", 200)
    world.snapshot("1")
    syncoid(world)
    take_over(world)
    assert [world.get("readonly", "/a"), world.get("canmount", "/a"), world.get("mounted", "/a")] == [
        "on",
        "noauto",
        "no",
    ]
    world.write("/a", 50, "new")
    world.snapshot("2")
    # A child was mounted in the root's copy, which writes to that. syncoid rolls such things back unasked.
    refused = world.push()
    assert refused.status == 3
    assert f"{world.target} was changed there since @syncoid_" in refused.err
    run = world.push("--on-divergence", "rollback", "--json")
    assert run.status == 0, run
    assert world.snapshots_of(world.receiver, world.target)[-1] == "2"
    assert world.snapshots_of(world.receiver, f"{world.target}/a")[-1] == "2"
    world.write("/a", 50, "newer")
    world.snapshot("3")
    run = world.push("--json")
    assert run.status == 0, run
    assert run.outcomes[f"{world.source}/a"]["what"] == "@2 -> @3"
    world.assert_equal()
    # Its snapshots may go at the source now.
    world.sender.sh(f"zfs list -rHo name -t snapshot {world.source} | grep @syncoid_ | xargs -n1 zfs destroy")
    world.snapshot("4")
    assert world.push().status == 0
    assert world.snapshots_of(world.receiver, f"{world.target}/a")[-1] == "4"


def test_a_bookmark_of_syncoid_serves_as_well(world: World) -> None:
    world.write("", 100)
    world.snapshot("1")
    syncoid(world, "--no-sync-snap", "--create-bookmark")
    take_over(world)
    world.snapshot("2")
    world.sender.run(["zfs", "destroy", f"{world.source}@1"])
    run = world.push("--json")
    assert run.status == 0, run
    assert world.snapshots_of(world.receiver, world.target) == ["1", "2"]


def test_an_encrypted_copy_of_syncoid_goes_on_only_as_it_was_begun(world: World) -> None:
    world.sender.sh(f"echo '{PASSWORD}' | zfs create -o encryption=on -o keyformat=passphrase {world.source}/e")
    world.write("/e", 100)
    world.snapshot("1")
    syncoid(world)
    take_over(world)
    world.snapshot("2")
    refused = world.push("--on-divergence", "rollback")
    assert refused.status == 3
    assert f"{world.target}/e was not received raw" in refused.err
    run = world.push("--no-raw", "--on-divergence", "rollback")
    assert run.status == 0, run
    assert world.snapshots_of(world.receiver, f"{world.target}/e")[-1] == "2"


def test_an_encrypted_tree_comes_back_in_the_order_of_the_docs(world: World) -> None:
    root = f"{world.source}/e"
    world.sender.sh(
        f"echo '{PASSWORD}' > /root/key; zfs create -o encryption=on -o keyformat=passphrase "
        f"-o keylocation=file:///root/key {root} && zfs create {root}/a"
    )
    world.sender.sh(f"echo all of it > /{root}/a/file")
    world.snapshot("1")
    assert world.push().status == 0
    world.sender.run(["zfs", "destroy", "-r", root])
    run = restore(world, child="/e")
    assert run.status == 0, run
    assert world.sender.run(["zfs", "get", "-Ho", "value", "keylocation", root]).stdout == "prompt\n"
    for name in (root, f"{root}/a"):  # each is an encryption root of its own
        world.sender.run(["zfs", "set", "keylocation=file:///root/key", name])
    world.sender.sh(f"zfs load-key -r {root} && zfs set mountpoint=/srv-e {root} && zfs mount -a")
    assert world.sender.sh("cat /srv-e/a/file && touch /srv-e/a/more").stdout == "all of it\n"
    world.snapshot("2", "/e")
    assert world.push().status == 0  # the old push goes on
    assert world.snapshots_of(world.receiver, f"{world.target}/e/a") == ["1", "2"]


def test_after_a_restore_to_an_older_snapshot_the_copy_has_something_of_its_own(world: World) -> None:
    world.create("/a")
    world.write("/a", 100)
    world.snapshot("monday")
    world.write("/a", 100, "tuesday")
    world.snapshot("tuesday")
    assert world.push().status == 0
    run = restore(world, "--on-divergence", "set-aside", "@monday", child="/a")
    assert run.status == 0, run
    names = world.sender.run(["zfs", "list", "-Hro", "name", world.source]).stdout.split()
    (aside,) = [name for name in names if ".zfsync-aside-" in name]
    assert aside in world.push("--dry-run", "--json").outcomes
    world.sender.run(["zfs", "set", "zfsync:exclude=on", aside])
    world.snapshot("wednesday")
    refused = world.push()
    assert refused.status == 3
    assert "has @tuesday after @monday" in refused.err
    assert world.push("--on-divergence", "set-aside").status == 0
    assert world.snapshots_of(world.receiver, f"{world.target}/a") == ["monday", "wednesday"]
    copies = world.receiver.run(["zfs", "list", "-Hro", "name", world.target]).stdout.split()
    assert len(copies) == 3  # what was set aside at the source was not sent
