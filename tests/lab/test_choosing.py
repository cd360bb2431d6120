"""What is sent, and what a run leaves at the source: snapshots chosen, bookmarks, holds."""

from __future__ import annotations

from tests.lab.conftest import World


def names(world: World, child: str = "") -> list[str]:
    """The names of the target's snapshots of one dataset."""
    root = world.target + child
    rows = world.receiver.run(["zfs", "list", "-Hd1", "-t", "snapshot", "-o", "name", root]).stdout.splitlines()
    return [row.partition("@")[2] for row in rows]


def bookmarks(world: World, child: str = "") -> list[str]:
    root = world.source + child
    rows = world.sender.run(["zfs", "list", "-Hd1", "-t", "bookmark", "-o", "name", root]).stdout.splitlines()
    return [row.partition("#")[2] for row in rows]


def test_the_newest_few_and_those_since_a_time(world: World) -> None:
    for name in "abcde":
        world.write("", 10, name)
        world.snapshot(name)
    assert world.push("--latest", "2").status == 0
    assert names(world) == ["d", "e"]
    assert set(world.digest(world.receiver, world.target)) < set(world.digest(world.sender, world.source))
    world.target = f"{world.above}/other"
    assert world.push("--since", "1d").status == 0
    assert names(world) == list("abcde")
    world.target = f"{world.above}/third"
    run = world.push("--since", "2099-01-01", "--json")
    assert run.status == 7, run
    assert "has a snapshot to send" in run.err
    world.assert_tidy()


def test_of_snapshots_with_nothing_written_in_between_only_the_newest_goes(world: World) -> None:
    world.write("", 10, "a")
    for name in ("1", "2-empty", "3-empty", "4-empty"):
        world.snapshot(name)
    world.write("", 10, "b")
    for name in ("5", "6-empty"):
        world.snapshot(name)
    assert world.push("--skip-empty").status == 0
    assert names(world) == ["1", "4-empty", "5", "6-empty"]
    assert world.push("--skip-empty", "--json").outcomes[world.source]["status"] == "up-to-date"
    wanted = {line for line in world.digest(world.sender, world.source) if not line.startswith(("@2", "@3"))}
    assert set(world.digest(world.receiver, world.target)) == wanted
    world.assert_tidy()


def test_a_bookmark_keeps_an_incremental_possible_when_the_source_is_pruned(world: World) -> None:
    world.create("/a")
    world.write("/a", 300)
    world.snapshot("1")
    assert world.push().status == 0
    (mark,) = bookmarks(world, "/a")
    assert mark.endswith(".1")
    world.snapshot("2")
    assert world.push().status == 0
    (mark,) = bookmarks(world, "/a")  # the one that it replaces has gone
    assert mark.endswith(".2")
    world.sender.run(["zfs", "destroy", "-r", f"{world.source}@%"])
    world.write("/a", 20, "more")
    world.snapshot("3")
    run = world.push("--json")
    assert run.status == 0, run
    assert run.outcomes[f"{world.source}/a"]["what"] == f"#{mark} -> @3"
    assert names(world, "/a") == ["1", "2", "3"]
    assert set(world.digest(world.sender, world.source)) < set(world.digest(world.receiver, world.target))
    world.assert_tidy()


def test_each_target_has_a_bookmark_of_its_own_and_none_where_none_is_wanted(world: World) -> None:
    world.snapshot("1")
    assert world.push("--no-bookmark").status == 0
    assert bookmarks(world) == []
    assert world.push(target=f"{world.above}/other").status == 0
    assert world.push().status == 0
    assert len(bookmarks(world)) == 2
    world.assert_tidy()


def test_what_is_sent_is_held_meanwhile_and_let_go_at_the_end(world: World) -> None:
    world.write("", 30_000)
    world.snapshot("1")
    running = world.start("--rate-limit", "4M")
    running.wait_for_bytes(1 << 20)
    holds = world.sender.run(["zfs", "holds", "-H", f"{world.source}@1"]).stdout
    assert f"zfsync:{world.receiver.ssh_host}:{world.target}:" in holds
    destroyed = world.sender.run(["zfs", "destroy", f"{world.source}@1"], check=False)
    assert destroyed.returncode != 0
    shown = world.run(["zfsync", "holds", world.source])
    assert "which is at work" in shown.out, shown
    assert shown.status == 0
    assert running.wait().status == 0
    world.assert_equal()


def test_holds_of_a_run_that_was_killed_are_let_go_of_by_the_next_or_by_hand(world: World) -> None:
    for way in ("next", "by hand"):
        world.write("", 30_000)
        world.snapshot(way.replace(" ", "-"))
        # Without libzfs_core: its holds go with the process.
        running = world.start_words("env", "ZFSYNC_LIBZFS=off", *world.argv("--json", "--rate-limit", "4M"))
        running.wait_for_bytes(1 << 20)
        running.signal("KILL")
        assert running.wait().status != 0
        world.wait_until(world.sender, "! pgrep -f '[z]fs send' >/dev/null")
        world.wait_until(world.receiver, "! pgrep -f '[z]fs receive|[p]ython3 -I' >/dev/null")
        listed = world.sender.run(["zfs", "list", "-Hrt", "snapshot", "-o", "userrefs", world.source]).stdout.split()
        assert "1" in listed
        stale = world.run(["zfsync", "holds", world.source])
        assert stale.status == 3, stale
        assert "which is gone: --release-stale lets go of them" in stale.out
        if way == "by hand":
            assert world.run(["zfsync", "holds", "--release-stale", world.source]).status == 0
            refs = world.sender.run(["zfs", "list", "-Hrt", "snapshot", "-o", "userrefs", world.source]).stdout.split()
            assert set(refs) == {"0"}
        assert world.push().status == 0
        world.assert_equal()
    assert world.run(["zfsync", "holds", world.source]).status == 0


def test_a_snapshot_that_is_destroyed_between_listing_and_hold_is_planned_around(world: World) -> None:
    for name in "123":
        world.write("", 10, name)
        world.snapshot(name)
    # A `zfs` in front of the real one takes a snapshot away when the source has just been listed.
    world.sender.sh(
        "mkdir -p /tmp/front && cat > /tmp/front/zfs <<'END'\n"
        '#!/bin/bash\n/usr/sbin/zfs "$@"; status=$?\n'
        f'case "$*" in list*snapshot,bookmark*) /usr/sbin/zfs destroy {world.source}@2 2>/dev/null;; esac\n'
        "exit $status\nEND\nchmod +x /tmp/front/zfs"
    )
    run = world.run(["env", "PATH=/tmp/front:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                     *world.argv("-v")])  # fmt: skip
    world.sender.sh("rm -r /tmp/front")
    assert run.status == 0, run
    assert "has been destroyed since it was listed: planning anew" in run.err
    assert names(world) == ["1", "3"]
    world.assert_equal()
