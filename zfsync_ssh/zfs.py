"""Every command line of `zfs`. Pure.

Argument lists are tuples; no shell is in between at either end, so a name needs no quoting. In front of them goes the
command that runs zfs, ``("zfs",)`` or ``("sudo", "-n", "zfs")``; `zfsync_ssh.process` runs them, `zfsync_ssh.listing`
reads the listings, `zfsync_ssh.complaint` what is said on stderr.

Also shipped to the far end: standard library only, Python >= 3.8.
"""

from __future__ import annotations

import re
from typing import Callable, Dict, Iterable, Iterator, List, NamedTuple, Sequence, Tuple

from .blame import dataset_of
from .buffer import PATH_PROPERTY
from .dataset import FILESYSTEM
from .errors import UsageError

PLACEHOLDER_PROPERTY = "zfsync:placeholder"
"""On a dataset that zfsync made to hold children. Its value is the dataset's own full name: what lies below inherits
the property, and must not be taken for a placeholder itself."""

EXCLUDE_PROPERTY = "zfsync:exclude"
"""The user sets it to ``on`` for a dataset of a source that is to be left out, and all below it that inherits this."""

STREAM_PROPERTY = "zfsync:stream"
"""On a copy: the flags of `zfs send` that it was received with. Streams of other flags must not follow them."""

ASIDE_PROPERTY = "zfsync:aside"
"""On a dataset that was set aside: its own full name, as for a placeholder."""

ASIDE_MARK = ".zfsync-aside-"
"""Stands in the name of a dataset that was set aside, before the date."""

GONE_PROPERTY = "zfsync:gone"
"""On a copy whose source is gone: since when, ISO 8601 in UTC. What lies below inherits it, and is gone as well."""

REKEY_PROPERTY = "zfsync:rekey"
"""``on`` on an encrypted copy of a confined receiver: a stream may bring another key. No client can set it."""

READER_PROPERTY = "zfsync:reader"
"""On a clone that an agent reads a volume's snapshot by: its process. Nothing else uses such a clone, ever."""

MAX_ARGUMENT_BYTES = 96 << 10
"""Names on one command line: well below the 128 KiB that every system allows (Linux: MAX_ARG_STRLEN, ARG_MAX)."""

_SNAPSHOT_COLUMNS = ("name", "guid", "createtxg")
"""No more than these: `zfs list` then reads each snapshot's header alone, at twice the speed or better."""
DATASET_COLUMNS = (
    *_SNAPSHOT_COLUMNS,  # first, so that rows of bookmarks begin alike wherever they are listed
    "type",
    "used",
    "receive_resume_token",
    "origin",
    "encryption",
    "compression",
    PLACEHOLDER_PROPERTY,
    EXCLUDE_PROPERTY,
    PATH_PROPERTY,
    "written",
    "available",
    "encryptionroot",
    "keystatus",
    STREAM_PROPERTY,
    ASIDE_PROPERTY,
    GONE_PROPERTY,
)


CHANGED_PROPERTY = "snapshots_changed"
"""When a dataset's snapshots last changed; only OpenZFS 2.2 and later know it. See `zfsync_ssh.recall`."""


def list_datasets(
    roots: Sequence[str],
    recursive: bool = True,
    holds: str = "",
    changes: bool = False,
    kinds: str = "filesystem,volume",
) -> Tuple[str, ...]:
    """The filesystems and volumes in the trees of ``roots``, or the roots alone; bookmarks too, if ``kinds`` says so.

    ``holds`` is one more property; with ``changes`` the last one is `CHANGED_PROPERTY`.
    """
    depth = "-r" if recursive else "-d0"
    columns = (*DATASET_COLUMNS, *([holds] if holds else ()), *([CHANGED_PROPERTY] if changes else ()))
    return ("list", "-Hp", depth, "-t", kinds, "-o", ",".join(columns), *roots)


