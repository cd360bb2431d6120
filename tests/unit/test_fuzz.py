"""What reads bytes of others, with whatever hypothesis makes up: nothing but the declared errors (tests/fuzz)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.seeds import SEEDS
from tests.fuzz.targets import TARGETS

Target = Callable[[bytes], None]


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.__name__)
@given(data=st.binary(max_size=200))
def test_any_bytes_are_taken_or_refused(target: Target, data: bytes) -> None:
    target(data)


@given(
    st.sampled_from(SEEDS), st.floats(0, 1, exclude_max=True), st.integers(0, 3), st.binary(max_size=8) | st.just(b"[")
)
def test_what_is_as_it_should_be_but_for_a_few_bytes_is_taken_or_refused(
    seed: tuple[Target, bytes], place: float, cut: int, put: bytes
) -> None:
    target, data = seed
    at = int(place * len(data))
    target(data[:at] + put + data[at + cut :])


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.__name__)
def test_depth_and_length_are_no_way_to_crash(target: Target) -> None:
    for data in (b"[" * 100_000, b'{"a":' * 50_000, b"9" * 10_000, b"x" * 300_000, b"\n" * 10_000, b"\t" * 10_000):
        target(data)
