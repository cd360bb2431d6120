"""Bad input and bad luck: one plain sentence, the right exit code, nothing lost, nothing left behind."""

from __future__ import annotations

import pytest

from tests.lab.conftest import HERE, LOCKS, Run, World
from tests.lab.driver import Lab

MEBIBYTE = 1 << 20


def assert_one_sentence(run: Run, *parts: str) -> None:
    """The last line on stderr is for the user, says all of ``parts``, and there is no traceback."""
    assert "Traceback" not in run.err + run.out, run
    said = run.err.strip().splitlines()[-1]
    for part in parts:
        assert part in said, run
    assert said.endswith("."), run


def test_no_such_source(world: World) -> None:
    run = world.push(source="tank/nowhere")
    assert run.status == 7
    assert_one_sentence(run, "There is no dataset tank/nowhere on this machine", "zfs list")
    world.assert_tidy()


def test_no_snapshots_at_all(world: World) -> None:
    world.create("/a")
    run = world.push()
    assert run.status == 7
    assert run.out.count("without a snapshot\n") == 2
    assert_one_sentence(run, "has a snapshot to send", f"zfs snapshot -r {world.source}@NAME")
    world.assert_tidy()


def test_no_such_host(world: World) -> None:
    run = world.run(["zfsync", "push", world.source, "host.invalid:pool/x"])
    assert run.status == 5
    assert_one_sentence(run, "There is no host host.invalid")


def test_a_wrong_host_key(world: World) -> None:
    world.sender.sh("mv /root/.ssh/known_hosts /root/.ssh/kept")
    try:
        world.sender.sh("ssh-keygen -q -t ed25519 -N '' -f /root/other")
        world.sender.sh("{ printf '* '; cut -d' ' -f1,2 /root/other.pub; } > /root/.ssh/known_hosts")
        run = world.push()
    finally:
        world.sender.sh("mv /root/.ssh/kept /root/.ssh/known_hosts; rm -f /root/other*")
    assert run.status == 5
    assert_one_sentence(run, "The host key of", "known_hosts")


def test_a_key_that_is_refused(world: World) -> None:
    world.sender.sh("ssh-keygen -q -t ed25519 -N '' -f /root/other")
    try:
        run = world.push("--identity", "/root/other")
    finally:
        world.sender.sh("rm -f /root/other*")
    assert run.status == 5
    assert_one_sentence(run, "refused every key", "--identity")


def test_no_python_at_the_far_end(world: World) -> None:
    world.snapshot("1")
    run = world.push("--remote-python", "/nonexistent/python3")
    assert run.status == 6
    assert_one_sentence(run, "has no python3 of version 3.8 or newer", "--remote-python")
    world.assert_tidy()


def test_no_zfs_at_the_far_end(world: World) -> None:
    world.snapshot("1")
    world.receiver.sh("mv /usr/sbin/zfs /usr/sbin/zfs.hidden")
    try:
        run = world.push()
    finally:
        world.receiver.sh("mv /usr/sbin/zfs.hidden /usr/sbin/zfs")
    assert run.status == 7
    assert_one_sentence(run, "There is no working zfs on")
    world.assert_tidy()


def test_no_permission_at_the_far_end(world: World) -> None:
    world.snapshot("1")
    run = world.push(user="plain")
    assert run.status == 3
    assert_one_sentence(run, "permission denied", "--sudo", "zfs allow")
    assert world.snapshots() == []
    world.assert_tidy()


def test_sudo_that_asks_for_a_password(world: World) -> None:
    world.snapshot("1")
    run = world.push("--sudo", user="plain")
    assert run.status == 7
    assert_one_sentence(run, "does not let this user run zfs")


def test_no_such_target_pool(world: World) -> None:
    world.snapshot("1")
    run = world.push(target="nopool/x")
    assert run.status == 7
    assert_one_sentence(run, "There is no pool nopool on")
    world.assert_tidy()


