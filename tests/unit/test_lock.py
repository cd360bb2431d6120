"""One run per target: locks taken here and in other processes."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from zfsync_ssh.lock import Lock, sweep

TARGET = "tank/back up"

# Tries to take a lock, says how that went, and holds it until its input ends.
PROGRAM = """
import os, sys
from zfsync_ssh.lock import Lock, sweep
if len(sys.argv) > 3:
    os.setgroups([])
    os.setgid(int(sys.argv[3]))
    os.setuid(int(sys.argv[3]))
lock = Lock(sys.argv[1], tuple(sys.argv[2].split(":")))
print(repr(lock.acquire("process %d" % os.getpid())), flush=True)
sys.stdin.read()
lock.release()
"""

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")


def lock_in(directory: Path, target: str = TARGET) -> Lock:
    return Lock(target, (str(directory),))


@contextlib.contextmanager
def other_process(directory: Path | str, uid: int | None = None) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Another process that tries to take the lock, and the `repr` of what came of it."""
    argv = [sys.executable, "-c", PROGRAM, TARGET, str(directory), *([str(uid)] if uid else [])]
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=root
    ) as process:
        assert process.stdout
        yield process, process.stdout.readline().strip()


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    """A directory as /tmp is: anyone may write into it, only owners may remove."""
    path = Path(tempfile.mkdtemp(prefix="zfsync-test-", dir="/tmp"))
    path.chmod(0o1777)
    yield path
    shutil.rmtree(path)


# ---- one process -----------------------------------------------------------------------------------------------------


def test_a_free_lock_is_taken_and_says_whose_it_is(tmp_path: Path) -> None:
    lock = lock_in(tmp_path)
    assert lock.acquire("me, pid 1") is None
    assert Path(lock.path).read_text() == "me, pid 1"
    lock.release()


def test_what_somebody_else_put_in_its_place_is_neither_waited_for_nor_written_to(tmp_path: Path) -> None:
    lock = lock_in(tmp_path, "@run-x")
    os.mkfifo(lock.path)
    with pytest.raises(OSError, match="it is no file of zfsync's"):
        lock.acquire("me")
    sweep("@run-", (str(tmp_path),))
    os.unlink(lock.path)
    (tmp_path / "secret").write_text("mine")
    (tmp_path / "secret").chmod(0o600)
    os.link(tmp_path / "secret", lock.path)
    with pytest.raises(OSError, match="it is no file of zfsync's"):
        lock.acquire("me")
    assert (tmp_path / "secret").read_text() == "mine"
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600


def test_a_second_one_is_told_who_holds_it(tmp_path: Path) -> None:
    first, second = lock_in(tmp_path), lock_in(tmp_path)
    first.acquire("the first")
    assert second.acquire("the second") == "the first"
    assert Path(first.path).read_text() == "the first"
    first.release()
    assert second.acquire("the second") is None
    second.release()


def test_a_lock_that_was_given_back_leaves_no_file(tmp_path: Path) -> None:
    lock = lock_in(tmp_path)
    lock.acquire("me")
    lock.release()
    assert list(tmp_path.iterdir()) == []
    lock.release()  # once more does no harm


def test_a_lock_that_was_not_got_is_not_given_back(tmp_path: Path) -> None:
    first, second = lock_in(tmp_path), lock_in(tmp_path)
    first.acquire("the first")
    second.acquire("the second")
    second.release()
    assert lock_in(tmp_path).acquire("the third") == "the first"
    first.release()


def test_targets_do_not_lock_each_other(tmp_path: Path) -> None:
    locks = [
        lock_in(tmp_path, target)
        for target in ("p/a", "p/a/b", "p%2Fa", "p/b", "p_a", "p/" + "x" * 250, "p/" + "x" * 249)
    ]
    assert [lock.acquire("me") for lock in locks] == [None] * len(locks)
    assert len({lock.path for lock in locks}) == len(locks)
    for lock in locks:
        lock.release()


@pytest.mark.parametrize("target", ["p/" + "x" * 253, "p" + "/x" * 127, "p/a b:c"])
def test_any_legal_target_makes_one_file_in_the_directory(tmp_path: Path, target: str) -> None:
    lock = lock_in(tmp_path, target)
    assert lock.acquire("me") is None
    assert [str(path) for path in tmp_path.iterdir()] == [lock.path]
    lock.release()


def test_a_longer_text_of_an_earlier_owner_does_not_remain(tmp_path: Path) -> None:
    lock = lock_in(tmp_path)
    Path(lock.path).write_text("an owner of long ago with a long name")
    assert lock.acquire("me") is None
    assert lock_in(tmp_path).acquire("you") == "me"
    lock.release()


