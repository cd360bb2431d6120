"""Pushes of real datasets. Each test ends by comparing every snapshot's GUID and contents at both ends."""

from __future__ import annotations

from tests.lab.conftest import World


def grow(world: World) -> None:
    """A tree of three levels with volumes, odd names, an empty dataset, and the most data at the bottom."""
    for child in ("/a", "/a/b", "/a/b/c", "/empty", "/od d", "/od d/x:y", "/od d/x:y/..z-_."):
        world.create(child)
    world.create("/a/vol", "-s", "-V", "16M", "-b", "16k")
    world.write("", 20)
    world.write("/a/b", 300)
    world.write("/a/b/c", 4000)
    world.write("/od d/x:y/..z-_.", 500)
    world.sender.sh(
        f"cd /{world.source}/a && ln -s /etc/passwd link && mkdir -m 700 private && touch -d 2001-01-01 old"
    )
    world.sender.sh(
        "for d in /dev/zd*; do "
        f'if [ "$(/lib/udev/zvol_id $d)" = {world.source}/a/vol ]; then head -c 1M /dev/urandom > $d; fi; done'
    )


def test_a_tree_arrives_in_full_and_then_incrementally_over_4_channels(world: World) -> None:
    grow(world)
    world.snapshot("one")
    world.write("/a/b", 100, "more")
    world.snapshot("t w:o")

    first = world.push("--channels", "4", "--buffer-behind", "0", "--json")
    assert first.status == 0, first
    assert {outcome["status"] for outcome in first.outcomes.values()} == {"sent"}
    assert any(event["event"] == "opened" and event["channels"] == 4 for event in first.events)
    # The other channels do not wait until the root is there.
    started = [event for event in first.events if event["event"] == "send-started"]
    assert (started[0]["source"], started[0]["buffered"]) == (world.source, False)
    buffered = [event for event in started if event["buffered"]]
    assert next(event["renamed"] for event in first.events if event["event"] == "cleaned") == len(buffered) >= 3
    world.assert_equal()

    world.write("/a/b/c", 50, "newer")
    world.sender.sh(f"rm '/{world.source}/a/b/more'")
    world.create("/a/b/late")
    world.snapshot("three")
    world.snapshot("four")
    second = world.push("--channels", "4", "--json")
    assert second.status == 0, second
    assert second.outcomes[f"{world.source}/a"]["what"] == "@t w:o -> @four"
    assert second.outcomes[f"{world.source}/a/b/late"]["what"] == "full @three -> @four"
    world.assert_equal()

    third = world.push("--json")
    assert third.status == 0
    assert {outcome["status"] for outcome in third.outcomes.values()} == {"up-to-date"}
    world.assert_equal()


def test_nothing_mounts_and_the_root_cannot_be_written_to(world: World) -> None:
    world.create("/a")
    world.snapshot("1")
    assert world.push().status == 0
    assert (world.get("readonly"), world.get("readonly", "/a")) == ("on", "on")
    assert (world.get("mounted"), world.get("mounted", "/a")) == ("no", "no")
    assert (world.get("canmount"), world.get("canmount", "/a")) == ("noauto", "noauto")
    assert world.get("zfsync:path", "/a") == "-"
    world.assert_equal()


def test_one_channel_is_enough(world: World) -> None:
    grow(world)
    world.snapshot("1")
    assert world.push("--channels", "1").status == 0
    world.assert_equal()


def test_without_recursion_only_the_source_itself_goes(world: World) -> None:
    world.create("/a")
    world.snapshot("1")
    run = world.push("--no-recursive", "--json")
    assert run.status == 0, run
    assert list(run.outcomes) == [world.source]
    assert [row.split("\t")[0] for row in world.snapshots()] == [f"{world.target}@1"]
    world.assert_tidy()


def test_missing_datasets_above_the_target_are_made(world: World) -> None:
    world.snapshot("1")
    world.target = f"{world.above}/x/y z/dst"
    world.buffer = f"{world.target}.zfsyncbuffer"
    assert world.push().status == 0
    world.assert_equal()


def test_a_dry_run_shows_the_plan_and_changes_nothing(world: World) -> None:
    world.create("/a")
    world.write("/a", 2000)
    world.snapshot("1")
    run = world.push("--dry-run", "--json")
    assert run.status == 0, run
    planned = run.outcomes[f"{world.source}/a"]
    assert (planned["status"], planned["what"], planned["why"]) == ("planned", "full -> @1", "new at the target")
    assert 2_000_000 < planned["estimate"] < 2_500_000
    assert world.snapshots() == []
    text = world.push("--dry-run").out
    assert "would send full -> @1, about 2.0 MiB (new at the target)" in text
    assert world.push().status == 0
    world.assert_equal()


