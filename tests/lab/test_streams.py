"""Streams and what comes with them: flags that stay, properties, resuming refused, preflight, plans on paper."""

from __future__ import annotations

import json

from tests.lab.conftest import World


def test_the_flags_of_the_first_stream_stay_those_of_all(world: World) -> None:
    world.sender.run(["zfs", "set", "recordsize=1M", "compression=off", world.source])
    world.write("", 3000)
    world.snapshot("1")
    assert world.push().status == 0
    assert world.get("zfsync:stream") == "Lec"
    # A pool without large blocks, as one that other software has made.
    pool = f"old{world.above.rpartition('/')[2]}"
    features = ("lz4_compress", "extensible_dataset", "bookmarks", "enabled_txg", "hole_birth")
    enabled = [word for feature in features for word in ("-o", f"feature@{feature}=enabled")]
    world.receiver.sh(f"truncate -s 300M /tmp/{pool}")
    world.receiver.run(["zpool", "create", "-d", *enabled, pool, f"/tmp/{pool}"])
    try:
        for name in ("2", "3"):
            run = world.push("--json", target=f"{pool}/dst")
            assert run.status == 0, run
            kept = world.receiver.run(["zfs", "get", "-Ho", "value", "zfsync:stream", f"{pool}/dst"]).stdout.strip()
            assert kept == "c"
            world.write("", 1500, name)
            world.snapshot(name)
        world.create("/zstd", "-o", "compression=zstd")
        world.create("/dnodes", "-o", "dnodesize=1k")
        for child in ("/zstd", "/dnodes"):
            world.sender.sh(f"seq 50000 > /{world.source}{child}/file")
            world.snapshot("4", child, recursive=False)
        run = world.push("--json", target=f"{pool}/dst")
        assert run.status == 3, run
        assert "has no large_dnode, which" in run.outcomes[f"{world.source}/dnodes"]["message"]
        assert run.outcomes[f"{world.source}/dnodes"]["bytes"] == 0
        assert run.outcomes[f"{world.source}/zstd"]["status"] == "sent"
        for child in ("/zstd", "/dnodes"):
            world.sender.run(["zfs", "destroy", "-r", world.source + child])
        world.receiver.run(["zfs", "destroy", "-r", f"{pool}/dst/zstd"])
        assert world.push(target=f"{pool}/dst").status == 0
        assert world.digest(world.receiver, f"{pool}/dst") == world.digest(world.sender, world.source)
    finally:
        world.receiver.sh(f"zpool destroy {pool}; rm /tmp/{pool}")
    assert world.push().status == 0
    assert world.get("zfsync:stream") == "Lec"
    world.assert_equal()


def test_properties_are_taken_over_set_and_left_out(world: World) -> None:
    world.create("/v", "-s", "-V", "8M")
    world.create("/a", "-o", "atime=off", "-o", "user:note=keep me", "-o", "mountpoint=/somewhere", "-o", "quota=1G")
    world.snapshot("1")
    run = world.push("--preserve", "all", "--set", "compression=zstd", "--set", "recordsize=64K",
                     "--exclude-property", "quota")  # fmt: skip
    assert run.status == 0, run
    assert world.get("atime", "/a") == "off"
    assert world.get("user:note", "/a") == "keep me"
    assert world.get("mountpoint", "/a") != "/somewhere"
    assert world.get("quota", "/a") == "none"
    assert world.get("compression", "/v") == "zstd"  # recordsize is not for volumes, and did not fail it
    assert (world.get("recordsize", "/a"), world.get("canmount", "/a")) == ("64K", "noauto")
    world.sender.run(["zfs", "set", "user:note=changed", f"{world.source}/a"])
    world.snapshot("2")
    assert world.push("--preserve", "user:note,mountpoint").status == 0
    assert world.get("user:note", "/a") == "changed"
    assert world.get("mountpoint", "/a") == "/somewhere"
    assert world.get("mounted", "/a") == "no"
    world.assert_equal()


def test_no_resume_drops_what_was_left_and_sends_anew(world: World) -> None:
    world.write("", 30_000)
    world.snapshot("1")
    running = world.start("--rate-limit", "8M")
    running.wait_for_bytes(4 << 20)
    running.signal("INT")
    running.wait()
    world.assert_tidy(partial=True)
    run = world.push("--no-resume", "--json")
    assert run.status == 0, run
    outcome = run.outcomes[world.source]
    assert outcome["what"] == "full -> @1"
    assert "a partial receive that no longer fits is dropped" in outcome["why"]
    world.assert_equal()


