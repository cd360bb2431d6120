"""What a run costs, in commands of zfs, in round trips and in memory: counts, which must not grow unnoticed.

Never times. Commands and round trips are those of whole runs, with real agents and a fake zfs at both ends. A change
that makes a figure here larger makes every run slower: make it smaller again, or say in the commit why it is worth it.
"""

from __future__ import annotations

import random
import tracemalloc
from collections import Counter
from collections.abc import Iterator

import pytest

from tests import agents
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

SIZES = (5, 9)
"""Datasets below the root of a tree: more than there are channels, and about twice that: what grows with them shows."""
CHANNELS = 4


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
    trips = RoundTrips(bootstrap.command((agents.PYTHON,)))
    target = Endpoint(trips, Host("there"), "dst/tree", "dst/tree.zfsyncbuffer", zfs_command(pair.receiver))
    source = LocalSource("src/tree", zfs_command(pair.sender))
    async with trips.counting():
        assert await Replication(source, target, Options(CHANNELS, owner="test"), pair.events.append).run() == 0
    assert pair.receiver.guids("dst/tree") == pair.sender.guids("src/tree")
    here, there = (verbs(end, start) for end, start in zip(ends, before, strict=True))
    return here, there, trips.count


def verbs(end: State, start: int) -> dict[str, int]:
    return dict(Counter(command[0] for command in end.commands()[start:]))


@pytest.mark.parametrize("size", SIZES)
async def test_nothing_changed_costs_two_listings_at_each_end_and_two_round_trips(pair: Pair, size: int) -> None:
    tree(pair, size)
    await pair.push()
    assert await cost(pair) == ({"list": 2}, {"list": 2}, 2)


@pytest.mark.parametrize("size", SIZES)
async def test_incrementals_cost_what_each_needs_and_no_round_trip_for_any(pair: Pair, size: int) -> None:
    tree(pair, size)
    await pair.push()
    snapshot(pair, size, "3")
    here, there, trips = await cost(pair)
    each = size + 1
    # Bookmarks, new and old, cost a command each only where there is no libzfs_core.
    assert here == {
        "list": 4, "set": 1, "hold": 2, "send": each, "bookmark": each, "destroy": each, "release": 2, "inherit": 1
    }  # fmt: skip
    assert there == {"list": 2, "get": 1, "receive": each}
    assert trips == 4


@pytest.mark.parametrize("size", SIZES)
async def test_a_first_push_costs_what_each_needs_and_no_round_trip_for_any(pair: Pair, size: int) -> None:
    tree(pair, size)
    here, there, trips = await cost(pair)
    each = size + 1
    assert here == {
        "list": 4, "set": 1, "hold": 2, "send": 2 * each, "bookmark": each, "release": 2, "inherit": 1
    }  # fmt: skip
    # None waits in the buffer, since the root is small; so the other channels wait for that, which is a round trip.
    assert there == {"list": 3, "get": 1, "receive": 2 * each}
    assert trips <= 5


def listing(datasets: int, snapshots: int, *, recursive: bool) -> Iterator[str]:
    """The lines of both listings of a tree, with names as those who snapshot hourly have them."""
    numbers = random.Random(1)
    for number in range(datasets):
        name = f"tank/data/{number}" if number else "tank/data"
        yield "\t".join((name, str(numbers.getrandbits(64)), "9", "filesystem", *["-"] * (len(DATASET_COLUMNS) - 4)))
        own = "" if recursive else f"{number:04}"
        for index in range(snapshots):
            guid, txg = numbers.getrandbits(64), 1_000_000 + index * 100 + number
            yield f"{name}@autosnap_2026{own}-{index:06}_hourly\t{guid}\t{txg}"


@pytest.mark.parametrize(
    ("datasets", "snapshots", "recursive", "most"),
    [(200, 100, True, 195), (200, 100, False, 270), (1, 20_000, False, 265)],
)
def test_an_inventory_takes_less_than_300_bytes_for_each_snapshot(
    datasets: int, snapshots: int, recursive: bool, most: int
) -> None:
    lines = list(listing(datasets, snapshots, recursive=recursive))  # what makes them is not traced
    tracemalloc.start()
    try:
        parser = InventoryParser("tank/data")
        for line in lines:
            parser.feed(line)
        inventory = parser.finish()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sum(len(dataset.snapshots) for dataset in inventory.datasets.values()) == 20_000
    assert peak / 20_000 < most
