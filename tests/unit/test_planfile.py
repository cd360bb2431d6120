"""A plan written down, and what is said when it is no longer the plan."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.dsl import tree
from zfsync_ssh.align import Change
from zfsync_ssh.dataset import Host, Inventory
from zfsync_ssh.errors import UsageError
from zfsync_ssh.plan import make_plan, with_estimates
from zfsync_ssh.planfile import check_record, record

RENAME = Change("rename", "/b", "dst/a", "is renamed", ())


def written(target: Inventory | None = None, changes: tuple[Change, ...] = (), size: int = 5, **lines: str) -> Any:
    source = tree("src", **(lines or {"root": "@a,1 @b,2", "k": "@k,18446744073709551615"}))
    plan = make_plan(source, target or Inventory("dst", {}, ancestors=("dst",)), host=Host())
    plan = with_estimates(plan, {"src@a": size})
    return json.loads(json.dumps(record(plan, changes, source="src", target="there:dst")))


def test_it_survives_json_and_estimates_may_differ() -> None:
    made = written()
    assert made["datasets"]["src/k"]["streams"] == [{"base": "0", "to": "18446744073709551615", "name": "k"}]
    assert made["datasets"]["src"]["why"] == "new at the target"
    check_record(made, written(size=99))


@pytest.mark.parametrize(
    ("now", "why"),
    [
        (written(root="@a,1 @b,2"), "src/k is gone"),
        (written(root="@a,1 @b,2", k="@k,18446744073709551615", new="@n,1"), "src/new is new"),
        (
            written(root="@a,1 @b,2 @c,3", k="@k,18446744073709551615"),
            "for src it was 'full @a -> @b', and is 'full @a",
        ),
        (written(tree("dst", root="@a,1")), "for src it was 'full @a -> @b', and is '@a -> @b' now"),
        (written(tree("dst", root="@x,9")), "and is 'refused"),
        (written(changes=(RENAME,)), r"its changes was \[\], and is \['rename dst/a'\] now"),
        ({**written(), "source": "other"}, "its source was 'src', and is 'other' now"),
        ({**written(), "target": "other"}, "its target was 'there:dst', and is 'other' now"),
    ],
)
def test_what_is_different_now_is_said(now: Any, why: str) -> None:
    with pytest.raises(UsageError, match="The plan no longer holds: ") as error:
        check_record(written(), now)
    if "refused" not in why:
        assert error.match(why)


@pytest.mark.parametrize("garbage", [{}, {"zfsync-plan": 2}, {"zfsync-plan": 1}, {"zfsync-plan": 1, "datasets": []}])
def test_what_is_no_plan_is_refused(garbage: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="is not one that 'zfsync push --plan-out'"):
        check_record(garbage, written())