def test_a_target_without_room_is_refused_with_figures_before_anything_is_sent(world: World) -> None:
    world.create("/a")
    world.create("/b")
    world.write("/a", 5000)
    world.write("/b", 10)
    world.snapshot("1")
    world.receiver.run(["zfs", "create", "-o", "quota=2M", f"{world.above}/small"])
    run = world.push("--json", target=f"{world.above}/small/dst")
    assert run.status == 7, run
    assert "has room for 2,0" in run.err
    assert "--skip-preflight tries all the same" in run.err
    assert world.snapshots(f"{world.above}/small/dst") == []
    # A quota further down only keeps back what is below it.
    assert world.push("--exclude", "a").status == 0
    world.receiver.run(["zfs", "create", "-o", "quota=1M", "-o", f"zfsync:placeholder={world.target}/a",
                        "-o", "canmount=off", "-o", "readonly=on", f"{world.target}/a"])  # fmt: skip
    world.write("/b", 10, "more")
    world.snapshot("2")
    run = world.push("--json")
    assert run.status == 3, run
    assert run.outcomes[f"{world.source}/b"]["status"] == "sent"
    assert "are to be sent to it and below: raise its quota there" in run.outcomes[f"{world.source}/a"]["message"]
    assert world.push("--skip-preflight").status == 3  # and zfs itself says that it is full
    world.receiver.run(["zfs", "set", "quota=none", f"{world.target}/a"])
    assert world.push().status == 0
    world.assert_equal()


def test_a_plan_is_written_down_and_carried_out_if_nothing_has_changed(world: World) -> None:
    world.create("/a")
    world.snapshot("1")
    assert world.push("--dry-run", "--plan-out", "/tmp/plan").status == 0
    plan = json.loads(world.sender.sh("cat /tmp/plan").stdout)
    assert plan["datasets"][f"{world.source}/a"]["what"] == "full -> @1"
    assert world.snapshots() == []
    assert world.push("--plan-in", "/tmp/plan").status == 0
    world.assert_equal()
    again = world.push("--plan-in", "/tmp/plan")
    assert again.status == 2, again
    assert f"The plan no longer holds: for {world.source} it was 'full -> @1', and is 'up to date' now." in again.err
    assert world.push("--plan-in", "/nowhere").status == 2


def test_the_way_back_in_one_command_that_overwrites_nothing(world: World) -> None:
    for child in ("/a", "/a/b"):
        world.create(child)
        world.write(child, 200)
    world.snapshot("monday")
    world.write("/a/b", 100, "tuesday")
    world.snapshot("tuesday")
    world.sender.run(["zfs", "set", "compression=gzip-3", f"{world.source}/a"])
    assert world.push("--preserve", "all").status == 0
    world.sender.run(["zfs", "destroy", "-r", f"{world.source}/a/b"])
    world.write("/a", 10, "mine")
    there = f"{world.receiver.ssh_host}:{world.target}"
    command = ["zfsync", "restore", "--port", str(world.receiver.ssh_port)]
    back = world.run([*command, there, world.source])
    assert back.status == 0, back  # what was lost is back, what was written since is untouched
    world.sender.sh(
        f"zfs mount {world.source}/a/b && test -s /{world.source}/a/b/tuesday && test -s /{world.source}/a/mine"
    )
    world.sender.sh(f"touch /{world.source}/a/b/writable")
    copy = f"{world.source.rpartition('/')[0]}/copy"
    assert world.run([*command, "--preserve", "all", there, "@monday", copy]).status == 0
    compression = world.sender.run(["zfs", "get", "-Hovalue", "compression", f"{copy}/a/b"])
    assert compression.stdout == "gzip-3\n"
    names = world.sender.run(["zfs", "list", "-Hrt", "snapshot", "-o", "name", copy]).stdout.split()
    assert {name.partition("@")[2] for name in names} == {"monday"}
    world.sender.sh(f"zfs mount {copy}/a/b; test ! -e /{copy}/a/b/tuesday && touch /{copy}/a/b/writable")
    # In place, as it was on monday: what has been there since is set aside, and nothing is lost.
    refused = world.run([*command, there, "@monday", f"{world.source}/a/b".rpartition("/a/b")[0]])
    assert refused.status == 3
    assert "has @tuesday after @monday, the newest in common" in refused.err
    run = world.run([*command, "--on-divergence", "set-aside", there, "@monday", world.source])
    assert run.status == 0, run
    world.sender.sh(f"zfs mount {world.source}/a/b; test ! -e /{world.source}/a/b/tuesday")
    asides = world.sender.run(["zfs", "list", "-Hro", "name", world.source.rpartition("/")[0]]).stdout.split()
    assert sum(".zfsync-aside-" in name.rpartition("/")[2] for name in asides) == 3
    bad = world.run([*command, there, "monday", copy])
    assert bad.status == 2
    assert "is no snapshot: give @NAME" in bad.err
    world.assert_tidy()
