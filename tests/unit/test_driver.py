"""What the driver of the `zfs` command makes of its answers, on a `zfs` that only writes down what it is asked.

What it does to datasets is in tests/lab/test_driver.py; the choice of a driver is in test_libzfs.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from zfsync_ssh import zfs
from zfsync_ssh.driver import AT_ONCE, CliDriver
from zfsync_ssh.errors import UsageError, ZfsError


class Zfs:
    """A command that complains of command lines with certain words in them."""

    def __init__(self, path: Path) -> None:
        self._log = path / "log"
        self._script = path / "zfs"
        self._cases = ""
        self.driver = CliDriver(("/bin/sh", str(self._script)))
        self._write()

    def refuse(self, words: str, complaint: str) -> None:
        """From now on complain, where ``words`` are a pattern of the shell."""
        self._cases += f'{words}) echo "{complaint}" >&2; exit 1;;\n'
        self._write()

    def answer(self, words: str, output: str) -> None:
        self._cases += f"{words}) printf '{output}'; exit 0;;\n"
        self._write()

    def _write(self) -> None:
        self._script.write_text(f'echo "$*" >> "{self._log}"\ncase "$*" in\n{self._cases}esac\n')

    @property
    def lines(self) -> list[str]:
        """What it was asked, in alphabetical order: some of it at the same time."""
        return sorted(self._log.read_text().splitlines()) if self._log.exists() else []


@pytest.fixture
def fake(tmp_path: Path) -> Zfs:
    return Zfs(tmp_path)


TREE = ["p@1", "p/a@1", "p/b@1", "p/c@1"]


def test_a_tree_is_one_command_and_a_look_at_it(fake: Zfs) -> None:
    fake.answer("list*", "".join(f"{name}\\t1\\n" for name in TREE))
    assert fake.driver.hold(TREE, "tag") == []
    assert fake.driver.release(TREE, "tag") == []
    assert fake.lines == [
        "hold -r tag p@1",
        "list -Hp -t snapshot -o name,userrefs " + " ".join(TREE),
        "release -r tag p@1",
    ]


def test_a_tree_that_cannot_be_held_as_one_is_held_name_by_name(fake: Zfs) -> None:
    fake.refuse("hold' '-r*", "cannot hold: permission denied")
    assert fake.driver.hold(TREE, "tag") == []
    assert fake.lines == ["hold -r tag p@1", *sorted(f"hold tag {name}" for name in TREE)]
    assert fake.driver.release(TREE[1:], "tag") == []
    assert "release -r tag p@1" not in fake.lines


def test_what_another_process_held_is_released_as_it_would_have_been_held(fake: Zfs) -> None:
    assert fake.driver.release(TREE, "tag") == []
    assert fake.lines == ["release -r tag p@1"]


def test_many_names_are_dealt_out_to_a_few_commands(fake: Zfs) -> None:
    names = [f"p/{number:03}@1" for number in range(100)]
    assert fake.driver.hold(names, "tag") == []
    assert len(fake.lines) == AT_ONCE
    assert sorted(name for line in fake.lines for name in line.split()[2:]) == names


def test_what_never_ran_is_tried_once_for_each_command(fake: Zfs) -> None:
    fake.refuse("*", "sudo: a password is required")
    failures = fake.driver.release([f"p/{number}@1" for number in range(100)], "tag")
    assert len(failures) == 100
    assert {failed.code for failed in failures} == {"permission"}
    assert len(fake.lines) == AT_ONCE


def test_snapshots_that_do_not_fit_on_one_line_are_still_all_or_none(
    fake: Zfs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zfs, "MAX_ARGUMENT_BYTES", 12)
    fake.refuse("snapshot*p/b@1*", "cannot create snapshot 'p/b@1': dataset already exists")
    failures = fake.driver.snapshot(["p@1", "p/a@1", "p/b@1", "p/c@1"])
    assert [(name, code) for name, code, _ in failures] == [
        ("p@1", "undone"), ("p/a@1", "undone"), ("p/b@1", "exists"), ("p/c@1", "undone"),
    ]  # fmt: skip
    assert fake.lines == ["destroy p/a@1", "destroy p@1", "snapshot p/b@1 p/c@1", "snapshot p@1 p/a@1"]


def test_a_bookmark_that_vanished_while_it_was_looked_at_is_a_failure(fake: Zfs) -> None:
    fake.refuse("bookmark*", "cannot create bookmark 'p#1': bookmark exists")
    assert [failed.code for failed in fake.driver.bookmark([("p#1", "p@1")])] == ["exists"]


def test_what_cannot_be_found_out_is_not_taken_for_absent(fake: Zfs) -> None:
    fake.refuse("list*", "cannot open 'p/a': I/O error")
    with pytest.raises(ZfsError, match="cannot find out whether p/a exists: cannot open 'p/a': I/O error"):
        fake.driver.exists("p/a")


def test_nothing_else_is_destroyed_where_one_name_is_no_snapshot(fake: Zfs) -> None:
    with pytest.raises(UsageError):
        fake.driver.destroy_snapshots(["p@1", "p/a"])
    with pytest.raises(UsageError):
        fake.driver.destroy_bookmarks(["p#1", "p/a"])
    assert fake.lines == []


def test_no_names_are_no_commands(fake: Zfs) -> None:
    driver = fake.driver
    assert driver.hold([], "tag") == driver.release([], "tag") == driver.bookmark([]) == driver.snapshot([]) == []
    assert driver.destroy_snapshots([]) == driver.destroy_bookmarks([]) == []
    assert fake.lines == []
