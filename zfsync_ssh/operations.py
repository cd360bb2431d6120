"""What an agent does to a tree besides receiving: operations on datasets and snapshots, and emptying the buffer.

Also shipped to the far end: standard library only, Python >= 3.8.
"""

from __future__ import annotations

import re
from itertools import groupby
from typing import TYPE_CHECKING, Callable, Dict, Iterable, List, Optional, Sequence, Tuple

from . import complaint, zfs
from .blame import Failed
from .buffer import PATH_PROPERTY, rename_plan
from .dataset import MAX_ROLLED_BACK_CHARS, Inventory, child_of, parent_of
from .holds import lock_name, parse_tag, property_of
from .listing import InventoryParser, listing_problem, missing, parse_numbers
from .lock import Lock
from .messages import CleanBuffer, Operation, Result
from .process import Completed
from .tree import Tree

if TYPE_CHECKING:
    from .driver import Driver

Properties = Sequence[Tuple[str, str]]
Do = Callable[[Operation], Optional[Result]]


class Operations:
    """Carries out operations on one tree.

    =================  ==============================  ============================================
    verb               name, arguments                 what it does
    =================  ==============================  ============================================
    hold, release      snapshot, (tag)
    announce, forget   root, (tag)                     remembers that there are holds to let go of
    let-go             root, (tag)                     releases every hold of that tag in the tree
    alive              root, (run)                     fails when the run has gone that made holds
    bookmark           bookmark, (snapshot)
    unbookmark         bookmark
    snapshot           snapshot                        takes it: those that follow each other all or none
    destroy-snapshot   snapshot                        not one that is held or has clones
    ancestor           dataset above the root          makes it
    placeholder        dataset                         makes it: empty, for children alone
    buffer             the buffer                      makes it
    drop               dataset                         drops its partial receive
    vacate             dataset                         destroys an empty placeholder; not one that has children
    rename             dataset, (new name, kind)
    park               dataset, (place, kind, name)    renames it into the buffer, to be ``name`` one day
    aside              dataset, (new name, kind)       renames it, and marks it as set aside
    rollback           snapshot, (newest)              loses what is newer
    hollow             filesystem, (newest)            makes a placeholder of it: it loses its snapshots
    destroy            dataset, (newest)               with its snapshots; not one that has children
    promote            dataset
    mark               dataset, (time)                 marks it as gone at the source since then
    unmark             dataset
    inherit-key        dataset                         makes it part of its parent's encryption root
    =================  ==============================  ============================================

    The first ten are for a source as well, the others for a target. ``newest`` is the GUID of the dataset's newest
    snapshot, or empty: it is refused when that is another one now, for then something would be lost that nobody saw.
    """

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._driver: Optional[Driver] = None
        self._singly: Dict[str, Do] = {
            "announce": self._announce,
            "forget": self._forget,
            "let-go": self._let_go,
            "alive": self._alive,
        }
        if tree.buffer:
            self._singly.update(
                {
                    "ancestor": lambda one: self._create(one, [("canmount", "off")]),
                    "placeholder": self._placeholder,
                    "buffer": self._buffer,
                    "drop": lambda one: self._run(one, zfs.abort_receive(one.name)),
                    "vacate": self._vacate,
                    "rename": self._rename,
                    "park": self._park,
                    "aside": self._aside,
                    "rollback": self._rollback,
                    "hollow": self._hollow,
                    "destroy": self._destroy,
                    "promote": lambda one: self._run(one, zfs.promote(one.name)),
                    "mark": lambda one: self._set(one, [(zfs.GONE_PROPERTY, one.arguments[0])]),
                    "unmark": lambda one: self._run(one, zfs.inherit(zfs.GONE_PROPERTY, [one.name])),
                    "inherit-key": lambda one: self._run(one, zfs.inherit_key(one.name)),
                }
            )

    @property
    def driver(self) -> Driver:
        """What does many names at once."""
        if self._driver is None:
            from .driver import choose

            self._driver = choose(self._tree.command)
        return self._driver

    def apply(self, operations: Iterable[Operation]) -> List[Result]:
        """Carry out ``operations`` in order, those alike that follow each other at once; a result each."""
        results: List[Result] = []
        for (verb, arguments), group in groupby(operations, _kind):
            alike = [(operation, self._may(operation)) for operation in group]
            fit = [operation for operation, may in alike if may]
            failed = {one.name: one for one in self._at_once(verb, arguments, fit)} if verb in _AT_ONCE else {}
            for operation, may in alike:
                if not may:
                    message = "%s of %s is not for this agent" % (operation.verb, operation.name)
                    results.append(Result(False, "refused", message, operation.name))
                elif verb in _AT_ONCE:
                    why = failed.get(operation.name)
                    results.append(
                        Result(False, why.code, why.message, why.name) if why else Result(True, name=operation.name)
                    )
                else:
                    results.append(self._singly[verb](operation) or Result(True, name=operation.name))
        return results

    def _may(self, operation: Operation) -> bool:
        """Whether it is one for this tree, with as many arguments as it takes, and all that it names is in the tree."""
        verb, name, arguments = operation
        if len(arguments) != _ARGUMENTS.get(verb, -1) or not (verb in _AT_ONCE or verb in self._singly):
            return False
        if verb in ("hold", "release") and parse_tag(arguments[0]) is None:
            return False  # somebody else's hold
        if not _NAMED.get(verb, _DATASET).fullmatch(name):
            return False
        if verb == "bookmark" and not _NAMED["hold"].fullmatch(arguments[0]):
            return False
        if verb == "ancestor":
            return bool(child_of(name, self._tree.root))
        if verb == "alive":
            return name == self._tree.root and arguments[0].isalnum()
        if verb in ("announce", "forget", "let-go"):
            return name == self._tree.root and parse_tag(arguments[0]) is not None
        named = [name, *arguments[: _NAMES.get(verb, 0)]]
        return all(self._tree.has(one.partition("@")[0].partition("#")[0]) for one in named)

    def _at_once(self, verb: str, arguments: Tuple[str, ...], operations: List[Operation]) -> List[Failed]:
        names = [operation.name for operation in operations]
        if verb == "hold":
            return self.driver.hold(names, arguments[0])
        if verb == "release":
            return self.driver.release(names, arguments[0])
        if verb == "bookmark":
            return self.driver.bookmark([(operation.name, operation.arguments[0]) for operation in operations])
        if verb == "unbookmark":
            return self.driver.destroy_bookmarks(names)
        if verb == "snapshot":
            return self.driver.snapshot(names)
        return self.driver.destroy_snapshots(names)

    # -- one at a time: None when it is done --

    def _run(self, operation: Operation, *commands: Tuple[str, ...]) -> Optional[Result]:
        """Run one command after the other, until one fails."""
        for arguments in commands:
            done = self._tree.zfs(arguments)
            if done.status:
                return _refused(done, operation.name)
        return None

    def _set(self, operation: Operation, properties: Properties) -> Optional[Result]:
        return self._run(operation, zfs.set_properties(properties, [operation.name]))

    def _create(self, operation: Operation, properties: Properties) -> Optional[Result]:
        done = self._tree.zfs(zfs.create(operation.name, properties))
        return _refused(done, operation.name) if done.status and "dataset already exists" not in done.stderr else None

    def _placeholder(self, operation: Operation) -> Optional[Result]:
        properties = [("canmount", "off"), ("readonly", "on"), (zfs.PLACEHOLDER_PROPERTY, operation.name)]
        refused = self._create(operation, properties)
        if refused is None or refused.code != "key":
            return refused
        # Below a copy that came raw, and whose key was never here, nothing can be made that inherits its encryption.
        refused = self._create(operation, [("encryption", "off"), *properties])
        return refused or Result(True, "clear", "without encryption, since the key is not loaded there", operation.name)

    def _vacate(self, operation: Operation) -> Optional[Result]:
        if not self._tree.is_empty_placeholder(operation.name):
            return Result(False, "exists", "it is no longer zfsync's own empty placeholder", operation.name)
        own = [row[0] for row in self._tree.zfs(zfs.get_local(operation.name)).rows]
        others = [name for name in own if name not in _OF_PLACEHOLDERS and not name.startswith("zfsync:")]
        if others:
            return Result(False, "exists", "%s was set on it, and would go with it" % others[0], operation.name)
        return self._childless(operation) or self._run(operation, zfs.destroy_empty(operation.name))

    def _childless(self, operation: Operation) -> Optional[Result]:
        """None when nothing is below the dataset; else why it cannot go."""
        listed = self._tree.zfs(zfs.list_children(operation.name))
        if listed.status or listing_problem(0, listed.stderr):
            return _refused(listed, operation.name)
        return Result(False, "busy", "it has children", operation.name) if len(listed.lines) > 1 else None

    def _buffer(self, operation: Operation) -> Optional[Result]:
        # Told apart by the mark from a dataset of somebody else's that was named as the buffer: that one never goes.
        marked = [("canmount", "off"), ("readonly", "on"), (zfs.PLACEHOLDER_PROPERTY, operation.name)]
        refused = self._create(operation, [("mountpoint", "none"), *marked])
        # An account without root may well not set mountpoints, and is better not allowed to. What waits is mounted by
        # nobody all the same, unless it was received to be used (canmount=on) and the machine is started meanwhile.
        return self._create(operation, marked) if refused and refused.code == "permission" else refused

    def _rename(self, operation: Operation) -> Optional[Result]:
        done = self._run(operation, zfs.rename(operation.name, *operation.arguments))
        return done or self._mark_anew(operation.name, operation.arguments[0])

    def _mark_anew(self, old: str, name: str) -> Optional[Result]:
        """Let the mark of each placeholder that was renamed along, from ``old`` to ``name``, say what it is now."""
        for place, mark in self._tree.zfs(zfs.list_placeholders(name)).rows:
            if mark == old + place[len(name) :]:
                refused = self._set(Operation("", place), [(zfs.PLACEHOLDER_PROPERTY, place)])
                if refused is not None:
                    return refused
        return None

    def _move(self, name: str, to: str, kind: str, count: int) -> Optional[Result]:
        """Rename one of ``count`` datasets."""
        if count < _MANY_RENAMES:
            return self._run(Operation("rename", name), zfs.rename(name, to, kind))
        failed = self.driver.rename(name, to, kind)
        return Result(False, failed.code, failed.message, name) if failed else None

    def _park(self, operation: Operation) -> Optional[Result]:
        place, kind, name = operation.arguments
        mark = zfs.set_properties([(PATH_PROPERTY, name)], [operation.name])
        done = self._run(operation, mark, zfs.rename(operation.name, place, kind))
        return done or self._mark_anew(operation.name, place)

    def _aside(self, operation: Operation) -> Optional[Result]:
        name, kind = operation.arguments
        mark = zfs.set_properties([(zfs.ASIDE_PROPERTY, name), ("readonly", "on")], [operation.name])
        return self._run(operation, mark, zfs.rename(operation.name, name, kind))

    def _rollback(self, operation: Operation) -> Optional[Result]:
        dataset = operation.name.partition("@")[0]
        if len(dataset) > MAX_ROLLED_BACK_CHARS:
            why = "its name has %d characters, and ZFS rolls back %d at most" % (len(dataset), MAX_ROLLED_BACK_CHARS)
            return Result(False, "name", why, operation.name)
        rows = self._snapshots(dataset)
        return _unchanged(rows, operation) or self._run(operation, zfs.rollback(operation.name))

    def _hollow(self, operation: Operation) -> Optional[Result]:
        # Unmounted first, which can be refused; marked last, when nothing is in it any more.
        closed = [("canmount", "off"), ("readonly", "on")]
        mark = [(zfs.PLACEHOLDER_PROPERTY, operation.name)]
        return self._set(operation, closed) or self._without_snapshots(operation) or self._set(operation, mark)

    def _destroy(self, operation: Operation) -> Optional[Result]:
        refused = self._childless(operation)
        if refused is not None:
            return None if refused.code == "missing" else refused
        return self._without_snapshots(operation) or self._run(operation, zfs.destroy_empty(operation.name))

    def _without_snapshots(self, operation: Operation) -> Optional[Result]:
        """Destroy all snapshots of the dataset, or none when one is held or has clones."""
        rows = self._snapshots(operation.name)
        refused = _unchanged(rows, operation)
        if refused is not None:
            return refused
        for name, _, _, holds, clones in rows:  # they may be more than one command takes, and zfs looks at that alone
            if holds not in ("0", "-") or clones not in ("", "-"):
                why = "is held" if holds not in ("0", "-") else "has the clone %s" % clones
                return Result(False, "busy", "its snapshot @%s %s" % (name.partition("@")[2], why), operation.name)
        return self._run(operation, *(zfs.destroy_snapshots(batch) for batch in zfs.batches(row[0] for row in rows)))

    def _snapshots(self, dataset: str) -> List[List[str]]:
        """The rows of a dataset's own snapshots, oldest first."""
        return sorted(self._tree.zfs(zfs.list_snapshot_names(dataset)).rows, key=lambda row: int(row[2]))

    def _announce(self, operation: Operation) -> Optional[Result]:
        return None if self.driver.temporary_holds else self._set(operation, [_announcement(operation)])

    def _forget(self, operation: Operation) -> Optional[Result]:
        if self.driver.temporary_holds:
            return None
        return self._run(operation, zfs.inherit(_announcement(operation)[0], [operation.name]))

    def _let_go(self, operation: Operation) -> Optional[Result]:
        tag = operation.arguments[0]
        held = parse_numbers(self._tree.zfs(zfs.list_all_holds(operation.name)).lines)
        names: List[str] = []
        for batch in zfs.batches(name for name, count in held.items() if count):
            names += [row[0] for row in self._tree.zfs(zfs.holds_of(batch)).rows if len(row) > 1 and row[1] == tag]
        failed = [one for one in self.driver.release(names, tag) if one.code != "missing"]
        if failed:
            return Result(False, failed[0].code, failed[0].message, failed[0].name)
        return self._run(operation, zfs.inherit(_announcement(operation)[0], [operation.name]))

    def _alive(self, operation: Operation) -> Optional[Result]:
        lock = Lock(lock_name(operation.arguments[0]))
        if lock.acquire("") is not None:
            return None
        lock.release()
        return Result(False, "gone", "it has gone", operation.name)

    # -- the buffer --

    def clean_buffer(self, message: CleanBuffer) -> List[Result]:
        """Rename what waits, parents first; a result each, named by its child. Then the buffer goes, if empty.

        A result with the buffer's name says why it, or a mark, is left all the same.
        """
        target = self._tree
        listed = target.zfs(zfs.list_datasets(target.roots))
        problem = listing_problem(listed.status, listed.stderr)
        if problem:
            return [Result(False, *complaint.meaning(problem), target.buffer)]
        if {target.root, target.buffer} <= set(missing(listed.stderr)):
            return [Result(False, "missing", "there is neither the target nor its buffer", target.buffer)]
        parser = InventoryParser(target.root, target.buffer)
        for line in listed.lines:
            parser.feed(line)
        partial = [row[0] for row in listed.rows if row[_TOKEN] != "-"]
        for names in zfs.batches(partial):  # one that has a snapshot is whole all the same
            for line in target.zfs(zfs.list_snapshots(names, False)).lines:
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
        marked = [row[0] for row in listed.rows if row[_PLACEHOLDER] not in ("-", target.buffer)]
        for move in moves:
            destination = target.root + move.child
            if move.source:
                failed = self._move(move.source, destination, inventory.buffered[move.child].kind, len(moves))
                if failed is None and any(child_of(move.source, name) is not None for name in marked):
                    failed = self._mark_anew(move.source, destination)
                moved += [] if failed else [destination]
            else:
                failed = self._placeholder(Operation("placeholder", destination))
            if failed or move.source:
                along = [child for child, one in inventory.buffered.items() if one.name.startswith(move.source + "/")]
                results += [(failed or Result(True))._replace(name=child) for child in (move.child, *along)]
        last = [zfs.inherit(PATH_PROPERTY, names) for names in zfs.batches(moved + _marked_in_place(inventory))]
        if inventory.buffer is not None and inventory.buffer.placeholder and all(result.ok for result in results):
            last.append(zfs.destroy_empty(target.buffer))
        # In this order, until one fails: the buffer is what has the next run look for marks that were left.
        left = self._run(Operation("", target.buffer), *last)
        # It may well not be empty: what waits for another target, and what is somebody else's, stays.
        return results if left is None or left.code == "busy" else [*results, left]


