"""What holds are called, and how it is remembered that there are some."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.strategies import names
from zfsync_ssh.holds import MAX_TARGET_CHARS, Tag, digest_of, lock_name, parse_tag, property_of, tag_of

hosts = st.text("abc.-:[]0123456789", max_size=80)
runs = st.text("0123456789abcdef", min_size=12, max_size=12)


@given(hosts, names, runs, st.integers(1, 4))
def test_a_tag_comes_back_and_is_short_enough_whatever_the_target(host: str, name: str, run: str, times: int) -> None:
    target = f"{host}:{name * times * 20}"
    tag = tag_of(target, run)
    assert parse_tag(str(tag)) == tag == Tag(target[-MAX_TARGET_CHARS:], run)
    assert len(str(tag)) <= 255
    assert property_of(tag.target) == property_of(target)  # of the tag alone, the property is found again
    assert digest_of(tag.target) == digest_of(target)


@pytest.mark.parametrize("text", ["", "mine", "zfsync:", "zfsync:host:pool:", "zfsync::run", "other:host:dst:run"])
def test_somebody_elses_tag_is_none(text: str) -> None:
    assert parse_tag(text) is None


def test_two_targets_have_two_properties_and_a_run_has_a_lock_that_no_dataset_has() -> None:
    assert property_of("a:dst") != property_of("b:dst")
    assert property_of("a:dst").startswith("zfsync:holds.")
    assert "@" in lock_name("0123")
