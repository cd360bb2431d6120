"""When a stream has stood still for too long, and what is said of it. Pure but for the clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from datetime import timedelta

from .units import span_words

STALL_SECONDS = 300.0
"""A pool that is busy, or a traversal that finds nothing new, may take minutes."""
MAX_GAP_SECONDS = 5.0
"""After a longer time without a look nothing can be said: this process itself stood, by Ctrl-Z or with its machine."""
MIN_STALL_SECONDS = 30
"""Several of an agent's beats: see `zfsync_ssh.agent.BEAT_SECONDS`."""


class Watch:
    """Tells when something has stood still for ``limit`` seconds; never, when that is 0."""

    def __init__(self, limit: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._mark: Hashable | None = None
        self.since = self._looked = clock()
        """When it last moved, by the clock, or was looked at again after it had not been for long."""

    def stands(self, mark: Hashable | None) -> bool:
        """Whether it has stood at ``mark`` for too long. None: there is nothing to wait for."""
        now = self._clock()
        if mark is None or mark != self._mark or now - self._looked > MAX_GAP_SECONDS:
            self._mark, self.since = mark, now
        self._looked = now
        return bool(self._limit) and now - self.since >= self._limit


def stood_still(dataset: str, seconds: float, length: int, who: str) -> str:
    """The sentence for a stream that stood still: ``who`` was waited for, after ``length`` bytes."""
    span = span_words(timedelta(seconds=seconds))
    return (
        f"{dataset}: its stream stood still for {span} after {length:,} bytes: {who}. "
        f"What has arrived is kept, and the next run goes on from there; --stall-timeout gives it longer."
    )