def test_a_target_that_was_written_to_keeps_what_it_has(world: World) -> None:
    world.create("/a")
    world.snapshot("1")
    assert world.push().status == 0
    mount = f"mount -t zfs -o zfsutil {world.target}/a /mnt"
    world.receiver.sh(f"zfs set readonly=off {world.target}/a; {mount}; echo mine > /mnt/mine; umount /mnt")
    before = world.snapshots()
    world.write("", 30)
    world.snapshot("2")
    run = world.push("--json")
    assert run.status == 3
    assert run.outcomes[world.source]["status"] == "sent"
    failed = run.outcomes[f"{world.source}/a"]
    assert failed["code"] == "modified"
    assert "was changed there since @1: --on-divergence set-aside keeps" in failed["message"]
    assert set(before) < set(world.snapshots())
    assert world.receiver.sh(f"{mount}; cat /mnt/mine; umount /mnt").stdout == "mine\n"
    world.assert_tidy()


def test_snapshots_made_at_the_target_are_not_rolled_back(world: World) -> None:
    world.snapshot("1")
    assert world.push().status == 0
    world.receiver.run(["zfs", "snapshot", f"{world.target}@mine"])
    world.snapshot("2")
    before = world.snapshots()
    run = world.push()
    assert run.status == 3
    assert "has @mine after @1, the newest in common" in run.err
    assert "rollback loses them" in run.err
    assert world.snapshots() == before
    world.assert_tidy()


def test_the_same_snapshot_name_with_another_guid_is_no_base(world: World) -> None:
    world.snapshot("1")
    world.receiver.run(["zfs", "create", world.target])
    world.receiver.run(["zfs", "snapshot", f"{world.target}@1"])
    before = world.snapshots()
    run = world.push()
    assert run.status == 3
    assert "no snapshot in common" in run.err
    assert "@1 exists on both, but with different GUIDs" in run.err
    assert world.snapshots() == before
    world.assert_tidy()


def test_a_dataset_without_snapshots_at_the_target_is_not_overwritten(world: World) -> None:
    world.snapshot("1")
    world.receiver.sh(f"zfs create {world.target} && echo precious > /{world.target}/file")
    run = world.push()
    assert run.status == 3
    assert "exists but has no snapshot" in run.err
    assert world.receiver.sh(f"cat /{world.target}/file").stdout == "precious\n"
    world.assert_tidy()


def test_a_target_that_is_full(world: World) -> None:
    world.create("/a")
    world.write("", 100)
    world.write("/a", 20_000)
    world.snapshot("1")
    world.receiver.run(["zfs", "set", "quota=8M", world.above])
    assert world.push().status == 7  # refused before anything is sent
    run = world.push("--skip-preflight", "--json")
    assert run.status == 3, run
    assert run.outcomes[f"{world.source}/a"]["code"] == "no-space", run
    assert "free space there" in run.outcomes[f"{world.source}/a"]["message"]
    world.receiver.run(["zfs", "set", "quota=none", world.above])
    assert world.push().status == 0
    world.assert_equal()


def big(world: World) -> None:
    """A first push that is done, and then so much new data that something can happen while it is on its way."""
    world.create("/a")
    world.write("/a", 100)
    world.snapshot("1")
    assert world.push().status == 0
    world.write("/a", 200_000, "big")
    world.snapshot("2")


@pytest.mark.parametrize("signal", ["INT", "TERM"])
def test_an_interrupted_push_says_so_and_the_next_one_resumes(world: World, signal: str) -> None:
    big(world)
    running = world.start()
    running.wait_for_bytes(20 * MEBIBYTE)
    running.signal(signal)
    run = running.wait()
    assert run.status == 130, run
    assert_one_sentence(run, "interrupted")
    world.assert_tidy(partial=True)
    assert [row.split("\t")[0] for row in world.snapshots(f"{world.target}/a")] == [f"{world.target}/a@1"]

    again = world.push("--json")
    assert again.status == 0
    resumed = again.outcomes[f"{world.source}/a"]
    assert resumed["what"] == "resume -> @2"
    assert resumed["bytes"] < 190 * MEBIBYTE
    world.assert_equal()


