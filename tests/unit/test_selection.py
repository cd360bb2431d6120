"""Which datasets and snapshots take part."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.dsl import dataset
from zfsync_ssh.dataset import Dataset, Host, Inventory
from zfsync_ssh.decision import INCREMENTAL, UPTODATE
from zfsync_ssh.errors import UsageError
from zfsync_ssh.item import Item
from zfsync_ssh.plan import make_plan, without_empty
from zfsync_ssh.policy import Policy
from zfsync_ssh.selection import EVERYTHING, Selection


@pytest.mark.parametrize(
    ("selection", "taken"),
    [
        (EVERYTHING, ["", "/home", "/home/ann", "/home/tmp", "/var/tmp"]),
        (Selection(exclude=("home",)), ["", "/var/tmp"]),
        (Selection(exclude=("*tmp",)), ["", "/home", "/home/ann"]),
        (Selection(exclude=("tmp",)), ["", "/home", "/home/ann", "/home/tmp", "/var/tmp"]),
        (Selection(include=("home",)), ["/home", "/home/ann", "/home/tmp"]),
        (Selection(include=("home",), exclude=("home/t*",)), ["/home", "/home/ann"]),
        (Selection(include=("",)), [""]),
        (Selection(include=("re:(home|var)/t.p",)), ["/home/tmp", "/var/tmp"]),
        (Selection(exclude=("re:hom",)), ["", "/home", "/home/ann", "/home/tmp", "/var/tmp"]),
        (Selection(exclude=("*",)), []),
    ],
)
def test_a_dataset_takes_part_with_all_below_it(selection: Selection, taken: list[str]) -> None:
    children = ["", "/home", "/home/ann", "/home/tmp", "/var/tmp"]
    assert [child for child in children if selection.takes(child)] == taken


def test_the_user_property_leaves_a_dataset_out() -> None:
    tree = {child: Dataset(f"src{child}", "filesystem", 1, excluded=child == "/a") for child in ("", "/a", "/b")}
    assert list(EVERYTHING.datasets(Inventory("src", tree))) == ["", "/b"]


def test_a_pattern_that_is_none_is_refused_at_once() -> None:
    with pytest.raises(UsageError, match=r"'re:\(' is not a regular expression"):
        Selection(exclude=("re:(",))


@pytest.mark.parametrize(
    ("selection", "why"),
    [
        ({"include": ("/home",)}, "'/home' matches no dataset: give 'home', relative to the source."),
        ({"exclude": ("home/",)}, "'home/' matches no dataset: give 'home', relative to the source."),
        ({"exclude": ("a", "a/b@x")}, "'a/b@x' matches no dataset: give 'a/b', and 'x' as a pattern of snapshots."),
        ({"snapshots": ("@mon",)}, "'@mon' matches no snapshot: give 'mon', what is after the @."),
        ({"exclude_snapshots": ("home@m*",)}, "'home@m*' matches no snapshot: give 'm*', what is after the @."),
    ],
)
def test_a_pattern_that_can_match_nothing_is_refused_with_the_right_one(
    selection: dict[str, tuple[str, ...]], why: str
) -> None:
    with pytest.raises(UsageError) as caught:
        Selection(**selection)  # type: ignore[arg-type]
    assert str(caught.value) == why


def test_a_pattern_that_may_match_something_is_not() -> None:
    for one in ("re:/home/", "re:a@b", "[@a]b", "home/*", "*/tmp", ""):
        assert Selection(include=(one,), exclude=(one,)).include == (one,)
        assert Selection(snapshots=(one,), exclude_snapshots=(one,)).snapshots == (one,)


def item(source: Dataset, target: Dataset | None, selection: Selection) -> Item:
    there = Inventory("dst", {"": target} if target else {}, ancestors=("dst",))
    return make_plan(
        Inventory("src", {"": source}), there, host=Host("there"), policy=Policy(selection=selection)
    ).items[0]


def streams(item: Item) -> list[str]:
    """Each stream as the words of `zfs send`."""
    return [f"{'-i' if step.single else '-I'} {step.base} {step.to.name}" if step.base
            else f"full {step.to.name}" for step in item.steps]  # fmt: skip


@pytest.mark.parametrize(
    ("target", "selection", "expected"),
    [
        ("", Selection(), ["full a", "-I @a e"]),
        ("", Selection(intermediates=False), ["full e"]),
        ("", Selection(snapshots=("[bcd]",)), ["full b", "-I @b d"]),
        ("", Selection(exclude_snapshots=("c",)), ["full a", "-i @a b", "-i @b d", "-i @d e"]),
        ("", Selection(snapshots=("x",)), []),
        ("@a,1", Selection(intermediates=False), ["-i @a e"]),
        ("@d,4", Selection(intermediates=False), ["-i @d e"]),
        ("@b,2", Selection(snapshots=("a", "d")), ["-i @b d"]),
        ("@b,2", Selection(snapshots=("a", "b")), []),
    ],
)
def test_only_the_wanted_snapshots_are_sent(target: str, selection: Selection, expected: list[str]) -> None:
    source = dataset("@a,1 @b,2 @c,3 @d,4 @e,5", "src")
    assert streams(item(source, dataset(target, "dst") if target else None, selection)) == expected


def test_a_base_need_not_be_wanted_itself() -> None:
    chosen = item(dataset("@a,1 @b,2", "src"), dataset("@a,1", "dst"), Selection(exclude_snapshots=("a",)))
    assert chosen.decision
    assert chosen.decision.kind == INCREMENTAL
    assert streams(chosen) == ["-i @a b"]


@given(st.lists(st.booleans(), min_size=1, max_size=9), st.integers(-1, 8))
def test_every_wanted_snapshot_after_the_base_arrives_once_and_none_else(wanted: list[bool], base: int) -> None:
    names = [f"{'w' if take else 'x'}{index}" for index, take in enumerate(wanted)]
    source = dataset(" ".join(f"@{name},{index + 1}" for index, name in enumerate(names)), "src")
    at = min(base, len(names) - 1)
    there = dataset(f"@{names[at]},{at + 1}", "dst") if at >= 0 else None
    chosen = item(source, there, Selection(snapshots=("w*",)))
    arriving = [snapshot.name for step in chosen.steps for snapshot in step.snapshots]
    assert arriving == [name for name in names[at + 1 :] if name[0] == "w"]
    if at == len(names) - 1:
        assert chosen.decision
        assert chosen.decision.kind == UPTODATE
    # Each step begins where the one before it ended.
    reached = at
    for step in chosen.steps:
        assert step.base == (f"@{names[reached]}" if reached >= 0 else "")
        reached = names.index(step.to.name)


# ---- the newest few, since, until ------------------------------------------------------------------------------------


def taken(selection: Selection, line: str = "@a,1 @b,2 @c,3 @d,4") -> str:
    """The names of the snapshots that are wanted; each was made at its GUID's hour."""
    made = dataset(line)
    made = made._replace(snapshots=tuple(one._replace(creation=one.guid * 3600) for one in made.snapshots))
    snapshots = selection.datasets(Inventory(made.name, {"": made})).datasets[""].snapshots
    return "".join(one.name for one, wanted in zip(snapshots, selection.wanted(snapshots), strict=True) if wanted)


