"""What an agent does to a tree besides receiving: single operations, and emptying the buffer.

Also shipped to the far end: standard library only, Python >= 3.8.
"""

from __future__ import annotations

from typing import List

from . import zfs
from .buffer import PATH_PROPERTY, rename_plan
from .dataset import child_of
from .listing import InventoryParser, listing_problem, missing
from .messages import CleanBuffer, Operation, Result
from .tree import Tree


def apply(target: Tree, operation: Operation) -> Result:
    """Carry out one operation on ``target``, if it is one that may be asked for there."""
    name = operation.name
    if operation.verb == "ancestor" and child_of(name, target.root):
        properties = [("canmount", "off")]
    elif operation.verb == "placeholder" and child_of(target.root, name) is not None:
        properties = [("canmount", "off"), ("readonly", "on"), (zfs.PLACEHOLDER_PROPERTY, name)]
    elif operation.verb == "drop" and (child_of(target.root, name) is not None or child_of(target.buffer, name)):
        dropped = target.zfs(zfs.abort_receive(name))
        if dropped.status:
            return Result(False, zfs.classify(dropped.stderr), zfs.reason(dropped.stderr), name)
        return Result(True, name=name)
    elif operation.verb == "buffer" and name == target.buffer:
        # Told apart by this from a dataset of somebody else's that was named as the buffer: that one never goes.
        properties = [("canmount", "off"), ("mountpoint", "none"), ("readonly", "on")]
        properties.append((zfs.PLACEHOLDER_PROPERTY, name))
    else:
        return Result(False, "refused", "%s of %s is not for this agent" % (operation.verb, name), name)
    done = target.zfs(zfs.create(name, properties))
    if done.status and "dataset already exists" not in done.stderr:
        return Result(False, zfs.classify(done.stderr), zfs.reason(done.stderr), name)
    return Result(True, name=name)


def clean_buffer(target: Tree, message: CleanBuffer) -> List[Result]:
    """Rename what waits, parents first; one result for each, named by its child. Then the buffer goes, if empty."""
    listed = target.zfs(zfs.list_datasets(target.roots))
    problem = listing_problem(listed.status, listed.stderr)
    if problem:
        return [Result(False, zfs.classify(problem), zfs.reason(problem), target.buffer)]
    if {target.root, target.buffer} <= set(missing(listed.stderr)):
        return [Result(False, "missing", "there is neither the target nor its buffer", target.buffer)]
    parser = InventoryParser(target.root, target.buffer)
    for line in listed.stdout.splitlines():
        parser.feed(line)
    partial = [line.split("\t")[0] for line in listed.stdout.splitlines() if line.split("\t")[4] != "-"]
    for names in zfs.batches(partial):  # one that has a snapshot is whole all the same
        for line in target.zfs(zfs.list_snapshots(names, False)).stdout.splitlines():
            parser.feed(line)
    inventory = parser.finish()
    results = []
    waiting = {}
    for child, dataset in inventory.buffered.items():
        if not dataset.complete:
            results.append(Result(False, "partial", "its receive is not finished", child))
        else:
            waiting[child] = dataset.name
    present = [child for child, dataset in inventory.datasets.items() if dataset.complete]
    moves, stuck = rename_plan(target.root, waiting, present, message.placeholders)
    results += [Result(False, "stuck", why.reason, why.child) for why in stuck]
    moved: List[str] = []
    for move in moves:
        destination = target.root + move.child
        if not move.source:
            made = apply(target, Operation("placeholder", destination))
            if not made.ok:
                results.append(made._replace(name=move.child))
            continue
        done = target.zfs(zfs.rename(move.source, destination, inventory.buffered[move.child].kind))
        if done.status:
            results.append(Result(False, zfs.classify(done.stderr), zfs.reason(done.stderr), move.child))
        else:
            moved.append(destination)
            results.append(Result(True, name=move.child))
    for names in zfs.batches(moved):
        target.zfs(zfs.inherit(PATH_PROPERTY, names))
    if inventory.buffer is not None and inventory.buffer.placeholder and all(result.ok for result in results):
        target.zfs(zfs.destroy_empty(target.buffer))
    return results
