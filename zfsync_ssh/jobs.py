"""The jobs beside replication: a buffer emptied by hand, two trees compared, one pruned, its holds. Told by events."""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Collection, Sequence
from datetime import datetime

from .comparison import compare_inventories
from .concurrency import both
from .dataset import Snapshot
from .endpoint import Endpoint
from .errors import EXIT_OK, DatasetError, ZfsError
from .events import Changed, Finished, Notice, Observer, Outcome, Status
from .holds import parse_tag
from .messages import CleanBuffer, Operation, Result
from .retention import Keep, outlived
from .source import Source, no_such_dataset
from .telling import told
from .thinning import destruction, doomed, held, thinned


async def clean_buffer(target: Endpoint, owner: str, observe: Observer) -> int:
    """Empty the target's buffer, as every push does at its end; the exit code."""
    where = str(target)
    outcomes: list[Outcome] = []
    with told(observe, (target.host.at(target.buffer), where), lambda: outcomes) as job:
        try:
            client, _ = await target.open()
            await client.lock(target.root, owner)
            results = await client.results(CleanBuffer())
            for result in results:
                if not result.name.startswith("/"):
                    what = "cleared up" if outcomes else "emptied"  # the last of all, or the only one
                    raise ZfsError(f"The buffer of {target} cannot be {what}: {result.message}.", result.code)
                status = Status.RENAMED if result.ok else Status.FAILED
                message = "" if result.ok else f"it stays in the buffer: {result.message}."
                outcomes.append(Outcome(result.name, where + result.name, status, code=result.code, message=message))
                observe(Finished(outcomes[-1]))
            job.ends(well=all(result.ok for result in results))
        finally:
            await target.close()
    return job.code


async def compare(first: Source, second: Source, recursive: bool, observe: Observer) -> int:
    """Compare the snapshots of two trees by GUID; the exit code, which is that of a failed dataset for a difference."""
    one, two = first.host.at(first.root), second.host.at(second.root)
    outcomes: list[Outcome] = []
    with told(observe, (one, two), lambda: outcomes) as job:
        try:
            here, there = await both(first.inventory(recursive), second.inventory(recursive))
            for row in compare_inventories(here, there, names=(one, two)):
                status = Status.EQUAL if row.equal else Status.DIFFERENT
                what = "" if row.newest is None else f"@{row.newest.name}"
                outcomes.append(Outcome(one + row.child, two + row.child, status, what=what, message=row.words))
                observe(Finished(outcomes[-1]))
            job.ends(well=all(outcome.status is Status.EQUAL for outcome in outcomes))
        finally:
            await asyncio.gather(first.close(), second.close())
    return job.code


async def show_holds(source: Endpoint, release: bool, observe: Observer) -> int:
    """Tell which runs hold snapshots of the source, and release those of runs that are gone; the exit code.

    It is that of a failed dataset when there are stale holds, and they are not released.
    """
    where = str(source)
    code = EXIT_OK
    try:
        client, _ = await source.open()
        if "" not in await source.inventory(client, False):
            raise no_such_dataset(source.root, source.host)
        names = [name[len(source.root) :] for name in held(await client.query("hold-counts", [""]))]
        rows = [line.split("\t") for line in (await client.query("holds", sorted(names)) if names else ())]
        tags = collections.Counter(row[1] for row in rows if len(row) > 1)
        ours = [(tag, text, count) for text, count in sorted(tags.items()) if (tag := parse_tag(text)) is not None]
        if not ours:
            observe(Notice(f"No snapshot of {where} is held by a run."))
        for tag, text, count in ours:
            (alive,) = await client.apply([Operation("alive", source.root, (tag.run,))])
            words = f"has {count} snapshots held for {tag.target} by run {tag.run}, which is "
            if alive.ok:
                observe(Changed(where, words + "at work"))
            elif not release:
                observe(Changed(where, words + "gone: --release-stale lets go of them"))
                code = DatasetError.exit_code
            else:
                (done,) = await client.apply([Operation("let-go", source.root, (text,))])
                observe(Changed(where, words + "gone: let go", problem=done.message))
                code = code if done.ok else DatasetError.exit_code
    finally:
        await source.close()
    return code


async def prune(
    target: Endpoint, keep: Keep, now: datetime, *, recursive: bool, dry_run: bool, owner: str, observe: Observer
) -> int:
    """Destroy the snapshots of a copy that ``keep`` does not keep, whatever its source has; the exit code.

    The newest of each dataset stays, from which the next stream goes on, and so does all of what was set aside.
    """

    def rule(_: str, snapshots: Sequence[Snapshot], stay: Collection[int]) -> tuple[Snapshot, ...]:
        return outlived(now, keep, snapshots, stay)

    try:
        client, _ = await target.open()
        if not dry_run:
            await client.lock(target.root, owner)
        there = await target.inventory(client, recursive)
        if "" not in there:
            raise no_such_dataset(target.root, target.host)
        stay = held(await client.query("hold-counts", [""]))
        copies = [(dataset, dataset.newest) for dataset in there.datasets.values() if not dataset.aside]
        names = [name for dataset, newest in copies if newest for name in doomed(dataset, rule, stay, {newest.guid})]
        results = [Result(True, name=name) for name in names]
        if not dry_run:
            results = await client.apply(destruction(names))
    finally:
        await target.close()
    failures = thinned(target.host, results, observe, planned=dry_run).failures
    if failures:
        more = f" So it is with {len(failures) - 1} more." if len(failures) > 1 else ""
        raise DatasetError(failures[0] + more)
    if not names:
        observe(Notice(f"All that there is of {target} is to be kept."))
    return EXIT_OK
