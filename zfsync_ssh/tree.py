"""One tree of datasets as an agent serves it: where it is, and how `zfs` is run beside it.

Also shipped to the far end: standard library only, Python >= 3.8.
"""

from __future__ import annotations

from typing import NamedTuple, Tuple

from .dataset import check_name, child_of
from .errors import RemoteProtocolError, UsageError
from .process import Completed, run
from .zfs import ASIDE_MARK


class Tree(NamedTuple):
    """What `zfsync_ssh.messages.Begin` said. A target has a ``buffer``, a source has none; ``command`` runs zfs."""

    root: str
    buffer: str
    command: Tuple[str, ...]

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

    def named(self, child: str) -> str:
        """The full name of a child, or of ``CHILD@SNAPSHOT``; `RemoteProtocolError` for what is outside of the tree."""
        if child and child[0] not in "/@#":
            raise RemoteProtocolError("received %r, which is not in the tree of %s" % (child, self.root))
        return self.root + child
