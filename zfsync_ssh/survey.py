"""Looks at both sides of a job and at its history: what `zfsync_ssh.status` judges."""

from __future__ import annotations

import asyncio
import collections
from dataclasses import replace

from .config import Job
from .dataset import Inventory
from .errors import ZfsyncError
from .history import History
from .location import Location, place
from .reach import buffer_of, endpoint_at, source_at
from .status import Seen
from .thinning import held


async def survey(job: Job, history: History, *, look: bool) -> tuple[Seen, list[str]]:
    """What is known of a job, and a sentence for each side that could not be looked at.

    With ``look`` both sides are listed, else only the history is read.
    """
    targets = tuple(map(place, job.targets))
    seen = Seen(
        job.name,
        targets,
        history.runs(job.name),
        history.datasets(job.name),
        local_time=job.retention.local_time,
        good=history.datasets(job.name, well=True),
        selection=job.transfer.policy.selection,
    )
    if not look:
        return seen, []
    source, *there = await asyncio.gather(
        _source(job), *(_target(job, target) for target in job.targets), return_exceptions=True
    )
    problems = []
    for result in (source, *there):
        if isinstance(result, ZfsyncError):
            problems.append(str(result))
        elif isinstance(result, BaseException):
            raise result
    found = {where: tree for where, tree in zip(targets, there, strict=True) if isinstance(tree, Inventory)}
    tree, counts = source if isinstance(source, tuple) else (None, {})
    return replace(seen, source=tree, there=found, held=counts), problems


async def _source(job: Job) -> tuple[Inventory, dict[str, int]]:
    """The datasets that take part, and how many snapshots of each are held."""
    source = source_at(job.connection, job.source)
    try:
        inventory = await source.inventory(job.transfer.recursive, creation=True)  # for names that tell no time
        stays = held(await source.query("hold-counts", [source.root]))
    finally:
        await source.close()
    counts = collections.Counter(name.partition("@")[0] for name in stays)
    return job.transfer.policy.selection.datasets(inventory), dict(counts)


async def _target(job: Job, target: Location) -> Inventory:
    endpoint = endpoint_at(job.connection, target, buffer_of(target.dataset, job.transfer.buffer))
    try:
        client, _ = await endpoint.open()
        return await endpoint.inventory(client, job.transfer.recursive)
    finally:
        await endpoint.close()