def list_snapshots(
    roots: Sequence[str], recursive: bool = True, creation: bool = False, kinds: str = "snapshot,bookmark"
) -> Tuple[str, ...]:
    """The snapshots and bookmarks in the trees of ``roots``, or of the roots alone; ``creation``: with their times."""
    depth = "-r" if recursive else "-d1"
    columns = (*_SNAPSHOT_COLUMNS, "creation") if creation else _SNAPSHOT_COLUMNS
    return ("list", "-Hp", depth, "-t", kinds, "-o", ",".join(columns), *roots)


def list_snapshots_of(datasets: Iterable[str]) -> Tuple[str, ...]:
    """The snapshots of these datasets, and of none below them."""
    return ("list", "-Hp", "-d1", "-t", "snapshot", "-o", ",".join(_SNAPSHOT_COLUMNS), *datasets)


def list_existing(names: Iterable[str]) -> Tuple[str, ...]:
    """Which of ``names`` exist, how many bytes each may still take, and whether it is encrypted."""
    return ("list", "-Hp", "-d0", "-t", "filesystem,volume", "-o", "name,available,encryption", *names)


def list_written(snapshots: Iterable[str]) -> Tuple[str, ...]:
    """How many bytes each of ``snapshots``, full names, has written since the one before it, and refers to in all."""
    return ("list", "-Hp", "-t", "snapshot", "-o", "name,written,referenced", *snapshots)


def list_readable(dataset: str, snapshot: str) -> Tuple[str, ...]:
    """What tells how the contents of ``snapshot`` can be reached: a row of its dataset, then one of itself."""
    columns = "name,type,guid,keystatus,acltype,mounted,mountpoint"
    return ("list", "-Hp", "-d0", "-t", "filesystem,volume,snapshot", "-o", columns, dataset, snapshot)


def list_iv_sets(names: Iterable[str]) -> Tuple[str, ...]:
    """The IV set of each snapshot or bookmark: the same where one was received raw from the other."""
    return ("list", "-Hp", "-t", "snapshot,bookmark", "-o", "name,ivsetguid", *names)


def list_own_properties(names: Iterable[str]) -> Tuple[str, ...]:
    """The properties that were set on each of these datasets, or received with it."""
    return ("get", "-Hp", "-t", "filesystem,volume", "-s", "local,received", "-o", "name,property,value", "all", *names)


def list_all_holds(root: str) -> Tuple[str, ...]:
    """As `list_holds`, for all snapshots in the tree of ``root``."""
    return ("list", "-Hpr", "-t", "snapshot", "-o", "name,userrefs", root)


def holds_of(snapshots: Iterable[str]) -> Tuple[str, ...]:
    """The holds of ``snapshots``: name, tag and time."""
    return ("holds", "-Hp", *snapshots)


def list_traits(names: Iterable[str]) -> Tuple[str, ...]:
    """The properties of datasets that make their streams need a feature of the receiving pool."""
    return ("get", "-Hp", "-t", "filesystem,volume", "-o", "name,property,value", "compression,dnodesize", *names)


QUERIES: Dict[str, Callable[[List[str]], Tuple[str, ...]]] = {
    "written": list_written,
    "iv-sets": list_iv_sets,
    "own-properties": list_own_properties,
    "traits": list_traits,
    "hold-counts": lambda roots: list_all_holds(roots[0]),
    "holds": holds_of,
}
"""What may be asked about datasets or snapshots of a tree, and the command line that tells it."""

ABOUT_QUERY = "about"
"""What may be asked about an agent itself, by `zfsync_ssh.about`."""

ABOVE_QUERY = "above"
"""What may be asked about the datasets above a tree, from the pool on: `list_existing` of them."""

FEATURES_QUERY = "features"
"""What may be asked about the pool of a tree: whether it has each feature, by `list_features`."""


def list_features(pool: str) -> Tuple[str, ...]:
    """The command line, of `zpool`, that tells which features ``pool`` has."""
    return ("get", "-Hp", "-o", "property,value", "all", pool)


VERSION = ("version",)
"""The command line that tells the versions of the command and of the kernel's module."""


def allow(dataset: str) -> Tuple[str, ...]:
    """What was delegated on ``dataset``, and on those above it."""
    return ("allow", dataset)