@pytest.mark.parametrize(
    ("selection", "names"),
    [
        (Selection(latest=2), "cd"),
        (Selection(latest=9), "abcd"),
        (Selection(latest=0), "abcd"),
        (Selection(latest=2, exclude_snapshots=("d",)), "bc"),
        (Selection(latest=3, intermediates=False), "d"),
        (Selection(since=2 * 3600), "bcd"),
        (Selection(since=2 * 3600 + 1), "cd"),
        (Selection(since=9 * 3600), ""),
        (Selection(until="b"), "ab"),
        (Selection(until="nothing"), ""),
        (Selection(until="c", latest=2), "bc"),
        (Selection(until="c", intermediates=False), "c"),
        (Selection(until="c", since=2 * 3600), "bc"),
    ],
)
def test_only_some_snapshots(selection: Selection, names: str) -> None:
    assert taken(selection) == names


def test_of_a_dataset_that_has_not_got_the_last_one_nothing_comes() -> None:
    source = Inventory("src", {"": dataset("@a,1 @b,2", "src")})
    assert Selection(until="c").datasets(source).datasets[""].snapshots == ()


# ---- snapshots without anything in them ------------------------------------------------------------------------------


def thinned(written: dict[str, int], base: str | None = None, selection: Selection = EVERYTHING) -> list[str]:
    policy = Policy(selection=selection)
    there = Inventory("dst", {"": dataset(base, "dst")} if base else {}, ancestors=("dst",))
    here = Inventory("src", {"": dataset("@a,1 #m,9 @b,2 @c,3 @d,4", "src")})
    plan = make_plan(here, there, host=Host(), policy=policy)
    sizes = {f"src@{name}": size for name, size in written.items()}
    return streams(without_empty(plan, sizes, policy).items[0])


