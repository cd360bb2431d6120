"""Contents compared on real ZFS: what is equal, what differs, what cannot be read; and that nothing stays behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.conftest import Run, Running, World
from tests.lab.driver import Machine

DEVICE = 'for d in /dev/zd*; do [ "$(/lib/udev/zvol_id $d)" = {} ] && echo $d; done'
MIB = 1 << 20

ODD = """
import os
os.setxattr("file", "user.a", b"b")
os.setxattr("link", "trusted.t", b"u", follow_symlinks=False)
for name in (b"bad\\xff\\xfe", b"new\\nline", b"tab\\there", b'"quoted"\\\\'):
    open(name, "w").write("x")
"""


class Verifying:
    """A tree that was pushed, and ways to compare it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.machines = (world.sender, world.receiver)

    @property
    def there(self) -> str:
        return f"{self.world.receiver.ssh_host}:{self.world.target}"

    def argv(self, *options: str, first: str = "", second: str = "") -> list[str]:
        port = str(self.world.receiver.ssh_port)
        ends = (first or self.world.source, second or self.there)
        return ["zfsync", "verify", "--json", "--port", port, *options, *ends]

    def verify(self, *options: str, first: str = "", second: str = "") -> Run:
        run = self.world.run(self.argv(*options, first=first, second=second))
        assert "Traceback" not in run.err, run
        self.nothing_is_left()
        return run

    def nothing_is_left(self) -> None:
        """Neither a mount nor a directory, a clone, a property, a device, nor a process."""
        for machine in self.machines:
            self.world.wait_until(machine, "! pgrep -f '[z]fsync'")
            left = machine.sh(
                "ls -d /run/zfsync-verify-* /tmp/zfsync-verify-* 2>/dev/null || true; "
                "grep @ /proc/mounts || true; zfs list -Ho name | grep zfsync-verify || true; "
                "zfs get -Hr -s local -o name,property snapdev,zfsync:reader || true"
            )
            assert left.stdout == "", left.stdout

    def device(self, machine: Machine, volume: str) -> str:
        return machine.sh(DEVICE.format(volume)).stdout.strip()


@pytest.fixture
def verifying(world: World) -> Iterator[Verifying]:
    made = Verifying(world)
    yield made
    made.nothing_is_left()


def grow(world: World) -> None:
    for child, *options in (("/a",), ("/od d:x",), ("/od d:x/..z",), ("/noxattr", "-o", "xattr=off"), ("/empty",)):
        world.create(child, *options)
    world.create("/vol", "-s", "-V", "64M", "-b", "16k")
    world.create("/od d:x/v ol", "-s", "-V", "16M")
    world.write("", 20)
    world.write("/a", 3000, "large")
    world.write("/od d:x/..z", 5)
    world.sender.sh(
        f"cd /{world.source} && ln -s /nowhere link && ln file hard && mkfifo fifo && mknod tape c 9 128 && "
        "truncate -s 300M sparse && mkdir -p -m 700 deep/er/dir && touch -d 2001-01-01 deep/er/old && chown 12:34 fifo"
    )
    world.sender.run(["python3", "-c", f"import os; os.chdir('/{world.source}')" + ODD])
    fill_volume(world, "/vol")


def fill_volume(world: World, child: str) -> None:
    device = DEVICE.format(world.source + child)
    world.sender.sh(f"head -c 3M /dev/urandom | dd of=$({device}) bs=1M seek=5 iflag=fullblock conv=fsync status=none")


def test_equal_trees_are_equal_and_it_may_be_repeated(verifying: Verifying, world: World) -> None:
    grow(world)
    world.snapshot("one")
    world.snapshot("two")
    assert world.push().status == 0
    run = verifying.verify()
    assert run.status == 0, run
    assert {outcome["status"] for outcome in run.outcomes.values()} == {"equal"}
    assert {outcome["what"] for outcome in run.outcomes.values()} == {"@two"}
    assert len(run.outcomes) == 8
    assert run.outcomes[world.source]["bytes"] > 300 * MIB  # the sparse file counts
    assert run.outcomes[f"{world.source}/vol"]["bytes"] == 3 * MIB  # zeros do not
    one_channel = verifying.verify("--channels", "1", "--sample", "2")
    assert one_channel.status == 0, one_channel
    assert any("--seed" in event.get("text", "") for event in one_channel.events)
    assert sum(o["bytes"] for o in one_channel.outcomes.values()) < sum(o["bytes"] for o in run.outcomes.values())
    world.assert_equal()


