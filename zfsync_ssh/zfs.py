"""Every command line of `zfs`, and what its messages mean. Pure.

Argument lists are tuples; no shell is in between at either end, so a name needs no quoting. In front of them goes the
command that runs zfs, ``("zfs",)`` or ``("sudo", "-n", "zfs")``; `zfsync_ssh.process` runs them, `zfsync_ssh.listing`
reads the listings.

Also shipped to the far end: standard library only, Python >= 3.8.
"""

from __future__ import annotations

import re
from typing import Callable, Dict, Iterable, Iterator, List, NamedTuple, Sequence, Tuple

from .blame import Failed, dataset_of
from .buffer import PATH_PROPERTY
from .dataset import FILESYSTEM
from .errors import UsageError

PLACEHOLDER_PROPERTY = "zfsync:placeholder"
"""On a dataset that zfsync made to hold children. Its value is the dataset's own full name: what lies below inherits
the property, and must not be taken for a placeholder itself."""

EXCLUDE_PROPERTY = "zfsync:exclude"
"""The user sets it to ``on`` for a dataset of a source that is to be left out, and all below it that inherits this."""

READER_PROPERTY = "zfsync:reader"
"""On a clone that an agent reads a volume's snapshot by: its process. Nothing else uses such a clone, ever."""

MAX_ARGUMENT_BYTES = 96 << 10
"""Names on one command line: well below the 128 KiB that every system allows (Linux: MAX_ARG_STRLEN, ARG_MAX)."""

_DATASET_COLUMNS = (
    "name",
    "type",
    "guid",
    "used",
    "receive_resume_token",
    "origin",
    "encryption",
    PLACEHOLDER_PROPERTY,
    EXCLUDE_PROPERTY,
    PATH_PROPERTY,
)
_SNAPSHOT_COLUMNS = ("name", "guid", "createtxg")
"""No more than these: `zfs list` then reads each snapshot's header alone, at twice the speed or better."""


# ---- argument lists --------------------------------------------------------------------------------------------------


def list_datasets(roots: Sequence[str], recursive: bool = True) -> Tuple[str, ...]:
    """The filesystems and volumes in the trees of ``roots``, or the roots alone."""
    depth = "-r" if recursive else "-d0"
    return ("list", "-Hp", depth, "-t", "filesystem,volume", "-o", ",".join(_DATASET_COLUMNS), *roots)


def list_snapshots(roots: Sequence[str], recursive: bool = True) -> Tuple[str, ...]:
    """The snapshots and bookmarks in the trees of ``roots``, or of the roots alone."""
    depth = "-r" if recursive else "-d1"
    return ("list", "-Hp", depth, "-t", "snapshot,bookmark", "-o", ",".join(_SNAPSHOT_COLUMNS), *roots)


def list_existing(names: Iterable[str]) -> Tuple[str, ...]:
    """Which of ``names`` exist."""
    return ("list", "-H", "-d0", "-t", "filesystem,volume", "-o", "name", *names)


def list_written(snapshots: Iterable[str]) -> Tuple[str, ...]:
    """How many bytes each of ``snapshots``, full names, has written since the one before it."""
    return ("list", "-Hp", "-t", "snapshot", "-o", "name,written", *snapshots)


def list_readable(dataset: str, snapshot: str) -> Tuple[str, ...]:
    """What tells how the contents of ``snapshot`` can be reached: a row of its dataset, then one of itself."""
    columns = "name,type,guid,keystatus,acltype,mounted,mountpoint"
    return ("list", "-Hp", "-d0", "-t", "filesystem,volume,snapshot", "-o", columns, dataset, snapshot)


QUERIES: Dict[str, Callable[[List[str]], Tuple[str, ...]]] = {"written": list_written}
"""What may be asked about datasets or snapshots of a tree, and the command line that tells it."""


class Stream(NamedTuple):
    """One `zfs send`. ``base`` is ``@name``, ``#name`` or empty for a full stream; ``token`` replaces all else.

    ``single`` leaves out the snapshots between ``base`` and ``to``.
    """

    dataset: str
    to: str
    base: str = ""
    raw: bool = False
    token: str = ""
    single: bool = False


def send(stream: Stream) -> Tuple[str, ...]:
    """The stream for one step: blocks go as they are on disk, compressed, large and, for ``raw``, encrypted."""
    if stream.token:
        return ("send", "-t", stream.token)
    flags = ("-w",) if stream.raw else ("-L", "-e", "-c")
    # -I takes all snapshots in between, but knows no bookmarks.
    base = () if not stream.base else ("-i" if stream.single or stream.base[0] == "#" else "-I", stream.base)
    return ("send", *flags, *base, "%s@%s" % (stream.dataset, stream.to))


