"""What an unattended job needs done to ZFS and over the network: the interface that `cron` drives."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from .dataset import Snapshot
from .location import Location

Rule = Callable[[str, Sequence[Snapshot], Collection[int]], tuple[Snapshot, ...]]
"""Which snapshots of a dataset are to go: its full name on its own side without a host, all of its snapshots in any
order, and the GUIDs of those that stay in any case, which are held, or the newest in common with the other side."""


@dataclass(frozen=True, slots=True)
class SourceState:
    """What has to be known of the source before a snapshot is taken."""

    snapshots: tuple[Snapshot, ...]
    """Those that were taken of the whole tree, one of each name: they tell what is due."""
    names: frozenset[str] = frozenset()
    """Every name of a snapshot or bookmark anywhere in the tree: none of them is given again."""
    written: bool = True
    """Whether anything was written to the tree since the newest snapshot that is sent."""


@dataclass(frozen=True, slots=True)
class Brought:
    """What a push did about one dataset. The newest snapshots are names, empty for none."""

    dataset: str
    """The source's full name, without a host."""
    failed: bool = False
    bytes: int = 0
    source_newest: str = ""
    target_newest: str = ""
    """The newest that both have at the end."""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Pushed:
    """How a push ended that did not fail as a whole."""

    exit_code: int
    datasets: tuple[Brought, ...] = ()
    problems: tuple[str, ...] = ()
    """A sentence for each thing besides that could not be done."""


@dataclass(frozen=True, slots=True)
class Pruned:
    """Snapshots destroyed, and a sentence for each that could not be."""

    destroyed: int = 0
    failures: tuple[str, ...] = ()


class Steps(Protocol):
    """What a job does to ZFS and over the network. Each may raise a `ZfsyncError`, which fails that step alone."""

    async def source(self) -> SourceState:
        """Look at the source, as far as it takes part."""
        ...

    async def take(self, name: str) -> None:
        """Take a snapshot of this name of every dataset that takes part, all or none."""
        ...

    async def push(self, target: Location) -> Pushed:
        """Bring one target up to date. `ConnectError` and `LockedError` may be tried again, on new connections."""
        ...

    async def prune(self, target: Location | None, rule: Rule) -> Pruned:
        """Destroy what ``rule`` names of each dataset that takes part: at a target, or at the source for None."""
        ...
