"""Whether a plan can succeed at the target, as far as that is known before the first byte is sent. Pure.

Room, as the estimates have it; features that the streams need; and whether the encryption of what is there is that of
what is sent. What cannot succeed becomes a problem of its item; a pool that has not room for it all ends the run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from .dataset import Host, Inventory, parent_of
from .decision import INCREMENTAL
from .errors import ZfsError
from .item import Item
from .plan import Plan

_NEEDED = {"L": "large_blocks", "e": "embedded_data", "c": "lz4_compress"}
"""The pool's feature behind each flag of `zfs send`."""


def parse_features(lines: Iterable[str]) -> dict[str, bool]:
    """The output of `zpool get`: whether a pool can use each feature. Empty when it could not be asked."""
    rows = (line.split("\t") for line in lines if line.startswith("feature@"))
    return {row[0].removeprefix("feature@"): row[1] != "disabled" for row in rows if len(row) > 1}


Traits = Mapping[str, Mapping[str, str]]
"""What `zfsync_ssh.zfs.list_traits` tells of the source's datasets: properties by full name."""


def with_features(plan: Plan, features: Mapping[str, bool], host: Host, traits: Traits) -> Plan:
    """The plan for a target pool that has these features: without flags that it does not take."""
    if not features:
        return plan
    return replace(
        plan, items=tuple(_featured(item, features, host, traits.get(item.source.name, {})) for item in plan.items)
    )


def _featured(item: Item, features: Mapping[str, bool], host: Host, traits: Mapping[str, str]) -> Item:
    if not item.steps:
        return item
    pool = f"The pool of {host.at(item.target)}"
    if item.raw and not features.get("encryption"):
        problem = f"{pool} has no encryption: 'zpool upgrade' there, or send with --no-raw."
        return replace(item, steps=(), problem=problem, code="feature", estimate=0)
    flags = item.flags
    if not item.state.newest:
        flags = "".join(flag for flag in flags if features.get(_NEEDED[flag]))
    lacking = [] if traits.get("dnodesize", "-") in ("-", "legacy") else ["large_dnode"]
    if traits.get("compression", "").startswith("zstd") and not features.get("zstd_compress"):
        if item.raw or item.state.newest:
            lacking += ["zstd_compress"] if item.raw or "c" in flags else []
        else:
            flags = flags.replace("c", "")  # the target compresses in its own way
    missing = [feature for feature in lacking if not features.get(feature)]
    if missing:
        problem = f"{pool} has no {missing[0]}, which {item.source.name} needs: 'zpool upgrade' there enables it."
        return replace(item, steps=(), problem=problem, code="feature", estimate=0)
    return replace(item, flags=flags)


def with_lineage(plan: Plan, here: Mapping[str, int], there: Mapping[str, int], host: Host) -> Plan:
    """The plan, checked against the IV sets of each base, by the full name of the base at the source and at the target.

    A snapshot that was received raw has the IV set of its source, one that was encrypted anew has another, and neither
    takes a stream of the other kind, though the GUIDs are the same.
    """
    return replace(plan, items=tuple(_of_one_lineage(item, here, there, host) for item in plan.items))


def lineage_questions(plan: Plan) -> list[tuple[str, str]]:
    """The bases whose IV sets are compared: full names at the source and, relative to its root, at the target."""
    return [bases for item in plan.items if (bases := _bases(item)) is not None]


def _bases(item: Item) -> tuple[str, str] | None:
    first = item.steps[0] if item.steps else None
    if first is None or not item.source.encrypted or item.decision is None or item.decision.kind != INCREMENTAL:
        return None
    if item.place != item.target or not item.newest_there:
        return None
    return item.source.name + first.base, f"{item.child}@{item.newest_there}"


def _of_one_lineage(item: Item, here: Mapping[str, int], there: Mapping[str, int], host: Host) -> Item:
    bases = _bases(item)
    if bases is None or bases[0] not in here or f"{item.place}@{item.newest_there}" not in there:
        return item
    same = here[bases[0]] == there[f"{item.place}@{item.newest_there}"]
    name = host.at(item.place)
    if item.raw and not same:
        problem = (
            f"{name} has the snapshot @{item.newest_there} of {item.source.name}, but encrypted anew (its IV set is "
            f"another), so no raw stream can follow: go on with --no-raw, or rename it there and send it afresh."
        )
    elif not item.raw and same:
        problem = f"{name} was received raw: leave out --no-raw, or rename it there and send it afresh."
    else:
        return item
    return replace(item, steps=(), problem=problem, code="encryption", estimate=0)


def with_room(plan: Plan, target: Inventory, host: Host) -> Plan:
    """The plan, whose items have room below every quota at the target; `ZfsError` when the whole has not."""
    wanted: dict[str, int] = {}
    for item in plan.items:
        above: str | None = item.child
        while above is not None:
            wanted[above] = wanted.get(above, 0) + item.estimate
            above = parent_of(above)
    room = target.datasets[""].available if "" in target else target.available
    if room and wanted.get("", 0) > room:
        raise ZfsError(
            f"{host.at(target.root)} has room for {room:,} bytes, and about {wanted['']:,} are to be sent: free space "
            f"there, raise the quota, or choose less; --skip-preflight tries all the same.",
            "no-space",
        )
    full = {
        child: dataset.available
        for child, dataset in target.datasets.items()
        if wanted.get(child, 0) > dataset.available > 0
    }
    return replace(plan, items=tuple(_with_room(item, full, wanted, target, host) for item in plan.items))


def _with_room(item: Item, full: Mapping[str, int], wanted: Mapping[str, int], target: Inventory, host: Host) -> Item:
    above: str | None = item.child
    while above is not None and item.estimate:
        if above in full:
            problem = (
                f"{host.at(target.root + above)} has room for {full[above]:,} bytes, and about {wanted[above]:,} are "
                f"to be sent to it and below: raise its quota there; --skip-preflight tries all the same."
            )
            return replace(item, steps=(), problem=problem, code="no-space", estimate=0)
        above = parent_of(above)
    return item
