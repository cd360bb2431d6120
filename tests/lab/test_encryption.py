"""Encrypted trees: raw and not, through the buffer, and what opens them at the target."""

from __future__ import annotations

from tests.lab.conftest import World

PASSWORD = "correct horse"


def grow(world: World) -> None:
    """An encryption root with children that share its key, one with a key of its own, the most data at the bottom."""
    world.sender.sh(
        f"echo '{PASSWORD}' | zfs create -o encryption=on -o keyformat=passphrase {world.source}/e && "
        f"zfs create {world.source}/e/a && zfs create {world.source}/e/a/b && "
        f"echo 'another one' | zfs create -o encryption=on -o keyformat=passphrase {world.source}/e/own"
    )
    for child, size in (("/e", 50), ("/e/a", 100), ("/e/a/b", 2000), ("/e/own", 300)):
        world.write(child, size)
    world.snapshot("1")


def roots(world: World) -> dict[str, str]:
    """The encryption root of each dataset at the target, both relative to it."""
    rows = world.receiver.run(["zfs", "list", "-Hro", "name,encryptionroot", f"{world.target}/e"]).stdout.splitlines()
    return {name[len(world.target) :]: root[len(world.target) :] for name, root in (row.split("\t") for row in rows)}


def load_keys(world: World) -> None:
    for child in ("/e", "/e/a", "/e/a/b"):
        world.receiver.sh(f"echo '{PASSWORD}' | zfs load-key {world.target}{child} || true")
    world.receiver.sh(f"echo 'another one' | zfs load-key {world.target}/e/own || true")


def unload_keys(world: World) -> None:
    world.receiver.sh(f"zfs unload-key -r {world.target}/e")


def test_children_that_were_received_raw_are_roots_of_their_own_and_each_opens_with_the_source_key(
    world: World,
) -> None:
    grow(world)
    run = world.push("--buffer-behind", "0", "--json")
    assert run.status == 0, run
    assert any(event["event"] == "send-started" and event["buffered"] for event in run.events)
    assert roots(world) == {child: child for child in ("/e", "/e/a", "/e/a/b", "/e/own")}
    assert world.get("zfsync:stream", "/e/a") == "raw"
    load_keys(world)
    world.assert_equal()
    unload_keys(world)
    world.write("/e/a", 30, "more")
    world.snapshot("2")
    assert world.push().status == 0
    load_keys(world)
    world.assert_equal()


def test_they_become_part_of_their_parents_root_again_where_the_keys_are_loaded(world: World) -> None:
    grow(world)
    first = world.push("--inherit-encryption-root")
    assert first.status == 0, first
    assert "stays an encryption root of its own until its key and its parent's are loaded there" in first.err
    load_keys(world)
    second = world.push("--inherit-encryption-root")
    assert second.status == 0, second
    assert roots(world) == {"/e": "/e", "/e/a": "/e", "/e/a/b": "/e", "/e/own": "/e/own"}
    unload_keys(world)
    world.write("/e/a/b", 30, "more")
    world.snapshot("2")
    assert world.push("--inherit-encryption-root").status == 0
    load_keys(world)
    world.assert_equal()


