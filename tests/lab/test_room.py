"""What stands in the way of a copy and is nothing: placeholders whose place ZFS lets no stream take, and beginnings."""

from __future__ import annotations

import pytest

from tests.lab.conftest import World

PASSWORD = "correct horse"


def encrypted(world: World, *children: str) -> None:
    """An encryption root ``/e`` at the source, with children of its key."""
    world.sender.sh(f"echo '{PASSWORD}' | zfs create -o encryption=on -o keyformat=passphrase {world.source}/e")
    for child in ("/e", *children):
        if child != "/e":
            world.create(child)
        world.write(child, 100)


def load_keys(world: World) -> None:
    names = world.receiver.run(["zfs", "list", "-Hro", "name,encryptionroot", f"{world.target}/e"]).stdout.splitlines()
    for name, root in (line.split("\t") for line in names):
        if name == root:
            world.receiver.sh(f"echo '{PASSWORD}' | zfs load-key {name} || true")


def kinds(world: World, root: str = "") -> dict[str, str]:
    """The encryption of each dataset at the target."""
    rows = world.receiver.run(["zfs", "list", "-Hro", "name,encryption", root or world.target]).stdout.splitlines()
    return dict(row.split("\t") for row in rows)


def test_below_an_encrypted_copy_whose_key_is_not_there_a_parent_without_snapshots_is_made_and_filled_later(
    world: World,
) -> None:
    encrypted(world, "/e/p", "/e/p/c", "/e/p/c/d")
    for child in ("/e", "/e/p/c", "/e/p/c/d"):
        world.snapshot("1", child, recursive=False)
    first = world.push("--json")
    assert first.status == 0, first
    assert kinds(world)[f"{world.target}/e/p"] == "off"
    assert world.snapshots_of(world.receiver, f"{world.target}/e/p/c") == ["1"]
    world.snapshot("2")
    second = world.push("--json")
    assert second.status == 0, second
    assert world.snapshots_of(world.receiver, f"{world.target}/e/p/c") == ["1", "2"]
    load_keys(world)
    world.assert_equal()


def test_an_encrypted_copy_with_children_is_replaced_by_a_new_one(world: World) -> None:
    encrypted(world, "/e/k")
    world.snapshot("1")
    assert world.push().status == 0
    load_keys(world)
    place = f"{world.target}/e"
    world.receiver.sh(
        f"zfs set readonly=off {world.target}; zfs mount {place}; echo mine > /{place}/mine; "
        f"zfs snapshot {place}@mine; zfs unmount {place}; zfs set readonly=on {world.target}; zfs unload-key -r {place}"
    )
    world.write("/e", 50, "two")
    world.snapshot("2")
    assert world.push().status == 3
    run = world.push("--on-divergence", "replace", "--json")
    assert run.status == 0, run
    load_keys(world)
    world.assert_equal()


def test_a_placeholder_below_an_encrypted_dataset_makes_room_for_what_is_not_raw(world: World) -> None:
    safe = f"{world.above}/safe"
    world.receiver.sh(f"echo '{PASSWORD}' | zfs create -o encryption=on -o keyformat=passphrase {safe}")
    for child in ("/p", "/p/c"):
        world.create(child)
        world.write(child, 100)
    world.snapshot("1", "/p/c")
    assert world.push(target=f"{safe}/dst").status == 0
    world.snapshot("2")
    run = world.push("--json", target=f"{safe}/dst")
    assert run.status == 0, run
    assert "off" not in kinds(world, safe).values()
    assert world.digest(world.receiver, f"{safe}/dst") == world.digest(world.sender, world.source)


