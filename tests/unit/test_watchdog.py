"""When a stream has stood still for too long."""

from __future__ import annotations

from collections.abc import Hashable

from zfsync_ssh.watchdog import Watch, stood_still


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now

    def passes(self, seconds: int, watch: Watch, mark: Hashable | None) -> bool:
        """What is said in the end, when it is looked at each second meanwhile."""
        for _ in range(seconds):
            self.now += 1
            said = watch.stands(mark)
        return said


def test_what_stands_for_the_limit_stands_still_and_what_moves_does_not() -> None:
    clock = Clock()
    watch = Watch(10, clock)
    assert not watch.stands(1)
    assert not clock.passes(9, watch, 1)
    assert clock.passes(1, watch, 1)
    assert watch.since == 100
    assert not watch.stands(2)
    assert clock.passes(10, watch, 2)


def test_what_nobody_looked_at_has_not_stood_still_meanwhile() -> None:
    clock = Clock()
    watch = Watch(10, clock)
    assert not clock.passes(9, watch, 1)
    clock.now += 3600  # stopped, say by Ctrl-Z
    assert not watch.stands(1)
    assert not clock.passes(9, watch, 1)
    assert clock.passes(1, watch, 1)


def test_nothing_to_wait_for_is_no_standing_still() -> None:
    clock = Clock()
    watch = Watch(10, clock)
    assert not clock.passes(20, watch, None)
    assert not clock.passes(1, watch, 1)


def test_without_a_limit_nothing_ever_stands_still() -> None:
    clock = Clock()
    watch = Watch(0, clock)
    assert not clock.passes(1000, watch, 1)


def test_the_sentence_says_which_dataset_stood_where_and_for_whom() -> None:
    assert stood_still("tank/a", 300, 1234567, "zfs send gave nothing more on this machine") == (
        "tank/a: its stream stood still for 5m after 1,234,567 bytes: zfs send gave nothing more on this machine. "
        "What has arrived is kept, and the next run goes on from there; --stall-timeout gives it longer."
    )
