"""How fast a run may send: a token bucket, pure, and the turns that the channels take at it.

The bucket is the run's, so that the limit holds for all channels together. Whoever has bytes to pass on asks for a
turn and is called when it has come, first come first served: nobody sleeps with a lock, and nothing but streams is held
up. Counted are the bytes of the streams as they go to the target, compressed ones after compression.
"""

from __future__ import annotations

import asyncio
import collections
import functools
import time
from collections.abc import Callable

from .errors import UsageError
from .units import parse_bytes

MIN_RATE = 1 << 10
MAX_TURN_BYTES = 128 << 10
"""As much as is read of a stream at a time."""
_BURSTS_PER_SECOND = 4
_NANOSECONDS = 1_000_000_000


def parse_rate(text: str) -> int:
    """Bytes per second out of ``500K``, ``50M`` or ``1G``, binary multiples; `UsageError` for what is no rate."""
    try:
        rate = parse_bytes(text)
    except ValueError:
        rate = 0
    if rate < MIN_RATE:
        raise UsageError(
            f"{text!r} is not a rate: give bytes per second, 1K or more; K, M and G are 2^10, 2^20 and 2^30, as in 50M."
        )
    return rate


class TokenBucket:
    """At most ``rate`` bytes a second, and ``burst`` at once. Pure but for its ``clock``, which counts nanoseconds.

    In whole numbers: what is left is counted in bytes times nanoseconds, so nothing is lost to rounding.
    """

    def __init__(self, rate: int, clock: Callable[[], int]) -> None:
        self.rate = rate
        self.burst = max(1, rate // _BURSTS_PER_SECOND)
        self._clock = clock
        self._left = self.burst * _NANOSECONDS
        self._at = clock()

    def wait(self, count: int) -> int:
        """Nanoseconds until ``count`` bytes, at most ``burst``, may go; 0 when they may go now."""
        now = self._clock()
        self._left = min(self._left + self.rate * (now - self._at), self.burst * _NANOSECONDS)
        self._at = now
        return max(0, -(-(count * _NANOSECONDS - self._left) // self.rate))

    def take(self, count: int) -> None:
        """``count`` bytes go now; `wait` has said that they may."""
        self._left -= count * _NANOSECONDS


Turn = Callable[[int], int]
"""Called with how many bytes may be passed on; returns how many were."""


class Throttle:
    """Shares a rate out among those who ask for a turn, one after the other. In the event loop."""

    def __init__(self, rate: int, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._bucket = TokenBucket(rate, clock)
        self._turn_bytes = min(MAX_TURN_BYTES, self._bucket.burst)
        self._waiting: collections.deque[Turn] = collections.deque()

    def ask(self, turn: Turn) -> bool:
        """Call ``turn`` now, or when its turn has come; whether that was now."""
        if not self._waiting and self._bucket.wait(self._turn_bytes) == 0:
            self._bucket.take(turn(self._turn_bytes))
            return True
        self._waiting.append(turn)
        if len(self._waiting) == 1:
            self._call_again()
        return False

    async def pass_on(self, data: bytes, outlet: Callable[[bytes], bool]) -> None:
        """Give ``data`` to ``outlet`` in pieces, each in its turn, until all is passed on or it wants no more."""
        loop = asyncio.get_running_loop()
        while data:
            passed: asyncio.Future[int] = loop.create_future()
            self.ask(functools.partial(_pass_piece, data, outlet, passed))
            count = await passed
            if not count:
                return
            data = data[count:]

    def _call_again(self) -> None:
        seconds = self._bucket.wait(self._turn_bytes) / _NANOSECONDS
        asyncio.get_running_loop().call_later(seconds, self._give_turns)

    def _give_turns(self) -> None:
        try:
            while self._waiting and self._bucket.wait(self._turn_bytes) == 0:
                self._bucket.take(self._waiting.popleft()(self._turn_bytes))
        finally:  # one whose turn went wrong must not hold up the others
            if self._waiting:
                self._call_again()


def _pass_piece(data: bytes, outlet: Callable[[bytes], bool], passed: asyncio.Future[int], allowed: int) -> int:
    if passed.done():  # whoever asked was cancelled
        return 0
    piece = data[:allowed]
    count = len(piece) if outlet(piece) else 0
    passed.set_result(count)
    return count
