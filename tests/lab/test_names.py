"""Whatever names ZFS allows: drawn by chance, made on real ZFS, pushed, again from bookmarks, pulled back and verified.

The seed is printed, which pytest shows when the test fails; ZFSYNC_NAMES_SEED=SEED draws the same names again.
"""

from __future__ import annotations

import os
import random
import string
from collections.abc import Iterable

from tests.lab.conftest import World
from tests.lab.driver import Machine
from zfsync_ssh.dataset import MAX_NAME_CHARS, check_name
from zfsync_ssh.errors import UsageError

CHARS = string.ascii_letters + string.digits + "-_.: "
"""Of zfs_namecheck.c. No part of a name is ``.`` or ``..``; a percent sign is for ZFS's own names."""
TRICKY = (
    "-", "--", "-r", "-rf", "--help", "-o readonly:off", "-t 1-c740b4779-f0-789c636064", "...", ":",
    " ", "   ", " a", "a ", " -r ", "0", "00", "_", "A", "a", "a:b", "b:pool", "none", "on", "all", "recv", "origin",
    "2F61", "H-00000000", "x.zfsyncbuffer", "zfsyncbuffer", "x.zfsync-aside-20260101", "zfsync.0.a", "1h",
)  # fmt: skip
"""Options, a token, blanks, words of zfs's own, and names like those that zfsync gives."""
ROOT = "-F -r: "
COPY = "-r"
"""Shorter than the root: the names of what is received into may have no more than 249 characters."""
ILLEGAL = (".", "..", "%", "a%b", "%recv", "a\tb", "a,b", "a=b", "a;b", "$(id)", "a'b", "a*", "a\\b", "ä", "")
DATASETS = 10


class Drawn:
    """A tree of names, as many characters long as ``room`` allows behind the root."""

    def __init__(self, seed: int, room: int) -> None:
        self._chance = random.Random(seed)
        self._room = room
        children = [""]
        while len(children) < DATASETS:
            child = f"{self._chance.choice(children)}/{self._name(30)}"
            if child not in children:
                children.append(child)
        longest = "/" + self._chars(room - len("/@1"))
        below = min((child for child in children if child), key=lambda child: (-child.count("/"), len(child)))
        filled = {"", longest, below}
        """Those whose snapshots and bookmarks are as long as can be."""
        self.children = [*children, longest]
        self.first = {child: self._behind(child, child in filled) for child in self.children}
        self.second = {child: self._behind(child, child in filled, self.first[child]) for child in self.children}
        marked = filled | set(self._chance.sample(children, k=5))
        self.marks = {child: self._behind(child, child in filled) for child in self.children if child in marked}

    def _chars(self, count: int) -> str:
        drawn = "".join(self._chance.choices(CHARS, k=count))
        return "-" * count if drawn in (".", "..") else drawn

    def _name(self, longest: int) -> str:
        return (
            self._chance.choice(TRICKY)
            if self._chance.random() < 0.6
            else self._chars(self._chance.randint(1, longest))
        )

    def _behind(self, child: str, filled: bool, other: str = "") -> str:
        """What stands behind the ``@`` or ``#`` of ``child``, and is not ``other``."""
        room = self._room - len(child) - 1
        while (name := self._chars(room) if filled else self._name(room)[:room]) == other:
            pass
        return name


def draw(world: World) -> Drawn:
    """The names of a tree that fits at both ends."""
    seed = int(os.environ.get("ZFSYNC_NAMES_SEED") or random.randrange(1 << 32))
    print(f"ZFSYNC_NAMES_SEED={seed}")
    return Drawn(seed, MAX_NAME_CHARS - len(world.source))


def each(machine: Machine, script: str, rows: Iterable[tuple[str, ...]]) -> None:
    """Run a bash script for each row, whose columns are $1, $2..."""
    loop = f'while IFS=$\'\\t\' read -r one two; do set -- "$one" "$two"; ( {script} ) < /dev/null; done'
    machine.sh(loop, input="".join("\t".join(row) + "\n" for row in rows), timeout=300)


def snapshot(world: World, names: dict[str, str]) -> None:
    """Write something into each dataset, and take a snapshot of each."""
    each(world.sender, 'head -c 2k /dev/urandom >> "/$1/file"', [(world.source + child,) for child in names])
    world.sender.run(["zfs", "snapshot", *(f"{world.source}{child}@{name}" for child, name in names.items())])


def listed(machine: Machine, root: str, columns: str, kinds: str) -> list[str]:
    return sorted(machine.run(["zfs", "list", "-Hr", "-t", kinds, "-o", columns, root]).stdout.splitlines())