def test_an_owner_of_any_length_and_alphabet_can_be_told(tmp_path: Path) -> None:
    lock = lock_in(tmp_path)
    lock.acquire("é" * 5000)
    told = lock_in(tmp_path).acquire("you")
    assert told == "é" * 512
    lock.release()


def test_an_owner_that_says_nothing_holds_it_all_the_same(tmp_path: Path) -> None:
    lock = lock_in(tmp_path)
    lock.acquire("")
    assert lock_in(tmp_path).acquire("you") == ""
    lock.release()


def test_the_first_directory_that_can_be_written_is_used(tmp_path: Path) -> None:
    there, other = tmp_path / "there", tmp_path / "other"
    there.mkdir()
    other.mkdir()
    lock = Lock(TARGET, (str(tmp_path / "missing"), str(there), str(other)))
    assert Path(lock.path).parent == there


def test_a_directory_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        lock_in(tmp_path / "missing").acquire("me")


@pytest.mark.parametrize("leads_to", ["victim", "nowhere"])
def test_a_symbolic_link_is_not_followed(tmp_path: Path, leads_to: str) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    lock = lock_in(tmp_path)
    os.symlink(tmp_path / leads_to, lock.path)
    with pytest.raises(OSError, match=r"symbolic|links"):
        lock.acquire("me")
    assert victim.read_text() == "precious"
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("made_anew", [False, True])
def test_a_file_that_its_holder_removes_just_now_is_not_locked(
    tmp_path: Path, made_anew: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = lock_in(tmp_path)
    genuine = fcntl.flock
    locked: list[int] = []

    def flock(fd: int, operation: int) -> None:
        if not locked:
            os.unlink(lock.path)
            if made_anew:
                Path(lock.path).touch()
        locked.append(fd)
        genuine(fd, operation)

    monkeypatch.setattr("zfsync_ssh.lock.fcntl.flock", flock)
    assert lock.acquire("me") is None
    assert len(locked) == 2
    assert lock_in(tmp_path).acquire("you") == "me"
    lock.release()


# ---- several ---------------------------------------------------------------------------------------------------------


def test_another_process_is_told_and_tells(tmp_path: Path) -> None:
    lock = lock_in(tmp_path)
    with other_process(tmp_path) as (process, said):
        assert said == "None"
        assert lock.acquire("me") == f"process {process.pid}"
    assert list(tmp_path.iterdir()) == []
    assert lock.acquire("me") is None
    with other_process(tmp_path) as (_, said):
        assert said == "'me'"
    lock.release()


def test_the_lock_of_a_process_that_was_killed_is_free_at_once(tmp_path: Path) -> None:
    lock = lock_in(tmp_path)
    with other_process(tmp_path) as (process, said):
        assert said == "None"
        process.kill()
        process.wait()
        assert Path(lock.path).exists()  # there was nobody to remove it
        assert lock.acquire("me") is None
    assert Path(lock.path).read_text() == "me"
    lock.release()


def test_what_killed_processes_have_left_is_swept_away_and_nothing_else(tmp_path: Path) -> None:
    names = {name: lock_in(tmp_path, name) for name in ("@run-1", "@run-2", "@other", "tank/@run-3")}
    for lock in names.values():
        Path(lock.path).write_text("dead")
    (tmp_path / "zfsync-@run-4.txt").touch()
    names["@run-2"].acquire("alive")
    sweep("@run-", (str(tmp_path),))
    assert not Path(names.pop("@run-1").path).exists()
    assert all(Path(lock.path).exists() for lock in names.values())
    assert (tmp_path / "zfsync-@run-4.txt").exists()
    assert lock_in(tmp_path, "@run-2").acquire("another") == "alive"
    names["@run-2"].release()


def test_nothing_is_swept_where_nobody_may_look(tmp_path: Path) -> None:
    sweep("@run-", (str(tmp_path / "nowhere"),))


def test_a_lock_of_ones_own_is_taken_as_soon_as_others_have_looked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, looking = lock_in(tmp_path, "@run-1"), lock_in(tmp_path, "@run-1")
    assert looking.acquire("") is None
    monkeypatch.setattr(time, "sleep", lambda seconds: looking.release())
    assert own.acquire_own("me") is None
    assert Path(own.path).read_text() == "me"
    assert lock_in(tmp_path, "@run-1").acquire_own("too late") == "me"
    own.release()


# ---- several directories ---------------------------------------------------------------------------------------------


@pytest.fixture
def both(tmp_path: Path) -> tuple[Lock, Lock, Path]:
    """A lock of one target as two accounts take it, who may write to a directory each; and the second's."""
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    return Lock(TARGET, (str(first), str(second))), Lock(TARGET, (str(second), str(first))), second


def test_one_that_is_held_where_another_account_has_it_is_not_taken(both: tuple[Lock, Lock, Path]) -> None:
    mine, theirs, there = both
    assert mine.path != theirs.path
    assert theirs.acquire("them") is None
    assert mine.acquire("me") == "them"
    assert not Path(mine.path).exists()
    theirs.release()
    assert mine.acquire("me") is None
    assert list(there.iterdir()) == []
    mine.release()


def test_a_file_that_nobody_holds_there_is_no_lock(both: tuple[Lock, Lock, Path]) -> None:
    mine, theirs, _ = both
    Path(theirs.path).write_text("killed long ago")
    assert mine.acquire("me") is None
    mine.release()
    os.unlink(theirs.path)
    os.mkfifo(theirs.path)
    assert mine.acquire("me") is None
    mine.release()


def test_one_that_was_taken_there_meanwhile_makes_it_give_back_its_own(
    both: tuple[Lock, Lock, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, theirs, _ = both
    genuine = fcntl.flock
    taken: list[int] = []

    def flock(fd: int, operation: int) -> None:
        if not taken:
            taken.append(fd)
            assert theirs.acquire("them") is None
        genuine(fd, operation)

    monkeypatch.setattr("zfsync_ssh.lock.fcntl.flock", flock)
    assert mine.acquire("me") == "them"
    assert not Path(mine.path).exists()
    assert lock_in(Path(theirs.path).parent).acquire("another") == "them"
    theirs.release()


def test_one_directory_by_two_names_is_one(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "var").symlink_to(tmp_path / "run")
    lock = Lock(TARGET, (str(tmp_path / "run"), str(tmp_path / "var")))
    assert lock.acquire("me") is None
    lock.release()


def test_the_directory_of_the_variable_is_the_only_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zfsync_ssh.lock._DIRECTORIES", (str(tmp_path),))
    (tmp_path / "named").mkdir()
    usual = Lock(TARGET)
    assert usual.acquire("there") is None
    monkeypatch.setenv("ZFSYNC_LOCK_DIR", str(tmp_path / "named"))
    named = Lock(TARGET)
    assert named.acquire("me") is None
    named.release()
    usual.release()


@as_root
def test_root_and_another_user_exclude_each_other_where_only_root_writes_to_the_first_directory(
    open_to_all: Path,
) -> None:
    roots = open_to_all / "run"
    roots.mkdir()
    roots.chmod(0o755)
    lock = Lock(TARGET, (str(roots), str(open_to_all)))
    with other_process(f"{roots}:{open_to_all}", NOBODY) as (process, said):
        assert said == "None"
        assert lock.acquire("root") == f"process {process.pid}"
    assert lock.acquire("root") is None
    assert Path(lock.path).parent == roots
    with other_process(f"{roots}:{open_to_all}", NOBODY) as (_, said):
        assert said == "'root'"
    lock.release()


@as_root
def test_a_user_who_may_not_write_the_file_is_told_who_holds_it(open_to_all: Path) -> None:
    lock = lock_in(open_to_all)
    lock.acquire("root")
    with other_process(open_to_all, NOBODY) as (_, said):
        assert said == "'root'"
    lock.release()


@as_root
def test_a_file_that_another_user_left_can_be_locked_but_not_removed(open_to_all: Path) -> None:
    lock = lock_in(open_to_all)
    left = Path(lock.path)
    left.write_text("root, long ago")
    with other_process(open_to_all, NOBODY) as (_, said):
        assert said == "None"
        assert lock.acquire("root") == "root, long ago"  # all that can be told
    assert left.exists()
    assert lock.acquire("root") is None
    lock.release()


@as_root
def test_root_respects_the_lock_of_another_user(open_to_all: Path) -> None:
    with other_process(open_to_all, NOBODY) as (process, said):
        assert said == "None"
        assert lock_in(open_to_all).acquire("root") == f"process {process.pid}"


@as_root
def test_a_file_that_cannot_even_be_read_is_an_error(open_to_all: Path) -> None:
    closed = Path(lock_in(open_to_all).path)
    closed.touch(mode=0o600)
    with other_process(open_to_all, NOBODY) as (process, said):
        assert said == ""
    assert process.returncode != 0
