"""The trees that are sent: what there was when they were last copied, and what has happened to them since."""

from __future__ import annotations

from dataclasses import dataclass

from .field import DIRECTIONS, Field
from .guest.look import KEY

BIG_BYTES = "3M"


@dataclass(frozen=True)
class Scenario:
    """A tree below ``tank``: scripts that make it, change it after the first copy, and change the copy ``$copy``."""

    name: str
    make: str
    change: str
    change_copy: str = ""
    options: tuple[str, ...] = ()
    loses: bool = False
    """The options let the copy lose snapshots that the source no longer has."""


_PLAIN = Scenario(
    "plain",
    # The copy keeps @0, which the source has no longer.
    "made '' /a /a/b /c; fill /a 200k; zfs snapshot -r $tree@0; fill /c 50k; zfs snapshot -r $tree@1; "
    "fill /c 70k; zfs snapshot -r $tree@2",
    # New data over two snapshots; new datasets, of which the child is the largest of all and so goes to the buffer,
    # while its parent, which is large as well, is under way; one without a snapshot, whose child needs a placeholder.
    f"zfs destroy -r $tree@0; fill /a {BIG_BYTES}; fill /a/b 30k; made /n /n/m /p /p/q; fill /n {BIG_BYTES}; "
    "fill /n/m 4M; zfs snapshot -r $tree@3; zfs destroy $tree/p@3; fill /c 100k; fill /a 60k two; "
    "zfs snapshot -r $tree@4; zfs destroy $tree/p@4",
)
_MOVED = Scenario(
    "moved",
    "made '' /x /x/y /z /gone; fill /x 300k; fill /z 60k; zfs snapshot -r $tree@1; zfs snapshot -r $tree@2",
    # Renamed, moved below a new parent, cloned; and pruned.
    f"zfs rename $tree/x $tree/w; made /k; zfs rename $tree/z $tree/k/z; zfs clone $tree/w@1 $tree/cl; fill /cl 50k; "
    f"fill /k/z {BIG_BYTES}; zfs snapshot -r $tree@3; zfs destroy -r $tree@1,3% || true; zfs snapshot -r $tree@4",
    options=("--delete-snapshots",),
    loses=True,
)
_ASIDE = Scenario(
    "aside",
    "made '' /u /u/v /w; fill '' 60k; fill /u 300k; fill /w 60k; zfs snapshot -r $tree@1",
    f"fill '' 30k; fill /u {BIG_BYTES}; zfs snapshot -r $tree@2; fill /u/v 100k; zfs snapshot -r $tree@3",
    "zfs snapshot $copy@mine; zfs snapshot $copy/u@mine",
    options=("--on-divergence", "set-aside"),
)
_SEALED = Scenario(
    "sealed",
    # Encrypted at the source, and no key at the target: /e/p has no snapshot, so its copy is a placeholder; volumes.
    "made ''; sealed /e; made /e/k /e/p /e/p/c; sealed /r; made /r/k; fill /e/k 300k; fill /e/p/c 60k; fill /r 60k; "
    "volume /v; volume /e/v; pour /v 200k; pour /e/v 200k; zfs snapshot -r $tree@1; zfs destroy $tree/e/p@1",
    # The placeholder makes room for what is sealed, with its child in the buffer; /r is replaced, likewise.
    f"fill /e/k {BIG_BYTES}; fill /e/p 30k; fill /r/k 100k; made /e/n; fill /e/n 200k; pour /v 300k; pour /e/v 100k; "
    "zfs snapshot -r $tree@2; fill /e/k 60k two; zfs snapshot -r $tree@3",
    "zfs snapshot $copy/r@mine",
    options=("--on-divergence", "replace"),
    loses=True,
)
SCENARIOS = {scenario.name: scenario for scenario in (_PLAIN, _MOVED, _ASIDE, _SEALED)}

_WORDS = f"""
made() {{ for child; do zfs create $tree$child; echo "$child" > /$tree$child/name; done; }}
fill() {{ head -c $2 /dev/urandom > "/$tree$1/${{3:-file}}"; }}
sealed() {{ zfs create -o encryption=on -o keyformat=raw -o keylocation=file://{KEY} $tree$1; }}
volume() {{ zfs create -V 4M $tree$1; }}
pour() {{ head -c $2 /dev/urandom > $(python3 /root/faults/digest.py --device $tree$1); }}
"""


def _script(scenario: Scenario, body: str) -> str:
    return f"tree=tank/{scenario.name} copy=pool/keep/{scenario.name}\n{_WORDS}\n{body}"


def build(field: Field) -> None:
    """Make all trees at both machines, copy each of them both ways, and change them."""
    for scenario in SCENARIOS.values():
        field.both(lambda machine, one=scenario: machine.sh(_script(one, one.make)))  # type: ignore[misc]
        for direction in DIRECTIONS:
            field.direction, field.scenario = direction, scenario.name
            first = field.run()
            assert first.code == 0, first
        field.both(lambda machine, one=scenario: machine.sh(_script(one, one.change)))  # type: ignore[misc]
        field.both(lambda machine, one=scenario: machine.sh(_script(one, one.change_copy or ":")))  # type: ignore[misc]
    field.both(lambda machine: machine.sh("echo mine > /pool/other/file; zfs snapshot pool/other@mine"))
