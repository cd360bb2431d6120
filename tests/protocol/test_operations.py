"""What an agent does to a tree verb by verb, and what it refuses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.fakezfs import State
from tests.protocol.conftest import zfs_command
from zfsync_ssh.holds import property_of, tag_of
from zfsync_ssh.messages import CleanBuffer, Operation, Result
from zfsync_ssh.operations import Operations
from zfsync_ssh.tree import Tree
from zfsync_ssh.zfs import PLACEHOLDER_PROPERTY

TAG = str(tag_of("there:dst/tree", "0123456789ab"))
TARGET = "there:dst/tree"


class Machine:
    """A tree ``dst/tree`` with children, and what does operations on it."""

    def __init__(self, state: State, buffer: str = "dst/tree.zfsyncbuffer") -> None:
        self.state = state
        for name in ("dst/tree", "dst/tree/a", "dst/tree/a/k", "dst/tree/b"):
            state.create(name)
            for short in ("1", "2"):
                state.snapshot(f"{name}@{short}")
        self._operations = Operations(Tree("dst/tree", buffer, zfs_command(state)))

    def do(self, verb: str, name: str, *arguments: str) -> Result:
        (result,) = self._operations.apply([Operation(verb, name, arguments)])
        return result

    def clean(self) -> list[Result]:
        return self._operations.clean_buffer(CleanBuffer())

    def newest(self, name: str) -> str:
        return str(self.state.guids(name)[""][-1][1])

    def snapshots(self, name: str) -> list[str]:
        return [short for short, _ in self.state.guids(name).get("", [])]

    def held(self) -> dict[str, list[str]]:
        with self.state.open() as state:
            return {name: tags for name, tags in state.get("holds", {}).items() if tags}


@pytest.fixture
def target(tmp_path: Path) -> Machine:
    return Machine(State(str(tmp_path / "target")))


@pytest.fixture
def source(tmp_path: Path) -> Machine:
    return Machine(State(str(tmp_path / "source")), buffer="")


# ---- verb by verb ----------------------------------------------------------------------------------------------------


def test_renames(target: Machine) -> None:
    assert target.do("rename", "dst/tree/b", "dst/tree/c", "filesystem").ok
    assert target.do("buffer", "dst/tree.zfsyncbuffer").ok
    assert target.do("buffer", "dst/tree.zfsyncbuffer").ok  # once more is no failure
    place = "dst/tree.zfsyncbuffer/2F782F63"
    assert target.do("park", "dst/tree/c", place, "filesystem", "dst/tree/x/c").ok
    assert target.state.property(place, "zfsync:path") == "dst/tree/x/c"
    assert target.do("aside", "dst/tree/a/k", "dst/tree/a/k.zfsync-aside-1", "filesystem").ok
    assert target.state.property("dst/tree/a/k.zfsync-aside-1", "zfsync:aside") == "dst/tree/a/k.zfsync-aside-1"
    assert target.state.property("dst/tree/a/k.zfsync-aside-1", "readonly") == "on"
    assert target.do("rename", "dst/tree/gone", "dst/tree/c", "filesystem").code == "missing"


def test_the_mark_of_a_placeholder_goes_along_with_whatever_is_renamed(target: Machine) -> None:
    target.state.destroy("dst/tree/a/k")
    assert target.do("placeholder", "dst/tree/a/k").ok
    assert target.do("placeholder", "dst/tree/a/k/l").ok
    target.do("buffer", "dst/tree.zfsyncbuffer")

    target.state.create("dst/tree/a/theirs")
    with target.state.open() as state:  # which somebody has renamed and uses
        state["datasets"]["dst/tree/a/theirs"]["properties"]["zfsync:placeholder"] = "dst/tree/a/once"
    assert target.do("rename", "dst/tree/a", "dst/tree/c", "filesystem").ok
    assert target.state.property("dst/tree/c/theirs", "zfsync:placeholder") == "dst/tree/a/once"
    for place in ("dst/tree/c/k", "dst/tree/c/k/l"):
        assert target.state.property(place, "zfsync:placeholder") == place
    place = "dst/tree.zfsyncbuffer/2F64"
    assert target.do("park", "dst/tree/c", place, "filesystem", "dst/tree/d").ok
    assert all(result.ok for result in target.clean())
    for place in ("dst/tree/d/k", "dst/tree/d/k/l"):
        assert target.state.property(place, "zfsync:placeholder") == place
    assert target.state.property("dst/tree/d", "zfsync:placeholder") is None


def test_a_placeholder_is_made_without_the_key_of_what_is_above_it_too(target: Machine) -> None:
    with target.state.open() as state:
        state["keyless"] = ["dst/tree/a"]
    result = target.do("placeholder", "dst/tree/a/p")
    assert (result.ok, result.code) == (True, "clear")
    assert target.state.property("dst/tree/a/p", "encryption") == "off"
    assert target.do("placeholder", "dst/tree/b/p").ok
    assert target.state.property("dst/tree/b/p", "encryption") is None


def test_only_an_empty_placeholder_of_ours_makes_room(target: Machine) -> None:
    target.do("placeholder", "dst/tree/p")
    target.do("placeholder", "dst/tree/p/q")
    assert target.do("vacate", "dst/tree/p").message == "it has children"
    assert target.do("vacate", "dst/tree/p/q").ok
    target.state.snapshot("dst/tree/p@mine")
    assert target.do("vacate", "dst/tree/p").code == "exists"
    target.state.destroy("dst/tree/p@mine")
    with target.state.open() as state:
        state["datasets"]["dst/tree/p"]["properties"]["canmount"] = "on"
    assert target.do("vacate", "dst/tree/p").code == "exists"
    assert target.do("vacate", "dst/tree/b").code == "exists"
    with target.state.open() as state:
        state["datasets"]["dst/tree/p"]["properties"] |= {"canmount": "off", "quota": "1G"}
    result = target.do("vacate", "dst/tree/p")
    assert (result.ok, result.message) == (False, "quota was set on it, and would go with it")
    with target.state.open() as state:
        del state["datasets"]["dst/tree/p"]["properties"]["quota"]
    assert target.do("vacate", "dst/tree/p").ok
    assert "/p" not in target.state.guids("dst/tree")


def test_marks_come_and_go(target: Machine) -> None:
    assert target.do("mark", "dst/tree/a", "2026-01-01T00:00:00Z").ok
    assert target.state.property("dst/tree/a", "zfsync:gone") == "2026-01-01T00:00:00Z"
    assert target.do("unmark", "dst/tree/a").ok
    assert target.state.property("dst/tree/a", "zfsync:gone") is None


def test_what_loses_something_is_done_when_all_is_as_it_was_seen(target: Machine) -> None:
    assert target.do("rollback", "dst/tree/b@1", target.newest("dst/tree/b")).ok
    assert target.snapshots("dst/tree/b") == ["1"]
    assert target.do("hollow", "dst/tree/a", target.newest("dst/tree/a")).ok
    assert target.snapshots("dst/tree/a") == []
    assert target.state.property("dst/tree/a", "zfsync:placeholder") == "dst/tree/a"
    assert target.do("destroy", "dst/tree/b", target.newest("dst/tree/b")).ok
    assert "/b" not in target.state.guids("dst/tree")
    assert target.do("destroy", "dst/tree/b", "").ok  # it is not there


@pytest.mark.parametrize(("length", "ok"), [(245, True), (246, False)])
def test_nothing_is_rolled_back_whose_name_would_make_the_kernel_panic(target: Machine, length: int, ok: bool) -> None:
    name = "dst/tree/" + "x" * (length - len("dst/tree/"))
    target.state.create(name)
    for short in ("1", "2"):
        target.state.snapshot(f"{name}@{short}")
    result = target.do("rollback", f"{name}@1", target.newest(name))
    assert (result.ok, result.code) == ((True, "") if ok else (False, "name"))
    assert target.snapshots(name) == (["1"] if ok else ["1", "2"])


@pytest.mark.parametrize(("verb", "name"), [("rollback", "b@1"), ("hollow", "a"), ("destroy", "b")])
@pytest.mark.parametrize("seen", ["", "1", "other"])
def test_what_loses_something_is_refused_when_something_has_come_since(
    target: Machine, verb: str, name: str, seen: str
) -> None:
    before = target.state.guids("dst/tree")
    if seen == "other":
        seen = target.newest("dst/tree/" + name.partition("@")[0])
        target.state.snapshot(f"dst/tree/{name.partition('@')[0]}@new")
        before = target.state.guids("dst/tree")
    result = target.do(verb, f"dst/tree/{name}", seen)
    assert (result.ok, result.code) == (False, "modified")
    assert target.state.guids("dst/tree") == before


def test_a_dataset_with_children_keeps_its_snapshots(target: Machine) -> None:
    result = target.do("destroy", "dst/tree/a", target.newest("dst/tree/a"))
    assert (result.ok, result.message) == (False, "it has children")
    assert target.snapshots("dst/tree/a") == ["1", "2"]


@pytest.mark.parametrize(("verb", "listing"), [("destroy", "filesystem,volume"), ("vacate", "snapshot")])
def test_nothing_is_destroyed_of_what_zfs_could_not_list_to_the_end(target: Machine, verb: str, listing: str) -> None:
    target.do("placeholder", "dst/tree/p")
    name = "dst/tree/p" if verb == "vacate" else "dst/tree/b"
    with target.state.open() as state:
        state["refuse"] = [f"list -t {listing}"]
    before = target.state.guids("dst/tree")
    assert not target.do(verb, name, *([target.newest(name)] if verb == "destroy" else [])).ok
    assert target.state.guids("dst/tree") == before


@pytest.mark.parametrize("why", ["is held", "has the clone dst/tree/c"])
@pytest.mark.parametrize("verb", ["destroy", "hollow"])
def test_of_a_dataset_with_a_snapshot_that_is_needed_no_other_is_destroyed_however_many_there_are(
    target: Machine, verb: str, why: str
) -> None:
    target.state.create("dst/tree/c", origin="dst/tree/b@last" if "clone" in why else "")
    with target.state.open() as state:
        marks = state["datasets"]["dst/tree/b"]["snapshots"]
        marks += [["n" * 200 + str(number), 10_000 + number, 10_000 + number, 0] for number in range(600)]
        marks.append(["last", 99_999, 99_999, 0])
        state.setdefault("holds", {})["dst/tree/b@last"] = ["mine"] if why == "is held" else []
    result = target.do(verb, "dst/tree/b", "99999")
    assert (result.ok, result.code, result.message) == (False, "busy", f"its snapshot @last {why}")
    assert len(target.snapshots("dst/tree/b")) == 603
    assert target.state.property("dst/tree/b", PLACEHOLDER_PROPERTY) is None


def test_holds_are_announced_made_given_back_and_forgotten(source: Machine) -> None:
    mark = property_of(TARGET)
    assert source.do("announce", "dst/tree", TAG).ok
    assert source.state.property("dst/tree", mark) == TAG
    assert source.do("hold", "dst/tree/a@1", TAG).ok
    assert source.do("hold", "dst/tree/a@1", TAG).ok
    assert source.do("hold", "dst/tree/a@9", TAG).code == "missing"
    assert source.held() == {"dst/tree/a@1": [TAG]}
    assert source.do("release", "dst/tree/a@1", TAG).ok
    assert source.do("release", "dst/tree/a@1", TAG).code == "missing"
    assert source.held() == {}
    assert source.do("forget", "dst/tree", TAG).ok
    assert source.state.property("dst/tree", mark) is None


def test_letting_go_releases_that_tag_alone_in_all_of_the_tree(source: Machine) -> None:
    other = str(tag_of(TARGET, "ffffffffffff"))
    source.do("announce", "dst/tree", TAG)
    for name in ("dst/tree@1", "dst/tree/a@2", "dst/tree/b@1"):
        source.do("hold", name, TAG)
    source.do("hold", "dst/tree/b@1", other)
    assert source.do("let-go", "dst/tree", TAG).ok
    assert source.held() == {"dst/tree/b@1": [other]}
    assert source.state.property("dst/tree", property_of(TARGET)) is None


def test_a_run_that_nobody_has_locked_is_gone(source: Machine) -> None:
    result = source.do("alive", "dst/tree", "0123456789ab")
    assert (result.ok, result.code) == (False, "gone")


def test_bookmarks(source: Machine) -> None:
    assert source.do("bookmark", "dst/tree/a#m", "dst/tree/a@1").ok
    assert source.do("bookmark", "dst/tree/a#m", "dst/tree/a@1").ok
    assert source.do("bookmark", "dst/tree/a#m", "dst/tree/a@2").code == "exists"
    assert source.do("unbookmark", "dst/tree/a#m").ok
    assert source.do("unbookmark", "dst/tree/a#m").ok


# ---- what is refused -------------------------------------------------------------------------------------------------

REFUSED = [
    ("nonsense", "dst/tree"),
    ("destroy", "dst/tree/b"),  # too few arguments
    ("destroy", "dst/tree/b", "1", "2"),
    ("destroy", "dst/elsewhere", ""),
    ("destroy", "dst/tree/b@1", ""),
    ("destroy", "dst/tree/b@%", ""),
    ("destroy", "dst/tree/b#m", ""),
    ("destroy-snapshot", "dst/tree/b"),
    ("destroy-snapshot", "dst/tree/b@1,2"),
    ("destroy-snapshot", "dst/tree/b@1%2"),
    ("destroy-snapshot", "dst/elsewhere@1"),
    ("unbookmark", "dst/tree/b"),
    ("unbookmark", "dst/tree/b@1"),
    ("bookmark", "dst/tree/b#m", "dst/elsewhere@1"),
    ("bookmark", "dst/tree/b#m", "dst/tree/b"),
    ("bookmark", "dst/tree/b@m", "dst/tree/b@1"),
    ("rollback", "dst/tree/b", ""),
    ("hold", "dst/tree/b@1", "mine"),
    ("hold", "dst/tree/b@1", "-r"),
    ("release", "dst/tree/b@1", "mine"),
    ("hold", "dst/tree/b", TAG),
    ("announce", "dst/tree/b", TAG),
    ("announce", "dst/tree", "mine"),
    ("let-go", "dst/tree", "mine"),
    ("alive", "dst/tree", "../../etc"),
    ("rename", "dst/tree/b", "dst/elsewhere", "filesystem"),
    ("park", "dst/tree/b", "dst/elsewhere/b", "filesystem", "dst/tree/b"),
    ("aside", "dst/tree/b", "dst/elsewhere", "filesystem"),
    ("ancestor", "dst/tree/b"),
    ("placeholder", "-dst/tree/b"),
    ("placeholder", "dst/tree/../b"),
]


@pytest.mark.parametrize("words", REFUSED, ids=" ".join)
def test_what_is_not_for_this_tree_runs_no_command(target: Machine, words: Sequence[str]) -> None:
    before = len(target.state.commands())
    result = target.do(*words)
    assert (result.ok, result.code) == (False, "refused")
    assert len(target.state.commands()) == before


@pytest.mark.parametrize(
    "words",
    [
        ("destroy", "dst/tree/b", "1"),
        ("rollback", "dst/tree/b@1", "1"),
        ("rename", "dst/tree/b", "dst/tree/c", "filesystem"),
        ("placeholder", "dst/tree/c"),
        ("promote", "dst/tree/b"),
    ],
    ids=" ".join,
)
def test_a_source_is_not_changed_but_for_holds_bookmarks_and_snapshots_that_go(
    source: Machine, words: Sequence[str]
) -> None:
    before = len(source.state.commands())
    assert source.do(*words).code == "refused"
    assert len(source.state.commands()) == before


def test_one_that_is_refused_is_no_reason_not_to_do_the_others(target: Machine) -> None:
    results = target._operations.apply(
        [
            Operation("destroy-snapshot", "dst/tree/b@1"),
            Operation("destroy-snapshot", "dst/elsewhere@1"),
            Operation("destroy-snapshot", "dst/tree/a@1"),
        ]
    )
    assert [(result.ok, result.name) for result in results] == [
        (True, "dst/tree/b@1"), (False, "dst/elsewhere@1"), (True, "dst/tree/a@1"),
    ]  # fmt: skip
