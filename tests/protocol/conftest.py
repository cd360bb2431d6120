"""Two fake machines, and pushes from one to the other through real agents: processes of this machine."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests import agents, fakezfs
from tests.fakezfs import State
from zfsync_ssh import bootstrap
from zfsync_ssh.channel import Channel, ChannelRefused, LocalChannel, LocalOpener
from zfsync_ssh.dataset import Host
from zfsync_ssh.endpoint import ChannelOpener, Endpoint
from zfsync_ssh.events import Event, Finished, Observer, Outcome
from zfsync_ssh.lock import VARIABLE
from zfsync_ssh.orchestrator import Options, Replication
from zfsync_ssh.remote_source import AgentSource
from zfsync_ssh.source import LocalSource, Source


def zfs_command(state: State) -> tuple[str, ...]:
    """What runs the fake `zfs` of one machine."""
    return fakezfs.command(state.path)


class FewChannels(LocalOpener):
    """Opens no more than so many channels, as sshd's MaxSessions would have it."""

    def __init__(self, most: int) -> None:
        super().__init__(bootstrap.command((agents.PYTHON,)))
        self.opened: list[LocalChannel] = []
        self._most = most
        self.begun = 0

    async def open(self) -> Channel:
        if self.begun - sum(channel.exit_status is not None for channel in self.opened) >= self._most:
            raise ChannelRefused("open failed")
        self.begun += 1
        channel = await super().open()
        assert isinstance(channel, LocalChannel)
        self.opened.append(channel)
        return channel


@dataclass
class Pair:
    """A sender and a receiver. `push` sends ``src/tree`` to ``dst/tree``."""

    sender: State
    receiver: State
    events: list[Event] = field(default_factory=list)

    def target(self, root: str = "dst/tree", buffer: str = "", opener: ChannelOpener | None = None) -> Endpoint:
        opener = opener or LocalOpener(bootstrap.command((agents.PYTHON,)))
        return Endpoint(opener, Host("there"), root, buffer or root + ".zfsyncbuffer", zfs_command(self.receiver))

    def remote_source(self, root: str, opener: ChannelOpener | None = None) -> AgentSource:
        opener = opener or LocalOpener(bootstrap.command((agents.PYTHON,)))
        return AgentSource(Endpoint(opener, Host("far"), root, "", zfs_command(self.sender)))

    async def push(self, source: str = "src/tree", root: str = "dst/tree", pull: bool = False, **options: Any) -> int:
        """Send ``source`` to ``root``; with ``pull`` the source is behind agents as well."""
        self.events.clear()
        return await self.replicate(self.events.append, source, root, pull, **options)

    async def replicate(
        self, observe: Observer, source: str = "src/tree", root: str = "dst/tree", pull: bool = False, **options: Any
    ) -> int:
        """Likewise, with an observer of its own."""
        end: Source = self.remote_source(source) if pull else LocalSource(source, zfs_command(self.sender))
        chosen = Options(**{"owner": "test", "channels": 2, **options})
        return await Replication(end, self.target(root), chosen, observe).run()

    @property
    def outcomes(self) -> dict[str, Outcome]:
        """The last outcome of every dataset in the last push."""
        return {event.outcome.source: event.outcome for event in self.events if isinstance(event, Finished)}


@pytest.fixture(scope="module", autouse=True)
def _own_locks() -> Iterator[None]:
    """Locks of their own, so that several of these tests at once do not meet; and no longer than for these."""
    with tempfile.TemporaryDirectory(prefix="zfsync-locks-") as directory:
        os.environ[VARIABLE] = directory
        yield
        del os.environ[VARIABLE]


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    """A sender with pool ``src`` and a receiver with pool ``dst``."""
    made = Pair(State(str(tmp_path / "sender")), State(str(tmp_path / "receiver")))
    made.sender.create("src/tree")
    made.receiver.create("dst")
    return made
