"""Two fake machines, and pushes from one to the other through real agents: processes of this machine."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests import fakezfs
from tests.fakezfs import State
from zfsync_ssh import bootstrap
from zfsync_ssh.channel import LocalOpener
from zfsync_ssh.endpoint import AgentTarget, LocalSource
from zfsync_ssh.events import Event, Finished, Outcome
from zfsync_ssh.orchestrator import Push, PushOptions


def zfs_command(state: State) -> tuple[str, ...]:
    """What runs the fake `zfs` of one machine."""
    return (sys.executable, fakezfs.__file__, state.path)


@dataclass
class Pair:
    """A sender and a receiver. `push` sends ``src/tree`` to ``dst/tree``."""

    sender: State
    receiver: State
    events: list[Event] = field(default_factory=list)

    def target(self, root: str = "dst/tree", buffer: str = "") -> AgentTarget:
        opener = LocalOpener(bootstrap.command((sys.executable,)))
        return AgentTarget(opener, "there", root, buffer or root + ".zfsyncbuffer", zfs_command(self.receiver))

    async def push(self, source: str = "src/tree", root: str = "dst/tree", **options: object) -> int:
        self.events.clear()
        target = self.target(root)
        chosen = PushOptions(source, **{"owner": "test", **options})  # type: ignore[arg-type]
        return await Push(LocalSource(zfs_command(self.sender)), target, chosen, self.events.append).run()

    @property
    def outcomes(self) -> dict[str, Outcome]:
        """The last outcome of every dataset in the last push."""
        return {event.outcome.source: event.outcome for event in self.events if isinstance(event, Finished)}


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    """A sender with pool ``src`` and a receiver with pool ``dst``."""
    made = Pair(State(str(tmp_path / "sender")), State(str(tmp_path / "receiver")))
    made.sender.create("src/tree")
    made.receiver.create("dst")
    return made
