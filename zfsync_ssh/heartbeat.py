"""The agent's heartbeat: how far a stream has come, told again and again while `zfs` is waited for.

The agent runs one thing at a time and cannot answer a Ping meanwhile. So a thread says a `Beat` then, and the client
can tell a slow pool from an agent that has gone.

Also shipped to the far end: standard library only, Python >= 3.8; `threading` is imported when there is work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, Optional

from .conversation import Conversation
from .errors import LocalProtocolError
from .messages import Beat

if TYPE_CHECKING:
    pass

MAX_SECONDS = 3600
PATIENCE_BEATS = 6
"""After so many beats without a byte, with the client gone, what is waited for is killed."""


class Heartbeat:
    """Beats each ``seconds``, or never for 0, as long as the block lasts; ``length`` is kept up to date in it.

    ``kill`` ends the command that is waited for, without waiting. It is called when the client has gone and nothing
    has moved for `PATIENCE_BEATS`: one that hangs would else stay behind, and keep the next run from its dataset. A
    `zfs receive -s` that is killed keeps what it has got.
    """

    def __init__(self, conversation: Conversation, seconds: int, kill: Optional[Callable[[], None]] = None) -> None:
        self.length = 0
        """Bytes of the stream that have been passed on."""
        self._conversation = conversation
        self._seconds = min(seconds, MAX_SECONDS)
        self._kill = kill

    def __enter__(self) -> Heartbeat:
        import threading

        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True) if self._seconds else None
        if self._thread:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._thread:
            self._thread.join()

    def _beat(self) -> None:
        before, still = 0, 0
        while not self._over.wait(self._seconds):
            still = still + 1 if self.length == before else 0
            before = self.length
            if self._conversation.hung_up():
                if self._kill is not None and still >= PATIENCE_BEATS:
                    self._kill()
                continue
            try:
                self._conversation.send(Beat(before))
            except (OSError, LocalProtocolError):
                pass