@pytest.mark.parametrize(
    ("written", "base", "expected"),
    [
        ({"a": 1, "b": 1, "c": 1, "d": 1}, None, ["full a", "-I @a d"]),
        ({"a": 1, "b": 0, "c": 0, "d": 0}, None, ["full a", "-i @a d"]),
        ({"a": 1, "b": 0, "c": 0, "d": 1}, None, ["full a", "-i @a c", "-i @c d"]),
        ({"a": 1, "b": 0, "c": 1, "d": 0}, None, ["full a", "-I @a d"]),
        ({"b": 0, "c": 0, "d": 0}, "@a,1", ["-i @a d"]),
        ({"b": 0, "c": 0, "d": 0}, "@m,9", ["-i #m d"]),
        ({"d": 0}, "@c,3", ["-i @c d"]),
        ({}, None, ["full a", "-I @a d"]),  # nothing is known, so nothing is left out
    ],
)
def test_of_snapshots_between_which_nothing_was_written_the_newest_is_sent(
    written: dict[str, int], base: str | None, expected: list[str]
) -> None:
    assert thinned(written, base) == expected


def test_a_snapshot_is_not_left_out_for_one_that_is_not_sent() -> None:
    # @c is as empty as @b, but does not take part, and so nobody asked what it has written.
    assert thinned({"a": 1, "b": 0, "d": 1}, selection=Selection(exclude_snapshots=("c",))) == [
        "full a", "-i @a b", "-i @b d",
    ]  # fmt: skip


@given(st.lists(st.integers(0, 1), min_size=4, max_size=4), st.sampled_from([None, "@a,1", "@m,9", "@b,2"]))
def test_every_content_arrives_and_the_newest_snapshot_always(written: list[int], base: str | None) -> None:
    sizes = dict(zip("abcd", written, strict=True))
    policy = Policy()
    there = Inventory("dst", {"": dataset(base, "dst")} if base else {}, ancestors=("dst",))
    here = Inventory("src", {"": dataset("@a,1 #m,9 @b,2 @c,3 @d,4", "src")})
    plan = make_plan(here, there, host=Host(), policy=policy)
    steps = without_empty(plan, {f"src@{name}": size for name, size in sizes.items()}, policy).items[0].steps
    arrived = [one.name for step in steps for one in step.snapshots]
    sent = [one.name for step in plan.items[0].steps for one in step.snapshots]
    assert arrived == [name for name in sent if name in arrived]
    assert arrived[-1] == "d"
    for name in sent:  # the next one that came holds the same, when this one was left out
        if name not in arrived:
            after = [other for other in "abcd" if other > name and other <= next(one for one in arrived if one > name)]
            assert all(sizes[other] == 0 for other in after)