class Stream(NamedTuple):
    """One `zfs send`. ``base`` is ``@name``, ``#name``, the full name of a clone's origin, or empty for a full stream.

    ``token`` replaces all else. ``single`` leaves out the snapshots between ``base`` and ``to``. ``flags`` are those of
    `STREAM_FLAGS` that are used; a raw stream needs none. ``filter`` is what compresses it on its way. A ``small`` one
    will be over in a moment.
    """

    dataset: str
    to: str
    base: str = ""
    raw: bool = False
    token: str = ""
    single: bool = False
    flags: str = ""
    filter: str = ""
    small: bool = False


STREAM_FLAGS = "Lec"
"""Large blocks, embedded data, compressed: with all of them blocks go as they are on disk."""


def send(stream: Stream) -> Tuple[str, ...]:
    """The stream for one step; a ``raw`` one goes encrypted as it is on disk."""
    if stream.token:
        return ("send", "-t", stream.token)
    flags = ("-w",) if stream.raw else tuple("-" + flag for flag in STREAM_FLAGS if flag in stream.flags)
    # -I takes all snapshots in between, but knows no bookmarks, nor origins.
    base = () if not stream.base else ("-i" if stream.single or stream.base[0] != "@" else "-I", stream.base)
    return ("send", *flags, *base, "%s@%s" % (stream.dataset, stream.to))


class Reception(NamedTuple):
    """How a stream is received: ``properties`` set, ``excluded`` not taken from it, onto a clone of ``origin``.

    ``force`` replaces what the target holds, and is only for zfsync's own placeholder, which holds nothing.
    """

    properties: Tuple[Tuple[str, str], ...] = ()
    excluded: Tuple[str, ...] = ()
    origin: str = ""
    force: bool = False
    filesystem: bool = True


def receive(target: str, how: Reception) -> Tuple[str, ...]:
    """Receive onto ``target``, resumable, and without mounting anything.

    Where a filesystem is mounted and to whom it is shared is never taken from a stream, whatever a source puts into it.
    """
    own = {name for name, _ in how.properties}
    excluded = (*(MOUNT_PROPERTIES if how.filesystem else ()), *how.excluded)
    options = [part for name, value in how.properties for part in ("-o", "%s=%s" % (name, value))]
    options += [part for name in dict.fromkeys(excluded) if name not in own for part in ("-x", name)]
    options += ["-o", "origin=" + how.origin] if how.origin else []
    return ("receive", "-s", "-u", *(("-F",) if how.force else ()), *options, target)


def try_property(name: str, dataset: str) -> Tuple[str, ...]:
    """Refused as a whole where OpenZFS does not know the property ``name``."""
    return ("list", "-Hd0", "-o", name, dataset)


MOUNT_PROPERTIES = ("mountpoint", "canmount", "sharenfs", "sharesmb")


CLOSED = (["readonly", "on"], ["canmount", "off"], ["mounted", "no"])
"""What `get_placeholder` tells of one that nobody can have written to."""


def get_placeholder(name: str) -> Tuple[str, ...]:
    """What tells whether ``name`` is a placeholder: its mark, whose that is, and `CLOSED`."""
    return ("get", "-H", "-o", "property,value,source", PLACEHOLDER_PROPERTY + ",readonly,canmount,mounted", name)


def get_local(name: str) -> Tuple[str, ...]:
    """The names of the properties that were set on ``name`` itself."""
    return ("get", "-H", "-s", "local", "-o", "property", "all", name)


def list_placeholders(root: str) -> Tuple[str, ...]:
    """Those in the tree of ``root`` that have the mark of a placeholder of their own: name and mark."""
    return ("get", "-Hr", "-t", "filesystem", "-s", "local", "-o", "name,value", PLACEHOLDER_PROPERTY, root)


def get_property(prop: str, name: str) -> Tuple[str, ...]:
    """The value of one property."""
    return ("get", "-H", "-o", "value", prop, name)


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


