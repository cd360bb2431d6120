"""The messages of the protocol: what client and agent say to each other. Their order and bytes are in `protocol`.

Also shipped to the far end: standard library only, Python >= 3.8.
"""

from __future__ import annotations

from typing import Container, NamedTuple, Optional, Sequence, Tuple, TypeVar, Union

from .dataset import Bookmark, Snapshot
from .decision import Decision, TargetState

PROTOCOL = 1
"""The protocol's version. Both sides say theirs, in Hello and Begin, and only the same one is served."""

MAX_SYNC_SNAPSHOTS = 2500
MAX_SYNC_BOOKMARKS = 400
"""As many in one `Sync` as, with the longest names that ZFS allows, fit in its frame."""

MAX_OPERATIONS = 1000
"""In one `Apply`; results in one `Results` likewise."""


# ---- messages: from the client ---------------------------------------------------------------------------------------


class Begin(NamedTuple):
    """What this channel is for: a target, or a source when ``buffer`` is empty.

    ``command`` runs zfs there, e.g. ``["sudo", "-n", "zfs"]``. While the agent is at work, it is to say a `Beat` each
    ``beat`` seconds; never, when that is 0.
    """

    protocol: int
    root: str
    buffer: str
    command: Tuple[str, ...]
    beat: int = 0


class Lock(NamedTuple):
    """Take the target's lock until the channel closes; ``owner`` is told to whoever finds it taken.

    For a source, ``owner`` is the run itself: as long as the lock is taken, the run's holds are not stale.
    """

    owner: str


class Inventory(NamedTuple):
    """List the tree, or its root alone.

    ``holds`` is the property that tells of holds of an earlier run, ``creation`` asks for the times of snapshots,
    ``changes`` for when they last changed. Of datasets whose key (`zfsync_ssh.recall`) is ``known``, they need not be
    listed; the whole tree is, then.
    """

    recursive: bool = True
    holds: str = ""
    creation: bool = False
    changes: bool = False
    known: Tuple[str, ...] = ()


class Operation(NamedTuple):
    """One of `Apply`: what to do with the dataset or snapshot ``name``, a full name.

    The verbs, and what each takes as ``arguments``, are in `zfsync_ssh.operations`.
    """

    verb: str
    name: str
    arguments: Tuple[str, ...] = ()


class Apply(NamedTuple):
    """Carry out ``operations`` in order; each has its own result."""

    operations: Tuple[Operation, ...]


class Sync(NamedTuple):
    """The source's snapshots of ``child``, oldest first, and its bookmarks, `trimmed`.

    ``name`` is the dataset to receive into: the child's own place, or one in the buffer when its parent may not be
    there yet. ``known`` is what this run's inventory showed of it; without that the agent looks for itself. A dataset
    that is not there becomes a clone of the snapshot ``origin``, a full name there, whose GUID is ``origin_guid``.
    ``properties`` are set on it (``NAME=VALUE``), ``excluded`` not taken from the stream.
    """

    child: str
    kind: str
    name: str
    snapshots: Tuple[Snapshot, ...]
    bookmarks: Tuple[Bookmark, ...] = ()
    known: Optional[TargetState] = None
    raw: bool = False
    origin: str = ""
    origin_guid: int = 0
    flags: str = ""
    properties: Tuple[str, ...] = ()
    excluded: Tuple[str, ...] = ()


class Stream(NamedTuple):
    """One `zfs send` follows: from ``base`` (a GUID, 0 for none) to ``to`` (a GUID), or on from ``token``.

    It is compressed by ``filter``, one of `zfsync_ssh.filters`, or as it is when that is empty. A ``small`` one will be
    over in a moment.
    """

    child: str
    base: int
    to: int
    token: str = ""
    filter: str = ""
    small: bool = False


class Data(NamedTuple):
    """A piece of the stream."""

    payload: bytes


class End(NamedTuple):
    """The stream was ``length`` bytes long, as it came over the wire, and `zfs send` ended well."""

    length: int


class Abort(NamedTuple):
    """The stream ends here, unfinished."""

    reason: str


class Query(NamedTuple):
    """List what a kind of `zfsync_ssh.zfs.QUERIES` tells of ``names``: each a child, or ``CHILD@NAME``."""

    kind: str
    names: Tuple[str, ...]


