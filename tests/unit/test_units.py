"""Spans of time, as users write them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zfsync_ssh.units import MAX_SPAN, parse_span, span_words


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0s", 0), ("90s", 90), ("15m", 900), ("48h", 172800), ("2d", 172800), ("1w", 604800), ("1h30m", 5400)],
)
def test_a_span_is_read(text: str, seconds: int) -> None:
    assert parse_span(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "5", "m", "-5m", "1.5h", "5 m", "5y", "1h-5m", "5M", "٣m"])
def test_what_is_no_span_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no span of time: write it as 30s, 15m"):
        parse_span(text)


def test_a_span_that_no_date_can_hold_is_refused() -> None:
    assert parse_span("36600d") == MAX_SPAN
    with pytest.raises(ValueError, match="more than a hundred years"):
        parse_span("999999999999w")


@given(st.integers(0, 10**9))
def test_a_span_in_words_is_never_more_than_the_span_and_reads_back(seconds: int) -> None:
    words = span_words(timedelta(seconds=seconds))
    read = parse_span(words.replace(" ", "")).total_seconds()
    assert read <= seconds < read + max(3600, seconds / 24)


def test_what_lies_in_the_future_is_no_time_ago() -> None:
    assert span_words(timedelta(seconds=-5)) == "0s"
    assert span_words(timedelta(hours=52, minutes=3)) == "2d 4h"