def _marked_in_place(inventory: Inventory) -> List[str]:
    """Datasets that are not in the buffer and have its mark: a run was cut off between the mark and a rename."""
    return [
        dataset.name
        for child, dataset in inventory.datasets.items()
        # What lies below inherits it, and has nothing of its own to be taken away.
        if dataset.path and (not child or _path_of(inventory, parent_of(child)) != dataset.path)
    ]


def _path_of(inventory: Inventory, child: Optional[str]) -> str:
    above = inventory.datasets.get(child) if child is not None else None
    return above.path if above is not None else ""


_OF_PLACEHOLDERS = ("canmount", "readonly", "mountpoint", "encryption")
"""Properties that we set on them ourselves, beside our own."""

_MANY_RENAMES = 10
"""From so many on, the driver does them: loading the library takes as long as some commands (docs/libzfs.md)."""

_AT_ONCE = ("hold", "release", "bookmark", "unbookmark", "snapshot", "destroy-snapshot")
"""Verbs that the driver does for many names at once."""

_ARGUMENTS = {
    "hold": 1, "release": 1, "announce": 1, "forget": 1, "let-go": 1, "alive": 1, "bookmark": 1, "unbookmark": 0,
    "snapshot": 0, "destroy-snapshot": 0, "ancestor": 0, "placeholder": 0, "buffer": 0, "drop": 0, "vacate": 0,
    "rename": 2, "park": 3, "aside": 2, "rollback": 1, "hollow": 1, "destroy": 1, "promote": 0, "mark": 1, "unmark": 0,
    "inherit-key": 0,
}  # fmt: skip
"""How many arguments each takes."""