def test_a_parent_without_snapshots_becomes_a_placeholder_until_it_has_some(world: World) -> None:
    for child in ("/a", "/a/b", "/a/b/c", "/z"):
        world.create(child)
    world.write("/a/b/c", 100)
    world.snapshot("1", "/a/b/c", recursive=False)
    world.snapshot("1", "/z", recursive=False)
    first = world.push("--json")
    assert first.status == 0, first
    assert first.outcomes[f"{world.source}/a"]["status"] == "no-snapshots"
    assert f"{world.source}/a has no snapshot" in first.outcomes[f"{world.source}/a"]["message"]
    assert [row.split("\t")[0] for row in world.snapshots()] == [f"{world.target}/a/b/c@1", f"{world.target}/z@1"]
    world.assert_tidy()

    world.write("/a", 30)
    world.snapshot("2")
    second = world.push("--json")
    assert second.status == 0, second
    assert second.outcomes[f"{world.source}/a"]["why"] == "takes the place of an empty placeholder"
    assert world.get("zfsync:placeholder", "/a") == "-"
    world.assert_equal()


def test_placeholders_in_between_are_made_after_their_parents_arrive(world: World) -> None:
    for child in ("/a", "/a/b", "/a/b/c"):
        world.create(child)
    world.snapshot("1", "/a/b/c", recursive=False)
    world.snapshot("1", "", recursive=False)
    assert world.push().status == 0
    assert [row.split("\t")[0] for row in world.snapshots()] == [f"{world.target}@1", f"{world.target}/a/b/c@1"]
    world.assert_tidy()


def test_names_that_are_too_long_for_hexadecimal_wait_under_a_digest(world: World) -> None:
    long = "/" + "p" * 90 + "/" + "q" * 90
    world.create(long, "-p")
    world.write(long, 3000)
    world.snapshot("s" * 20)
    run = world.push("--buffer-behind", "0", "--json")
    assert run.status == 0, run
    started = {event["source"]: event["buffered"] for event in run.events if event["event"] == "send-started"}
    assert started[world.source + long]
    world.assert_equal()


def test_a_name_too_long_at_the_target_fails_alone(world: World) -> None:
    world.create("/a")
    world.create("/" + "l" * 200)
    world.snapshot("1")
    world.target = f"{world.above}/{'m' * 50}"
    world.buffer = f"{world.target}.zfsyncbuffer"
    run = world.push("--json")
    assert run.status == 3
    failed = run.outcomes[f"{world.source}/{'l' * 200}"]
    assert failed["code"] == "name"
    assert "choose a shorter target" in failed["message"]
    assert [row.split("\t")[0] for row in world.snapshots()] == [f"{world.target}@1", f"{world.target}/a@1"]
    world.assert_tidy()


def test_the_base_is_found_by_guid_when_snapshots_were_renamed(world: World) -> None:
    world.snapshot("1")
    assert world.push().status == 0
    world.sender.run(["zfs", "rename", f"{world.source}@1", f"{world.source}@uno"])
    world.write("", 10)
    world.snapshot("2")
    run = world.push("--json")
    assert run.outcomes[world.source]["what"] == "@uno -> @2", run
    guids = [row.split("\t")[1] for row in world.snapshots()]
    listed = world.sender.run(["zfs", "list", "-Hrt", "snapshot", "-o", "guid", world.source]).stdout.split()
    assert guids == listed
    world.assert_tidy()


def test_a_bookmark_serves_as_base_when_its_snapshot_is_gone(world: World) -> None:
    world.write("", 100)
    world.snapshot("1")
    assert world.push().status == 0
    world.sender.run(["zfs", "bookmark", f"{world.source}@1", f"{world.source}#mark"])
    world.sender.run(["zfs", "destroy", f"{world.source}@1"])
    for name in ("2", "3"):
        world.write("", 10, name)
        world.snapshot(name)
    run = world.push("--json")
    assert run.outcomes[world.source]["what"] == "#mark -> @3", run
    here, there = world.digest(world.sender, world.source), world.digest(world.receiver, world.target)
    assert there[1:] == here
    world.assert_tidy()


