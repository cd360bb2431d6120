"""Trees for the tests of `align` and `settle`, and a model of the target that changes are made on."""

from __future__ import annotations

import datetime
from collections.abc import Iterable

from tests.unit.dsl import dataset
from zfsync_ssh.align import Change, Target
from zfsync_ssh.dataset import Inventory
from zfsync_ssh.messages import Operation

BUFFER = "dst.zfsyncbuffer"
NOW = datetime.datetime(2026, 11, 24, 17, 5, tzinfo=datetime.UTC)
ASIDE = ".zfsync-aside-20261124-170500"


def tree(root: str, lines: dict[str, str]) -> Inventory:
    """A tree by child."""
    return Inventory(root, {child: dataset(line, root + child) for child, line in sorted(lines.items())})


def source_of(lines: dict[str, str]) -> Inventory:
    return tree("src", lines)


def target_of(lines: dict[str, str], buffer: str = BUFFER) -> Target:
    return Target(tree("dst", lines), buffer)


class Model:
    """A machine that knows nothing but the names and GUIDs of datasets, and refuses what ZFS would."""

    def __init__(self, target: Target) -> None:
        datasets = (*target.datasets.values(), *target.buffered.values())
        self.guids = {one.name: one.guid for one in datasets}
        self.partial = {one.name: not one.complete for one in datasets}

    def below(self, name: str) -> list[str]:
        return [other for other in self.guids if other == name or other.startswith(name + "/")]

    def carry_out(self, changes: Iterable[Change]) -> None:
        for change in changes:
            for operation in change.operations:
                self.do(operation)

    def do(self, operation: Operation) -> None:
        verb, name, arguments = operation
        if verb == "buffer":
            self.guids.setdefault(name, 0)
        elif verb in ("rename", "park", "aside"):
            to = arguments[0]
            assert name in self.guids, operation
            assert to not in self.guids, operation
            assert not to.startswith(name + "/"), operation
            assert "/" not in to or to.rpartition("/")[0] in self.guids, operation
            for other in self.below(name):
                self.guids[to + other[len(name) :]] = self.guids.pop(other)
        elif verb in ("destroy", "vacate") or (verb == "drop" and self.partial.get(name)):
            assert self.below(name) == [name], operation
            del self.guids[name]
        else:
            assert verb in ("rollback", "hollow", "promote", "drop"), operation
            assert name.partition("@")[0] in self.guids, operation


def aligned(target: Target) -> dict[str, int]:
    """By name, the GUIDs that the simulation has; what was set aside has left it."""
    inventory = target.inventory()
    return {one.name: one.guid for one in (*inventory.datasets.values(), *inventory.buffered.values())}