_DATASET = re.compile("[^@#%,]+")
_SNAPSHOT = re.compile("[^@#%,]+@[^@#%,]+")
_BOOKMARK = re.compile("[^@#%,]+#[^@#%,]+")
_NAMED = {
    "hold": _SNAPSHOT, "release": _SNAPSHOT, "snapshot": _SNAPSHOT, "destroy-snapshot": _SNAPSHOT,
    "rollback": _SNAPSHOT, "bookmark": _BOOKMARK, "unbookmark": _BOOKMARK,
}  # fmt: skip
"""What each names; all others a dataset."""

_TOKEN = zfs.DATASET_COLUMNS.index("receive_resume_token")
_PLACEHOLDER = zfs.DATASET_COLUMNS.index(zfs.PLACEHOLDER_PROPERTY)
_NAMES = {"bookmark": 1, "rename": 1, "park": 1, "aside": 1}
"""How many of the first arguments are names in the tree."""


def _kind(operation: Operation) -> Tuple[str, Tuple[str, ...]]:
    """What operations have in common that are done at once: for holds the tag as well."""
    return operation.verb, operation.arguments if operation.verb in ("hold", "release") else ()


def _announcement(operation: Operation) -> Tuple[str, str]:
    """The property that tells of a run's holds, and its value."""
    tag = parse_tag(operation.arguments[0])
    assert tag is not None  # or it had not been allowed
    return property_of(tag.target), operation.arguments[0]


def _unchanged(rows: List[List[str]], operation: Operation) -> Optional[Result]:
    """Why not, when the newest of the snapshots ``rows`` is not the one that the operation expects."""
    newest = rows[-1][1] if rows else ""
    if newest == operation.arguments[0]:
        return None
    return Result(
        False, "modified", "its newest snapshot is not the one that was there when it was listed", operation.name
    )


def _refused(done: Completed, name: str) -> Result:
    return Result(False, *complaint.meaning(done.stderr), name)
