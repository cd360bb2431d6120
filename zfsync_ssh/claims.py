"""Sessions of a confined receiver keep out of each other's way: what one has looked at, no other changes meanwhile.

Between the look whether a dataset is there and the moment when `zfs receive` opens it, another session of the same key
could move it away, and `zfs receive` would look for the base of the stream elsewhere in the pool; as `zfs send` does
for a snapshot that a token names, and that has gone. Between the look which snapshots stay and the destruction of
others, another dataset could be given the name.

So a session shares a claim on a dataset, and on all above it, while it receives into it, resumes a stream of it or
destroys some of its snapshots; and claims alone what it moves or destroys. Ordinary runs never meet here: the target's
lock is around the whole of each.
"""

from __future__ import annotations

import fcntl
import hashlib
import os

from .bounds import Refused
from .lock import VARIABLE, Lock

_DIRECTORIES = ("/run", "/var/run", "/run/lock", "/var/run/lock", "/tmp")  # noqa: S108 - never through a link
"""Those that only root writes to come first: nobody else can hold locks there."""

_PROMOTIONS = "@"
"""Claimed as if it were a name: a promotion moves snapshots from one dataset of the tree to another."""


class Claims:
    """The claims of one session (a process) in the tree ``root``. They go with the process."""

    def __init__(self, root: str) -> None:
        self._path = Lock("serve@" + root, () if os.environ.get(VARIABLE) else _DIRECTORIES).path
        self._fd = -1

    def share(self, name: str) -> None:
        """Claim that ``name`` stays where it is; `Refused` when another session moves it, or what it is in, now."""
        parts = name.split("/")
        for count in range(1, len(parts) + 1):
            self._claim("/".join(parts[:count]), fcntl.LOCK_SH, f"another session moves {name} now")

    def take(self, name: str) -> None:
        """Claim ``name`` alone, and so all below it; `Refused` when another session is at work in one of them now."""
        self._claim(name, fcntl.LOCK_EX, f"another session is at work in {name}, or below it, now")

    def share_snapshots(self, name: str) -> None:
        """Share ``name``, and claim that its snapshots stay; `Refused` when another session destroys some now."""
        self.share(name)
        self._claim(name + "@", fcntl.LOCK_SH, f"another session destroys snapshots of {name} now")

    def take_snapshots(self, name: str) -> None:
        """Share ``name``, but claim its snapshots alone; `Refused` when another session is at work on them now."""
        self.share(name)
        self._claim(name + "@", fcntl.LOCK_EX, f"another session is at work on the snapshots of {name} now")

    def share_promotions(self) -> None:
        """Claim that no snapshot goes from one dataset to another; `Refused` when another session promotes one now."""
        self._claim(_PROMOTIONS, fcntl.LOCK_SH, "another session promotes a clone now")

    def take_promotions(self) -> None:
        """Claim the opposite; `Refused` when another session needs snapshots to stay now."""
        self._claim(_PROMOTIONS, fcntl.LOCK_EX, "another session is at work on snapshots now")

    def drop(self) -> None:
        """Give all claims back."""
        if self._fd >= 0:
            fcntl.lockf(self._fd, fcntl.LOCK_UN)

    def _claim(self, name: str, how: int, why: str) -> None:
        # A byte of one file stands for each name: record locks need no such byte, and leave nothing to be tidied up.
        place = int.from_bytes(hashlib.sha256(name.encode("utf-8")).digest()[:7], "big")
        try:
            if self._fd < 0:
                self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise Refused(f"{self._path}, by which sessions know of each other: {error.strerror}") from error
        try:
            fcntl.lockf(self._fd, how | fcntl.LOCK_NB, 1, place)
        except OSError as error:
            raise Refused(why) from error
