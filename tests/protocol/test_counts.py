"""What a run costs, in commands of zfs, in round trips and in memory: counts, which must not grow unnoticed.

Never times. Commands and round trips are those of whole runs, with real agents and a fake zfs at both ends. A change
that makes a figure here larger makes every run slower: make it smaller again, or say in the commit why it is worth it.
"""

from __future__ import annotations

import random
import sys
import tracemalloc
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.fakezfs import State
from tests.protocol.conftest import Pair, zfs_command
from tests.protocol.rounds import RoundTrips
from zfsync_ssh import bootstrap
from zfsync_ssh.dataset import Host
from zfsync_ssh.endpoint import Endpoint
from zfsync_ssh.listing import InventoryParser
from zfsync_ssh.orchestrator import Options, Replication
from zfsync_ssh.source import LocalSource
from zfsync_ssh.zfs import DATASET_COLUMNS

SIZES = (6, 13)
"""Datasets below the root of a tree."""


def tree(pair: Pair, size: int) -> None:
    """A tree with so many datasets below its root, each with two snapshots."""
    for child in children(size):
        pair.sender.create("src/tree" + child)
    snapshot(pair, size, "1")
    snapshot(pair, size, "2")


def children(size: int) -> list[str]:
    return ["", *(f"/d{number}" for number in range(size))]


def snapshot(pair: Pair, size: int, name: str) -> None:
    for child in children(size):
        pair.sender.snapshot(f"src/tree{child}@{name}")


async def cost(pair: Pair) -> tuple[dict[str, int], dict[str, int], int]:
    """Commands of a push at the sender and at the receiver, and its round trips."""
    ends = (pair.sender, pair.receiver)
    before = [len(end.commands()) for end in ends]
    trips = RoundTrips(bootstrap.command((sys.executable,)))
    target = Endpoint(trips, Host("there"), "dst/tree", "dst/tree.zfsyncbuffer", zfs_command(pair.receiver))
    source = LocalSource("src/tree", zfs_command(pair.sender))
    async with trips.counting():
        assert await Replication(source, target, Options(owner="test"), pair.events.append).run() == 0
    assert pair.receiver.guids("dst/tree") == pair.sender.guids("src/tree")
    here, there = (verbs(end, start) for end, start in zip(ends, before, strict=True))
    return here, there, trips.count


def verbs(end: State, start: int) -> dict[str, int]:
    return dict(Counter(command[0] for command in end.commands()[start:]))


@pytest.mark.parametrize("size", SIZES)
async def test_nothing_changed(pair: Pair, size: int) -> None:
    tree(pair, size)
    await pair.push()
    print(await cost(pair))
    assert 0

@pytest.mark.parametrize("size", SIZES)
async def test_inc(pair: Pair, size: int) -> None:
    tree(pair, size)
    await pair.push()
    snapshot(pair, size, "3")
    print(await cost(pair))
    assert 0

@pytest.mark.parametrize("size", SIZES)
async def test_full(pair: Pair, size: int) -> None:
    tree(pair, size)
    print(await cost(pair))
    assert 0
