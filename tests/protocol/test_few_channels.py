"""Sources that open few channels, as an sshd with a low MaxSessions does, or none beside the control agent's."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.protocol.conftest import FewChannels, Pair
from zfsync_ssh.events import Notice
from zfsync_ssh.keeping import Holds
from zfsync_ssh.orchestrator import Options, Replication


async def test_a_plan_is_made_anew_over_the_only_channel(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    pair.sender.snapshot("src/tree@1")
    pair.sender.snapshot("src/tree@gone")
    hold = Holds.hold

    async def destroyed_before(holds: Holds, snapshots: Sequence[str]) -> None:
        if "src/tree@gone" in snapshots:
            pair.sender.destroy("src/tree@gone")
        await hold(holds, snapshots)

    monkeypatch.setattr(Holds, "hold", destroyed_before)
    opener = FewChannels(1)
    source = pair.remote_source("src/tree", opener)
    assert await Replication(source, pair.target(), Options(owner="test"), pair.events.append).run() == 0
    assert any(isinstance(event, Notice) and "planning anew" in event.text for event in pair.events)
    assert pair.receiver.guids("dst/tree") == pair.sender.guids("src/tree")
    assert len(opener.opened) == 1