@pytest.mark.usefixtures("by_command")
def test_a_connection_cut_in_mid_stream_is_resumed_by_the_next_run(world: World) -> None:
    big(world)
    running = world.start()
    running.wait_for_bytes(20 * MEBIBYTE)
    running.signal("STOP")  # so that it cannot be done before the cut
    # The connection's own sshd process: the agents' grandparents. The agents end by themselves.
    world.receiver.sh(
        "pid=$(pgrep -f '[z]fs receive' | head -1); until [ \"$(ps -o comm= -p $pid)\" = sshd-session ]; do "
        "pid=$(ps -o ppid= -p $pid | tr -d ' '); done; kill -9 $pid"
    )
    running.signal("CONT")
    run = running.wait()
    assert run.status == 5, run
    assert_one_sentence(run, "The connection to", "was lost", "goes on where it was cut off")
    world.wait_until(world.receiver, f"! pgrep -f '[z]fs receive|[p]ython3 -I' && ! {LOCKS}")
    world.assert_tidy(partial=True)
    assert world.push().status == 0
    world.assert_equal()


@pytest.mark.usefixtures("by_command")
def test_an_agent_that_is_killed_fails_its_dataset_alone(world: World) -> None:
    big(world)
    world.create("/other")
    world.write("/other", 100)
    world.snapshot("3")
    running = world.start("--channels", "2")
    running.wait_for_bytes(20 * MEBIBYTE)
    running.signal("STOP")
    world.receiver.sh("kill -9 $(ps -o ppid= -p $(pgrep -f '[z]fs receive.*/a$' | head -1))")
    running.signal("CONT")
    run = running.wait()
    assert run.status == 3, run
    assert run.outcomes[f"{world.source}/a"]["code"] == "lost"
    assert run.outcomes[f"{world.source}/other"]["status"] == "sent"
    world.wait_until(world.receiver, "! pgrep -f '[z]fs receive|[p]ython3 -I'")
    assert world.push().status == 0
    world.assert_equal()


def test_the_receiver_loses_power_amid_a_stream(world: World, lab: Lab) -> None:
    if lab.backend_name == "host":
        pytest.skip("the host backend has no machine to switch off")
    big(world)
    world.write("", 50)
    world.snapshot("3")
    running = world.start()
    running.wait_for_bytes(20 * MEBIBYTE)
    world.receiver.kill()
    lab.up("receiver")
    world.receiver.run(["zpool", "import", "-f", "pool"])
    world.receiver.put(HERE / "digest.py", "/root/digest.py")
    run = running.wait()
    assert run.status in (3, 5), run
    assert world.push().status == 0
    world.assert_equal()


def test_a_second_run_to_the_same_target_is_told_who_has_it(world: World) -> None:
    big(world)
    running = world.start()
    running.wait_for_bytes(MEBIBYTE)
    running.signal("STOP")
    second = world.push()
    running.signal("CONT")
    assert second.status == 4
    assert_one_sentence(second, f"{world.target} is locked by zfsync on", f"pid {running.pid}", "since 20")
    assert running.wait().status == 0
    world.assert_equal()


def test_what_a_crash_leaves_in_the_buffer_is_put_into_place_by_hand(world: World) -> None:
    for child in ("/a", "/a/b", "/a/b/c"):
        world.create(child)
        world.write(child, 20)
    world.snapshot("1")
    assert world.push().status == 0
    # As after a crash just before cleanbuffer: the three datasets lie in the buffer, children as well as parents.
    names = {child: child.encode().hex().upper() for child in ("/a/b/c", "/a/b", "/a")}
    world.make_buffer()
    for child, name in names.items():
        world.receiver.run(["zfs", "rename", "-u", world.target + child, f"{world.buffer}/{name}"])
    host = world.receiver.ssh_host
    run = world.run(["zfsync", "cleanbuffer", "--port", str(world.receiver.ssh_port), f"{host}:{world.target}"])
    assert run.status == 0, run
    assert "3 renamed into place" in run.out
    world.assert_equal()


