"""What a sender and a receiver of any OpenZFS have to do with each other: `tests/matrix/zfs` runs it for each pair.

Each test ends by comparing every snapshot's GUID and contents at both ends, as `zfs` and not zfsync tells them.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.conftest import World
from tests.lab.driver import Machine

MEBIBYTE = 1 << 20
DEVICE = 'for d in /dev/zd*; do if [ "$(/lib/udev/zvol_id $d)" = {} ]; then echo $d; fi; done'
LONG_NAME = "n" * 300


def grow(world: World) -> None:
    """Levels, a volume, an encrypted tree, a clone; large blocks and dnodes, zstd, holes, odd names."""
    for child in ("/a", "/a/b", "/a/b/empty", "/od d:x"):
        world.create(child)
    world.create("/large", "-o", "recordsize=1M", "-o", "compression=zstd", "-o", "dnodesize=auto", "-o", "xattr=sa")
    world.create("/vol", "-s", "-V", "16M", "-b", "16k")
    world.sender.sh("echo password > /root/key")
    world.create("/secret", "-o", "encryption=on", "-o", "keyformat=passphrase", "-o", "keylocation=file:///root/key")
    world.create("/secret/below", "-o", "recordsize=1M")
    for child, size in (("", 20), ("/a/b", 3000), ("/od d:x", 50), ("/secret", 40), ("/secret/below", 2500)):
        world.write(child, size)
    world.sender.sh(
        f"cd '/{world.source}/large' && head -c 3M /dev/urandom | base64 > text && truncate -s 200M holes && "
        "echo small > embedded && ln -s /nowhere link && mkdir -m 700 private"
    )
    fill_volume(world)
    world.snapshot("1")
    world.sender.run(["zfs", "clone", f"{world.source}/a/b@1", f"{world.source}/clone"])
    world.write("/clone", 30, "own")
    world.snapshot("2")


def fill_volume(world: World) -> None:
    device = DEVICE.format(f"{world.source}/vol")
    world.sender.sh(f"head -c 2M /dev/urandom | dd of=$({device}) iflag=fullblock bs=1M conv=fsync status=none")


def change(world: World, name: str) -> None:
    for child in ("/a/b", "/large", "/secret/below", "/clone"):
        world.write(child, 200, f"of-{name}")
    fill_volume(world)
    world.sender.sh(f"rm -f '/{world.source}/large/text'")
    world.snapshot(name)


def load_keys(machine: Machine, root: str) -> None:
    machine.sh(
        f"for d in {root}/secret {root}/secret/below; do "
        "if [ $(zfs get -Ho value encryptionroot $d) = $d ] && [ $(zfs get -Ho value keystatus $d) != available ]; "
        "then echo password | zfs load-key -L prompt $d; fi; done"
    )


def assert_equal(world: World) -> None:
    load_keys(world.receiver, world.target)
    world.assert_equal()


@pytest.fixture
def grown(world: World) -> Iterator[World]:
    grow(world)
    yield world
    world.sender.run(["zfs", "unload-key", "-r", f"{world.source}/secret"], check=False)


def test_a_tree_of_everything_goes_over_in_full_then_by_increments_then_not_at_all(grown: World) -> None:
    run = grown.push("--channels", "3", "--json")
    assert run.status == 0, run
    assert {outcome["status"] for outcome in run.outcomes.values()} == {"sent"}, run
    assert grown.get("origin", "/clone") == f"{grown.target}/a/b@1"
    assert grown.get("zfsync:stream", "/secret/below") == "raw"
    assert_equal(grown)
    for name in ("3", "4"):
        change(grown, name)
    run = grown.push("--json")
    assert run.status == 0, run
    assert run.outcomes[f"{grown.source}/a/b"]["what"] == "@2 -> @4"
    assert_equal(grown)
    run = grown.push("--json")
    assert run.status == 0, run
    assert {outcome["status"] for outcome in run.outcomes.values()} == {"up-to-date"}


def test_a_rename_a_promotion_and_what_is_gone_are_followed(grown: World) -> None:
    assert grown.push().status == 0
    source = grown.source
    grown.sender.run(["zfs", "rename", f"{source}/a", f"{source}/new name"])
    grown.sender.run(["zfs", "rename", f"{source}/vol", f"{source}/volume"])
    grown.sender.run(["zfs", "promote", f"{source}/clone"])
    grown.sender.run(["zfs", "destroy", f"{source}/large@1"])
    grown.write("/new name/b", 20, "more")
    grown.snapshot("3")
    run = grown.push("--delete-snapshots", "--json")
    assert run.status == 0, run
    assert run.outcomes[f"{source}/new name/b"]["what"] == "@2 -> @3"
    assert grown.get("origin", "/new name/b") == f"{grown.target}/clone@1"
    assert_equal(grown)


@pytest.mark.parametrize("child", ["/a/b", "/secret/below"])
def test_what_was_cut_off_goes_on(grown: World, child: str) -> None:
    assert grown.push().status == 0
    grown.write(child, 60_000, "big")
    grown.snapshot("3", child, recursive=False)
    running = grown.start("--rate-limit", "10M")
    running.wait_for_bytes(12 * MEBIBYTE)
    running.signal("INT")
    assert running.wait().status == 130
    grown.assert_tidy(partial=True)
    run = grown.push("--json")
    assert run.status == 0, run
    assert run.outcomes[grown.source + child]["what"] == "resume -> @3"
    assert run.outcomes[grown.source + child]["bytes"] < 55_000_000
    assert_equal(grown)


def test_a_bookmark_is_base_enough(grown: World) -> None:
    run = grown.push("--json")
    assert run.status == 0, run
    grown.sender.sh(f"zfs destroy {grown.source}/a/b@2; zfs destroy {grown.source}/secret/below@2")
    change(grown, "3")
    run = grown.push("--json")
    assert run.status == 0, run
    assert run.outcomes[f"{grown.source}/a/b"]["what"].endswith("-> @3"), run
    marks = grown.sender.run(["zfs", "list", "-Hrt", "bookmark", "-o", "name", grown.source]).stdout.split("\n")
    assert len([mark for mark in marks if mark]) == len(run.outcomes), marks
    load_keys(grown.receiver, grown.target)
    grown.assert_tidy()
    there = set(grown.digest(grown.receiver, grown.target))
    assert there > set(grown.digest(grown.sender, grown.source))


def test_both_ends_are_compared_by_what_they_list_and_by_what_they_hold(grown: World) -> None:
    assert grown.push().status == 0
    load_keys(grown.receiver, grown.target)
    ends = ["--port", str(grown.receiver.ssh_port), grown.source, f"{grown.receiver.ssh_host}:{grown.target}"]
    run = grown.run(["zfsync", "compare", *ends])
    assert run.status == 0, run
    run = grown.run(["zfsync", "verify", "--json", *ends])
    assert run.status == 0, run
    assert {outcome["status"] for outcome in run.outcomes.values()} == {"equal"}, run
    grown.snapshot("3")
    assert grown.run(["zfsync", "compare", *ends]).status != 0


def test_it_is_pulled_back_under_another_name(grown: World) -> None:
    assert grown.push().status == 0
    back = f"{grown.source.rpartition('/')[0]}/back"
    there = f"{grown.receiver.ssh_host}:{grown.target}"
    pull = ["zfsync", "pull", "--json", "--port", str(grown.receiver.ssh_port), there, back]
    run = grown.run(pull)
    assert run.status == 0, run
    load_keys(grown.sender, back)
    assert grown.digest(grown.sender, back) == grown.digest(grown.sender, grown.source)
    change(grown, "3")
    assert grown.push().status == 0
    run = grown.run(pull)
    assert run.status == 0, run
    assert run.outcomes[f"{there}/a/b"]["what"] == "@2 -> @3"
    load_keys(grown.sender, back)
    assert grown.digest(grown.sender, back) == grown.digest(grown.sender, grown.source)
    assert_equal(grown)


def test_a_property_that_the_receiver_cannot_have_is_named_and_can_be_left_out(world: World) -> None:
    newer = {"checksum": "blake3", "longname": "on", "prefetch": "none", "direct": "disabled"}
    world.create("/a", "-o", "atime=off", "-o", "user:note=keep me", "-o", "quota=1G")
    for name, value in newer.items():
        world.sender.run(["zfs", "set", f"{name}={value}", f"{world.source}/a"], check=False)
    world.write("/a", 50)
    world.snapshot("1")
    run = world.push("--preserve", "all", "--json")
    assert "Traceback" not in run.err, run
    outcome = run.outcomes[f"{world.source}/a"]
    if run.status:
        # longname cannot be set by zfs receive, of 2.3.9 as of 2.4.4
        assert (outcome["status"], outcome["code"] in ("property", "unset")) == ("failed", True), outcome
        assert any(name in outcome["message"] for name in newer), outcome
    world.write("/a", 50, "more")
    world.snapshot("2")
    left_out = [word for name in newer for word in ("--exclude-property", name)]
    run = world.push("--preserve", "all", *left_out, "--json")
    assert run.status == 0, run
    assert [world.get(name, "/a") for name in ("atime", "user:note", "quota")] == ["off", "keep me", "1G"]
    world.assert_equal()


def test_a_name_that_is_too_long_for_the_receiver_is_refused_in_one_sentence(world: World) -> None:
    """OpenZFS 2.3 has names of files of up to 1023 bytes, in streams that others do not take."""
    world.create("/a")
    world.create("/long")
    world.write("/a", 50)
    if world.sender.run(["zfs", "set", "longname=on", f"{world.source}/long"], check=False).returncode:
        pytest.skip("the sender has no long names")
    world.sender.sh(f"touch /{world.source}/long/{LONG_NAME}")
    world.snapshot("1")
    knows = "feature@longname" in world.receiver.run(["zpool", "get", "-H", "all", "pool"]).stdout
    run = world.push("--json")
    if knows:
        assert run.status == 0, run
        world.assert_equal()
        return
    assert run.status == 3, run
    assert run.outcomes[f"{world.source}/a"]["status"] == "sent"
    failed = run.outcomes[f"{world.source}/long"]
    assert (failed["status"], failed["code"]) == ("failed", "newer"), failed
    assert failed["message"].endswith("which only a newer OpenZFS than the one there knows."), failed
    assert "Traceback" not in run.err, run
    world.assert_tidy()