def test_the_newest_common_snapshot_is_compared_whatever_came_after_it(verifying: Verifying, world: World) -> None:
    world.create("/new")
    world.write("")
    world.snapshot("1", recursive=False)
    assert world.push().status == 0
    world.write("")
    world.snapshot("2")
    run = verifying.verify()
    assert run.status == 3
    assert run.outcomes[world.source]["status"] == "equal"
    assert run.outcomes[world.source]["what"] == "@1"
    new = run.outcomes[f"{world.source}/new"]
    assert new["status"] == "different"
    assert "no snapshot in common" in new["message"] or "only in" in new["message"]


def test_what_differs_between_two_snapshots_is_named(verifying: Verifying, world: World) -> None:
    grow(world)
    world.snapshot("old")
    world.sender.sh(
        f"cd /{world.source} && chmod 600 hard && rm link && echo new > deep/er/more && "
        "touch -d 2002-02-02 deep/er/old && printf x | dd of=sparse bs=1 seek=200M conv=notrunc "
        "status=none && chown 1 tape"
    )
    world.sender.run(["python3", "-c", f"import os; os.setxattr('/{world.source}/file', 'user.a', b'c')"])
    device = DEVICE.format(f"{world.source}/vol")
    world.sender.sh(f"echo 'not what was there' | dd of=$({device}) bs=1 seek=7M conv=notrunc,fsync status=none")
    world.snapshot("new")
    assert world.push().status == 0
    run = verifying.verify(first=f"{world.source}@old", second=f"{verifying.there}@new")
    assert run.status == 3
    root = run.outcomes[world.source]
    assert root["status"] == "different"
    parts = [part.split(":")[0] for part in root["message"].split("; ")]
    for part in (
        "deep/er/old: time of change",
        f"deep/er/more: only in {verifying.there}",
        f"link: only in {world.source}",
        "hard: mode 644 and 600, extended attributes",
        "file: mode 644 and 600, extended attributes",
        "sparse: time of change, contents",
        "tape: owner 0 and 1",
    ):
        assert part in root["message"], (part, parts)
    assert run.outcomes[f"{world.source}/vol"]["message"].endswith(f"bytes {7 * MIB} to {8 * MIB - 1}.")
    assert run.outcomes[f"{world.source}/a"]["status"] == "equal"
    same = verifying.verify(first=f"{world.source}@new", second=f"{verifying.there}@new")
    assert same.status == 0, same


def test_a_block_that_cannot_be_read_names_its_file(verifying: Verifying, world: World) -> None:
    world.write("", 400, "good")
    world.write("", 400, "bad")
    world.snapshot("1")
    assert world.push().status == 0
    name = f"{world.target}@1"
    world.receiver.sh("mkdir -p /mnt/look && mount -t zfs -o ro " + name + " /mnt/look")
    inode = world.receiver.sh("stat -c %i /mnt/look/bad; umount /mnt/look").stdout.strip()
    # The block's place on disk, from zdb; what is written over it no longer fits its checksum.
    dump = world.receiver.sh(f"zpool sync; zdb -ddddd {name} {inode}").stdout
    dva = next(word for line in dump.splitlines() if " L0 " in line for word in line.split() if word.startswith("0:"))
    offset = int(dva.split(":")[1], 16) + 4 * MIB
    disk = world.receiver.disks[0]
    world.receiver.sh(
        f"zpool export pool && dd if=/dev/urandom of={disk} bs=512 seek={offset // 512} count=8 conv=notrunc,fsync "
        "status=none && zpool import -d /dev pool"
    )
    try:
        run = verifying.verify()
    finally:
        world.receiver.sh("zpool clear pool")
    assert run.status == 3
    outcome = run.outcomes[world.source]
    assert (outcome["status"], outcome["code"]) == ("failed", "unreadable")
    assert f"bad: cannot be read: Input/output error in {verifying.there}" in outcome["message"]
    assert "good" not in outcome["message"]


