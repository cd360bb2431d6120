"""Snapshots that are not to be kept: which a rule names, and what is told of their end."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from .advice import to_grant
from .dataset import Dataset, Host
from .delegation import Use
from .events import Changed, Observer
from .jobsteps import Pruned, Rule
from .listing import parse_numbers
from .messages import Operation, Result
from .prune import destroyed


def held(lines: Iterable[str]) -> frozenset[str]:
    """The full names of the snapshots that are held, out of the answer to ``hold-counts``."""
    return frozenset(name for name, count in parse_numbers(lines).items() if count)


def doomed(dataset: Dataset, rule: Rule, stay: Collection[str], common: Collection[int]) -> list[str]:
    """The full names of the snapshots of ``dataset`` that ``rule`` wants to go, without those that are `held`.

    ``stay`` are the full names of these, ``common`` the GUIDs of others that stay in any case.
    """
    spared = {one.guid for one in dataset.snapshots if f"{dataset.name}@{one.name}" in stay}
    return [f"{dataset.name}@{one.name}" for one in rule(dataset.name, dataset.snapshots, {*spared, *common})]


def destruction(names: Iterable[str]) -> list[Operation]:
    """What destroys these snapshots."""
    return [Operation("destroy-snapshot", name) for name in names]


def thinned(host: Host, results: Sequence[Result], observe: Observer, *, planned: bool = False) -> Pruned:
    """Tell what has gone, or would go, and what has not."""
    failures: list[str] = []
    for dataset, words, failed in destroyed(results):
        if words:
            observe(Changed(host.at(dataset), "loses snapshots that are not to be kept", loss=words, planned=planned))
        # One that was held meanwhile, or has clones, stays, as one that was held before does.
        for one in failed:
            if one.code != "busy":
                granted = to_grant(one.code, dataset, Use.PRUNE)
                why = f"{one.message}; {granted}" if granted else one.message
                failures.append(f"{host.at(one.name)} cannot be destroyed: {why}.")
    return Pruned(sum(result.ok for result in results), tuple(failures))
