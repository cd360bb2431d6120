"""The library's binding, as far as it can be played: what is refused, and what it stumbles over."""

from __future__ import annotations

import errno
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from zfsync_ssh import libzfs
from zfsync_ssh.blame import Failed
from zfsync_ssh.driver import CliDriver, choose
from zfsync_ssh.errors import UsageError, ZfsError


class Error(Exception):
    """As the binding's errors are."""

    def __init__(self, number: int, name: object = None, message: object = None, errors: tuple[object, ...] = ()):
        self.errno = number
        self.name = name
        self.message = message
        if errors:
            self.errors = errors


def binding(**functions: Any) -> ModuleType:
    """A living binding, on which these functions work."""
    made = ModuleType("libzfs_core")
    made.__dict__.update({"lzc_receive_resumable": None, "lzc_exists": lambda name: False, **functions})
    return made


def raises(error: Exception) -> Any:
    def call(*_: object) -> None:
        raise error

    return call


def lib(**functions: Any) -> libzfs.LibDriver:
    return libzfs.LibDriver(binding(**functions), lambda marks: [])


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Puts a module in the binding's place."""
    monkeypatch.delenv("ZFSYNC_LIBZFS", raising=False)

    def install(module: ModuleType | None) -> None:
        monkeypatch.setitem(sys.modules, "libzfs_core", module)

    return install


# ---- the choice ------------------------------------------------------------------------------------------------------


def test_the_living_binding_is_chosen(installed: Any) -> None:
    installed(binding())
    chosen = choose(("zfs",))
    assert isinstance(chosen, libzfs.LibDriver)
    assert chosen.temporary_holds


@pytest.mark.parametrize("command", [("sudo", "-n", "zfs"), ("/sbin/zfs",), ()])
def test_the_library_does_not_stand_in_for_another_command(installed: Any, command: tuple[str, ...]) -> None:
    installed(binding())
    assert isinstance(choose(command), CliDriver)


