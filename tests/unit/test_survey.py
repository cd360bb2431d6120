"""What is looked at for `zfsync status`, with ends made for the test."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.unit.dsl import tree
from zfsync_ssh import survey
from zfsync_ssh.config import parse as parse_config
from zfsync_ssh.dataset import Inventory
from zfsync_ssh.errors import ConnectError
from zfsync_ssh.history import History
from zfsync_ssh.status import status_of

CONFIG = '[job.web]\nsource = "src"\ntarget = "backup:dst"\nsnapshots = ["*_hourly"]\n'
MADE = 1_600_000_000


class End:
    """Both ends in one: the source has a creation time for each snapshot, if it is asked for."""

    root = "src"

    async def inventory(self, *_: object, creation: bool = False) -> Inventory:
        listed = tree("src", root="@a_hourly,1 @b_hourly,2 @c_daily,3")
        root = listed.datasets[""]
        listed.datasets[""] = root._replace(
            snapshots=tuple(one._replace(creation=MADE * creation) for one in root.snapshots)
        )
        return listed

    async def query(self, kind: str, names: Sequence[str]) -> list[str]:
        return [f"src@a_hourly\t{2 * (kind == 'hold-counts')}" for _ in names]

    async def open(self) -> tuple[None, None]:
        return None, None

    async def close(self) -> None: ...


class Target(End):
    async def inventory(self, *_: object, creation: bool = False) -> Inventory:
        return tree("dst", root="@a_hourly,1")


class Gone(Target):
    async def open(self) -> tuple[None, None]:
        raise ConnectError("backup cannot be reached.")


@pytest.mark.parametrize("target", [Target, Gone])
async def test_both_sides_are_judged_by_what_the_job_sends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: type[Target]
) -> None:
    monkeypatch.setattr(survey, "source_at", lambda *_: End())
    monkeypatch.setattr(survey, "endpoint_at", lambda *_: target())
    job = parse_config(CONFIG, Path("/f")).jobs["web"]
    seen, problems = await survey.survey(job, History(tmp_path, mends=False), look=True)
    (status,) = status_of(seen)
    if target is Gone:
        assert problems == ["backup cannot be reached."]
        assert status.datasets == ()
        return
    (dataset,) = status.datasets
    assert problems == []
    assert (dataset.behind, dataset.held) == (1, 1)
    assert dataset.good_until is not None
    assert dataset.good_until.timestamp() == MADE