class Send(NamedTuple):
    """Run `zfs send` for ``child``, as `zfsync_ssh.zfs.Stream` says."""

    child: str
    to: str
    base: str = ""
    raw: bool = False
    token: str = ""
    single: bool = False
    flags: str = ""
    filter: str = ""
    small: bool = False


class CleanBuffer(NamedTuple):
    """Rename into place all that waits in the buffer, parents first, and destroy the buffer once it is empty.

    ``placeholders`` are children to make where they are missing, because the source has no snapshot of them.
    """

    placeholders: Tuple[str, ...] = ()


class Digest(NamedTuple):
    """Open a snapshot of ``child`` to digest its contents. ``seed`` decides which of them: see `zfsync_ssh.entry`."""

    child: str
    snapshot: str
    guid: int
    seed: str = ""


class More(NamedTuple):
    """The next entries of the snapshot opened last; of the ``share`` of all, the contents too."""

    share: int


class Ping(NamedTuple):
    """Are you there?"""

    number: int


class Close(NamedTuple):
    """This was all."""

    reason: str = ""


# ---- messages: from the agent ----------------------------------------------------------------------------------------


class Hello(NamedTuple):
    """Who answers: the versions of the protocol, of zfsync and of Python, the host's name and the agent's process.

    ``filters`` are those of `zfsync_ssh.filters` whose programs are there; ``system`` is what `uname` calls its kernel.
    """

    protocol: int
    version: str
    python: str
    host: str
    pid: int
    filters: Tuple[str, ...] = ()
    system: str = ""


class Output(NamedTuple):
    """A piece of what was asked for: the stream for `Send`, zlib-compressed lines for all else."""

    payload: bytes


class Listed(NamedTuple):
    """The end of an inventory, a query or a batch, whose ``code`` is ``end`` when there will be no more.

    When the root does not exist: ``ancestors`` above it do, of which the last may still take ``available`` bytes and is
    ``encrypted`` or not. ``at`` is when an inventory began, in seconds since 1970 by the clock there; ``spared`` says
    that it leaves out the snapshots that are known.
    """

    ok: bool
    code: str = ""
    message: str = ""
    ancestors: Tuple[str, ...] = ()
    available: int = 0
    encrypted: bool = False
    at: int = 0
    spared: bool = False


class Result(NamedTuple):
    """How it went. ``code`` is a word of `complaint.classify`, ``message`` the end of a sentence, ``name`` the dataset.

    ``length`` is the bytes of the stream on the wire, for a Stream or a Send; for a Digest about how many entries there
    are.
    """

    ok: bool
    code: str = ""
    message: str = ""
    name: str = ""
    length: int = 0


class Results(NamedTuple):
    """One result for each operation or rename; with ``more``, another Results goes on."""

    results: Tuple[Result, ...]
    more: bool = False


class Answer(NamedTuple):
    """The decision for a `Sync`, and the dataset that will be received into."""

    child: str
    decision: Decision
    name: str = ""


class Pong(NamedTuple):
    """Here."""

    number: int


class Beat(NamedTuple):
    """Here, and at work; of a Stream or a Send ``length`` bytes have been passed on."""

    length: int


class Bye(NamedTuple):
    """The answer to Close; nothing follows."""

    reason: str = ""


class Failure(NamedTuple):
    """The agent cannot go on, and ends."""

    code: str
    message: str


Message = Union[
    Begin, Lock, Inventory, Query, Apply, Sync, Stream, Data, End, Abort, CleanBuffer, Send, Digest, More,
    Ping, Close,
    Hello, Output, Listed, Result, Results, Answer, Pong, Beat, Bye, Failure,
]  # fmt: skip


_Named = TypeVar("_Named", Snapshot, Bookmark)


def trimmed(named: Sequence[_Named], needed: Container[int], limit: int) -> Tuple[_Named, ...]:
    """At most ``limit`` of the snapshots or bookmarks for a `Sync`: the newest, and those of the GUIDs ``needed``."""
    cut = len(named) - limit // 2 if len(named) > limit else 0
    older = [one for one in named[:cut] if one.guid in needed]
    return tuple(older[: limit // 2] + list(named[cut:]))