def test_names_of_all_kinds_arrive_go_on_from_bookmarks_come_back_and_go(world: World) -> None:
    top = world.source.rpartition("/")[0]
    world.source, world.target = f"{top}/{ROOT}", f"{world.above}/{COPY}"
    world.buffer = f"{world.target}.zfsyncbuffer"
    drawn = draw(world)
    each(world.sender, 'zfs create "$1"', [(world.source + child,) for child in drawn.children])
    snapshot(world, drawn.first)
    marks = [(f"{world.source}{child}@{drawn.first[child]}", f"{world.source}{child}#{mark}")
             for child, mark in drawn.marks.items()]  # fmt: skip
    each(world.sender, 'zfs bookmark "$1" "$2"', marks)

    run = world.push("--json", "--no-bookmark")
    assert run.status == 0, run
    first = world.digest(world.sender, world.source)

    each(world.sender, 'zfs destroy "$1"', [(name,) for name, _ in marks])
    snapshot(world, drawn.second)
    run = world.push("--json")
    assert run.status == 0, run
    for child in drawn.children:
        base = f"#{drawn.marks[child]}" if child in drawn.marks else f"@{drawn.first[child]}"
        assert run.outcomes[world.source + child]["what"] == f"{base} -> @{drawn.second[child]}"
    both = sorted({*first, *world.digest(world.sender, world.source)})
    assert world.digest(world.receiver, world.target) == both

    back = f"{top}/b"
    both_places = ["--port", str(world.receiver.ssh_port), f"{world.receiver.ssh_host}:{world.target}", back]
    run = world.run(["zfsync", "pull", "--json", *both_places])
    assert run.status == 0, run
    assert world.digest(world.sender, back) == both
    run = world.run(["zfsync", "verify", *both_places])
    assert run.status == 0, run

    run = world.push("--json", "--yes", "--delete-snapshots")
    assert run.status == 0, run
    here, there = (
        [row[len(root) :] for row in listed(machine, root, "name,guid", "snapshot")]
        for machine, root in ((world.sender, world.source), (world.receiver, world.target))
    )
    assert here == there

    world.assert_tidy()
    trees = [top, f"{top}/src", *(root + child for root in (world.source, back) for child in drawn.children)]
    assert listed(world.sender, top, "name", "filesystem,volume") == sorted(trees)
    copies = [world.above, *(world.target + child for child in drawn.children)]
    assert listed(world.receiver, world.above, "name", "filesystem,volume") == sorted(copies)
    for machine, root in ((world.sender, top), (world.receiver, world.above)):
        assert set(listed(machine, root, "userrefs", "snapshot")) == {"0"}
        assert set(listed(machine, root, "receive_resume_token", "filesystem,volume")) == {"-"}


def test_what_would_make_the_kernel_panic_is_refused(world: World) -> None:
    """ZFS itself does not refuse it: see `zfsync_ssh.dataset.MAX_RECEIVED_CHARS`. The pools would hang."""
    assert len(world.source) == len(world.target)
    longer = {size: "/" + "x" * (size - len(world.source) - 1) for size in (245, 246, 249, 250, 253)}
    for child in longer.values():
        world.create(child)
    world.snapshot("0")
    world.snapshot("1")
    run = world.push("--json")
    assert run.status == 0, run
    world.assert_equal()

    world.snapshot("2")
    run = world.push("--json")
    assert run.status == 3, run
    for size, child in longer.items():
        outcome = run.outcomes[world.source + child]
        assert (outcome["status"], outcome["code"]) == (("sent", "") if size <= 249 else ("failed", "name"))
    world.receiver.run(["zpool", "sync", "pool"], timeout=30)

    for size in (245, 246):
        world.receiver.run(["zfs", "snapshot", f"{world.target}{longer[size]}@own"])
    world.snapshot("3")
    run = world.push("--json", "--yes", "--on-divergence", "rollback")
    assert run.outcomes[world.source + longer[245]]["status"] == "sent", run
    assert run.outcomes[world.source + longer[246]]["status"] == "failed", run
    assert world.snapshots_of(world.receiver, world.target + longer[246]) == ["0", "1", "2", "own"]
    world.receiver.run(["zpool", "sync", "pool"], timeout=30)
    world.assert_tidy()


def test_what_zfs_refuses_in_a_name_is_refused_here_and_what_it_takes_is_taken(world: World) -> None:
    names = [f"{world.source}/{part}" for part in (*ILLEGAL, *TRICKY, "l" * 300)]
    tried = world.sender.sh(
        'while IFS= read -r name; do zfs create -u "$name" 2>/dev/null && echo yes || echo no; done',
        input="".join(f"{name}\n" for name in names),
    ).stdout.split()
    assert tried == ["no"] * len(ILLEGAL) + ["yes"] * len(TRICKY) + ["no"]
    assert ["yes" if accepted(name) else "no" for name in names] == tried


def accepted(name: str) -> bool:
    """Whether zfsync takes it for the name of a dataset."""
    try:
        return check_name(name) == name
    except UsageError:
        return False
