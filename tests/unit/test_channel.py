"""The processes of this machine that agents run in."""

from __future__ import annotations

import errno
import os
from typing import cast

import pytest

from zfsync_ssh.channel import ChannelRefused, LocalChannel, LocalOpener


async def test_one_that_never_said_anything_has_ended_when_its_opener_is_closed() -> None:
    opener = LocalOpener("exec sleep 1000")
    channels = [cast(LocalChannel, await opener.open()) for _ in range(3)]
    assert [channel.exit_status for channel in channels] == [None] * 3
    await opener.close()
    assert [channel.exit_status for channel in channels] == [-9] * 3
    await opener.close()


async def test_one_that_cannot_be_started_is_refused_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    async def none(_: object) -> LocalChannel:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(LocalChannel, "open", none)
    with pytest.raises(
        ChannelRefused, match=r"^This machine cannot start another process: Resource temporarily un.*\.$"
    ):
        await LocalOpener("true").open()