def test_the_user_may_force_the_command(installed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(binding())
    monkeypatch.setenv("ZFSYNC_LIBZFS", "off")
    chosen = choose(("zfs",))
    assert isinstance(chosen, CliDriver)
    assert not chosen.temporary_holds


def test_the_binding_of_2015_is_refused_unused(installed: Any) -> None:
    old = ModuleType("libzfs_core")
    old.__dict__["lzc_exists"] = raises(AssertionError("it would crash"))
    installed(old)
    assert isinstance(choose(("zfs",)), CliDriver)


@pytest.mark.parametrize("error", [OSError("no library"), Error(errno.ENOENT), AttributeError("lzc_exists")])
def test_a_binding_whose_first_call_fails_is_refused(installed: Any, error: Exception) -> None:
    installed(binding(lzc_exists=raises(error)))
    assert isinstance(choose(("zfs",)), CliDriver)


def test_without_the_binding_it_is_the_command(installed: Any) -> None:
    installed(None)
    assert isinstance(choose(("zfs",)), CliDriver)


def test_the_binding_is_imported_for_a_choice_alone(installed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(binding())
    monkeypatch.setenv("ZFSYNC_LIBZFS", "off")
    monkeypatch.setattr(libzfs, "load", raises(AssertionError("imported")))
    choose(("zfs",))
    CliDriver(("zfs",))


# ---- errors ----------------------------------------------------------------------------------------------------------


def test_each_name_has_its_own_error() -> None:
    def destroy(names: list[bytes]) -> None:
        bad = {b"p#1": errno.EPERM, b"p#3": errno.EBUSY}
        errors = tuple(Error(bad[name], name, "text") for name in names if name in bad)
        if errors:
            raise Error(errors[0].errno, None, "several", errors)

    assert lib(lzc_destroy_bookmarks=destroy).destroy_bookmarks(["p#1", "p#2", "p#3"]) == [
        Failed("p#1", "permission", "permission denied"),
        Failed("p#3", "busy", "it is in use, held, or has clones"),
    ]


def test_a_binding_that_stumbles_over_many_is_asked_again_for_fewer() -> None:
    """2.3 raises KeyError(None) for bookmarks that may not be made, when there are several."""
    made: list[tuple[bytes, bytes]] = []

    def bookmark(marks: dict[bytes, bytes]) -> None:
        if b"p#2" in marks:
            raise Error(1, None, "x", (Error(1, b"p#2"),)) if len(marks) == 1 else KeyError(None)
        made.extend(marks.items())

    failures = lib(lzc_bookmark=bookmark).bookmark([(f"p#{name}", f"p@{name}") for name in "1234"])
    assert failures == [Failed("p#2", "permission", "permission denied")]
    assert sorted(made) == [(b"p#1", b"p@1"), (b"p#3", b"p@3"), (b"p#4", b"p@4")]


def test_the_generic_error_has_its_name_where_the_message_should_be() -> None:
    failed = Error(errno.EIO, "Failed to destroy bookmark", b"p#1")
    driver = lib(lzc_destroy_bookmarks=raises(Error(errno.EIO, None, "several", (failed,))))
    assert driver.destroy_bookmarks(["p#1"]) == [Failed("p#1", "failed", "Input/output error")]


def test_an_error_of_no_number_is_told_as_it_is() -> None:
    driver = lib(lzc_rename=raises(TypeError("what?")))
    assert driver.rename("p/a", "p/b", "filesystem") == Failed(
        "p/a", "failed", "libzfs_core stumbled: TypeError('what?')"
    )


def test_an_error_of_zfs_own_is_told_in_the_bindings_words() -> None:
    driver = lib(lzc_rename=raises(Error(1033, b"p/b", "Parent dataset is not a filesystem")))
    assert driver.rename("p/a", "p/b", "volume") == Failed("p/a", "failed", "parent dataset is not a filesystem")


def test_bookmarks_that_are_there_are_looked_at() -> None:
    asked: list[object] = []

    def look(marks: Any) -> list[Failed]:
        asked.extend(marks)
        return [Failed("p#1", "exists", "of another")]

    there = Error(errno.EEXIST, None, "x", (Error(errno.EEXIST, b"p#1", "x"), Error(errno.EEXIST, b"p#2", "x")))
    driver = libzfs.LibDriver(binding(lzc_bookmark=raises(there)), look)
    assert driver.bookmark([("p#1", "p@1"), ("p#2", "p@2")]) == [Failed("p#1", "exists", "of another")]
    assert asked == [("p#1", "p@1"), ("p#2", "p@2")]


def test_only_snapshots_and_bookmarks_are_destroyed() -> None:
    driver = lib(lzc_destroy_snaps=raises(AssertionError()), lzc_destroy_bookmarks=raises(AssertionError()))
    for name in ("p/a", "p/a#m"):
        with pytest.raises(UsageError):
            driver.destroy_snapshots(["p@1", name])
    for name in ("p/a", "p/a@1"):
        with pytest.raises(UsageError):
            driver.destroy_bookmarks(["p#1", name])


def test_a_bookmark_that_cannot_be_looked_up_is_an_error() -> None:
    exceptions = SimpleNamespace(ZFSError=Error, FilesystemNotFound=KeyError)
    driver = lib(lzc_get_bookmarks=raises(Error(errno.EPERM)), exceptions=exceptions)
    with pytest.raises(ZfsError, match="cannot find out whether p#1 exists: permission denied"):
        driver.exists("p#1")


def test_each_pool_is_a_call() -> None:
    calls: list[list[bytes]] = []
    exceptions = SimpleNamespace(SnapshotDestructionFailure=Error)
    driver = lib(lzc_destroy_snaps=lambda names, defer: calls.append(names), exceptions=exceptions)
    assert driver.destroy_snapshots(["p@1", "q@1", "p/a@1"]) == []
    assert calls == [[b"p@1", b"p/a@1"], [b"q@1"]]