def test_without_raw_the_target_encrypts_anew_or_not_at_all(world: World) -> None:
    grow(world)
    assert world.push("--no-raw", source=f"{world.source}/e", target=f"{world.above}/clear").status == 0
    listed = world.receiver.run(["zfs", "list", "-Hro", "encryption", f"{world.above}/clear"]).stdout.split()
    assert set(listed) == {"off"}
    clear = world.digest(world.receiver, f"{world.above}/clear")
    assert clear == world.digest(world.sender, f"{world.source}/e")
    # Below an encrypted dataset, parents first: none waits in the buffer outside of it.
    world.receiver.sh(
        f"echo 'target key 1' | zfs create -o encryption=on -o keyformat=passphrase {world.above}/safe && "
        f"zfs create -o canmount=off {world.above}/safe/dst"
    )
    run = world.push("--no-raw", "--json", source=f"{world.source}/e", target=f"{world.above}/safe/dst/e")
    assert run.status == 0, run
    encrypted = world.receiver.run(
        ["zfs", "list", "-Hro", "encryptionroot", f"{world.above}/safe/dst/e"]
    ).stdout.split()
    assert set(encrypted) == {f"{world.above}/safe"}
    assert world.digest(world.receiver, f"{world.above}/safe/dst/e") == clear
    world.write("/e/a", 30, "more")
    world.snapshot("2")
    world.create("/e/a/late")
    world.snapshot("3")
    run = world.push("--no-raw", "--json", source=f"{world.source}/e", target=f"{world.above}/safe/dst/e")
    assert run.status == 0, run
    assert world.digest(world.receiver, f"{world.above}/safe/dst/e") == world.digest(world.sender, f"{world.source}/e")
    world.assert_tidy()


def test_raw_and_not_raw_are_never_mixed(world: World) -> None:
    grow(world)
    assert world.push().status == 0
    world.snapshot("2")
    run = world.push("--no-raw", "--json")
    assert run.status == 3, run
    assert "was received raw: leave out --no-raw" in run.outcomes[f"{world.source}/e/a"]["message"]
    other = f"{world.above}/other"
    assert world.push("--no-raw", target=other).status == 0
    world.snapshot("3")
    run = world.push("--json", target=other)
    assert run.status == 3, run
    assert "was not received raw" in run.outcomes[f"{world.source}/e/a"]["message"]
    assert world.push("--no-raw", target=other).status == 0
    assert world.push().status == 0
    load_keys(world)
    world.assert_equal()


def test_the_same_snapshot_with_another_iv_set_is_refused_with_a_sentence(world: World) -> None:
    grow(world)
    world.receiver.sh(f"echo 'target key 1' | zfs create -o encryption=on -o keyformat=passphrase {world.target}")
    world.receiver.run(
        ["zfs", "set", f"zfsync:placeholder={world.target}", "canmount=off", "readonly=on", world.target]
    )
    # As another program would have made it, which leaves no mark: the same GUID, encrypted anew.
    world.receiver.sh(f"zfs unmount {world.target} 2>/dev/null || true")
    stream = f"zfs send {world.source}/e/own@1 | ssh {world.receiver.ssh_host} zfs receive -u {world.target}/e"
    world.sender.sh(stream)
    world.snapshot("2")
    run = world.push("--json", source=f"{world.source}/e/own", target=f"{world.target}/e")
    assert run.status == 3, run
    message = run.outcomes[f"{world.source}/e/own"]["message"]
    assert "encrypted anew (its IV set is another)" in message
    assert "--no-raw" in message
    assert world.push("--no-raw", source=f"{world.source}/e/own", target=f"{world.target}/e").status == 0


def test_an_unencrypted_tree_below_an_encrypted_dataset_takes_its_encryption(world: World) -> None:
    for child in ("/a", "/a/b"):
        world.create(child)
        world.write(child, 200)
    world.sender.sh(f"for i in $(seq 50); do echo small > /{world.source}/a/$i; done")  # embedded in block pointers
    world.snapshot("1")
    world.receiver.sh(f"echo 'target key 1' | zfs create -o encryption=on -o keyformat=passphrase {world.above}/safe")
    world.target = f"{world.above}/safe/dst"
    world.buffer = f"{world.target}.zfsyncbuffer"
    first = world.push("--json")
    assert first.status == 0, first
    world.create("/a/b/late")
    world.create("/a/b/late/deeper")
    world.write("/a/b/late/deeper", 500)
    world.snapshot("2")
    second = world.push("--json")
    assert second.status == 0, second
    encryption = world.receiver.run(["zfs", "list", "-Hro", "encryptionroot", world.target]).stdout.split()
    assert set(encryption) == {f"{world.above}/safe"}
    world.assert_equal()