def test_a_push_goes_on_with_what_waits_in_the_buffer(world: World) -> None:
    for child in ("/a", "/a/b"):
        world.create(child)
        world.write(child, 20)
    world.snapshot("1")
    assert world.push().status == 0
    world.make_buffer()
    world.receiver.run(["zfs", "rename", "-u", f"{world.target}/a/b", f"{world.buffer}/2F612F62"])
    world.write("/a/b", 20, "more")
    world.snapshot("2")
    run = world.push("--json")
    assert run.status == 0, run
    assert run.outcomes[f"{world.source}/a/b"]["what"] == "@1 -> @2"
    world.assert_equal()


def test_what_cannot_leave_the_buffer_is_said(world: World) -> None:
    world.snapshot("1")
    assert world.push().status == 0
    world.make_buffer()
    world.receiver.run(["zfs", "create", f"{world.buffer}/{b'/no/where'.hex().upper()}"])
    host = world.receiver.ssh_host
    run = world.run(["zfsync", "cleanbuffer", "--port", str(world.receiver.ssh_port), f"{host}:{world.target}"])
    assert run.status == 3
    assert f"its parent {world.target}/no is not there" in run.err
    world.assert_tidy(buffered=True)
    again = world.push()
    assert "/no/where stays in" in again.err
    world.assert_tidy(buffered=True)


def test_a_token_that_fits_no_more_is_dropped_and_said(world: World) -> None:
    big(world)
    running = world.start()
    running.wait_for_bytes(20 * MEBIBYTE)
    running.signal("INT")
    running.wait()
    world.sender.run(["zfs", "destroy", f"{world.source}/a@2"])
    world.snapshot("3")
    run = world.push("--json")
    assert run.status == 0, run
    assert "a partial receive that no longer fits is dropped" in run.outcomes[f"{world.source}/a"]["why"]
    world.sender.run(["zfs", "destroy", f"{world.source}@2"])
    world.receiver.run(["zfs", "destroy", f"{world.target}@2"], check=False)
    world.assert_equal()


@pytest.mark.usefixtures("by_command")
def test_a_snapshot_destroyed_just_before_it_is_sent_fails_that_dataset_alone_if_nothing_was_held(world: World) -> None:
    world.create("/gone")
    world.create("/stays")
    world.snapshot("1")
    assert world.push().status == 0
    world.snapshot("2")
    # A `zfs` that destroys the snapshot just before it would be sent.
    wrapper = f"""#!/bin/sh
case "$*" in send*gone*) /usr/sbin/zfs destroy {world.source}/gone@2;; esac
exec /usr/sbin/zfs "$@"
"""
    world.sender.run(["sh", "-c", "cat > /usr/local/sbin/zfs && chmod 755 /usr/local/sbin/zfs"], input=wrapper)
    try:
        run = world.push("--json", "--no-hold")
    finally:
        world.sender.sh("rm /usr/local/sbin/zfs")
    assert run.status == 3, run
    assert run.outcomes[f"{world.source}/gone"]["code"] == "source"
    assert "zfs send failed" in run.outcomes[f"{world.source}/gone"]["message"]
    assert run.outcomes[f"{world.source}/stays"]["status"] == "sent"
    world.assert_tidy()
    assert world.push().status == 0
    world.assert_equal()


def test_maxsessions_below_the_channels_is_said_and_enough(world: World) -> None:
    for child in ("/a", "/b", "/c"):
        world.create(child)
        world.write(child, 100)
    world.snapshot("1")
    config = "/etc/ssh/sshd_config.d/zz.conf"
    reload = "kill -HUP $(pgrep -o -x sshd)"
    world.receiver.sh(f"echo 'MaxSessions 2' > {config}; {reload}")
    try:
        world.wait_until(world.receiver, "/usr/sbin/sshd -T | grep -qi '^maxsessions 2$' && sleep 1")
        run = world.push()
    finally:
        world.receiver.sh(f"rm {config}; {reload}")
    assert run.status == 0, run
    assert "MaxSessions" in run.err
    assert "4 sent" in run.out
    world.assert_equal()
