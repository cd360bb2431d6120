"""What is judged after each run of a soak besides what the faults' checks say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.faults.field import Look, Run
from tests.soak.ground import Plan, Seen
from tests.soak.judge import changed_hands, judge

PUSH = Plan("push", deletes=True)
SENT = {"event": "finished", "outcome": {"source": "tank/soak/a", "status": "sent", "message": ""}}
RUN = Run(0, "", [{"event": "planned", "to_send": 1}, SENT])


def seen(root: str, snapshots: dict[str, str], **more: Any) -> Seen:
    """An end with these snapshots, child and name -> GUID, and no others."""
    names = {root, *(root + name.partition("@")[0] for name in snapshots)}
    datasets = {name: {"name": name, "origin": "-", "receive_resume_token": "-"} for name in names}
    full = {root + name: guid for name, guid in snapshots.items()}
    look = Look(datasets, full, [], {guid: f"digest {guid}" for guid in full.values()}, [], [], [])
    return replace(Seen(look, [], {}, {}), **more)


SOURCE = seen("tank/soak", {"@1": "1", "/a@1": "a1"})
TARGET = seen("pool/keep/pushed", {"@1": "1", "/a@1": "a1"})


def with_content(one: Seen, guid: str, digest: str) -> Seen:
    return replace(one, look=replace(one.look, contents=one.look.contents | {guid: digest}))


def test_nothing_is_wrong_when_all_is_well() -> None:
    assert judge(PUSH, RUN, SOURCE, TARGET) == []


@pytest.mark.parametrize(
    ("source", "target", "said"),
    [
        (SOURCE, with_content(TARGET, "a1", "garbled"), ["pool/keep/pushed/a@1 has other contents"]),
        (
            SOURCE,
            with_content(seen("pool/keep/pushed", {"@1": "1", "/a@1": "a1", "/b@1": "b1"}), "b1", "b"),
            ["pool/keep/pushed/b@1 is nobody's snapshot", "pool/keep/pushed/b is gone at the source"],
        ),
        (
            replace(SOURCE, values={("tank/soak/a", "soak:note"): "3", ("tank/soak", "soak:note"): "2"}),
            TARGET,
            ["tank/soak/a has soak:note=3, and its copy None"],
        ),
    ],
)
def test_what_is_wrong_is_seen(source: Seen, target: Seen, said: list[str]) -> None:
    found = judge(PUSH, RUN, source, target)
    assert [line for line in said if line not in found] == []


def test_what_is_gone_at_the_source_stays_where_nothing_was_to_be_deleted_or_a_stream_may_begin_there() -> None:
    kept = seen("pool/keep/pushed", {"@1": "1", "/a@0": "a0", "/a@1": "a1"})
    once = with_content(SOURCE, "a0", "digest a0")
    assert judge(PUSH, RUN, once, kept) == ["pool/keep/pushed/a@0 is gone at the source"]
    assert judge(Plan("push", deletes=False), RUN, once, kept) == []
    assert judge(PUSH, RUN, replace(once, bookmarks=[["tank/soak/a#zfsync.0a.0", "a0"]]), kept) == []


def test_what_a_promotion_brought_in_when_the_copy_was_newer_may_be_missing_and_nothing_else() -> None:
    copy = seen("pool/keep/pushed", {"@1": "1", "/a@1": "a1"})
    after = seen("tank/soak", {"@1": "1", "/a@0": "b0", "/a@1": "a1", "/b@2": "b2"})
    moved = changed_hands(seen("tank/soak", {"/a@1": "a1", "/b@0": "b0", "/b@2": "b2"}).look, after.look)
    assert moved == {"b0"}
    assert "pool/keep/pushed/a@0 is missing" in judge(PUSH, RUN, after, copy)
    assert "pool/keep/pushed/a@0 is missing" not in judge(PUSH, RUN, after, copy, moved)
    assert "pool/keep/pushed/b@2 is missing" in judge(PUSH, RUN, after, copy, {"b2"})


def test_the_two_copies_do_not_answer_for_each_other() -> None:
    other = seen("pool/keep/pulled", {"@1": "1", "/a@1": "a1"})
    wrong = judge(PUSH, RUN, SOURCE, other)
    assert "pool/keep/pushed/a@1 is missing" in wrong
