"""An account at the target that may not set every property, as `zfs allow` would have it."""

from __future__ import annotations

import pytest

from tests.protocol.conftest import Pair
from zfsync_ssh.errors import ZfsError
from zfsync_ssh.events import Status
from zfsync_ssh.policy import Policy


async def test_the_buffer_needs_no_mountpoint(pair: Pair) -> None:
    pair.sender.create("src/tree/a")
    pair.sender.snapshot("src/tree@1", 1000)
    pair.sender.snapshot("src/tree/a@1", 100_000)
    pair.receiver.deny("mountpoint")
    assert await pair.push(policy=Policy(buffer_behind=0)) == 0
    made = [command[-1] for command in pair.receiver.commands() if command[0] == "create"]
    assert made == ["dst/tree.zfsyncbuffer"] * 2  # with a mountpoint, and without
    assert pair.receiver.guids("dst/tree") == pair.sender.guids("src/tree")


async def test_a_copy_whose_properties_could_not_be_set_has_failed_and_says_which(pair: Pair) -> None:
    pair.sender.snapshot("src/tree@1", 1000)
    pair.receiver.deny("readonly", "canmount")
    assert await pair.push() == 3
    outcome = pair.outcomes["src/tree"]
    assert (outcome.status, outcome.code) == (Status.FAILED, "unset")
    assert (
        "dst/tree has arrived, but canmount=noauto and readonly=on could not be set (permission denied)"
        in outcome.message
    )
    assert "'zfs allow -u USER canmount,create,mount,readonly,receive,rename,userprop dst'" in outcome.message
    assert pair.receiver.guids("dst/tree") == pair.sender.guids("src/tree")


async def test_what_may_not_be_made_names_what_to_allow(pair: Pair) -> None:
    pair.sender.create("src/tree/a")
    pair.sender.snapshot("src/tree/a@1", 1000)  # its parent becomes a placeholder
    pair.receiver.deny("canmount")
    with pytest.raises(ZfsError, match=r"there cannot prepare the dataset dst/tree: .*permission denied") as refused:
        await pair.push()
    grant = "'zfs allow -u USER canmount,create,mount,readonly,receive,rename,userprop dst'"
    assert grant in str(refused.value)
    assert not any(command[0] == "receive" for command in pair.receiver.commands())
