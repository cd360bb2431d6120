"""A plan written down, and whether it still is the plan when it is carried out. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .align import Change
from .errors import UsageError
from .plan import Plan

FORMAT = 1


def record(plan: Plan, changes: Sequence[Change], *, source: str, target: str) -> dict[str, Any]:
    """What of a plan is written down, as JSON has it: what is sent for each dataset, why, and what changes first."""
    return {
        "zfsync-plan": FORMAT,
        "source": source,
        "target": target,
        "changes": [f"{change.kind} {change.name}" for change in changes],
        "datasets": {
            item.source.name: {
                "target": item.target,
                "what": item.what,
                "why": item.problem or item.why,
                "streams": [
                    {"base": str(step.base_guid), "to": str(step.to.guid), "name": step.to.name} for step in item.steps
                ],
                "estimate": item.estimate,
            }
            for item in plan.items
        },
    }


def check_record(expected: dict[str, Any], made: dict[str, Any]) -> None:
    """`UsageError` that says what is different now from when ``expected`` was written; estimates may differ."""
    if expected.get("zfsync-plan") != FORMAT or not isinstance(expected.get("datasets"), dict):
        raise UsageError("The plan is not one that 'zfsync push --plan-out' of this version has written.")
    for key in ("source", "target", "changes"):
        if expected.get(key) != made[key]:
            raise UsageError(
                f"The plan no longer holds: its {key} was {expected.get(key)!r}, and is {made[key]!r} now."
            )
    for name in sorted({*expected["datasets"], *made["datasets"]}):
        before, now = expected["datasets"].get(name), made["datasets"].get(name)
        if before is None or now is None:
            raise UsageError(f"The plan no longer holds: {name} is {'new' if before is None else 'gone'}.")
        if (before.get("target"), before.get("streams")) != (now["target"], now["streams"]):
            was, is_now = before.get("what") or before.get("why"), now["what"] or now["why"]
            raise UsageError(f"The plan no longer holds: for {name} it was '{was}', and is '{is_now}' now.")
