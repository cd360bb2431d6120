"""The ordinary client, which knows nothing of it, at a confined receiver."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.fakezfs import State
from tests.protocol.conftest import Pair, zfs_command
from zfsync_ssh.buffer import default_buffer
from zfsync_ssh.channel import LocalOpener
from zfsync_ssh.dataset import Host
from zfsync_ssh.endpoint import ChannelOpener, Endpoint
from zfsync_ssh.errors import ZfsError
from zfsync_ssh.events import Changed, Notice, Status
from zfsync_ssh.jobs import compare
from zfsync_ssh.orchestrator import Options, Replication
from zfsync_ssh.policy import Divergence, Policy
from zfsync_ssh.remote_source import AgentSource
from zfsync_ssh.source import LocalSource

REPOSITORY = Path(__file__).parents[2]


class Confined(Pair):
    """A `Pair` whose receiver is confined to ``dst/served``."""

    log: Path
    bounds: dict[str, Any]

    def target(self, root: str = "dst/served", buffer: str = "", opener: ChannelOpener | None = None) -> Endpoint:
        assert opener is None  # there is but one way there
        return self.end(self.receiver, root, buffer or default_buffer(root))

    async def push(self, source: str = "src/tree", root: str = "dst/served", pull: bool = False, **options: Any) -> int:
        return await super().push(source, root, pull, **options)

    def end(self, state: State, root: str, buffer: str) -> Endpoint:
        spec = {"zfs": zfs_command(state), "log": str(self.log), "root": "dst/served", **self.bounds}
        line = f"cd {REPOSITORY} && exec {sys.executable} -m tests.serving {shlex.quote(json.dumps(spec))}"
        return Endpoint(LocalOpener(line), Host("there"), root, buffer, ("nothing", "of", "mine"))

    @property
    def told(self) -> str:
        return self.log.read_text()


@pytest.fixture
def confined(pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Confined:
    monkeypatch.setenv("FAKEZFS_RECORDS", "1")
    made = Confined(pair.sender, pair.receiver)
    made.log, made.bounds = tmp_path / "log", {}
    for child in ("", "/a", "/a/b", "/v"):
        made.sender.create("src/tree" + child, "volume" if child == "/v" else "filesystem")
        for number in (1, 2, 3):
            made.sender.snapshot(f"src/tree{child}@{number}", 1000 + 300_000 * child.count("/"))
    return made


@pytest.mark.parametrize(
    ("root", "bounds"),
    [
        ("dst/served", {}),
        ("dst/served", {"append_only": True}),
        ("dst/served", {"keep_at_least": 2}),
        ("dst/served/deep/er", {"append_only": True}),
    ],
)
async def test_a_tree_arrives_and_is_kept_up_to_date(confined: Confined, root: str, bounds: dict[str, Any]) -> None:
    confined.bounds = bounds
    assert await confined.push(root=root) == 0
    assert confined.receiver.guids(root) == confined.sender.guids("src/tree")
    assert confined.receiver.guids(default_buffer(root)) == {}
    assert not [event for event in confined.events if isinstance(event, Notice)]
    for number in (4, 5, 6):
        confined.sender.snapshot(f"src/tree/a/b@{number}")
    assert await confined.push(root=root) == 0
    assert confined.receiver.guids(root) == confined.sender.guids("src/tree")
    assert confined.outcomes["src/tree/a/b"].what == "@3 -> @6"
    assert "refused" not in confined.told
    assert "serves 'dst/served" in confined.told


async def test_what_was_cut_off_is_resumed(confined: Confined, monkeypatch: pytest.MonkeyPatch) -> None:
    confined.bounds = {"append_only": True}
    monkeypatch.setenv("FAKEZFS_FULL", "200000")
    assert await confined.push() == 3
    monkeypatch.delenv("FAKEZFS_FULL")
    assert await confined.push() == 0
    assert confined.receiver.guids("dst/served") == confined.sender.guids("src/tree")


async def test_a_root_elsewhere_is_refused_by_name(confined: Confined) -> None:
    with pytest.raises(
        ZfsError, match="there refused the target dst/served2: 'dst/served2' is not in dst/served, which"
    ):
        await confined.push(root="dst/served2")
    assert "refused Begin of 'dst/served2'" in confined.told


async def test_append_only_refuses_what_would_lose_something(confined: Confined) -> None:
    confined.bounds = {"append_only": True}
    assert await confined.push() == 0
    before = confined.receiver.guids("dst/served")
    for child in ("", "/a"):
        confined.sender.destroy(f"src/tree{child}@1")
    await confined.push(policy=Policy(delete_snapshots=True))
    notices = [event.text for event in confined.events if isinstance(event, Notice)]
    assert len(notices) == 2
    assert "may only add to what is there (zfsync serve --append-only): no destroy-snapshot" in notices[0]

    confined.receiver.snapshot("dst/served/a@theirs")
    confined.sender.snapshot("src/tree/a@4")
    assert await confined.push(policy=Policy(on_divergence=Divergence.ROLLBACK)) == 3
    changes = [event for event in confined.events if isinstance(event, Changed)]
    assert "no rollback" in changes[0].problem
    after = confined.receiver.guids("dst/served")
    after["/a"] = [one for one in after["/a"] if one[0] != "theirs"]
    assert after == before


async def test_deletions_are_allowed_down_to_the_floor(confined: Confined) -> None:
    confined.bounds = {"keep_at_least": 2}
    assert await confined.push() == 0
    for number in (1, 2):
        confined.sender.destroy(f"src/tree/a@{number}")
    await confined.push(policy=Policy(delete_snapshots=True))
    assert [name for name, _ in confined.receiver.guids("dst/served")["/a"]] == ["2", "3"]
    assert "keep-at-least" in " ".join(event.text for event in confined.events if isinstance(event, Notice))
    assert "allowed 'destroy-snapshot' of 'dst/served/a@1'" in confined.told


async def test_read_only_compares_and_restores_and_no_more(confined: Confined) -> None:
    await confined.push()
    confined.bounds = {"read_only": True}
    confined.events.clear()
    copy = AgentSource(confined.end(confined.receiver, "dst/served", ""))
    assert await compare(LocalSource("src/tree", zfs_command(confined.sender)), copy, True, confined.events.append) == 0

    confined.sender.create("back")
    copy = AgentSource(confined.end(confined.receiver, "dst/served", ""))
    here = Pair(confined.receiver, confined.sender).target("back/tree")
    options = Options(owner="test", policy=Policy(bookmark=False))
    assert await Replication(copy, here, options, confined.events.append).run() == 0
    assert confined.sender.guids("back/tree") == confined.sender.guids("src/tree")
    assert {outcome.status for outcome in confined.outcomes.values()} <= {Status.SENT, Status.EQUAL}

    with pytest.raises(Exception, match="may only read"):
        await confined.push()
