"""docs/reference.md names all that programs are told: a field that is new, or renamed, has to be in it."""

from __future__ import annotations

import dataclasses
import io
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

import pytest

from zfsync_ssh.console.ndjson import NdjsonConsole
from zfsync_ssh.console.standing import records
from zfsync_ssh.events import Event, Outcome, Status
from zfsync_ssh.status import DatasetStatus, TargetStatus

TEXT = (Path(__file__).parents[2] / "docs/reference.md").read_text()


def named(text: str) -> set[str]:
    """All that stands between backticks."""
    return set(re.findall(r"`([^`]+)`", text))


def kind_of(event: type) -> str:
    """As `NdjsonConsole` calls it; what is in the fields does not matter."""
    out = io.StringIO()
    NdjsonConsole(out)(event(*[None] * len(dataclasses.fields(event))))
    return str(json.loads(out.getvalue())["event"])


@pytest.mark.parametrize("event", get_args(Event))
def test_every_event_has_a_row_with_each_of_its_fields(event: type) -> None:
    kind = kind_of(event)
    rows = [line for line in TEXT.splitlines() if line.startswith(f"| `{kind}` |")]
    assert len(rows) == 1, kind
    assert {field.name for field in dataclasses.fields(event)} <= named(rows[0])


def test_an_outcome_is_told_with_every_field_and_every_status() -> None:
    section = TEXT[TEXT.index("An `outcome`:") : TEXT.index("`zfsync status --json` prints")]
    assert {field.name for field in dataclasses.fields(Outcome)} <= named(section)
    assert {str(status) for status in Status} <= named(section)


def test_what_status_says_is_told_with_every_key() -> None:
    section = TEXT[TEXT.index("`zfsync status --json` prints") : TEXT.index("`zfsync doctor --json` prints")]
    dataset = DatasetStatus("web", "backup:pool/web", "tank/web")
    (target,) = records([TargetStatus("web", "backup:pool/web", None, None, 0, (dataset,))], datetime.now(UTC))
    datasets = target["datasets"]
    assert isinstance(datasets, list)
    assert {*target, *datasets[0]} <= named(section)


@pytest.mark.parametrize("module", ["lock", "state", "keys", "lzc"])
def test_every_variable_is_told(module: str) -> None:
    variable = __import__(f"zfsync_ssh.{module}", fromlist=["VARIABLE"]).VARIABLE
    assert any(line.startswith(f"| `{variable}") for line in TEXT.splitlines())
