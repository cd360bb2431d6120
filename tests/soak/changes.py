"""What happens to a source between two runs of a soak: drawn from a seed, within bounds, so that the tree stays as
large as it is. Pure: the same seed and the same tree give the same change, so a soak can be played again.

A name is never used twice, but where two datasets swap theirs: what is gone at the source is not at once another.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from tests.faults.field import Look

MIN_DATASETS, MAX_DATASETS = 8, 12
MAX_VOLUMES = 2
MAX_DEPTH = 3
KEEP_SNAPSHOTS, MAX_SNAPSHOTS = 5, 8
"""A dataset with more snapshots than the second is pruned to as many as the first."""
VOLUME_BYTES = 2 << 20
MAX_WRITE_BYTES = 400 << 10
KEY = "/root/soak.key"
ENCRYPTION = ("-o", "encryption=on", "-o", "keyformat=raw", "-o", f"keylocation=file://{KEY}")
COMPRESSIONS = ("lz4", "zstd", "gzip", "off")
NOTE = "soak:note"

Step = tuple[str, ...]
"""``("zfs", WORD...)``, or ``("write", DATASET, BYTES, SEED)``; see `tests.soak.guest.hand`."""


@dataclass(frozen=True)
class Tree:
    """A source: by child, "" for its root, what it is. Origins are relative to the root as well."""

    root: str
    kinds: Mapping[str, str]
    origins: Mapping[str, str]
    snapshots: Mapping[str, tuple[str, ...]]
    """Of each child, oldest first."""
    swapped: frozenset[str] = frozenset()
    """Children whose copies, or what came from them, still stand where another dataset is now."""
    promotable: frozenset[str] = frozenset()
    """Clones that are clones in every copy too: others, once promoted, cannot always be followed."""

    @classmethod
    def of(cls, look: Look, root: str, target: Look | None = None, copies: Collection[str] = ()) -> Tree:
        """What was seen at the source."""
        at = len(root)
        own: dict[str, list[str]] = {name[at:]: [] for name in look.datasets}
        for name in look.snapshots:
            child, _, snapshot = name[at:].partition("@")
            own[child].append(snapshot)
        return cls(
            root,
            {name[at:]: row["type"] for name, row in look.datasets.items()},
            {name[at:]: row["origin"][at:] for name, row in look.datasets.items() if row["origin"] != "-"},
            {child: tuple(names) for child, names in own.items()},
            swapped(look, root, target, copies) if target else frozenset(),
            clones_everywhere(look, root, target, copies) if target else frozenset(),
        )

    def below(self, child: str) -> list[str]:
        """A child and all that is below it."""
        return [one for one in self.kinds if one == child or one.startswith(child + "/")]

    def free(self, child: str) -> list[str]:
        """Those of its snapshots that nothing is a clone of."""
        taken = set(self.origins.values())
        return [name for name in self.snapshots[child] if f"{child}@{name}" not in taken]

    def destroyable(self) -> list[str]:
        """Children that nothing elsewhere is a clone of, with what is below them."""
        return [child for child in self.kinds if child and self._is_destroyable(child)]

    def _is_destroyable(self, child: str) -> bool:
        own = set(self.below(child))
        origins = [(clone, origin.partition("@")[0]) for clone, origin in self.origins.items()]
        # `zfs destroy -r` destroys no clone of what it destroys either, not even one below it.
        return (
            len(self.kinds) - len(own) >= MIN_DATASETS
            and not any(of in own for _, of in origins)
            and not own & self.swapped
        )

    def parents(self) -> list[str]:
        """Where another dataset may be made."""
        return [
            child
            for child, kind in self.kinds.items()
            if kind == "filesystem" and child.count("/") < MAX_DEPTH and not is_encrypted(child)
        ]

    def pruned(self) -> tuple[Tree, list[Step]]:
        """Without the oldest snapshots of datasets that have too many; and what to do for that."""
        kept = dict(self.snapshots)
        steps: list[Step] = []
        for child, names in self.snapshots.items():
            surplus = self.free(child)[: len(names) - KEEP_SNAPSHOTS] if len(names) > MAX_SNAPSHOTS else []
            if surplus:
                steps.append(("zfs", "destroy", f"{self.root}{child}@{','.join(surplus)}"))
                kept[child] = tuple(name for name in names if name not in surplus)
        return replace(self, snapshots=kept), steps


def swapped(source: Look, root: str, target: Look, copies: Collection[str]) -> frozenset[str]:
    """Children that are not to be destroyed before all copies have followed: see docs/reliability-soak.md."""
    owners = {guid: name.partition("@")[0] for name, guid in source.snapshots.items()}
    held: dict[str, set[str]] = {}
    for name, guid in target.snapshots.items():
        held.setdefault(name.partition("@")[0], set()).add(owners.get(guid, ""))
    found: set[str] = set()
    for dataset, of in held.items():
        for copy in copies:
            place = root + dataset[len(copy) :]
            if not dataset.startswith(copy + "/") or place not in source.datasets:
                continue
            if of == {""}:  # only a bookmark tells now whose copy it is
                return frozenset(child[len(root) :] for child in source.datasets)
            found |= {owner[len(root) :] for owner in of - {"", place}}
    return frozenset(found)


def clones_everywhere(source: Look, root: str, target: Look, copies: Collection[str]) -> frozenset[str]:
    """Children that are clones, at the source and in each copy."""
    clones = [name[len(root) :] for name, row in source.datasets.items() if row["origin"] != "-"]
    there = {name for name, row in target.datasets.items() if row["origin"] != "-"}
    return frozenset(child for child in clones if all(copy + child in there for copy in copies))


def is_encrypted(child: str) -> bool:
    """Whether a dataset is one of those that are encrypted: told by its name."""
    return child.rpartition("/")[2].startswith("e")


def first(root: str) -> list[Step]:
    """The tree that a soak begins with."""
    children = ("/f-a", "/f-a/f-b", "/f-a/f-b/f-c", "/f-d", "/f-e", "/f-e/f-f")
    steps: list[Step] = [("zfs", "create", "-p", root)]
    steps += [("zfs", "create", root + child) for child in children]
    steps += [("zfs", "create", *ENCRYPTION, f"{root}/e-g"), ("zfs", "create", f"-V{VOLUME_BYTES}", f"{root}/v-h")]
    steps += [("write", root + child, "20000", child) for child in (*children, "/e-g", "/v-h")]
    return [*steps, ("zfs", "snapshot", "-r", f"{root}@s0")]


def draw(tree: Tree, seed: int, number: int) -> tuple[str, list[Step]]:
    """What happens before run ``number``: what it is called, and the steps of it."""
    chance = random.Random(f"{seed} {number}")
    tree, steps = tree.pruned()
    while True:
        (kind,) = chance.choices(list(KINDS), [weight for weight, _ in KINDS.values()])
        drawn = list(KINDS[kind][1](tree, chance, str(number)))
        if drawn or kind == "nothing":
            return kind, steps + drawn


def _write(tree: Tree, child: str, chance: random.Random) -> Step:
    most = VOLUME_BYTES // 8 if tree.kinds.get(child) == "volume" else MAX_WRITE_BYTES
    return ("write", tree.root + child, str(chance.randrange(1, most)), str(chance.randrange(1 << 30)))


def _some(tree: Tree, chance: random.Random) -> list[str]:
    return chance.sample(list(tree.kinds), chance.randint(1, 3))


def _data(tree: Tree, chance: random.Random, number: str) -> Iterator[Step]:
    for child in _some(tree, chance):
        yield _write(tree, child, chance)
        yield ("zfs", "snapshot", f"{tree.root}{child}@s{number}")


def _all(tree: Tree, chance: random.Random, number: str) -> Iterator[Step]:
    for count in range(chance.randint(1, 3)):
        for child in _some(tree, chance):
            yield _write(tree, child, chance)
        yield ("zfs", "snapshot", "-r", f"{tree.root}@s{number}-{count}")


def _unsaved(tree: Tree, chance: random.Random, _: str) -> Iterator[Step]:
    for child in _some(tree, chance):
        yield _write(tree, child, chance)


def _create(tree: Tree, chance: random.Random, number: str) -> Iterator[Step]:
    if len(tree.kinds) >= MAX_DATASETS:
        return
    volumes = sum(kind == "volume" for kind in tree.kinds.values())
    letter = chance.choice("fffffvve" if volumes < MAX_VOLUMES else "ffffe")
    options = {"f": (), "v": (f"-V{VOLUME_BYTES}",), "e": ENCRYPTION}[letter]
    child = f"{chance.choice(tree.parents())}/{letter}-{number}"
    yield ("zfs", "create", *options, tree.root + child)
    yield ("write", tree.root + child, str(chance.randrange(1, VOLUME_BYTES // 8)), number)
    if chance.random() < 0.8:
        yield ("zfs", "snapshot", f"{tree.root}{child}@s{number}")


def _destroy(tree: Tree, chance: random.Random, _: str) -> Iterator[Step]:
    if candidates := tree.destroyable():
        yield ("zfs", "destroy", "-r", tree.root + chance.choice(candidates))


def _rename(tree: Tree, chance: random.Random, number: str) -> Iterator[Step]:
    # ZFS moves no encrypted dataset away from the root whose key it has, as a clone's is.
    movable = [child for child in tree.kinds if child and not is_encrypted(child)]
    if not movable:
        return
    child = chance.choice(movable)
    height = max(one.count("/") for one in tree.below(child)) - child.count("/")
    fitting = [one for one in tree.parents() if one not in tree.below(child) and one.count("/") + height < MAX_DEPTH]
    name = f"{child.rpartition('/')[2].partition('-')[0]}-{number}"
    if fitting:  # what is below it may be so deep, of earlier renames, that it has room nowhere
        yield ("zfs", "rename", tree.root + child, f"{tree.root}{chance.choice(fitting)}/{name}")


def _swap(tree: Tree, chance: random.Random, number: str) -> Iterator[Step]:
    alike = [child for child in tree.kinds if child and tree.kinds[child] == "filesystem" and not is_encrypted(child)]
    one, other = chance.sample(alike, 2) if len(alike) > 1 else ("", "")
    if one in tree.below(other) or other in tree.below(one):
        return
    for old, new in ((one, f"/f-t{number}"), (other, one), (f"/f-t{number}", other)):
        yield ("zfs", "rename", tree.root + old, tree.root + new)


def _prune(tree: Tree, chance: random.Random, _: str) -> Iterator[Step]:
    for child in _some(tree, chance):
        if (free := tree.free(child)) and len(tree.snapshots[child]) > 1:
            yield ("zfs", "destroy", f"{tree.root}{child}@{chance.choice(free)}")


def _clone(tree: Tree, chance: random.Random, number: str) -> Iterator[Step]:
    filesystems = [c for c, kind in tree.kinds.items() if c and kind == "filesystem" and tree.snapshots[c]]
    if len(tree.kinds) >= MAX_DATASETS or not filesystems:
        return
    origin = chance.choice(filesystems)
    child = f"/{'e' if is_encrypted(origin) else 'c'}-{number}"
    yield ("zfs", "clone", f"{tree.root}{origin}@{chance.choice(tree.snapshots[origin])}", tree.root + child)
    yield _write(tree, child, chance)
    yield ("zfs", "snapshot", f"{tree.root}{child}@s{number}")


def _promote(tree: Tree, chance: random.Random, _: str) -> Iterator[Step]:
    if tree.promotable:
        yield ("zfs", "promote", tree.root + chance.choice(sorted(tree.promotable)))
        # An encrypted clone is an encryption root from then on, whose key ZFS does not think it has.
        yield ("zfs", "load-key", "-a")


def _property(tree: Tree, chance: random.Random, number: str) -> Iterator[Step]:
    for child in _some(tree, chance):
        value = chance.choice((f"{NOTE}={number}", f"compression={chance.choice(COMPRESSIONS)}"))
        yield ("zfs", "set", value, tree.root + child)
        yield ("zfs", "snapshot", f"{tree.root}{child}@s{number}")


def _nothing(_: Tree, __: random.Random, ___: str) -> Iterator[Step]:
    return iter(())


KINDS: dict[str, tuple[int, Callable[[Tree, random.Random, str], Iterator[Step]]]] = {
    "data and snapshots": (6, _data),
    "snapshots of all": (3, _all),
    "data alone": (1, _unsaved),
    "create": (3, _create),
    "destroy": (2, _destroy),
    "rename": (2, _rename),
    "swap": (1, _swap),
    "destroy snapshots": (3, _prune),
    "clone": (2, _clone),
    "promote": (1, _promote),
    "property": (2, _property),
    "nothing": (1, _nothing),
}
"""By name: how often, and what."""
