"""The small operations of `zfsync_ssh.driver` through libzfs_core, without a process.

The binding is OpenZFS's own (``python3-pyzfs`` on Debian and Ubuntu). PyPI's `pyzfs` of 2015 has the same import name,
is older than what a kernel of today wants, and crashes: `load` refuses it. It is imported when a driver is chosen and
never before, because cffi makes that dear.

The binding takes and gives names as bytes. It knows the number of what went wrong, and often the name; but it stumbles
over refusals of many names at once that mention none (2.3 raises KeyError for bookmarks without permission, and swaps
name and message in its generic error), so nothing here relies on more than ``errno`` and a name that it was given.

Also shipped to the far end: standard library only, Python >= 3.8.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Callable, Collection, Iterable, Iterator, List, Optional, Sequence, Tuple

from .blame import Failed, Refusal, all_undone, by_pool, narrow
from .complaint import classify
from .errors import ZfsError
from .zfs import check_bookmarks, check_snapshots

if TYPE_CHECKING:
    from types import ModuleType


DEVICE = "/dev/zfs"

_MEANING = {
    errno.ENOENT: ("missing", "it does not exist"),
    errno.ESRCH: ("missing", "it does not exist"),
    errno.EEXIST: ("exists", "it exists already"),
    errno.EBUSY: ("busy", "it is in use, held, or has clones"),
    errno.EPERM: ("permission", "permission denied"),
    errno.EACCES: ("failed", "its encryption forbids that: no key is loaded, or it would leave its encryption root"),
    errno.ENOSPC: ("no-space", "out of space"),
    errno.EDQUOT: ("no-space", "the quota is exceeded"),
    errno.ENAMETOOLONG: ("name", "the name is too long"),
    errno.ENOTSUP: ("feature", "the pool lacks a feature that this needs"),
    errno.EAGAIN: ("pool", "the pool is suspended"),
    errno.ENODEV: ("diverged", "the stream does not fit the newest snapshot"),
    errno.ETXTBSY: ("modified", "it has been modified since its newest snapshot"),
}


def load() -> Optional[ModuleType]:
    """The binding, if it is there, the living one, and speaks to this system's kernel; None otherwise."""
    import importlib

    try:
        binding = importlib.import_module("libzfs_core")
        if not hasattr(binding, "lzc_receive_resumable"):
            return None
        binding.lzc_exists(b"zfsync")  # an absent library or device shows at the first call
    except Exception:  # whatever it is, the zfs command does as well
        return None
    return binding


