"""Answers `Digest` and `More`: reads one snapshot, a batch at a time, as fast as the client asks.

Also shipped to the far end: standard library only, Python >= 3.8.
"""

from __future__ import annotations

import time
from typing import List, Optional, Tuple

from .access import Opened, Refused, open_snapshot
from .contents import Entries
from .entry import MAX_BATCH_ENTRIES, encode_line
from .messages import Digest, Listed, More, Result
from .tree import Tree

BATCH_SECONDS = 1.0
"""A batch ends as soon as it took so long, though there be no entry in it: so an agent that reads a file of terabytes
hears its client, or that it has gone, within moments."""


class Reading:
    """The snapshot that is read at the moment, if one is."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._opened: Optional[Opened] = None
        self._entries: Optional[Entries] = None
        self._seed = ""

    def open(self, message: Digest) -> Result:
        """Reach the snapshot, instead of the one before; ``length`` of the result is about how many entries it has."""
        self.close()
        name = self._tree.named(message.child)
        try:
            self._opened = open_snapshot(self._tree, name, message.snapshot, message.guid)
        except Refused as refused:
            return Result(False, refused.code, str(refused), name)
        except OSError as error:
            return Result(False, "failed", error.strerror or str(error), name)
        self._seed = message.seed
        return Result(True, name=name, length=self._opened.contents.count)

    def batch(self, message: More) -> Tuple[List[bytes], Listed]:
        """The next lines, and the end of the answer: its ``code`` is ``end`` when there are no more."""
        if self._opened is None:
            return [], Listed(False, "closed", "no snapshot is being read")
        if self._entries is None:
            self._entries = self._opened.contents.entries(self._seed, message.share)
        lines: List[bytes] = []
        until = time.monotonic() + BATCH_SECONDS
        try:
            for entry in self._entries:
                if entry is not None:
                    lines.append(encode_line(entry).encode("ascii") + b"\n")
                if len(lines) >= MAX_BATCH_ENTRIES or time.monotonic() > until:
                    return lines, Listed(True)
        except OSError as error:
            return lines, Listed(False, "failed", error.strerror or str(error))
        self.close()
        return lines, Listed(True, "end")

    def close(self) -> None:
        """Let go of the snapshot, and leave no trace of it."""
        if self._entries is not None:
            self._entries.close()
            self._entries = None
        if self._opened is not None:
            self._opened.close()
            self._opened = None
