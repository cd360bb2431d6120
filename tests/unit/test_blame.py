"""Which of many names a refusal is about, and that all others are done."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from zfsync_ssh.blame import UNDONE, Attempt, Failed, Refusal, all_undone, by_pool, dataset_of, narrow, pool_of, trees


class Zfs:
    """Does all names of a batch or none: none when one of ``bad`` is in it, of which it mentions at most ``most``."""

    def __init__(self, bad: set[str], most: int, code: str = "busy") -> None:
        self._bad = bad
        self._most = most
        self._code = code
        self.done: list[str] = []
        self.attempts = 0

    def attempt(self, batches: list[list[str]]) -> Iterator[Refusal | None]:
        for batch in batches:
            assert batch
            self.attempts += 1
            minded = [name for name in batch if name in self._bad]
            if minded:
                blamed = {name: Failed(name, self._code, "it is minded") for name in minded[: self._most]}
                yield Refusal(blamed, self._code, "something is minded")
            else:
                self.done += batch
                yield None


@given(st.integers(0, 40), st.sets(st.integers(0, 40)), st.integers(0, 3), st.integers(1, 9))
def test_all_are_done_once_but_those_that_are_minded(count: int, minded: set[int], most: int, size: int) -> None:
    names = [f"p/a@{number}" for number in range(count)]
    bad = {f"p/a@{number}" for number in minded} & set(names)
    zfs = Zfs(bad, most)
    failures = narrow([names[at : at + size] for at in range(0, count, size)], zfs.attempt)
    assert sorted(failed.name for failed in failures) == sorted(bad)
    assert {failed.code for failed in failures} <= {"busy"}
    assert sorted(zfs.done) == sorted(set(names) - bad)


def test_one_that_is_named_costs_one_attempt_more() -> None:
    zfs = Zfs({"p@7"}, most=1)
    narrow([[f"p@{number}" for number in range(1000)]], zfs.attempt)
    assert zfs.attempts == 2


def test_one_that_is_not_named_is_found_by_halves() -> None:
    zfs = Zfs({"p@7"}, most=0)
    assert narrow([[f"p@{number}" for number in range(1024)]], zfs.attempt) == [
        Failed("p@7", "busy", "something is minded")
    ]
    assert zfs.attempts == 21


def test_what_is_fine_is_no_failure_named_or_not() -> None:
    for most in (0, 1):
        zfs = Zfs({"p@1"}, most, code="missing")
        assert narrow([["p@1", "p@2"]], zfs.attempt, ("missing",)) == []
        assert zfs.done == ["p@2"]


def test_a_name_that_was_not_asked_for_is_not_blamed() -> None:
    attempt: Attempt = lambda batches: [Refusal({"q": Failed("q", "busy", "q")}, "failed", "all") for _ in batches]  # noqa: E731
    assert narrow([["p@1", "p@2"]], attempt) == [Failed("p@1", "failed", "all"), Failed("p@2", "failed", "all")]


def test_nothing_is_tried_for_no_names() -> None:
    zfs = Zfs(set(), 0)
    assert narrow([[], []], zfs.attempt) == []
    assert zfs.attempts == 0


def test_those_that_another_kept_from_being_done_say_which() -> None:
    refusal = Refusal({"p/a@1": Failed("p/a@1", "exists", "it exists")}, "exists", "some exist")
    assert all_undone(["p@1", "p/a@1"], refusal) == [
        Failed("p@1", UNDONE, "nothing was done, because of p/a@1"),
        Failed("p/a@1", "exists", "it exists"),
    ]
    assert all_undone(["p@1"], Refusal({}, "permission", "denied")) == [Failed("p@1", "permission", "denied")]


def test_names_go_by_their_pools_once_each() -> None:
    assert by_pool(["p/a@1", "q@1", "p@1", "p/a@1", "q/b#m"]) == [["p/a@1", "p@1"], ["q@1", "q/b#m"]]
    assert [pool_of(name) for name in ("p", "p/a", "p@1", "p#m", "p/a@x/y")] == ["p"] * 5
    assert [dataset_of(name) for name in ("p/a", "p/a@1", "p/a#m")] == ["p/a"] * 3


def test_a_tree_is_below_the_topmost_snapshot_of_the_same_name() -> None:
    names = ["p/a/x/y@1", "p/a@1", "p/a@2", "p/ab@1", "p/c@1", "p/a/x@1"]
    assert trees(names) == {
        "p/a@1": ["p/a/x/y@1", "p/a@1", "p/a/x@1"],
        "p/a@2": ["p/a@2"],
        "p/ab@1": ["p/ab@1"],
        "p/c@1": ["p/c@1"],
    }
