"""One suite for both drivers of ZFS's small operations, on real ZFS: what one does, the other does."""

from __future__ import annotations

import itertools
import json
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.lab.conftest import HERE
from tests.lab.driver import Lab, Machine

PACKAGE = HERE.parents[1] / "zfsync_ssh"
THERE = "/tmp/driver"
CLASSES = {"cli": "CliDriver", "lib": "LibDriver"}
_numbers = itertools.count(1)


class Operator:
    """A process on the machine that has chosen its driver."""

    def __init__(self, machine: Machine, kind: str, user: str) -> None:
        setting = ["ZFSYNC_LIBZFS=off"] if kind == "cli" else []
        words = ["runuser", "-u", user, "--", "env", f"PYTHONPATH={THERE}", *setting]
        self._process = machine.start([*words, "python3", f"{THERE}/operate.py"], stdin=subprocess.PIPE)
        assert self._answer() == CLASSES[kind]

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise AssertionError(self._process.communicate()[1])
        return json.loads(line)

    def ask(self, operation: str, *arguments: object) -> Any:
        """What the driver answers."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([operation, arguments]) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def codes(self, operation: str, *arguments: object) -> dict[str, str]:
        """The names that could not be done, and why; each has a message."""
        failures = self.ask(operation, *arguments)
        assert all(message for _, _, message in failures)
        assert len({name for name, _, _ in failures}) == len(failures)
        return {name: code for name, code, _ in failures}

    def end(self) -> None:
        """End it as its input ends, and wait for that."""
        self._process.communicate(timeout=60)


class Place:
    """A tree of datasets that nothing else uses, and the operators on it."""

    def __init__(self, machine: Machine, kind: str) -> None:
        self.machine = machine
        self.kind = kind
        self.root = f"tank/d{next(_numbers)}"
        self._operators: list[Operator] = []
        self.create("")

    def create(self, *children: str) -> None:
        self.machine.sh("\n".join(f"zfs create '{self.root}{child}'" for child in children))

    def snapshot(self, *names: str) -> None:
        """Recursive ones."""
        self.machine.sh("\n".join(f"zfs snapshot -r '{self.root}@{name}'" for name in names))

    def zfs(self, *words: str) -> list[str]:
        return self.machine.run(["zfs", *words]).stdout.splitlines()

    def listed(self, kind: str = "snapshot") -> set[str]:
        return set(self.zfs("list", "-Hr", "-t", kind, "-o", "name", self.root))

    def holds(self) -> dict[str, int]:
        """The snapshots that are held, and how often."""
        rows = (row.split("\t") for row in self.zfs("list", "-Hpr", "-t", "snapshot", "-o", "name,userrefs", self.root))
        return {name: int(count) for name, count in rows if count != "0"}

    def operator(self, user: str = "root") -> Operator:
        self._operators.append(Operator(self.machine, self.kind, user))
        return self._operators[-1]

    def close(self) -> None:
        for operator in self._operators:
            operator.end()
        script = f"zfs list -Hrt snapshot -o name {self.root} | xargs -r -d '\\n' -n 1 zfs release -r test 2>/dev/null"
        self.machine.sh(script, check=False)
        self.machine.run(["zfs", "destroy", "-R", self.root])


@pytest.fixture(scope="module")
def machine(lab: Lab) -> Machine:
    sender = lab.machine("sender")
    sender.put(PACKAGE, f"{THERE}/zfsync_ssh")
    sender.put(HERE / "operate.py", f"{THERE}/operate.py")
    return sender


@pytest.fixture(params=["cli", "lib"])
def place(request: pytest.FixtureRequest, machine: Machine) -> Iterator[Place]:
    made = Place(machine, request.param)
    yield made
    made.close()


@pytest.fixture
def other_pool(machine: Machine) -> Iterator[str]:
    """A second pool, with a filesystem."""
    machine.sh("truncate -s 128M /tank/other.img; zpool create other /tank/other.img; zfs create other/a")
    yield "other"
    machine.sh("zpool destroy other; rm /tank/other.img")


# ---- holds -----------------------------------------------------------------------------------------------------------


def test_snapshots_are_held_and_released(place: Place) -> None:
    place.create("/a", "/b")
    place.snapshot("1", "2")
    r = place.root
    operator = place.operator()
    assert operator.codes("hold", [f"{r}@1", f"{r}/a@2"], "test") == {}
    assert place.holds() == {f"{r}@1": 1, f"{r}/a@2": 1}
    assert operator.codes("release", [f"{r}@1", f"{r}/a@2"], "test") == {}
    assert place.holds() == {}


def test_what_is_not_there_cannot_be_held_and_all_else_is(place: Place) -> None:
    place.create("/a", "/b")
    place.snapshot("1")
    r = place.root
    names = [f"{r}@1", f"{r}/a@9", f"{r}/a@1", f"{r}/none@1", f"{r}/b@1", "nopool@1"]
    missing = {f"{r}/a@9": "missing", f"{r}/none@1": "missing", "nopool@1": "missing"}
    assert place.operator().codes("hold", names, "test") == missing
    assert place.holds() == {f"{r}@1": 1, f"{r}/a@1": 1, f"{r}/b@1": 1}


def test_holding_twice_holds_once(place: Place) -> None:
    place.create("/a", "/b", "/c")
    place.snapshot("1")
    r = place.root
    operator = place.operator()
    assert operator.codes("hold", [f"{r}/a@1", f"{r}/c@1"], "test") == {}
    names = [f"{r}{child}@1" for child in ("", "/a", "/b", "/c")]
    assert operator.codes("hold", names, "test") == {}
    assert place.holds() == dict.fromkeys(names, 1)


def test_releasing_what_is_not_held_is_no_failure(place: Place) -> None:
    place.create("/a")
    place.snapshot("1")
    r = place.root
    operator = place.operator()
    operator.ask("hold", [f"{r}@1"], "test")
    codes = operator.codes("release", [f"{r}/a@1", f"{r}@1", f"{r}@9", f"{r}/none@1", "nopool@1"], "test")
    assert set(codes.values()) <= {"missing"}
    assert f"{r}@1" not in codes
    assert place.holds() == {}


def test_a_tree_is_held_but_for_what_it_lacks(place: Place) -> None:
    """The driver may hold more of the tree than it was asked to, until all is released."""
    place.create("/a", "/a/x", "/b", "/c", "/extra")
    place.snapshot("1")
    r = place.root
    place.zfs("destroy", f"{r}/b@1")
    names = [f"{r}{child}@1" for child in ("/a", "/a/x", "/b", "", "/c")]
    operator = place.operator()
    assert operator.codes("hold", names, "test") == {f"{r}/b@1": "missing"}
    assert place.holds().keys() - {f"{r}/extra@1"} == set(names) - {f"{r}/b@1"}
    assert operator.codes("release", names, "test") == {}
    assert place.holds() == {}


def test_a_tree_that_is_released_in_parts_keeps_the_others_till_then(place: Place) -> None:
    place.create("/a", "/b", "/c", "/d", "/extra")
    place.snapshot("1")
    names = [f"{place.root}{child}@1" for child in ("", "/a", "/b", "/c", "/d")]
    operator = place.operator()
    operator.ask("hold", names, "test")
    assert operator.codes("release", names[:4], "test") == {}
    assert place.holds().keys() - {f"{place.root}/extra@1"} == {names[4]}
    assert operator.codes("release", names[4:], "test") == {}
    assert place.holds() == {}


def test_snapshots_of_a_tree_that_are_held_later_are_released_later(place: Place) -> None:
    place.create("/a", "/b", "/c", "/d", "/e")
    place.snapshot("1")
    first = [f"{place.root}{child}@1" for child in ("", "/a", "/b", "/c")]
    second = [f"{place.root}{child}@1" for child in ("/d", "/e")]
    operator = place.operator()
    operator.ask("hold", first, "test")
    assert operator.codes("hold", [*second, f"{place.root}/d@9"], "test") == {f"{place.root}/d@9": "missing"}
    assert operator.codes("release", first, "test") == {}
    assert place.holds().keys() >= set(second)
    assert set(operator.codes("release", [*second, f"{place.root}/d@9"], "test")) <= {f"{place.root}/d@9"}
    assert place.holds() == {}


def test_temporary_holds_go_with_the_process_and_others_stay(place: Place) -> None:
    place.create("/a", "/b", "/c", "/extra")
    place.snapshot("1")
    names = [f"{place.root}{child}@1" for child in ("", "/a", "/b", "/c")]
    operator = place.operator()
    operator.ask("hold", names, "test")
    assert place.holds().keys() >= set(names)
    operator.end()
    if place.kind == "lib":
        assert place.holds() == {}
    else:
        assert place.holds().keys() >= set(names)
        assert place.operator().codes("release", names, "test") == {}  # by another process, and all of them
        assert place.holds() == {}


# ---- bookmarks -------------------------------------------------------------------------------------------------------


def test_bookmarks_are_made(place: Place, other_pool: str) -> None:
    place.create("/a")
    place.snapshot("1")
    place.zfs("snapshot", "other/a@1")
    r = place.root
    marks = [(f"{r}#m", f"{r}@1"), (f"{r}/a#m", f"{r}/a@1"), ("other/a#m", "other/a@1")]
    assert place.operator().codes("bookmark", marks) == {}
    assert place.listed("bookmark") == {f"{r}#m", f"{r}/a#m"}
    assert place.zfs("list", "-Hrt", "bookmark", "-o", "name", "other") == ["other/a#m"]


def test_a_bookmark_that_is_there_must_be_of_the_same_snapshot(place: Place) -> None:
    place.create("/a", "/b")
    place.snapshot("1", "2")
    r = place.root
    for child, name in (("", "1"), ("/a", "2")):
        place.zfs("bookmark", f"{r}{child}@{name}", f"{r}{child}#m")
    marks = [(f"{r}{child}#m", f"{r}{child}@1") for child in ("", "/a", "/b")]
    assert place.operator().codes("bookmark", marks) == {f"{r}/a#m": "exists"}
    assert place.listed("bookmark") == {f"{r}#m", f"{r}/a#m", f"{r}/b#m"}


def test_there_is_no_bookmark_of_what_is_not_there(place: Place) -> None:
    place.create("/a")
    place.snapshot("1")
    r = place.root
    marks = [(f"{r}#m", f"{r}@9"), (f"{r}/a#m", f"{r}/a@1"), (f"{r}/none#m", f"{r}/none@1")]
    assert place.operator().codes("bookmark", marks) == {f"{r}#m": "missing", f"{r}/none#m": "missing"}
    assert place.listed("bookmark") == {f"{r}/a#m"}


def test_a_bookmark_of_another_datasets_snapshot_is_refused_and_the_others_are_made(place: Place) -> None:
    place.create("/a", "/b")
    place.snapshot("1")
    r = place.root
    marks = [(f"{r}/b#m", f"{r}/a@1"), (f"{r}/a#m", f"{r}/a@1")]
    assert place.operator().codes("bookmark", marks).keys() == {f"{r}/b#m"}
    assert place.listed("bookmark") == {f"{r}/a#m"}


def test_bookmarks_are_destroyed(place: Place) -> None:
    place.create("/a")
    place.snapshot("1")
    r = place.root
    for name in (f"{r}#m", f"{r}/a#m", f"{r}/a#n"):
        place.zfs("bookmark", name.partition("#")[0] + "@1", name)
    names = [f"{r}#m", f"{r}/a#n", f"{r}/a#none", f"{r}/none#m"]
    assert place.operator().codes("destroy_bookmarks", names) == {}
    assert place.listed("bookmark") == {f"{r}/a#m"}


# ---- snapshots -------------------------------------------------------------------------------------------------------


def test_all_snapshots_are_destroyed_but_those_that_are_held_or_have_clones(place: Place) -> None:
    place.create("/a", "/b")
    place.snapshot("1", "2", "3", "4")
    r = place.root
    place.zfs("hold", "test", f"{r}@2", f"{r}/b@1")
    place.zfs("clone", f"{r}/a@3", f"{r}/clone")
    names = [f"{r}{child}@{name}" for child in ("", "/a", "/b") for name in "123"]
    absent = [f"{r}@9", f"{r}/none@1", "nopool@1"]
    busy = {f"{r}@2", f"{r}/b@1", f"{r}/a@3"}
    assert place.operator().codes("destroy_snapshots", names + absent) == dict.fromkeys(busy, "busy")
    assert place.listed() == busy | {f"{r}{child}@4" for child in ("", "/a", "/b")}


def test_destroying_what_is_not_there_is_no_failure(place: Place) -> None:
    assert place.operator().codes("destroy_snapshots", [f"{place.root}@{name}" for name in "123"]) == {}


def test_snapshots_are_taken_in_one_transaction_group_for_each_pool(place: Place, other_pool: str) -> None:
    place.create("/a", "/b")
    children = ("", "/a", "/b")
    names = [f"{place.root}{child}@1" for child in children]
    assert place.operator().codes("snapshot", [*names, "other/a@1"], [["zfsync:x", "a b"]]) == {}
    rows = [row.split("\t") for row in place.zfs("list", "-Hpo", "createtxg,zfsync:x", "-t", "snapshot", *names)]
    assert len(rows) == 3
    assert len({txg for txg, _ in rows}) == 1
    assert {value for _, value in rows} == {"a b"}
    assert place.zfs("list", "-Ho", "name", "other/a@1") == ["other/a@1"]


def test_all_snapshots_of_a_pool_are_taken_or_none(place: Place, other_pool: str) -> None:
    place.create("/a")
    r = place.root
    place.zfs("snapshot", f"{r}@1")
    operator = place.operator()
    codes = operator.codes("snapshot", [f"{r}/a@1", f"{r}@1", "other/a@1"])
    assert codes == {f"{r}@1": "exists", f"{r}/a@1": "undone"}
    assert place.listed() == {f"{r}@1"}
    assert place.zfs("list", "-Ho", "name", "other/a@1") == ["other/a@1"]
    codes = operator.codes("snapshot", [f"{r}/a@2", f"{r}/none@2"])
    assert codes == {f"{r}/none@2": "missing", f"{r}/a@2": "undone"}
    assert operator.codes("snapshot", [f"{r}@3", f"{r}@4"]).keys() == {f"{r}@3", f"{r}@4"}
    assert place.listed() == {f"{r}@1"}


# ---- datasets --------------------------------------------------------------------------------------------------------


def test_what_exists_exists(place: Place) -> None:
    place.create("/a")
    place.snapshot("1")
    r = place.root
    place.zfs("bookmark", f"{r}@1", f"{r}#m")
    place.zfs("create", "-s", "-V", "8M", f"{r}/vol")
    there = (r, f"{r}/a", f"{r}/vol", f"{r}@1", f"{r}/a@1", f"{r}#m")
    absent = (f"{r}/b", f"{r}@2", f"{r}/b@1", f"{r}#1", f"{r}/a#m", f"{r}/b#m", "nopool", "nopool/a", "nopool@1")
    operator = place.operator()
    assert [name for name in there + absent if operator.ask("exists", name)] == list(there)


def test_datasets_are_renamed_and_nothing_is_mounted(place: Place) -> None:
    place.create("/a", "/a/x", "/away", "/b")
    r = place.root
    place.zfs("create", "-s", "-V", "8M", f"{r}/vol")
    place.zfs("unmount", f"{r}/away")
    operator = place.operator()
    assert operator.ask("rename", f"{r}/a", f"{r}/b/a", "filesystem") is None
    assert operator.ask("rename", f"{r}/away", f"{r}/b/away", "filesystem") is None
    assert operator.ask("rename", f"{r}/vol", f"{r}/b/vol", "volume") is None
    assert place.listed("filesystem,volume") == {r, *(f"{r}/b{child}" for child in ("", "/a", "/a/x", "/away", "/vol"))}
    mounted = {line.split()[1] for line in place.machine.run(["cat", "/proc/mounts"]).stdout.splitlines()}
    assert {f"/{r}/a", f"/{r}/a/x"} <= mounted
    assert not mounted & {f"/{r}/b/a", f"/{r}/b/a/x", f"/{r}/b/away", f"/{r}/away"}


def test_a_rename_that_cannot_be_says_why(place: Place) -> None:
    place.create("/a", "/b")
    r = place.root
    operator = place.operator()
    renames = {f"{r}/none": f"{r}/x", f"{r}/a": f"{r}/b", f"{r}/b": f"{r}/none/b"}
    codes = [operator.ask("rename", old, new, "filesystem")[:2] for old, new in renames.items()]
    assert codes == [[f"{r}/none", "missing"], [f"{r}/a", "exists"], [f"{r}/b", "missing"]]


def test_what_is_encrypted_cannot_leave_its_encryption_root(place: Place) -> None:
    r = place.root
    place.machine.sh(f"echo 12345678 | zfs create -o encryption=on -o keyformat=passphrase {r}/e")
    place.create("/e/x")
    name, code, message = place.operator().ask("rename", f"{r}/e/x", f"{r}/x", "filesystem")
    assert (name, code) == (f"{r}/e/x", "failed")
    assert "encrypt" in message


def test_any_legal_name_will_do(place: Place) -> None:
    place.create("/a b", "/a b/c:d.e_f-g")
    r = place.root
    names = [f"{r}/a b@x y", f"{r}/a b/c:d.e_f-g@x y"]
    marks = [(name.replace("@", "#"), name) for name in names]
    operator = place.operator()
    assert operator.codes("snapshot", names) == {}
    assert operator.codes("hold", names, "test") == {}
    assert operator.codes("destroy_snapshots", names) == dict.fromkeys(names, "busy")
    assert operator.codes("release", names, "test") == {}
    assert operator.codes("bookmark", marks) == {}
    assert operator.codes("bookmark", marks) == {}
    assert operator.codes("destroy_snapshots", [*names, names[0] + " z"]) == {}
    assert [operator.ask("exists", mark) for mark, _ in marks] == [True, True]
    assert operator.codes("destroy_bookmarks", [mark for mark, _ in marks]) == {}
    assert operator.ask("rename", f"{r}/a b", f"{r}/b a", "filesystem") is None
    assert place.listed("filesystem") == {r, f"{r}/b a", f"{r}/b a/c:d.e_f-g"}
    assert place.listed("snapshot,bookmark") == set()


# ---- single streams, through the library -----------------------------------------------------------------------------

PROPERTIES = [("readonly", "on"), ("canmount", "noauto"), ("zfsync:path", "p/a b")]


@pytest.fixture
def streams(machine: Machine) -> Iterator[Place]:
    """A place with data in two snapshots of ``/a``, and streams of them by the command."""
    place = Place(machine, "lib")
    place.create("/a")
    r = place.root
    for name in "12":
        machine.sh(f"head -c 300k /dev/urandom > /{r}/a/{name}; zfs snapshot {r}/a@{name}")
    machine.sh(
        f"cd /tmp; zfs send -Lec {r}/a@1 > full; zfs send -Lec -i @1 {r}/a@2 > step; zfs send -w {r}/a@1 > raw;"
        f"zfs send -I @1 {r}/a@2 > package"
    )
    yield place
    place.close()
    machine.sh("rm -f /tmp/full /tmp/step /tmp/raw /tmp/package /tmp/sent /tmp/short", check=False)


def guids(place: Place, child: str) -> list[str]:
    return place.zfs("list", "-Hpt", "snapshot", "-o", "guid", place.root + child)


def test_the_library_sends_the_bytes_that_the_command_sends(streams: Place) -> None:
    operator = streams.operator()
    dataset = f"{streams.root}/a"
    for stream, file in (
        ((dataset, "1", "", False, "", False, "Lec"), "full"),
        ((dataset, "2", "@1", False, "", True, "Lec"), "step"),
        ((dataset, "1", "", True), "raw"),
    ):
        assert operator.ask("send", stream, "/tmp/sent") is None
        streams.machine.sh(f"cmp /tmp/{file} /tmp/sent")
    assert operator.ask("send", (dataset, "9"), "/tmp/sent")[0] == "missing"


def test_the_library_receives_with_the_properties_of_the_command(streams: Place) -> None:
    operator = streams.operator()
    r = streams.root
    assert operator.ask("receive", f"{r}/t", "/tmp/full", PROPERTIES) is None
    assert operator.ask("receive", f"{r}/t", "/tmp/step", [("zfsync:path", "changed")]) is None
    assert guids(streams, "/t") == guids(streams, "/a")
    listing = ("get", "-Ho", "value,source", "readonly,canmount,zfsync:path,mountpoint,mounted", f"{r}/t")
    mine = ["on\tlocal", "noauto\tlocal", "changed\tlocal"]
    assert streams.zfs(*listing) == [*mine, f"/{r}/t\tdefault", "no\t-"]
    streams.machine.sh(f"zfs mount {r}/t; cmp /{r}/t/1 /{r}/a/1; cmp /{r}/t/2 /{r}/a/2")


def test_the_library_says_why_it_does_not_receive(streams: Place) -> None:
    operator = streams.operator()
    r = streams.root
    assert operator.ask("receive", f"{r}/t", "/tmp/step", [])[0] == "missing"
    assert operator.ask("receive", f"{r}/none/t", "/tmp/full", [])[0] == "missing"
    assert operator.ask("receive", f"{r}/t", "/tmp/full", []) is None
    assert operator.ask("receive", f"{r}/t", "/tmp/full", [])[0] == "exists"
    streams.machine.sh(f"zfs mount {r}/t 2>/dev/null; touch /{r}/t/new; zpool sync")
    assert operator.ask("receive", f"{r}/t", "/tmp/step", [])[0] == "modified"
    streams.machine.sh(f"zfs rollback {r}/t@1; zfs snapshot {r}/t@other; zfs destroy {r}/t@1")
    assert operator.ask("receive", f"{r}/t", "/tmp/step", [])[0] == "diverged"


def test_what_the_library_cannot_receive_as_the_command_does_is_left_to_that(streams: Place) -> None:
    operator = streams.operator()
    for name, properties in (("package", []), ("full", [("compression", "zstd")])):
        answer = operator.ask("receive", f"{streams.root}/t", f"/tmp/{name}", properties)
        assert answer == "left to the command"
    assert streams.listed("filesystem") == {streams.root, f"{streams.root}/a"}


@pytest.mark.parametrize("kill", [False, True])
def test_a_stream_that_was_cut_can_be_resumed(streams: Place, kill: bool) -> None:
    """Its end came too early, or the call was ended while it waited for more."""
    operator = streams.operator()
    r = streams.root
    streams.machine.sh("head -c 200k /tmp/full > /tmp/short")
    code, message = operator.ask("receive", f"{r}/t", "/tmp/short", PROPERTIES, kill)
    assert (code, "interrupted" in message) == (("failed", True) if kill else ("cut", False))
    token = streams.zfs("get", "-Ho", "value", "receive_resume_token", f"{r}/t")[0]
    assert token != "-"
    streams.machine.sh(f"zfs send -t {token} | zfs receive -s {r}/t")
    assert guids(streams, "/t") == guids(streams, "/a")[:1]


def test_a_partial_receive_is_told_from_what_is_only_busy(streams: Place) -> None:
    operator = streams.operator()
    r = streams.root
    assert operator.ask("receive", f"{r}/t", "/tmp/full", []) is None
    streams.machine.sh(f"head -c 200k /tmp/step | zfs receive -s {r}/t", check=False)
    assert operator.ask("receive", f"{r}/t", "/tmp/step", [])[0] == "partial"


# ---- permissions -----------------------------------------------------------------------------------------------------

OPERATIONS: dict[str, Callable[[list[str]], tuple[str, list[object]]]] = {
    "hold": lambda datasets: ("hold", [[f"{d}@1" for d in datasets], "mine"]),
    "release": lambda datasets: ("release", [[f"{d}@2" for d in datasets], "test"]),
    "bookmark": lambda datasets: ("bookmark", [[(f"{d}#new", f"{d}@1") for d in datasets]]),
    "destroy_bookmarks": lambda datasets: ("destroy_bookmarks", [[f"{d}#old" for d in datasets]]),
    "destroy_snapshots": lambda datasets: ("destroy_snapshots", [[f"{d}@3" for d in datasets]]),
    "snapshot": lambda datasets: ("snapshot", [[f"{d}@new" for d in datasets]]),
}
CHILDREN = ("", "/a", "/b", "/c", "/d")


@pytest.fixture
def guarded(place: Place) -> Place:
    """A place where there is something for each operation to do."""
    place.create(*CHILDREN[1:])
    place.snapshot("1", "2", "3")
    place.zfs("hold", "-r", "test", f"{place.root}@2")
    for child in CHILDREN:
        place.zfs("bookmark", f"{place.root}{child}@1", f"{place.root}{child}#old")
    return place


def state(place: Place) -> tuple[object, ...]:
    return place.listed("filesystem,snapshot,bookmark"), place.holds()


def test_without_permission_nothing_is_done_and_that_is_said(guarded: Place) -> None:
    before = state(guarded)
    operator = guarded.operator("plain")
    for several in OPERATIONS.values():
        for children in (CHILDREN, CHILDREN[:1]):
            operation, arguments = several([guarded.root + child for child in children])
            codes = operator.codes(operation, *arguments)
            assert len(codes) == len(children), operation
            assert set(codes.values()) == {"permission"}, operation
    failed = operator.ask("rename", f"{guarded.root}/a", f"{guarded.root}/e", "filesystem")
    assert failed[:2] == [f"{guarded.root}/a", "permission"]
    assert operator.ask("exists", f"{guarded.root}@1")
    assert not operator.ask("exists", f"{guarded.root}@9")
    assert state(guarded) == before


def test_with_permission_for_some_they_are_done(guarded: Place) -> None:
    r = guarded.root
    for child in ("/a", "/c"):
        guarded.zfs("allow", "plain", "hold,release,bookmark,destroy,mount", r + child)
    operator = guarded.operator("plain")
    for several in list(OPERATIONS.values())[:-1]:
        operation, arguments = several([r + child for child in CHILDREN])
        codes = operator.codes(operation, *arguments)
        assert {name.partition("@")[0].partition("#")[0] for name in codes} == {r, f"{r}/b", f"{r}/d"}, operation
        assert set(codes.values()) == {"permission"}, operation
    assert {f"{r}/a#new", f"{r}/c#new"} <= guarded.listed("bookmark")
    assert not {f"{r}/a#old", f"{r}/c#old"} & guarded.listed("bookmark")
    assert not {f"{r}/a@3", f"{r}/c@3"} & guarded.listed()
    assert {f"{r}/b@3", f"{r}/d@3"} <= guarded.listed()
    assert guarded.holds() == {f"{r}/a@1": 1, f"{r}/c@1": 1, f"{r}@2": 1, f"{r}/b@2": 1, f"{r}/d@2": 1}
    assert operator.codes("release", [f"{r}/a@1", f"{r}/c@1"], "mine") == {}


def test_with_permission_for_all_a_user_does_all(guarded: Place) -> None:
    r = guarded.root
    guarded.zfs("allow", "plain", "hold,release,bookmark,destroy,mount,snapshot,rename,create", r)
    operator = guarded.operator("plain")
    for several in OPERATIONS.values():
        operation, arguments = several([r + child for child in CHILDREN])
        assert operator.codes(operation, *arguments) == {}, operation
    assert guarded.listed("bookmark") == {f"{r}{child}#new" for child in CHILDREN}
    assert guarded.listed() == {f"{r}{child}@{name}" for child in CHILDREN for name in ("1", "2", "new")}
    assert guarded.holds() == {f"{r}{child}@1": 1 for child in CHILDREN}
    assert operator.codes("release", [f"{r}{child}@1" for child in CHILDREN], "mine") == {}
    assert guarded.holds() == {}
