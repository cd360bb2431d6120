"""The rate limit: never more than was asked for, and everybody's turn comes."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zfsync_ssh.errors import UsageError
from zfsync_ssh.throttle import MAX_TURN_BYTES, MIN_RATE, Throttle, TokenBucket, parse_rate

SECOND = 1_000_000_000
rates = st.integers(MIN_RATE, 1 << 40)


# ---- what the user writes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "rate"),
    [("1024", 1024), ("1K", 1024), ("500k", 500 << 10), ("50M", 50 << 20), ("1G", 1 << 30), ("0050m", 50 << 20)],
)
def test_a_rate_is_read(text: str, rate: int) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize(
    "text", ["", "0", "1023", "M", "50MB", "50 M", "1.5M", "-1M", "50M/s", "1P", "\uff15M", "9" * 20]
)
def test_what_is_no_rate_is_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(UsageError, match=rf"^{re.escape(repr(text))} is not a rate: .*as in 50M\.$"):
        parse_rate(text)


# ---- the bucket ------------------------------------------------------------------------------------------------------


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now


@given(rates, st.lists(st.tuples(st.integers(0, 3 * SECOND), st.integers(0, MAX_TURN_BYTES)), max_size=60))
def test_no_window_ever_has_more_than_the_rate_and_one_burst(rate: int, wishes: list[tuple[int, int]]) -> None:
    clock = Clock()
    bucket = TokenBucket(rate, clock)
    went: list[tuple[int, int]] = []
    for pause, count in wishes:
        clock.now += pause
        if count <= bucket.burst and bucket.wait(count) == 0:
            bucket.take(count)
            went.append((clock.now, count))
    for first, (since, _) in enumerate(went):
        total = 0
        for now, count in went[first:]:
            total += count
            assert total * SECOND <= rate * (now - since) + bucket.burst * SECOND


@given(rates, st.lists(st.integers(1, MAX_TURN_BYTES), min_size=1, max_size=60))
def test_who_waits_as_long_as_told_may_go_then_and_not_before(rate: int, counts: list[int]) -> None:
    clock = Clock()
    bucket = TokenBucket(rate, clock)
    total = 0
    for count in (min(count, bucket.burst) for count in counts):
        nanoseconds = bucket.wait(count)
        if nanoseconds:
            clock.now += nanoseconds - 1
            assert bucket.wait(count) == 1
            clock.now += 1
        assert bucket.wait(count) == 0
        bucket.take(count)
        total += count
    # Nothing is given away either: not a byte more had to wait than was asked for.
    assert rate * (clock.now - len(counts)) <= max(0, total - bucket.burst) * SECOND


def test_time_without_a_stream_saves_up_one_burst_and_no_more() -> None:
    clock = Clock()
    bucket = TokenBucket(1 << 20, clock)
    assert bucket.burst == (1 << 20) // 4
    clock.now += 3600 * SECOND
    assert bucket.wait(bucket.burst) == 0
    bucket.take(bucket.burst)
    assert bucket.wait(bucket.burst) == SECOND // 4


# ---- the turns -------------------------------------------------------------------------------------------------------


async def test_the_first_burst_goes_at_once() -> None:
    throttle = Throttle(1 << 20, Clock())
    assert throttle.ask(lambda allowed: allowed)
    assert throttle.ask(lambda allowed: allowed)
    assert not throttle.ask(lambda allowed: allowed)


async def test_what_is_not_used_of_a_turn_is_there_for_the_next() -> None:
    throttle = Throttle(MIN_RATE, Clock())
    for _ in range(100):
        assert throttle.ask(lambda _: 0)


async def test_channels_take_turns_whatever_their_number() -> None:
    """With a clock that the loop's time drives, four channels that always want more get the same, one after another."""
    throttle = Throttle(32 << 20)
    order: list[int] = []
    done = asyncio.Event()

    def channel(number: int) -> Callable[[int], int]:
        def turn(allowed: int) -> int:
            order.append(number)
            if len(order) < 200:
                asyncio.get_running_loop().call_soon(throttle.ask, turn)
            else:
                done.set()
            return allowed

        return turn

    for number in range(4):
        throttle.ask(channel(number))
    await asyncio.wait_for(done.wait(), 60)
    shares = [order[100:200].count(number) for number in range(4)]
    assert max(shares) - min(shares) <= 1, shares


async def test_a_turn_that_goes_wrong_does_not_hold_up_the_others() -> None:
    throttle = Throttle(1 << 20)
    went = asyncio.Event()
    complaints: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))

    def wrong(_: int) -> int:
        raise ValueError("wrong")

    while throttle.ask(lambda allowed: allowed):
        pass
    throttle.ask(wrong)

    def right(allowed: int) -> int:
        went.set()
        return allowed

    throttle.ask(right)
    await asyncio.wait_for(went.wait(), 60)
    assert [str(complaint["exception"]) for complaint in complaints] == ["wrong"]


def into(pieces: list[bytes]) -> Callable[[bytes], bool]:
    """An outlet that takes everything."""

    def outlet(piece: bytes) -> bool:
        pieces.append(piece)
        return True

    return outlet


async def test_bytes_are_passed_on_in_pieces_of_a_turn_and_in_order() -> None:
    throttle = Throttle(64 << 10)  # a burst of 16 KiB
    data = bytes(itertools.islice(itertools.cycle(range(251)), 20 << 10))
    pieces: list[bytes] = []
    await throttle.pass_on(data, into(pieces))
    assert b"".join(pieces) == data
    assert max(map(len, pieces)) <= 16 << 10


async def test_passing_on_ends_when_the_outlet_wants_no_more() -> None:
    throttle = Throttle(MIN_RATE)
    pieces: list[bytes] = []

    def outlet(piece: bytes) -> bool:
        pieces.append(piece)
        return len(pieces) < 2

    await asyncio.wait_for(throttle.pass_on(bytes(1 << 20), outlet), 60)
    assert len(pieces) == 2


async def test_whoever_is_cancelled_while_it_waits_passes_nothing_on() -> None:
    throttle = Throttle(8 << 10)
    pieces: list[bytes] = []
    await throttle.pass_on(b"a" * 2048, into(pieces))
    waiting = asyncio.create_task(throttle.pass_on(b"b" * 2048, into(pieces)))
    await asyncio.sleep(0)
    waiting.cancel()
    await throttle.pass_on(b"c" * 2048, into(pieces))
    assert b"".join(pieces) == b"a" * 2048 + b"c" * 2048