def test_encrypted_datasets_go_raw_and_open_with_their_key(world: World) -> None:
    world.sender.sh("echo 12345678 > /root/key")
    world.create("/secret", "-o", "encryption=on", "-o", "keyformat=passphrase", "-o", "keylocation=file:///root/key")
    world.create("/secret/below")
    world.write("/secret", 100)
    world.write("/secret/below", 2000)
    world.snapshot("1")
    assert world.push().status == 0
    world.write("/secret/below", 100, "more")
    world.snapshot("2")
    assert world.push().status == 0
    assert world.get("keystatus", "/secret") == "unavailable"
    world.receiver.sh("echo 12345678 > /root/key")
    for child in ("/secret", "/secret/below"):
        if world.get("encryptionroot", child) == world.target + child:
            world.receiver.run(["zfs", "load-key", "-L", "file:///root/key", world.target + child])
    world.assert_equal()


def test_an_unprivileged_user_with_sudo_receives(world: World) -> None:
    world.create("/a")
    world.write("/a", 50)
    world.snapshot("1")
    assert world.push("--sudo", user="backup").status == 0
    world.assert_equal()


def test_with_nothing_changed_200_datasets_cost_two_commands_at_each_end(world: World) -> None:
    world.sender.run(
        ["python3", "-c",
         "import sys, libzfs_core\n"
         "for i in range(199): libzfs_core.lzc_create(('%s/d%03d' % (sys.argv[1], i)).encode())",
         world.source],
    )  # fmt: skip
    world.snapshot("1")
    assert world.push("--quiet").status == 0
    wrapper = '#!/bin/sh\necho "$@" >> /root/zfs.log\nexec /usr/sbin/zfs "$@"\n'
    for machine in (world.sender, world.receiver):
        machine.run(["sh", "-c", "cat > /usr/local/sbin/zfs && chmod 755 /usr/local/sbin/zfs"], input=wrapper)
        assert machine.sh("command -v zfs").stdout.strip() == "/usr/local/sbin/zfs"
    try:
        run = world.push("--json", "--list-all")  # what has settled by now would cost one
        assert run.status == 0
        assert len(run.outcomes) == 200
        logs = [machine.sh("cat /root/zfs.log").stdout.splitlines() for machine in (world.sender, world.receiver)]
        if world.sender.ssh_host != world.receiver.ssh_host:
            assert [len(log) for log in logs] == [2, 2], logs
        assert all(line.startswith("list ") for log in logs for line in log)
    finally:
        for machine in (world.sender, world.receiver):
            machine.sh("rm -f /usr/local/sbin/zfs /root/zfs.log")
    guids = world.sender.run(["zfs", "list", "-Hrt", "snapshot", "-o", "guid", world.source]).stdout
    assert [row.split("\t")[1] for row in world.snapshots()] == guids.split()
    world.assert_tidy()


def test_pulling_is_pushing_from_the_other_end(world: World) -> None:
    """The receiver is now the source: the sender pulls its tree, full and incrementally, and over more channels."""
    source, target = f"{world.above}/web", f"{world.source}/pulled"
    for child in ("", "/a", "/a/b x"):
        world.receiver.run(["zfs", "create", source + child])
        world.receiver.sh(f"head -c 300k /dev/urandom > '/{source}{child}/file'")
    world.receiver.run(["zfs", "snapshot", "-r", f"{source}@1"])
    pull = ["zfsync", "pull", "--port", str(world.receiver.ssh_port), f"{world.receiver.ssh_host}:{source}", target]
    assert world.run(pull).status == 0
    world.receiver.sh(f"head -c 5M /dev/urandom > '/{source}/a/more'")
    world.receiver.run(["zfs", "snapshot", "-r", f"{source}@2"])
    run = world.run([*pull, "--json"])
    assert run.status == 0, run
    assert run.outcomes[f"{world.receiver.ssh_host}:{source}/a"]["what"] == "@1 -> @2"
    assert world.digest(world.sender, target) == world.digest(world.receiver, source)
    run = world.run([*pull[:-2], f"{world.receiver.ssh_host}:{source}/none", target])
    assert (run.status, run.err.startswith("zfsync: There is no dataset")) == (7, True), run
    world.target = source
    world.assert_tidy()


def test_between_two_pools_of_one_machine(world: World) -> None:
    for child in ("/a", "/a/b"):
        world.create(child)
        world.write(child, 200)
    world.snapshot("1")
    copy = f"{world.source.rpartition('/')[0]}/copy"
    assert world.run(["zfsync", "push", world.source, copy]).status == 0
    world.write("/a", 200, "more")
    world.snapshot("2")
    run = world.run(["zfsync", "push", world.source, copy])
    assert run.status == 0
    assert f"{world.source}/a -> {copy}/a: sent @1 -> @2" in run.out
    assert world.digest(world.sender, copy) == world.digest(world.sender, world.source)
    world.target = world.above
    world.assert_tidy()