def receive(
    target: str, properties: Sequence[Tuple[str, str]] = (), force: bool = False, filesystem: bool = True
) -> Tuple[str, ...]:
    """Receive onto ``target``, resumable, and without mounting anything.

    ``force`` replaces what the target holds, and is only for zfsync's own placeholder, which holds nothing. Where a
    filesystem is mounted and to whom it is shared is never taken from a stream, whatever a source puts into it.
    """
    options = [part for name, value in properties for part in ("-o", "%s=%s" % (name, value))]
    own = {name for name, _ in properties}
    if filesystem:
        options += [part for name in _MOUNT_PROPERTIES if name not in own for part in ("-x", name)]
    return ("receive", "-s", "-u", *(("-F",) if force else ()), *options, target)


_MOUNT_PROPERTIES = ("mountpoint", "canmount", "sharenfs", "sharesmb")


def list_placeholder(name: str) -> Tuple[str, ...]:
    """What tells whether ``name`` is still an empty placeholder: its mark, and that it cannot have been written to."""
    return ("list", "-H", "-d0", "-o", "name,%s,readonly,canmount,mounted" % PLACEHOLDER_PROPERTY, name)


def abort_receive(target: str) -> Tuple[str, ...]:
    """Drop a partial receive."""
    return ("receive", "-A", target)


def create(name: str, properties: Iterable[Tuple[str, str]]) -> Tuple[str, ...]:
    """Make one filesystem; its parent has to be there."""
    options = [part for key, value in properties for part in ("-o", "%s=%s" % (key, value))]
    return ("create", "-u", *options, name)


def rename(source: str, destination: str, kind: str) -> Tuple[str, ...]:
    """Rename without mounting anything. (`zfs rename -u` is refused for a volume, which is not mounted anyway.)"""
    return ("rename", *(("-u",) if kind == FILESYSTEM else ()), source, destination)


def inherit(name: str, datasets: Iterable[str]) -> Tuple[str, ...]:
    """Take the user property ``name`` off ``datasets``."""
    return ("inherit", name, *datasets)


def destroy_empty(name: str) -> Tuple[str, ...]:
    """Destroy one dataset that has no children and no snapshots: ZFS refuses any other without -r."""
    return ("destroy", name)


def hold(tag: str, snapshots: Sequence[str], recursive: bool = False) -> Tuple[str, ...]:
    """Hold ``snapshots``, and for ``recursive`` those of the same name below."""
    return ("hold", *(("-r",) if recursive else ()), tag, *snapshots)


def release(tag: str, snapshots: Sequence[str], recursive: bool = False) -> Tuple[str, ...]:
    """The opposite of `hold`."""
    return ("release", *(("-r",) if recursive else ()), tag, *snapshots)


def list_holds(snapshots: Iterable[str]) -> Tuple[str, ...]:
    """How many holds each of ``snapshots`` has. (`zfs holds` would say which, but is slow for many.)"""
    return ("list", "-Hp", "-t", "snapshot", "-o", "name,userrefs", *snapshots)


def list_guids(names: Iterable[str]) -> Tuple[str, ...]:
    """The GUIDs of snapshots and bookmarks."""
    return ("list", "-Hp", "-t", "snapshot,bookmark", "-o", "name,guid", *names)


def list_any(name: str) -> Tuple[str, ...]:
    """Whether there is a dataset, snapshot or bookmark of this name."""
    return ("list", "-H", "-d0", "-t", "all", "-o", "name", name)


def bookmark(snapshot: str, name: str) -> Tuple[str, ...]:
    """Make the bookmark ``name``; the command takes one only."""
    return ("bookmark", snapshot, name)


def destroy_bookmark(name: str) -> Tuple[str, ...]:
    """Destroy one bookmark; `UsageError` for what is none, or the command would destroy a dataset."""
    if "#" not in name:
        raise UsageError("%s is no bookmark, and is not destroyed as one." % name)
    return ("destroy", name)


def destroy_snapshots(snapshots: Sequence[str]) -> Tuple[str, ...]:
    """Destroy snapshots of one dataset, all or none: one that is held or has clones prevents it.

    `UsageError` for what the command would take for anything but snapshots of that dataset, a range for instance.
    """
    dataset = dataset_of(snapshots[0])
    for name in snapshots:
        if dataset_of(name) != dataset or not _SNAPSHOT.fullmatch(name, len(dataset)):
            raise UsageError("%s is no snapshot of %s, and is not destroyed as one." % (name, dataset))
    return ("destroy", dataset + "@" + ",".join(name[len(dataset) + 1 :] for name in snapshots))


_SNAPSHOT = re.compile("@[^@#%,]+")


