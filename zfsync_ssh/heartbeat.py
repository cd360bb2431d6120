"""The agent's heartbeat: how far a stream has come, told again and again while `zfs` is waited for.

The agent runs one thing at a time and cannot answer a Ping meanwhile. So a thread says a `Beat` then, and the client
can tell a slow pool from an agent that has gone.

Also shipped to the far end: standard library only, Python >= 3.8.
"""

from __future__ import annotations

import _thread
import time
from typing import Callable, Optional

from .conversation import Conversation
from .errors import LocalProtocolError
from .messages import Beat

MAX_SECONDS = 3600
PATIENCE_BEATS = 6
"""After so many beats without a byte, with the client gone, what is waited for is killed."""


class Heartbeat:
    """Beats each ``seconds``, or never for 0, while something is done `during` it.

    One thread for all that an agent does, begun with the first: thousands of small streams need not start one each.
    """

    def __init__(self, conversation: Conversation) -> None:
        self.seconds = 0
        """No more than `MAX_SECONDS`, whatever a client asks for."""
        self._conversation = conversation
        self._lock = _thread.allocate_lock()
        self._work: Optional[Work] = None
        self._running = False

    def during(self, kill: Optional[Callable[[], None]] = None) -> Work:
        """A block in which zfs may take its time."""
        return Work(self, kill)

    def begin(self, work: Work) -> None:
        """Beat for ``work`` from now on."""
        with self._lock:
            self._work = work
            if self.seconds and not self._running:
                self._running = True
                _thread.start_new_thread(self._beat, ())

    def end(self) -> None:
        """Beat no more: when this returns, none is on its way."""
        with self._lock:
            self._work = None

    def _beat(self) -> None:
        work, before, still = None, 0, 0
        while True:
            time.sleep(min(self.seconds or 1, MAX_SECONDS))
            with self._lock:
                if self._work is None or not self.seconds:
                    continue
                moved = self._work is not work or self._work.length != before
                work, before, still = self._work, self._work.length, 0 if moved else still + 1
                if not self._conversation.hung_up():
                    try:
                        self._conversation.send(Beat(before))
                    except (OSError, LocalProtocolError):
                        pass
                elif work.kill is not None and still >= PATIENCE_BEATS:
                    work.kill()


class Work:
    """What an agent does now; a context manager. ``length`` is kept up to date in it.

    ``kill`` ends the command that is waited for, without waiting. It is called when the client has gone and nothing
    has moved for `PATIENCE_BEATS`: one that hangs would else stay behind, and keep the next run from its dataset. A
    `zfs receive -s` that is killed keeps what it has got.
    """

    __slots__ = ("_heart", "kill", "length")

    def __init__(self, heart: Heartbeat, kill: Optional[Callable[[], None]]) -> None:
        self._heart = heart
        self.kill = kill
        self.length = 0
        """Bytes of the stream that have been passed on."""

    def __enter__(self) -> Work:
        self._heart.begin(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._heart.end()
