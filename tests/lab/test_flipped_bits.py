"""One bit of what an agent hears is flipped: on real ZFS, that never becomes a snapshot of other contents."""

from __future__ import annotations

from pathlib import Path

from tests.lab.conftest import World

HERE = Path(__file__).parent
NEVER = 1 << 40


def test_a_flipped_bit_never_becomes_a_snapshot(world: World) -> None:
    world.write("", 1 << 10)
    world.snapshot("1")
    world.write("", 64, "other")
    world.snapshot("2")
    world.receiver.put(HERE / "flip.py", "/root/flip.py")
    world.receiver.sh("printf '#!/bin/sh\\nexec python3 /root/flip.py \"$@\"\\n' > /root/flip; chmod +x /root/flip")

    def push(at: int) -> int:
        world.receiver.sh(f"echo {at} > /root/flip-at; : > /root/flip-counts")
        return world.push("--channels", "1", "--stall-timeout", "30s", "--remote-python", "/root/flip").status

    assert push(NEVER) == 0
    whole = max(map(int, world.receiver.run(["cat", "/root/flip-counts"]).stdout.split()))
    assert whole > 1 << 20
    world.assert_equal()
    sent = set(world.digest(world.sender, world.source))
    # The Begin, the Sync and the Stream; the first records; payloads; the last record, the End and the Close.
    early = [*range(0, 1200, 150), 1260, 1400]
    late = [whole - back for back in (9, 15, 30, 40, 60, 300)]
    failed = 0
    for at in (*early, *range(5000, whole, whole // 4), *late):
        for name in (world.target, world.buffer):
            world.receiver.run(["zfs", "destroy", "-r", name], check=False)
        failed += push(at) != 0
        there = world.receiver.run(["zfs", "list", "-Ho", "name", world.target], check=False).returncode == 0
        if there:
            assert set(world.digest(world.receiver, world.target)) <= sent, at
    assert failed > 10
    for name in (world.target, world.buffer):
        world.receiver.run(["zfs", "destroy", "-r", name], check=False)
    assert world.push().status == 0
    world.assert_equal()