def set_properties(properties: Iterable[Tuple[str, str]], datasets: Iterable[str]) -> Tuple[str, ...]:
    """Set properties, the same on each of ``datasets``."""
    return ("set", *("%s=%s" % pair for pair in properties), *datasets)


def rollback(snapshot: str) -> Tuple[str, ...]:
    """Take a dataset back to ``snapshot``; what is newer is lost, its snapshots and bookmarks too."""
    return ("rollback", "-r", snapshot)


def promote(clone: str) -> Tuple[str, ...]:
    """Make ``clone`` the owner of the snapshots that it has in common with its origin."""
    return ("promote", clone)


def inherit_key(dataset: str) -> Tuple[str, ...]:
    """Make ``dataset``, an encryption root, part of its parent's; the keys of both have to be loaded."""
    return ("change-key", "-i", dataset)


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


def list_snapshot_names(dataset: str) -> Tuple[str, ...]:
    """The full names of a dataset's own snapshots, each with the number of its holds, and its clones."""
    return ("list", "-Hp", "-d1", "-t", "snapshot", "-o", "name,guid,createtxg,userrefs,clones", dataset)


def list_children(dataset: str) -> Tuple[str, ...]:
    """``dataset`` and those directly below it."""
    return ("list", "-H", "-d1", "-t", "filesystem,volume", "-o", "name", dataset)


def list_any(name: str) -> Tuple[str, ...]:
    """Whether there is a dataset, snapshot or bookmark of this name."""
    return ("list", "-H", "-d0", "-t", "all", "-o", "name", name)


def bookmark(snapshot: str, name: str) -> Tuple[str, ...]:
    """Make the bookmark ``name``; the command takes one only."""
    return ("bookmark", snapshot, name)


def destroy_bookmark(name: str) -> Tuple[str, ...]:
    """Destroy one bookmark."""
    check_bookmarks([name])
    return ("destroy", name)


def destroy_snapshots(snapshots: Sequence[str]) -> Tuple[str, ...]:
    """Destroy snapshots of one dataset, all or none: one that is held or has clones prevents it."""
    check_snapshots(snapshots)
    dataset = dataset_of(snapshots[0])
    if any(dataset_of(name) != dataset for name in snapshots):
        raise UsageError("%s are snapshots of several datasets." % ", ".join(snapshots))
    return ("destroy", dataset + "@" + ",".join(name[len(dataset) + 1 :] for name in snapshots))


def check_bookmarks(names: Iterable[str]) -> None:
    """`UsageError` for what is no bookmark, before it is destroyed as one: it might be a dataset."""
    for name in names:
        if not re.fullmatch("[^@#%,]+#[^@#%,]+", name):
            raise UsageError("%s is no bookmark, and is not destroyed as one." % name)


def check_snapshots(names: Iterable[str]) -> None:
    """`UsageError` for what is no snapshot, before it is destroyed as one: it might be a dataset, or a range."""
    for name in names:
        if not re.fullmatch("[^@#%,]+@[^@#%,]+", name):
            raise UsageError("%s is no snapshot, and is not destroyed as one." % name)


def snapshot(names: Sequence[str], properties: Iterable[Tuple[str, str]] = ()) -> Tuple[str, ...]:
    """Take snapshots of datasets of one pool in one transaction group, all or none."""
    options = [part for key, value in properties for part in ("-o", "%s=%s" % (key, value))]
    return ("snapshot", *options, *names)


def clone_to_read(snapshot: str, clone: str, pid: int) -> Tuple[str, ...]:
    """Make a volume whose device shows what is in ``snapshot``, for the process ``pid`` alone."""
    properties = ("readonly=on", "volmode=dev", EXCLUDE_PROPERTY + "=on", "%s=%d" % (READER_PROPERTY, pid))
    return ("clone", *(part for setting in properties for part in ("-o", setting)), snapshot, clone)


def list_clones(above: str) -> Tuple[str, ...]:
    """The volumes directly below a dataset, each with the process that it was cloned for."""
    return ("list", "-H", "-d1", "-t", "volume", "-o", "name," + READER_PROPERTY, above)


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
