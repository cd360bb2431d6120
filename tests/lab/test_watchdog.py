"""Streams that stand still on real ZFS: the run ends them, and the next one goes on with what had arrived."""

from __future__ import annotations

import pytest

from tests.lab.conftest import World
from tests.lab.driver import Lab

MEBIBYTE = 1 << 20


@pytest.mark.parametrize(
    ("side", "command", "who"),
    [
        ("sender", "zfs send", "zfs send gave nothing more on this machine"),
        ("receiver", "zfs receive", "zfs receive took nothing more on {}, where the agent answers"),
    ],
)
@pytest.mark.usefixtures("by_command")
def test_a_stream_that_stands_still_is_ended_and_resumed(world: World, side: str, command: str, who: str) -> None:
    machine = world.sender if side == "sender" else world.receiver
    world.create("/a")
    world.write("/a", 100 << 10)
    world.snapshot("1")
    running = world.start("--stall-timeout", "30s", "--rate-limit", "8M")
    running.wait_for_bytes(20 * MEBIBYTE)
    machine.sh(f"kill -STOP $(pgrep -f '[z]{command[1:]}.*/a')")
    run = running.wait()
    assert run.status == 3, run
    stalled = run.outcomes[f"{world.source}/a"]
    assert stalled["code"] == "stalled"
    assert f"{world.source}/a: its stream stood still for 30s after " in stalled["message"]
    assert who.format(world.receiver.ssh_host) in stalled["message"]
    assert run.outcomes[world.source]["status"] == "sent"
    # The agent there, which nobody listens to any more, kills what hangs.
    world.wait_until(world.receiver, "! pgrep -f '[z]fs receive|[p]ython3 -I'", seconds=120)
    world.assert_tidy(partial=True)
    again = world.push("--json")
    assert again.status == 0, again
    assert again.outcomes[f"{world.source}/a"]["what"].startswith("resume")
    assert again.outcomes[f"{world.source}/a"]["bytes"] < 90 * MEBIBYTE
    world.assert_equal()


def test_a_way_on_which_every_packet_is_lost_is_given_up_and_the_next_run_goes_on(world: World, lab: Lab) -> None:
    if lab.backend_name == "host":
        pytest.skip("the host backend has no network between its machines")
    world.create("/a")
    world.write("/a", 100 << 10)
    world.snapshot("1")
    running = world.start("--stall-timeout", "30s", "--rate-limit", "8M")
    running.wait_for_bytes(20 * MEBIBYTE)
    lab.separate(True)
    try:
        run = running.wait()
    finally:
        lab.separate(False)
    assert run.status == 3, run
    stalled = run.outcomes[f"{world.source}/a"]
    assert stalled["code"] == "stalled"
    assert f"the agent on {world.receiver.ssh_host} was not heard of" in stalled["message"]
    # Its agents say that they are at work, and learn that nobody hears that any more.
    world.wait_until(world.receiver, "! pgrep -f '[z]fs receive|[p]ython3 -I'", seconds=120)
    again = world.push("--json")
    assert again.status == 0, again
    assert again.outcomes[f"{world.source}/a"]["what"].startswith("resume")
    world.assert_equal()