def test_an_encrypted_dataset_needs_its_key_at_both_ends(verifying: Verifying, world: World) -> None:
    world.sender.sh("echo password > /root/key")
    world.create("/secret", "-o", "encryption=on", "-o", "keyformat=passphrase", "-o", "keylocation=file:///root/key")
    world.create("/secret/vol", "-s", "-V", "16M")
    world.write("/secret", 50)
    fill = DEVICE.format(f"{world.source}/secret/vol")
    world.sender.sh(f"head -c 2M /dev/urandom | dd of=$({fill}) iflag=fullblock bs=1M conv=fsync status=none")
    world.snapshot("1")
    assert world.push().status == 0
    run = verifying.verify()
    assert run.status == 3
    assert run.outcomes[world.source]["status"] == "equal"
    for child in ("/secret", "/secret/vol"):
        outcome = run.outcomes[world.source + child]
        assert (outcome["status"], outcome["code"]) == ("failed", "key")
        assert f"{verifying.there}{child} cannot be read: its key is not loaded there" in outcome["message"]
    world.receiver.sh(
        f"for d in {world.target}/secret {world.target}/secret/vol; do "
        '[ "$(zfs get -Ho value encryptionroot $d)" = $d ] && echo password | zfs load-key -L prompt $d; done; true'
    )
    run = verifying.verify()
    assert run.status == 0, run


def start(world: World, verifying: Verifying) -> Running:
    """Start a comparison of much that has to be read, and wait until the far end reads."""
    running = world.start_words(*verifying.argv())
    world.wait_until(world.receiver, "zfs list -Ho name | grep -q zfsync-verify")
    return running


CUT_OFF = {
    "the agents are killed": (3, 6),
    "the connection is cut": (5,),
    "interrupted": (130,),
    "killed": (-9, 137, 255),
}
"""How it is cut off, and the exit codes that tell so."""


@pytest.mark.parametrize("how", CUT_OFF)
def test_nothing_stays_behind_when_it_is_cut_off(verifying: Verifying, world: World, how: str) -> None:
    world.create("/vol", "-V", "1G", "-s")
    world.write("", 30000)
    device = DEVICE.format(f"{world.source}/vol")
    world.sender.sh(f"head -c 300M /dev/urandom | dd of=$({device}) iflag=fullblock bs=1M conv=fsync status=none")
    world.snapshot("1")
    assert world.push().status == 0
    running = start(world, verifying)
    if how == "the agents are killed":
        for machine in verifying.machines:
            machine.sh("pkill -9 -f '^[^ ]*python3 -I -c' || true")  # the others may have ended by then
    elif how == "the connection is cut":
        # The agent's parent is a shell, and the parent of that the sshd of this connection.
        world.receiver.sh(
            "for agent in $(pgrep -x python3); do shell=$(ps -o ppid= -p $agent); "
            "kill -9 $(ps -o ppid= -p $shell) || true; done"
        )
    else:
        running.signal("INT" if how == "interrupted" else "KILL")
    ended = running.wait()
    assert ended.status in CUT_OFF[how], ended
    world.wait_until(world.receiver, "! zfs list -Ho name | grep -q zfsync-verify")
    verifying.nothing_is_left()
    again = verifying.verify()
    assert again.status == 0, again


def test_a_clone_that_a_crash_left_is_destroyed_by_the_next_run(verifying: Verifying, world: World) -> None:
    world.create("/vol", "-s", "-V", "16M")
    world.snapshot("1")
    assert world.push().status == 0
    world.receiver.run(
        ["zfs", "clone", "-o", "zfsync:reader=999999", f"{world.target}/vol@1", "pool/zfsync-verify-0123456789abcdef"]
    )
    assert verifying.verify().status == 0


def test_who_is_not_root_is_told_so(verifying: Verifying, world: World) -> None:
    world.write("")
    world.snapshot("1")
    assert world.push().status == 0
    run = verifying.verify("--sudo", second=f"backup@{verifying.there}")
    assert run.status == 3
    assert "cannot be mounted there" in run.outcomes[world.source]["message"]
