"""What is remembered of a tree between runs: only what cannot have changed, and nothing of a file that was damaged."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from zfsync_ssh import remembered
from zfsync_ssh.dataset import Inventory
from zfsync_ssh.errors import ZfsError
from zfsync_ssh.listing import InventoryParser
from zfsync_ssh.recall import UNKNOWN, key_of, list_changed, list_rest, unknown
from zfsync_ssh.remembered import MAX_AGE_SECONDS, UNUSED_SECONDS, Recall, Remembered, recalling
from zfsync_ssh.zfs import CHANGED_PROPERTY, DATASET_COLUMNS

AT = 1_000_000


def line(name: str, guid: int, changed: object, origin: str = "-") -> str:
    """A dataset as `zfs list` prints it."""
    values = {"name": name, "type": "filesystem", "guid": str(guid), "createtxg": "1", "origin": origin}
    return "\t".join([*(values.get(column, "-") for column in DATASET_COLUMNS), str(changed)])


def inventory(*lines: str, at: int = AT, recall: Recall | None = None) -> Inventory:
    parser = InventoryParser("src", changes=True)
    for one in lines:
        parser.feed(one)
    if recall is not None:
        parser.recall(recall.lines)
    return parser.finish(at=at)


SNAPSHOTS = ("src/a@x\t7\t70", "src/a@y\t8\t80")
A, B = line("src/a", 1, AT - 100), line("src/b", 2, AT - 50)


def made(directory: Path, now: float = AT) -> Remembered:
    return Remembered(directory, "there:src", lambda: now)


def test_what_was_listed_once_is_recalled_in_the_next_run(tmp_path: Path) -> None:
    first = made(tmp_path / "made")
    assert first.recall == Recall(True, {})
    first.learn(inventory(A, B, *SNAPSHOTS))
    first.save()
    recall = made(tmp_path / "made").recall
    assert list(recall.lines) == [key_of("1", str(AT - 100), ""), key_of("2", str(AT - 50), "")]
    again, whole = inventory(A, B, recall=recall), inventory(A, B, *SNAPSHOTS)
    assert again.datasets == whole.datasets
    (path,) = (tmp_path / "made").iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("changed", [AT - 1, AT, AT + 100, "-", ""])
def test_what_may_have_changed_once_more_in_its_second_or_is_not_told_is_not_remembered(
    tmp_path: Path, changed: object
) -> None:
    memory = made(tmp_path)
    memory.learn(inventory(line("src/a", 1, changed), *SNAPSHOTS))
    memory.save()
    assert memory.recall.lines == {}


@pytest.mark.parametrize(
    "other", [line("src/a", 9, AT - 100), line("src/a", 1, AT - 99), line("src/a", 1, AT - 100, "src/o@x")]
)
def test_another_dataset_another_time_and_another_origin_are_not_taken_for_it(tmp_path: Path, other: str) -> None:
    memory = made(tmp_path)
    memory.learn(inventory(A, *SNAPSHOTS))
    memory.save()
    assert inventory(other, recall=memory.recall).datasets["/a"].snapshots == ()


def test_after_a_day_all_is_listed_anew_however_often_it_was_recalled(tmp_path: Path) -> None:
    made(tmp_path).save()
    memory = made(tmp_path)
    memory.learn(inventory(A, *SNAPSHOTS))
    memory.save()
    later = made(tmp_path, AT + MAX_AGE_SECONDS - 1)
    later.learn(inventory(A, *SNAPSHOTS))  # by recall: no newer than it was
    later.save()
    assert later.recall.lines
    assert made(tmp_path, AT + MAX_AGE_SECONDS).recall.lines == {}
    assert made(tmp_path, AT - 1).recall.lines == {}  # the clock was put back


def test_a_file_that_was_damaged_is_not_believed(tmp_path: Path) -> None:
    memory = made(tmp_path)
    memory.learn(inventory(A, *SNAPSHOTS))
    memory.save()
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert made(tmp_path).recall.lines == {}, at
        path.write_bytes(whole[:at])
        assert made(tmp_path).recall.lines == {}, at
    path.write_bytes(whole)
    assert made(tmp_path).recall.lines == memory.recall.lines


def test_what_is_forgotten_is_forgotten_for_the_next_run_too(tmp_path: Path) -> None:
    memory = made(tmp_path)
    memory.learn(inventory(A, *SNAPSHOTS))
    memory.save()
    memory.forget()
    memory.save()
    assert made(tmp_path).recall.lines == {}


def test_a_place_that_cannot_be_written_to_costs_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    memory = made(tmp_path / "file")
    memory.learn(inventory(A, *SNAPSHOTS))
    memory.save()
    assert made(tmp_path / "file").recall.lines == {}


def test_what_a_write_that_failed_has_begun_is_taken_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> Path:
        raise OSError(28, "No space left on device")

    memory = made(tmp_path)
    memory.learn(inventory(A, *SNAPSHOTS))
    monkeypatch.setattr(Path, "replace", full)
    memory.save()
    assert list(tmp_path.iterdir()) == []


def test_the_memory_of_trees_that_no_run_asks_for_is_thrown_away(tmp_path: Path) -> None:
    memory = made(tmp_path)
    memory.learn(inventory(A, *SNAPSHOTS))
    memory.save()
    (path,) = tmp_path.iterdir()
    os.utime(path, (AT, AT))
    now = AT + UNUSED_SECONDS + 1
    other = Remembered(tmp_path, "there:other", lambda: now)
    other.learn(inventory(A, *SNAPSHOTS))
    other.save()
    assert path not in tmp_path.iterdir()
    assert len(list(tmp_path.iterdir())) == 1


async def test_a_zfs_that_does_not_know_is_asked_again_and_not_the_next_time(tmp_path: Path) -> None:
    asked: list[Recall] = []

    async def listed(recall: Recall) -> Inventory:
        asked.append(recall)
        if recall.changes:
            raise ZfsError("no", UNKNOWN)
        return inventory(A)

    for _ in range(2):
        memory = made(tmp_path)
        await recalling(listed, memory)
        memory.save()
    assert [recall.changes for recall in asked] == [True, False, False]
    assert made(tmp_path, AT + MAX_AGE_SECONDS).recall.changes  # it may have been brought up to date


async def test_another_failure_is_nobodys_business_here(tmp_path: Path) -> None:
    async def fails(_: Recall) -> Inventory:
        raise ZfsError("no", "missing")

    with pytest.raises(ZfsError, match="no"):
        await recalling(fails, made(tmp_path))


def test_no_more_is_remembered_than_can_be_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "MAX_RECALLED", 1)
    memory = made(tmp_path)
    memory.learn(inventory(A, B))
    memory.save()
    assert len(memory.recall.lines) == 1


# ---- what is left to list --------------------------------------------------------------------------------------------


def test_of_those_that_have_changed_alone_snapshots_are_listed() -> None:
    lines = [line(f"src/{name}", ord(name), 5) for name in "abc"] + ["src/a#mark\t7\t8"]
    known = {key_of(str(ord(name)), "5", "") for name in "abc"}
    assert list_changed(lines, known, ("src",)) == ([], True)
    (snapshots,), spared = list_changed(lines, known - {key_of(str(ord("b")), "5", "")}, ("src",))
    assert spared
    assert snapshots == ("list", "-Hp", "-d1", "-t", "snapshot", "-o", "name,guid,createtxg", "src/b")


def test_where_most_have_changed_all_is_listed_by_one_command() -> None:
    lines = [line(f"src/{name}", ord(name), 5) for name in "ab"]
    (command,), spared = list_changed(lines, {key_of(str(ord("a")), "5", "")}, ("src", "buffer"))
    assert not spared
    assert command == ("list", "-Hp", "-r", "-t", "snapshot", "-o", "name,guid,createtxg", "src", "buffer")
    assert list_changed([], {"1:2:3"}, ("src",))[1] is False


def test_all_else_is_listed_by_one_command_whose_rows_of_bookmarks_are_read() -> None:
    command = list_rest(("src",), "")
    columns = command[command.index("-o") + 1].split(",")
    assert columns == [*DATASET_COLUMNS, CHANGED_PROPERTY]
    mark = "\t".join(["src/a#mark", "7", "70", *("-" for _ in columns[3:])])
    (bookmark,) = inventory(A, mark).datasets["/a"].bookmarks
    assert bookmark == ("mark", 7, 70)
    with pytest.raises(ValueError, match="a row of 4 columns"):
        inventory(A, "src/a#mark\t7\t70\t-")


def test_the_complaint_of_an_older_zfs_is_known() -> None:
    assert unknown(f"bad property list: invalid property '{CHANGED_PROPERTY}'\nusage:\n")
    assert not unknown("cannot open 'src': dataset does not exist")
