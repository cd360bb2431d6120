"""How jobs stand, as it is shown."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta

from rich.console import Console

from zfsync_ssh.console.standing import lines, records, tables
from zfsync_ssh.history import Run
from zfsync_ssh.status import DatasetStatus, TargetStatus

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
RUN = Run("web", "b:pool/web", NOW.timestamp() - 90, NOW.timestamp() - 60, 5, 2048, "b cannot be reached.")
ROW = DatasetStatus(
    "web", "b:pool/web", "tank/web", "new", "old", 2, NOW - timedelta(hours=3), 2048, 1, True, "[bold]no\x1b room"
)
TARGETS = (TargetStatus("web", "b:pool/web", RUN, NOW - timedelta(days=1), 2, (ROW,)),)


def test_lines_tell_all_of_it() -> None:
    assert list(lines(TARGETS, NOW)) == [
        "web to b:pool/web: last run 1m ago, 2.0 KiB sent; 2 failed since one was well (1d ago): b cannot be reached.",
        "  tank/web: newest new, there old, 2 behind, 3h old, 2.0 KiB in the last run, 1 held, "
        "a receive can be resumed, FAILED: [bold]no  room",
    ]


def test_a_table_tells_it_without_markup_or_control_characters_of_others() -> None:
    out = io.StringIO()
    for table in tables(TARGETS, NOW):
        Console(file=out, width=200).print(table)
    for word in ("tank/web", "new", "old", "3h", "can be resumed; [bold]no  room"):
        assert word in out.getvalue()
    assert "\x1b" not in out.getvalue()


def test_records_are_json() -> None:
    (target,) = json.loads(json.dumps(records(TARGETS, NOW)))
    assert (target["failures"], target["datasets"][0]["age"], target["datasets"][0]["partial"]) == (2, 10800, True)
