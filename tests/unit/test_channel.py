"""The processes of this machine that agents run in."""

from __future__ import annotations

from typing import cast

from zfsync_ssh.channel import LocalChannel, LocalOpener


async def test_one_that_never_said_anything_has_ended_when_its_opener_is_closed() -> None:
    opener = LocalOpener("exec sleep 1000")
    channels = [cast(LocalChannel, await opener.open()) for _ in range(3)]
    assert [channel.exit_status for channel in channels] == [None] * 3
    await opener.close()
    assert [channel.exit_status for channel in channels] == [-9] * 3
    await opener.close()