@pytest.mark.parametrize("later", ["1", "2", ""])
def test_a_beginning_with_something_below_it_goes_on_begins_anew_or_becomes_a_placeholder(
    world: World, later: str
) -> None:
    for child in ("", "/p", "/p/c"):
        if child:
            world.create(child)
        world.write(child, 500)
    world.snapshot("1")
    world.snapshot("0", "/p/c", recursive=False)
    assert world.push("--exclude", "p").status == 0
    send, receive = f"zfs send {world.source}", f"ssh {world.receiver.ssh_host} zfs receive"
    world.sender.sh(
        f"{send}/p@1 | head -c 200k | {receive} -s -u {world.target}/p || true; "
        f"{send}/p/c@1 | {receive} -u {world.target}/p/c"
    )
    assert world.get("receive_resume_token", "/p") != "-"
    assert world.snapshots_of(world.receiver, f"{world.target}/p/c") == ["1"]
    if later != "1":
        world.sender.run(["zfs", "destroy", f"{world.source}/p@1"])
    if later == "2":
        world.snapshot("2", "/p", recursive=False)
    run = world.push("--json")
    assert run.status == 0, run
    assert world.snapshots_of(world.receiver, f"{world.target}/p") == [later][: bool(later)]
    world.assert_equal()


def test_a_placeholder_that_was_renamed_along_is_filled_like_any_other(world: World) -> None:
    for child in ("/a", "/a/p", "/a/p/c"):
        world.create(child)
        world.write(child, 100)
    for child in ("", "/a", "/a/p/c"):
        world.snapshot("1", child, recursive=False)
    assert world.push().status == 0
    world.sender.run(["zfs", "rename", f"{world.source}/a", f"{world.source}/b"])
    assert world.push().status == 0
    assert world.get("zfsync:placeholder", "/b/p") == f"{world.target}/b/p"
    world.snapshot("2")
    run = world.push("--json")
    assert run.status == 0, run
    world.assert_equal()


def in_clear(world: World, *children: str) -> None:
    """New datasets at the source that are not encrypted, though what is above them may be."""
    for child in children:
        world.sender.run(["zfs", "create", "-o", "encryption=off", f"{world.source}{child}"])
        world.write(child, 100)


def test_what_is_in_clear_below_an_encrypted_dataset_arrives_so_though_the_key_is_not_there(world: World) -> None:
    encrypted(world, "/e/k")
    in_clear(world, "/e/c", "/e/c/d", "/e/p", "/e/p/q")
    world.snapshot("1")
    world.sender.run(["zfs", "destroy", f"{world.source}/e/p@1"])
    assert world.push().status == 0
    in_clear(world, "/e/new", "/e/new/x")
    for child in ("/e/c", "/e/p", "/e/k"):
        world.write(child, 60, "two")
    world.snapshot("2")
    run = world.push("--json")
    assert run.status == 0, run
    there = {name.removeprefix(world.target): kind for name, kind in kinds(world).items()}
    assert {there[child] for child in ("/e", "/e/k")} == {"aes-256-gcm"}
    clear = ("", "/e/c", "/e/c/d", "/e/p", "/e/p/q", "/e/new", "/e/new/x")
    assert {there[child] for child in clear} == {"off"}
    load_keys(world)
    world.assert_equal()


@pytest.mark.parametrize("inside", [False, True])
def test_below_an_encrypted_root_too_unless_all_is_encrypted_there(world: World, inside: bool) -> None:
    encrypted(world, "/e/k")
    world.snapshot("1")
    source, target = f"{world.source}/e", f"{world.above}/safe/dst" if inside else f"{world.above}/dst-e"
    if inside:
        world.receiver.sh(f"echo '{PASSWORD}' | zfs create -o encryption=on -o keyformat=passphrase {world.above}/safe")
    assert world.push(source=source, target=target).status == 0
    in_clear(world, "/e/c")
    world.snapshot("2")
    run = world.push("--json", source=source, target=target)
    if not inside:
        assert run.status == 0, run
        assert kinds(world, target)[f"{target}/c"] == "off"
        return
    # It takes the encryption of what is above it, as everything there does, and for that the key has to be there.
    assert run.status == 3, run
    world.receiver.sh(f"echo '{PASSWORD}' | zfs load-key {target}")
    assert world.push(source=source, target=target).status == 0
    assert kinds(world, target)[f"{target}/c"] == "aes-256-gcm"