def snapshot(names: Sequence[str], properties: Iterable[Tuple[str, str]] = ()) -> Tuple[str, ...]:
    """Take snapshots of datasets of one pool in one transaction group, all or none."""
    options = [part for key, value in properties for part in ("-o", "%s=%s" % (key, value))]
    return ("snapshot", *options, *names)


def clone_to_read(snapshot: str, clone: str, pid: int) -> Tuple[str, ...]:
    """Make a volume whose device shows what is in ``snapshot``, for the process ``pid`` alone."""
    properties = ("readonly=on", "volmode=dev", EXCLUDE_PROPERTY + "=on", "%s=%d" % (READER_PROPERTY, pid))
    return ("clone", *(part for setting in properties for part in ("-o", setting)), snapshot, clone)


def list_clones(pool: str) -> Tuple[str, ...]:
    """The volumes at the top of a pool, each with the process that it was cloned for."""
    return ("list", "-H", "-d1", "-t", "volume", "-o", "name," + READER_PROPERTY, pool)


def destroy_clone(name: str) -> Tuple[str, ...]:
    """Destroy what `clone_to_read` made, with the snapshots that somebody's timer may have made of it."""
    return ("destroy", "-r", name)


def batches(names: Iterable[str]) -> Iterator[List[str]]:
    """Cut ``names`` into lists that fit on a command line."""
    batch: List[str] = []
    size = 0
    for name in names:
        if batch and size + len(name) > MAX_ARGUMENT_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(name)
        size += len(name) + 1
    if batch:
        yield batch


# ---- reading what it says --------------------------------------------------------------------------------------------

_CODES = (
    ("cannot run '", "no-zfs"),
    ("password is required", "permission"),
    ("a terminal is required", "permission"),
    ("not allowed to execute", "permission"),
    ("may not run sudo", "permission"),
    ("not in the sudoers", "permission"),
    ("/dev/zfs and /proc/self/mounts", "no-zfs"),
    ("ZFS modules", "no-zfs"),
    ("permission denied", "permission"),
    ("Permission denied", "permission"),
    ("out of space", "no-space"),
    ("No space left", "no-space"),
    ("quota exceeded", "no-space"),
    ("has been modified", "modified"),
    ("does not match incremental source", "diverged"),
    ("must specify -F", "exists"),
    ("partially-complete state", "partial"),
    ("resume token is corrupt", "partial"),
    ("pool must be upgraded", "feature"),
    ("name too long", "name"),
    ("name is too long", "name"),
    ("suspended", "pool"),
    ("no such pool", "missing"),
    ("dataset does not exist", "missing"),
    ("unable to restore to destination", "missing"),
    ("is busy", "busy"),
    ("being held", "busy"),
    ("dependent clones", "busy"),
    ("no such tag", "missing"),
    ("parent does not exist", "missing"),
    ("' does not exist.", "missing"),
    ("already exists", "exists"),
    ("bookmark exists", "exists"),
    ("incomplete stream", "cut"),
    ("failed to read from stream", "cut"),
)


def classify(stderr: str) -> str:
    """The machine's word for why `zfs` refused; ``failed`` when it is none that is known here."""
    said = " ".join(stderr.split())  # zfs breaks its longer sentences into lines
    return next((code for text, code in _CODES if text in said), "failed")


def reason(stderr: str) -> str:
    """What `zfs` said, as the end of a sentence: its first paragraph on one line, without its advice."""
    lines = []
    for line in stderr.splitlines():
        if line.startswith(("Partially received snapshot is saved", "usage:")):
            break
        if line.strip() and line.strip() not in lines:
            lines.append(line.strip())
    return " ".join(lines[:4]) or "it said nothing"


NOTHING_TO_DESTROY = "could not find any snapshots to destroy"
"""What `zfs destroy` says, as an error, when none of the snapshots is there."""


def blamed(names: Sequence[str], stderr: str) -> Dict[str, Failed]:
    """Those of ``names``, snapshots or bookmarks, that `zfs` complains of, or of whose dataset it does."""
    of: Dict[str, List[str]] = {}
    for name in names:
        of.setdefault(name, []).append(name)
        of.setdefault(dataset_of(name), []).append(name)
    found: Dict[str, Failed] = {}
    for line in stderr.splitlines():
        quoted = line.split("'")
        mentioned = quoted[1] if len(quoted) > 2 else ""
        if line.startswith(_UNQUOTED):  # cannot destroy snapshot p/a@1: it's being held. Run 'zfs holds …
            mentioned = line[len(_UNQUOTED) :].rpartition(": ")[0]
        for name in of.get(mentioned, ()):
            found.setdefault(name, Failed(name, classify(line), line.strip()))
    return found


_UNQUOTED = "cannot destroy snapshot "