class LibDriver:
    """Asks the kernel of this system, with the rights of this process. ``binding`` is what `load` returns.

    ``other_bookmarks`` finds, of bookmarks that are there, those of another snapshot: the binding cannot look up the
    GUID of a snapshot.
    """

    temporary_holds = True

    def __init__(
        self, binding: ModuleType, other_bookmarks: Callable[[Sequence[Tuple[str, str]]], List[Failed]]
    ) -> None:
        self._lzc = binding
        self._other_bookmarks = other_bookmarks
        self._device = -1
        """Open while there may be holds: the kernel gives them back when it is closed, as it is with the process."""

    def hold(self, snapshots: Sequence[str], tag: str) -> List[Failed]:
        """See `Driver`."""
        if self._device < 0:
            self._device = os.open(DEVICE, os.O_RDWR | os.O_EXCL)
        missing: List[bytes] = []

        def call(batch: List[bytes]) -> None:
            missing.extend(self._lzc.lzc_hold(dict.fromkeys(batch, tag.encode()), self._device))

        failures = self._each(snapshots, call, ("exists",))
        return failures + [Failed(name.decode(), *_MEANING[errno.ENOENT]) for name in missing]

    def release(self, snapshots: Sequence[str], tag: str) -> List[Failed]:
        """See `Driver`."""
        tags = [tag.encode()]
        return self._each(snapshots, lambda batch: self._lzc.lzc_release(dict.fromkeys(batch, tags)), ("missing",))

    def bookmark(self, marks: Sequence[Tuple[str, str]]) -> List[Failed]:
        """See `Driver`."""
        source = dict(marks)

        def call(batch: List[bytes]) -> None:
            self._lzc.lzc_bookmark({name: source[name.decode()].encode() for name in batch})

        failures = self._each(list(source), call)
        there = [(failed.name, source[failed.name]) for failed in failures if failed.code == "exists"]
        others = self._other_bookmarks(there) if there else []
        return [failed for failed in failures if failed.code != "exists"] + others

    def destroy_bookmarks(self, names: Sequence[str]) -> List[Failed]:
        """See `Driver`."""
        check_bookmarks(names)
        return self._each(names, self._lzc.lzc_destroy_bookmarks, ("missing",))

    def destroy_snapshots(self, names: Sequence[str]) -> List[Failed]:
        """See `Driver`."""

        def call(batch: List[bytes]) -> None:
            try:
                self._lzc.lzc_destroy_snaps(batch, False)
            except self._lzc.exceptions.SnapshotDestructionFailure as error:
                if error.errno != errno.EXDEV:  # the number of the binding's PoolNotFound: no pool, no snapshots
                    raise

        check_snapshots(names)
        failures = self._each(names, call, ("missing",))
        # The kernel's word for a snapshot with clones depends on its version.
        return [Failed(f.name, *_MEANING[errno.EBUSY]) if f.code == "exists" else f for f in failures]

    def snapshot(self, names: Sequence[str], properties: Sequence[Tuple[str, str]] = ()) -> List[Failed]:
        """See `Driver`."""
        values = {key.encode(): value.encode() for key, value in properties}
        failures: List[Failed] = []
        for pool in by_pool(names):
            refusal = _refusal(pool, lambda batch: self._lzc.lzc_snapshot(batch, values))
            failures += all_undone(pool, refusal) if refusal else []
        return failures

    def exists(self, name: str) -> bool:
        """See `Driver`."""
        if "#" not in name:
            return bool(self._lzc.lzc_exists(name.encode()))
        dataset, _, bookmark = name.partition("#")
        try:
            return bookmark.encode() in self._lzc.lzc_get_bookmarks(dataset.encode(), [b"guid"])
        except self._lzc.exceptions.FilesystemNotFound:
            return False
        except self._lzc.exceptions.ZFSError as error:
            code, message = _meaning(error)
            raise ZfsError("cannot find out whether %s exists: %s" % (name, message), code) from error

    def rename(self, old: str, new: str, kind: str) -> Optional[Failed]:
        """See `Driver`. The library knows nothing of mounts, and so needs no ``kind``."""
        return _one(old, lambda name: self._lzc.lzc_rename(name, new.encode()))

    def _each(
        self, names: Sequence[str], call: Callable[[List[bytes]], object], fine: Collection[str] = ()
    ) -> List[Failed]:
        """Do all ``names``, each pool by a call."""

        def attempt(tried: List[List[str]]) -> Iterator[Optional[Refusal]]:
            return (_refusal(batch, call) for batch in tried)

        return narrow(by_pool(names), attempt, fine)


def _one(name: str, call: Callable[[bytes], object]) -> Optional[Failed]:
    refusal = _refusal([name], lambda batch: call(batch[0]))
    return None if refusal is None else Failed(name, refusal.code, refusal.message)


def _refusal(batch: List[str], call: Callable[[List[bytes]], object]) -> Optional[Refusal]:
    """How ``call`` refuses ``batch``; None when it does not."""
    try:
        call([name.encode() for name in batch])
    except Exception as error:  # the binding's own, and what it stumbles over
        parts: Iterable[object] = getattr(error, "errors", ())
        named = {name: part for part in parts for name in _names(part) if name in batch}
        return Refusal({name: Failed(name, *_meaning(part)) for name, part in named.items()}, *_meaning(error))
    return None


def _names(error: object) -> Iterator[str]:
    """The name in one error of the binding, which for its generic one is where the message should be."""
    for value in (getattr(error, "name", None), getattr(error, "message", None)):
        if isinstance(value, bytes):
            yield value.decode("utf-8", "replace")


def _meaning(error: object) -> Tuple[str, str]:
    """The code and the end of a sentence for an error."""
    number = getattr(error, "errno", None)
    if number in _MEANING:
        return _MEANING[number]
    message = getattr(error, "message", None)
    if isinstance(message, str):
        return classify(message), message[:1].lower() + message[1:]
    return "failed", os.strerror(number) if number else "libzfs_core stumbled: %r" % (error,)