def test_relayed_through_this_machine_from_one_host_to_another(world: World) -> None:
    """The receiver serves as both ends, each over a connection of its own."""
    source, target = f"{world.above}/one", f"{world.above}/two"
    for child in ("", "/a"):
        world.receiver.run(["zfs", "create", source + child])
        world.receiver.sh(f"head -c 2M /dev/urandom > /{source}{child}/file")
    world.receiver.run(["zfs", "snapshot", "-r", f"{source}@1"])
    host = world.receiver.ssh_host
    relay = ["zfsync", "push", "--port", str(world.receiver.ssh_port), f"{host}:{source}", f"{host}:{target}"]
    assert world.run(relay).status == 0
    assert world.digest(world.receiver, target) == world.digest(world.receiver, source)
    world.target = source
    world.assert_tidy()


def test_a_pull_that_is_interrupted_resumes(world: World) -> None:
    source, target = f"{world.above}/web", f"{world.source}/pulled"
    world.receiver.run(["zfs", "create", source])
    world.receiver.sh(f"head -c 100M /dev/urandom > '/{source}/file'")
    world.receiver.run(["zfs", "snapshot", "-r", f"{source}@1"])
    words = [str(world.receiver.ssh_port), f"{world.receiver.ssh_host}:{source}", target]
    running = world.start_words("zfsync", "pull", "--json", "--port", *words)
    running.wait_for_bytes(20 << 20)
    running.signal("INT")
    assert running.wait().status == 130
    world.target = source
    world.wait_until(world.receiver, "! pgrep -f '[z]fs send|[p]ython3 -I'")
    run = world.run(["zfsync", "pull", "--json", "--port", *words])
    assert run.status == 0, run
    assert run.outcomes[words[1]]["what"] == "resume -> @1"
    assert world.digest(world.sender, target) == world.digest(world.receiver, source)
    world.assert_tidy()


def test_only_the_chosen_datasets_and_snapshots_go(world: World) -> None:
    for child in ("/home", "/home/ann", "/home/tmp", "/var", "/var/cache"):
        world.create(child)
    for name in ("daily-1", "hourly-1", "daily-2", "hourly-2", "daily-3"):
        world.write("/home/ann", 50, name)
        world.snapshot(name)
    world.sender.run(["zfs", "set", "zfsync:exclude=on", f"{world.source}/var"])
    choice = ("--exclude", "*/tmp", "--snapshots", "daily-*")
    assert world.push(*choice).status == 0
    chosen = [
        line
        for line in world.digest(world.sender, world.source)
        if "@daily-" in line and not line.startswith(("/home/tmp", "/var"))
    ]
    assert world.digest(world.receiver, world.target) == chosen
    world.write("/home/ann", 50, "late")
    world.snapshot("hourly-3")
    world.snapshot("daily-4")
    run = world.push(*choice, "--json")
    assert run.outcomes[f"{world.source}/home/ann"]["what"] == "@daily-3 -> @daily-4", run
    world.snapshot("hourly-4")
    run = world.push(*choice, "--json")
    assert {outcome["status"] for outcome in run.outcomes.values()} == {"up-to-date"}, run
    newest = world.push("--no-intermediates", "--exclude", "*/tmp", "--json")
    assert newest.status == 0, newest
    assert [row.split("\t")[0] for row in world.snapshots(f"{world.target}/home/ann")][-2:] == [
        f"{world.target}/home/ann@daily-4",
        f"{world.target}/home/ann@hourly-4",
    ]
    world.assert_tidy()


def test_a_comparison_tells_what_only_one_side_has(world: World) -> None:
    world.create("/a")
    world.create("/only here")
    world.snapshot("1")
    where = f"{world.receiver.ssh_host}:{world.target}"
    compare = ["zfsync", "compare", "--port", str(world.receiver.ssh_port), world.source, where]
    assert world.push("--exclude", "only*").status == 0
    assert world.run([*compare[:-2], f"{world.source}/a", f"{where}/a"]).status == 0
    world.snapshot("2", "/a")
    run = world.run(compare)
    assert run.status == 3, run
    assert f"{world.source}/a -> {where}/a: DIFFERENT: newest in common is @1; @2 only in {world.source}." in run.err
    assert f"{world.source}/only here -> {where}/only here: DIFFERENT: it is only in {world.source}." in run.err
    assert f"{world.source} -> {where}: equal" in run.out
    assert world.push().status == 0
    assert world.run([*compare, "--json"]).outcomes[f"{world.source}/a"]["status"] == "equal"
    world.assert_equal()
