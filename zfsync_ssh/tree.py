"""One tree of datasets as an agent serves it: where it is, and how `zfs` is run beside it.

Also shipped to the far end: standard library only, Python >= 3.8.
"""

from __future__ import annotations

from typing import Callable, NamedTuple, Optional, Tuple, Union

from .dataset import check_name, child_of
from .errors import RemoteProtocolError, UsageError
from .listing import listing_problem
from .messages import Message, Operation
from .process import Completed, run
from .zfs import ASIDE_MARK, CLOSED, PLACEHOLDER_PROPERTY, get_placeholder, list_snapshot_names


class Tree(NamedTuple):
    """What `zfsync_ssh.messages.Begin` said. A target has a ``buffer``, a source has none; ``command`` runs zfs.

    ``scratch`` is the dataset below which a clone may be made for a moment; the pool, when it is empty.
    """

    root: str
    buffer: str
    command: Tuple[str, ...]
    scratch: str = ""

    @property
    def roots(self) -> Tuple[str, ...]:
        """The trees to list: the target's, and the buffer's where it is not within that."""
        apart = self.buffer and child_of(self.root, self.buffer) is None
        return (self.root, self.buffer) if apart else (self.root,)

    def zfs(self, arguments: Tuple[str, ...]) -> Completed:
        """Run `zfs` to its end."""
        return run((*self.command, *arguments))

    def has(self, name: str) -> bool:
        """Whether the dataset ``name`` is a legal name of one of the tree, of its buffer, or of its root set aside."""
        try:
            check_name(name)
        except UsageError:
            return False
        aside = name.startswith(self.root + ASIDE_MARK)
        return aside or any(top and child_of(top, name) is not None for top in (self.root, self.buffer))

    def is_empty_placeholder(self, name: str) -> bool:
        """Whether ``name`` is zfsync's placeholder and nothing can be in it: looked up, not believed.

        The mark has to be its own: one that it inherits fits as well, once what has the mark was renamed to its parent.
        And a placeholder that was renamed may have got snapshots before it was renamed back.
        """
        snapshots = self.zfs(list_snapshot_names(name))
        rows = self.zfs(get_placeholder(name)).rows
        own = [PLACEHOLDER_PROPERTY, name, "local"] in rows
        closed = all(pair in [row[:2] for row in rows] for pair in CLOSED)
        unseen = snapshots.status or listing_problem(0, snapshots.stderr)
        return own and closed and not unseen and not snapshots.stdout

    def named(self, child: str) -> str:
        """The full name of a child, or of ``CHILD@SNAPSHOT``; `RemoteProtocolError` for what is outside of the tree."""
        if child and child[0] not in "/@#":
            raise RemoteProtocolError("received %r, which is not in the tree of %s" % (child, self.root))
        return self.root + child


class Arriving(NamedTuple):
    """A stream that is about to be received into ``name``, and its first record, with what belongs to it.

    ``kind``, ``base``, ``to``, ``token`` and ``filter`` are what its Sync and Stream said; with an ``origin``, it is to
    become a clone of that; with ``discard``, a partial receive there is dropped first.
    """

    name: str
    kind: str
    base: int
    to: int
    token: str
    filter: str
    origin: str
    discard: bool
    head: bytes


class Bounds(NamedTuple):
    """What holds an agent that serves clients which it does not trust (`zfsync_ssh.confinement`); others have none.

    ``refuses`` is asked before anything is done, and says why that may not be, as the end of a sentence, or nothing.
    ``tells`` hears of what broke the protocol. ``command`` runs zfs, whatever the client says.
    ``ended`` hears when a message has been dealt with, and a stream received.
    """

    refuses: Callable[[Union[Message, Operation, Arriving], Optional[Tree]], str]
    tells: Callable[[str], None]
    command: Tuple[str, ...]
    scratch: str
    ended: Callable[[], None]


BOUND = "confined"
"""The code of the Result that accepts a Begin within bounds: the client then sends one snapshot in a stream."""
