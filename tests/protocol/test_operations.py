"""What an agent does to a tree verb by verb, what it refuses, and what a run does with it at its beginning and end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests import agents
from tests.fakezfs import State
from tests.protocol.conftest import Pair, zfs_command
from zfsync_ssh import bootstrap
from zfsync_ssh.channel import LocalOpener
from zfsync_ssh.dataset import Inventory
from zfsync_ssh.errors import AgentError, UsageError, ZfsError
from zfsync_ssh.events import Changed, Event, Notice, Opened, Planned, Status
from zfsync_ssh.holds import digest_of, property_of, tag_of
from zfsync_ssh.jobs import show_holds
from zfsync_ssh.keeping import Holds
from zfsync_ssh.lock import VARIABLE
from zfsync_ssh.messages import CleanBuffer, Operation, Result
from zfsync_ssh.operations import Operations
from zfsync_ssh.orchestrator import Options, Replication
from zfsync_ssh.policy import Divergence, Policy
from zfsync_ssh.selection import Selection
from zfsync_ssh.source import LocalSource, Source
from zfsync_ssh.tree import Tree
from zfsync_ssh.zfs import GONE_PROPERTY, PLACEHOLDER_PROPERTY

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

    assert target.do("rename", "dst/tree/a", "dst/tree/c", "filesystem").ok
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
    assert target.do("placeholder", "dst/tree/a/p").ok
    assert target.state.property("dst/tree/a/p", "encryption") == "off"
    assert target.do("placeholder", "dst/tree/b/p").ok
    assert target.state.property("dst/tree/b/p", "encryption") is None


def test_only_an_empty_placeholder_of_ours_makes_room(target: Machine) -> None:
    target.do("placeholder", "dst/tree/p")
    target.do("placeholder", "dst/tree/p/q")
    assert not target.do("vacate", "dst/tree/p").ok  # it has a child
    assert target.do("vacate", "dst/tree/p/q").ok
    target.state.snapshot("dst/tree/p@mine")
    assert target.do("vacate", "dst/tree/p").code == "exists"
    target.state.destroy("dst/tree/p@mine")
    with target.state.open() as state:
        state["datasets"]["dst/tree/p"]["properties"]["canmount"] = "on"
    assert target.do("vacate", "dst/tree/p").code == "exists"
    assert target.do("vacate", "dst/tree/b").code == "exists"
    with target.state.open() as state:
        state["datasets"]["dst/tree/p"]["properties"]["canmount"] = "off"
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


# ---- holds of a run --------------------------------------------------------------------------------------------------


class Recorder(LocalSource):
    """A source that remembers what was asked of it, and refuses some of it."""

    def __init__(self, state: State, refuse: str = "", code: str = "permission") -> None:
        super().__init__("src/tree", zfs_command(state))
        self.asked: list[Operation] = []
        self.refuse = refuse
        self.code = code

    async def apply(self, operations: Sequence[Operation]) -> list[Result]:
        self.asked += operations
        if self.refuse == "lost":
            raise AgentError("The agent has gone.")
        results = await super().apply([one for one in operations if one.verb != self.refuse])
        left = iter(results)
        refused = Result(False, self.code, "it will not")
        return [refused._replace(name=one.name) if one.verb == self.refuse else next(left) for one in operations]

    @property
    def verbs(self) -> list[str]:
        return [operation.verb for operation in self.asked]


def holding(pair: Pair, refuse: str = "", code: str = "permission") -> tuple[Holds, Recorder]:
    pair.sender.snapshot("src/tree@1")
    pair.sender.snapshot("src/tree@2")
    end = Recorder(pair.sender, refuse, code)
    return Holds(end, TARGET, pair.events.append), end


def left_behind(pair: Pair) -> tuple[bool, str | None]:
    """Whether something is held, and the announcement."""
    with pair.sender.open() as state:
        held = any(state.get("holds", {}).values())
    return held, pair.sender.property("src/tree", property_of(TARGET))


async def test_holds_are_made_once_and_given_back(pair: Pair) -> None:
    holds, end = holding(pair)
    await holds.hold(["src/tree@1"])
    await holds.hold(["src/tree@1", "src/tree@2"])
    assert end.verbs == ["announce", "hold", "hold"]
    assert left_behind(pair)[0]
    await holds.release()
    await holds.release()
    assert left_behind(pair) == (False, None)
    assert end.verbs[3:] == ["release", "release", "forget"]
    await end.close()


async def test_one_that_has_gone_is_no_reason_for_a_notice(pair: Pair) -> None:
    holds, end = holding(pair)
    await holds.hold(["src/tree@1", "src/tree@gone"])
    assert pair.events == []
    await holds.release()
    assert left_behind(pair) == (False, None)
    await end.close()


async def test_where_nothing_can_be_held_it_is_said_once(pair: Pair) -> None:
    holds, end = holding(pair, "hold")
    await holds.hold(["src/tree@1"])
    await holds.hold(["src/tree@2"])
    (notice,) = pair.events
    assert isinstance(notice, Notice)
    assert "lets nothing be held (it will not)" in notice.text
    assert "'zfs allow -u USER hold,release,userprop src/tree' grants it; --no-hold" in notice.text
    await holds.release()
    await end.close()


@pytest.mark.parametrize("pull", [False, True])
async def test_where_the_runs_lock_cannot_be_taken_nothing_is_held_and_it_is_said(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pull: bool
) -> None:
    pair.sender.snapshot("src/tree@1")
    monkeypatch.setenv(VARIABLE, "/nonexistent")
    there = LocalOpener(f"{VARIABLE}={tmp_path} {bootstrap.command((agents.PYTHON,))}")  # the target's own lock
    source: Source = pair.remote_source("src/tree") if pull else LocalSource("src/tree", zfs_command(pair.sender))
    target = pair.target(opener=there)
    assert await Replication(source, target, Options(owner="test"), pair.events.append).run() == 0
    (notice,) = [event for event in pair.events if isinstance(event, Notice)]
    assert "src/tree lets nothing be held (cannot lock /nonexistent/zfsync-@run-" in notice.text
    assert "No such file or directory), so" in notice.text
    assert not any(command[0] == "hold" for command in pair.sender.commands())


async def test_what_cannot_be_released_stays_announced_for_the_next_run(pair: Pair) -> None:
    holds, end = holding(pair, "release")
    await holds.hold(["src/tree@1"])
    await holds.release()
    held, announced = left_behind(pair)
    assert held
    assert announced is not None
    (notice,) = pair.events
    assert isinstance(notice, Notice)
    assert "src/tree@1 stays held (it will not): the next run" in notice.text
    await end.close()

    after = Holds(LocalSource("src/tree", zfs_command(pair.sender)), TARGET, pair.events.append)
    inventory = await LocalSource("src/tree", zfs_command(pair.sender)).inventory(True, holds=after.property)
    await after.tidy(inventory)
    assert left_behind(pair) == (False, None)


async def test_a_connection_that_is_lost_amid_holding_is_followed_by_a_release_all_the_same(pair: Pair) -> None:
    holds, end = holding(pair, "lost")
    with pytest.raises(AgentError):
        await holds.hold(["src/tree@1"])
    end.refuse = ""
    await holds.release()
    assert end.verbs == ["announce", "hold", "release", "let-go"]  # for it was not held, as far as can be seen
    end.refuse = "lost"
    await holds.release()  # never fails
    await end.close()


async def test_an_interrupt_amid_holding_leaves_nothing_held(pair: Pair) -> None:
    holds, end = holding(pair)
    task = asyncio.create_task(holds.hold(["src/tree@1", "src/tree@2"]))
    await asyncio.sleep(0.02)  # the first command is still starting
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await holds.release()
    assert left_behind(pair) == (False, None)
    await end.close()


async def test_nothing_is_tidied_where_nothing_was_left(pair: Pair) -> None:
    holds, end = holding(pair)
    await holds.tidy(Inventory("src/tree", {}))
    await holds.tidy(await end.inventory(True, holds=holds.property))
    assert end.asked == []


# ---- whole runs ------------------------------------------------------------------------------------------------------


def diverged(pair: Pair) -> None:
    """A tree at both ends, of which ``/a`` has a snapshot of its own at the target."""
    for child in ("", "/a", "/b"):
        pair.sender.create("src/tree" + child)
        pair.sender.snapshot(f"src/tree{child}@1")


async def made_to_diverge(pair: Pair) -> None:
    diverged(pair)
    assert await pair.push() == 0
    pair.receiver.snapshot("dst/tree/a@mine")
    pair.sender.snapshot("src/tree/a@2")


def changes(pair: Pair) -> list[Changed]:
    return [event for event in pair.events if isinstance(event, Changed)]


async def test_a_run_leaves_no_holds_and_one_bookmark_per_dataset(pair: Pair) -> None:
    diverged(pair)
    assert await pair.push() == 0
    assert left_behind(pair) == (False, None)
    pair.sender.snapshot("src/tree/a@2")
    assert await pair.push() == 0
    with pair.sender.open() as state:
        marks = {name: [mark[0] for mark in one["bookmarks"]] for name, one in state["datasets"].items()}
    mark = f"zfsync.{digest_of(TARGET)}."
    assert marks["src/tree/a"] == [mark + "2"]
    assert marks["src/tree/b"] == [mark + "1"]


async def test_a_bookmark_that_cannot_be_made_leaves_the_old_one(pair: Pair) -> None:
    diverged(pair)
    assert await pair.push() == 0
    pair.sender.snapshot("src/tree/a@2")
    end = Recorder(pair.sender, "bookmark")
    assert await Replication(end, pair.target(), Options(owner="test"), pair.events.append).run() == 0
    with pair.sender.open() as state:
        assert [mark[0] for mark in state["datasets"]["src/tree/a"]["bookmarks"]] == [f"zfsync.{digest_of(TARGET)}.1"]
    notices = [event.text for event in pair.events if isinstance(event, Notice)]
    assert any(
        "1 bookmarks cannot be kept at the source" in text and "zfs allow -u USER bookmark" in text for text in notices
    )


async def test_holds_go_when_the_preparation_fails(pair: Pair) -> None:
    diverged(pair)

    def observe(event: Event) -> None:
        if isinstance(event, Planned):
            assert left_behind(pair)[0]
            raise UsageError("No.")

    with pytest.raises(UsageError):
        await pair.replicate(observe)
    assert left_behind(pair) == (False, None)


async def test_a_rollback_is_carried_out_after_it_was_confirmed(pair: Pair) -> None:
    await made_to_diverge(pair)
    asked: list[str] = []

    async def confirm(lines: Sequence[str]) -> bool:
        asked.extend(lines)
        return len(asked) > 1

    policy = Policy(on_divergence=Divergence.ROLLBACK)
    with pytest.raises(UsageError, match="was not confirmed"):
        await pair.push(policy=policy, confirm=confirm)
    assert [name for name, _ in pair.receiver.guids("dst/tree/a")[""]] == ["1", "mine"]
    assert await pair.push(policy=policy, confirm=confirm) == 0
    assert asked == ["there:dst/tree/a: @mine"] * 2
    assert pair.receiver.guids("dst/tree") == pair.sender.guids("src/tree")


@pytest.mark.parametrize("child", ["", "/a"])
async def test_a_promotion_that_a_run_did_not_come_to_is_made_by_the_next(pair: Pair, child: str) -> None:
    diverged(pair)
    assert await pair.push() == 0
    pair.receiver.snapshot(f"dst/tree{child}@mine")
    pair.sender.snapshot(f"src/tree{child}@2")
    with pair.receiver.open() as state:
        state["refuse"] = ["promote"]
    assert await pair.push(policy=Policy(on_divergence=Divergence.SET_ASIDE)) == 0
    assert any(isinstance(event, Notice) and "stays a clone" in event.text for event in pair.events)
    with pair.receiver.open() as state:
        assert "aside" in state["datasets"][f"dst/tree{child}"]["properties"]["origin"]
        state["refuse"] = []
    assert await pair.push() == 0
    with pair.receiver.open() as state:
        assert "origin" not in state["datasets"][f"dst/tree{child}"]["properties"]
    promotions = [command for command in pair.receiver.commands() if command[0] == "promote"]
    assert await pair.push() == 0
    assert [command for command in pair.receiver.commands() if command[0] == "promote"] == promotions


async def test_a_promotion_that_waits_in_the_buffer_with_its_dataset_is_made_by_the_next_run(pair: Pair) -> None:
    diverged(pair)
    assert await pair.push() == 0
    for child, written in (("", 1000), ("/a", 100_000)):  # the larger goes first, and so into the buffer
        pair.receiver.snapshot(f"dst/tree{child}@mine")
        pair.sender.snapshot(f"src/tree{child}@2", written)

    def observe(event: Event) -> None:
        if isinstance(event, Opened):
            with pair.receiver.open() as state:
                state["refuse"] = ["rename", "promote"]

    policy = Policy(on_divergence=Divergence.SET_ASIDE, buffer_behind=0)
    assert await pair.replicate(observe, policy=policy) == 3
    with pair.receiver.open() as state:
        assert "aside" in state["datasets"]["dst/tree.zfsyncbuffer/2F61"]["properties"]["origin"]
        state["refuse"] = []
    assert await pair.push() == 0
    with pair.receiver.open() as state:
        for child in ("", "/a"):
            assert "origin" not in state["datasets"][f"dst/tree{child}"]["properties"]


async def test_what_comes_while_the_user_thinks_is_not_lost(pair: Pair) -> None:
    await made_to_diverge(pair)

    async def confirm(lines: Sequence[str]) -> bool:
        pair.receiver.snapshot("dst/tree/a@meanwhile")
        return True

    for choice in (Divergence.ROLLBACK, Divergence.REPLACE):
        assert await pair.push(policy=Policy(on_divergence=choice), confirm=confirm) == 3
        assert "meanwhile" in [name for name, _ in pair.receiver.guids("dst/tree/a")[""]]
        (change,) = changes(pair)
        assert "its newest snapshot is not the one" in change.problem
        pair.receiver.destroy("dst/tree/a@meanwhile")


async def test_a_plan_is_compared_before_anything_is_changed(pair: Pair) -> None:
    await made_to_diverge(pair)
    plans: list[dict[str, object]] = []
    rollback = Policy(on_divergence=Divergence.ROLLBACK)
    assert await pair.push(policy=rollback, dry_run=True, write_plan=plans.append) == 0
    pair.sender.snapshot("src/tree/b@2")  # the plan no longer holds
    with pytest.raises(UsageError, match="The plan no longer holds: for src/tree/b"):
        await pair.push(policy=rollback, expected=plans[0])
    assert [name for name, _ in pair.receiver.guids("dst/tree/a")[""]] == ["1", "mine"]
    assert left_behind(pair) == (False, None)
    pair.sender.destroy("src/tree/b@2")
    assert await pair.push(policy=rollback, expected=plans[0]) == 0
    assert pair.receiver.guids("dst/tree") == pair.sender.guids("src/tree")


async def test_after_a_rename_that_was_refused_no_other_dataset_is_taken_for_it(pair: Pair) -> None:
    diverged(pair)
    assert await pair.push() == 0
    # At the source /a is now /c; there /c cannot be made, and what is set aside is not the dataset that was meant.
    with pair.sender.open() as state:
        state["datasets"]["src/tree/c"] = state["datasets"].pop("src/tree/a")
    pair.sender.snapshot("src/tree/b@2")
    pair.receiver.snapshot("dst/tree/b@mine")
    with pair.receiver.open() as state:
        state["refuse"] = ["rename"]
    assert await pair.push(policy=Policy(on_divergence=Divergence.REPLACE)) == 3
    first, second = changes(pair)
    assert "suspended" in first.problem
    assert second.problem == "there:dst/tree/a had to be changed before, and was not"
    assert "mine" in [name for name, _ in pair.receiver.guids("dst/tree/b")[""]]


@pytest.mark.parametrize("choice", [Divergence.SET_ASIDE, Divergence.REPLACE])
async def test_without_recursion_what_is_below_the_root_stays_what_it_is(pair: Pair, choice: Divergence) -> None:
    diverged(pair)
    assert await pair.push() == 0
    pair.receiver.snapshot("dst/tree@mine")
    pair.sender.snapshot("src/tree@2")
    before = pair.receiver.guids("dst/tree")
    policy = Policy(on_divergence=choice, delete_datasets=True, bookmark=False)
    await pair.push(policy=policy, recursive=False, dry_run=True)
    assert not any("source is gone" in change.words for change in changes(pair))
    assert await pair.push(policy=policy, recursive=False) == 0
    after = pair.receiver.guids("dst/tree")
    assert [after[child] for child in ("/a", "/b")] == [before[child] for child in ("/a", "/b")]


async def test_a_dataset_that_is_gone_goes_but_not_when_something_failed(pair: Pair) -> None:
    await made_to_diverge(pair)
    pair.sender.destroy("src/tree/b")
    policy = Policy(delete_datasets=True)
    assert await pair.push(policy=policy) == 3
    assert "/b" in pair.receiver.guids("dst/tree")
    assert any(isinstance(event, Notice) and "No dataset is destroyed" in event.text for event in pair.events)
    pair.receiver.destroy("dst/tree/a@mine")
    assert await pair.push(policy=policy) == 0
    assert "/b" not in pair.receiver.guids("dst/tree")
    (change,) = changes(pair)
    assert change.loss.startswith("1 snapshots")


async def test_holds_of_what_is_not_there_are_no_good_news(pair: Pair) -> None:
    with pytest.raises(ZfsError, match="There is no dataset dst/none on there"):
        await show_holds(pair.target("dst/none"), False, pair.events.append)


async def test_a_dry_run_tells_of_a_copy_that_was_written_to(pair: Pair) -> None:
    diverged(pair)
    assert await pair.push() == 0
    for child in ("/a", "/b"):
        pair.sender.snapshot(f"src/tree{child}@2")
    with pair.receiver.open() as state:
        state["datasets"]["dst/tree/a"]["written"] = 14336
    assert await pair.push(dry_run=True) == 0
    assert pair.outcomes["src/tree/a"].message.startswith("14,336 bytes were written there since")
    assert pair.outcomes["src/tree/b"].message == ""


async def test_what_was_renamed_at_the_source_amid_a_run_is_let_go_of_as_well(pair: Pair) -> None:
    diverged(pair)

    def observe(event: Event) -> None:
        pair.events.append(event)
        if isinstance(event, Planned):
            with pair.sender.open() as state:
                state["datasets"]["src/tree/z"] = state["datasets"].pop("src/tree/b")
                state["holds"]["src/tree/z@1"] = state["holds"].pop("src/tree/b@1")
                assert state["holds"]["src/tree/z@1"]

    assert await pair.replicate(observe) == 3
    with pair.sender.open() as state:
        assert not any(state["holds"].values())
        assert not any(name.startswith("zfsync:holds") for name in state["datasets"]["src/tree"]["properties"])


async def test_what_is_below_a_beginning_waits_in_the_buffer(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    for child, size in (("", 10), ("/p", 900_000), ("/p/c", 10)):
        pair.sender.create("src/tree" + child)
        pair.sender.snapshot(f"src/tree{child}@1", size)
    monkeypatch.setenv("FAKEZFS_FULL", "200000")
    assert await pair.push(channels=1) == 3
    with pair.receiver.open() as state:
        assert "dst/tree/p/c" not in state["datasets"]
        assert any(name.startswith("dst/tree.zfsyncbuffer/") for name in state["datasets"])
        assert state["datasets"]["dst/tree/p"]["token"]
    pair.sender.destroy("src/tree/p@1")
    pair.sender.snapshot("src/tree/p@2", 10)
    monkeypatch.delenv("FAKEZFS_FULL")
    assert await pair.push() == 0
    assert pair.receiver.guids("dst/tree") == pair.sender.guids("src/tree")


async def test_a_placeholder_that_cannot_be_made_keeps_only_what_is_below_it_from_its_place(pair: Pair) -> None:
    for child in ("", "/a", "/p", "/p/c"):
        pair.sender.create("src/tree" + child)
        if child != "/p":
            pair.sender.snapshot(f"src/tree{child}@1")
    assert await pair.push(policy=Policy(selection=Selection(exclude=("a", "p")))) == 0
    with pair.receiver.open() as state:
        state["denied"] = ["canmount"]
        state["datasets"]["dst/tree.zfsyncbuffer"] = state["datasets"]["dst"] | {
            "properties": {"zfsync:placeholder": "dst/tree.zfsyncbuffer"}
        }
    assert await pair.push() == 3
    assert "/a" in pair.receiver.guids("dst/tree")
    assert any("dst/tree/p" in change.target and change.problem for change in changes(pair))
    with pair.receiver.open() as state:
        state["denied"] = []
    assert await pair.push() == 0
    assert "/p/c" in pair.receiver.guids("dst/tree")


async def test_what_a_second_look_at_the_source_finds_under_another_name_stays(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    diverged(pair)
    for name in "12":
        pair.sender.snapshot(f"src/tree/a@{name}x")
    assert await pair.push() == 0
    with pair.sender.open() as state:  # as a listing sees what is renamed, or moved by a promotion, meanwhile
        away = state["datasets"].pop("src/tree/b")
        away["snapshots"] += [entry for entry in state["datasets"]["src/tree/a"]["snapshots"] if entry[0] == "1x"]
    pair.sender.destroy("src/tree/a@1x")
    pair.sender.destroy("src/tree/a@1")
    before = pair.receiver.guids("dst/tree")

    def observe(event: Event) -> None:
        if isinstance(event, Planned):
            with pair.sender.open() as state:
                state["datasets"]["src/tree/c"] = away

    policy = Policy(delete_datasets=True, delete_snapshots=True)
    assert await pair.replicate(observe, policy=policy) == 0
    after = pair.receiver.guids("dst/tree")
    assert after["/b"] == before["/b"]
    assert [name for name, _ in after["/a"]] == ["1x", "2x"]  # only what is gone indeed


@pytest.mark.parametrize(("age", "loss"), [(0.0, "1 snapshots, 0 bytes"), (86400.0, "")])
async def test_a_dry_run_tells_which_datasets_are_to_go_and_neither_destroys_nor_marks_them(
    pair: Pair, age: float, loss: str
) -> None:
    diverged(pair)
    assert await pair.push() == 0
    pair.sender.destroy("src/tree/b")
    before = len(pair.receiver.commands())
    assert await pair.push(policy=Policy(delete_datasets=True, delete_age=age), dry_run=True) == 0
    told = [(change.target, change.loss, change.planned, change.problem) for change in changes(pair)]
    assert told == [("there:dst/tree/b", loss, True, "")]
    assert {command[0] for command in pair.receiver.commands()[before:]} == {"list"}
    assert pair.receiver.guids("dst/tree")["/b"]


async def test_after_a_rename_that_was_refused_no_dataset_is_destroyed(pair: Pair) -> None:
    diverged(pair)
    assert await pair.push() == 0
    with pair.sender.open() as state:
        state["datasets"]["src/tree/c"] = state["datasets"].pop("src/tree/a")
    with pair.receiver.open() as state:
        state["refuse"] = ["rename"]
    before = pair.receiver.guids("dst/tree")["/a"]
    assert await pair.push(policy=Policy(delete_datasets=True)) == 3
    assert {outcome.code for outcome in pair.outcomes.values()} == {""}  # nothing else has failed
    assert pair.receiver.guids("dst/tree")["/a"] == before


async def test_what_is_back_loses_its_mark_though_something_failed(pair: Pair) -> None:
    diverged(pair)
    assert await pair.push() == 0
    with pair.sender.open() as state:
        away = state["datasets"].pop("src/tree/b")
    policy = Policy(delete_datasets=True, delete_age=86400.0)
    assert await pair.push(policy=policy) == 0
    with pair.receiver.open() as state:
        assert state["datasets"]["dst/tree/b"]["properties"][GONE_PROPERTY]
    with pair.sender.open() as state:
        state["datasets"]["src/tree/b"] = away
    pair.receiver.snapshot("dst/tree/a@mine")
    pair.sender.snapshot("src/tree/a@2")
    assert await pair.push(policy=policy) == 3
    with pair.receiver.open() as state:
        assert GONE_PROPERTY not in state["datasets"]["dst/tree/b"]["properties"]
    assert [change.target for change in changes(pair)] == ["there:dst/tree/b"]


async def test_snapshots_that_are_gone_go_and_held_ones_are_told(pair: Pair) -> None:
    for name in "1234":
        pair.sender.snapshot(f"src/tree@{name}")
    assert await pair.push() == 0
    for name in "123":
        pair.sender.destroy(f"src/tree@{name}")
    with pair.receiver.open() as state:
        state.setdefault("holds", {})["dst/tree@2"] = ["mine"]
    policy = Policy(delete_snapshots=True)
    assert await pair.push(policy=policy, dry_run=True) == 0
    assert [name for name, _ in pair.receiver.guids("dst/tree")[""]] == ["1", "2", "3", "4"]
    assert changes(pair)[0].planned
    assert await pair.push(policy=policy) == 0
    assert [name for name, _ in pair.receiver.guids("dst/tree")[""]] == ["2", "4"]
    assert changes(pair)[0].loss == "2 snapshots from @1 to @3"
    assert any(isinstance(event, Notice) and "dst/tree@2 stays" in event.text for event in pair.events)


async def test_of_what_did_not_arrive_no_snapshot_is_destroyed(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    diverged(pair)
    assert await pair.push() == 0
    pair.sender.destroy("src/tree/a@1")  # a bookmark alone is left of what both have in common
    pair.sender.snapshot("src/tree/a@2", 900_000)
    before = pair.receiver.guids("dst/tree")["/a"]
    policy = Policy(delete_snapshots=True)
    monkeypatch.setenv("FAKEZFS_FULL", "200000")
    assert await pair.push(policy=policy) == 3
    assert pair.receiver.guids("dst/tree")["/a"] == before
    monkeypatch.delenv("FAKEZFS_FULL")
    assert await pair.push(policy=policy) == 0
    assert pair.receiver.guids("dst/tree") == pair.sender.guids("src/tree")


async def test_more_properties_than_a_message_holds_fail_their_dataset_alone(pair: Pair) -> None:
    from zfsync_ssh.policy import Properties

    diverged(pair)
    with pair.sender.open() as state:
        for number in range(20):
            state["datasets"]["src/tree/a"]["properties"][f"my:note{number}"] = "x" * 8000
    assert await pair.push(policy=Policy(properties=Properties(preserve=("all",)))) == 3
    refused = pair.outcomes["src/tree/a"]
    assert (refused.code, refused.estimate) == ("properties", 0)
    assert pair.outcomes["src/tree/b"].status is Status.SENT


async def test_a_property_that_the_target_does_not_know_fails_its_dataset_until_it_is_excluded(pair: Pair) -> None:
    from zfsync_ssh.policy import Properties

    pair.sender.create("src/tree/a")
    pair.sender.snapshot("src/tree@1")
    pair.sender.snapshot("src/tree/a@1")
    with pair.sender.open() as state:
        state["datasets"]["src/tree/a"]["properties"].update({"direct": "always", "atime": "off"})
    with pair.receiver.open() as state:
        state["unknown"] = ["direct"]
    assert await pair.push(policy=Policy(properties=Properties(preserve=("all",)))) == 3
    assert (pair.outcomes["src/tree"].status, pair.outcomes["src/tree/a"].code) == (Status.SENT, "property")
    left_out = Properties(preserve=("all",), exclude=("direct", "my:note"))
    assert await pair.push(policy=Policy(properties=left_out)) == 0
    assert pair.receiver.guids("dst/tree") == pair.sender.guids("src/tree")
    received = [words for words in pair.receiver.commands() if words[0] == "receive"][-1]
    assert "atime=off" in received
    assert "my:note" in received
    assert "direct" not in received


async def test_holds_that_a_run_has_left_are_shown_and_let_go(pair: Pair) -> None:
    pair.sender.snapshot("src/tree@1")
    end = LocalSource("src/tree", zfs_command(pair.sender))
    await end.apply([Operation("announce", "src/tree", (TAG,)), Operation("hold", "src/tree@1", (TAG,))])
    with pair.sender.open() as state:
        state["holds"]["src/tree@1"].append("mine")
    for release, code in ((False, 3), (True, 0), (False, 0)):
        pair.events.clear()
        there = pair.remote_source("src/tree")._endpoint
        assert await show_holds(there, release, pair.events.append) == code
        words = [change.words for change in changes(pair)]
        if code or release:
            assert words[0].startswith(f"has 1 snapshots held for {TARGET} by run 0123456789ab, which is gone")
        else:
            assert words == []
    assert left_behind(pair)[1] is None
    with pair.sender.open() as state:
        assert state["holds"]["src/tree@1"] == ["mine"]


async def test_a_run_at_work_is_told_from_one_that_is_gone(pair: Pair) -> None:
    holds, end = holding(pair)
    await holds.hold(["src/tree@1"])
    there = pair.remote_source("src/tree")._endpoint
    assert await show_holds(there, True, pair.events.append) == 0
    assert changes(pair)[0].words.endswith("which is at work")
    assert left_behind(pair)[0]
    await holds.release()
    await end.close()
