"""What `zfs` says on stderr when it refuses, and what that means. Pure.

Also shipped to the far end: standard library only, Python >= 3.8.
"""

from __future__ import annotations

import re
from typing import Dict, List, Sequence, Tuple

from .blame import Failed, dataset_of

_NEVER_RAN = (
    ("cannot run '", "no-zfs"),
    ("password is required", "permission"),
    ("a terminal is required", "permission"),
    ("not allowed to execute", "permission"),
    ("may not run sudo", "permission"),
    ("not in the sudoers", "permission"),
    ("utilities must be run as root", "permission"),
    ("/dev/zfs and /proc/self/mounts", "no-zfs"),
    ("ZFS modules", "no-zfs"),
    ("Failed to load zfs module", "no-zfs"),  # FreeBSD; openzfs: of the package
    ("Failed to load openzfs module", "no-zfs"),
)
_CODES = (
    *_NEVER_RAN,
    ("key is not loaded", "key"),
    ("permission denied", "permission"),
    ("Permission denied", "permission"),
    ("out of space", "no-space"),
    ("No space left", "no-space"),
    ("quota exceeded", "no-space"),
    ("has been modified", "modified"),
    ("does not match incremental source", "diverged"),
    ("must specify -F", "exists"),
    ("partially-complete state", "partial"),
    ("resume token is corrupt", "partial"),
    ("pool must be upgraded", "feature"),
    ("stream has unsupported feature", "newer"),
    ("invalid property '", "property"),
    ("' must be one of '", "property"),
    ("name too long", "name"),
    ("name is too long", "name"),
    ("suspended", "pool"),
    ("no such pool", "missing"),
    ("dataset does not exist", "missing"),
    ("unable to restore to destination", "missing"),
    ("is busy", "busy"),
    ("Device busy", "busy"),  # FreeBSD's strerror
    ("being held", "busy"),
    ("dependent clones", "busy"),
    ("filesystem has children", "busy"),
    ("no such tag", "missing"),
    ("parent does not exist", "missing"),
    ("' does not exist.", "missing"),
    ("already exists", "exists"),
    ("bookmark exists", "exists"),
    ("incomplete stream", "cut"),
    ("failed to read from stream", "cut"),
)


_UNQUOTED = "cannot destroy snapshot "
_UNSET = re.compile(r"cannot receive (\S+) property on .*: (.*)")


def unset(stderr: str) -> Dict[str, str]:
    """Which properties `zfs receive` could not set, and why: it goes on without them, and exits with 0."""
    return {found[1]: found[2] for found in map(_UNSET.fullmatch, stderr.splitlines()) if found}


def _why(stderr: str) -> str:
    """What `zfs` said, without the properties that it went on without, unless it said nothing else."""
    lines = [line for line in stderr.splitlines() if not _UNSET.fullmatch(line)]
    return "\n".join(lines) if any(line.strip() for line in lines) else stderr


def classify(stderr: str) -> str:
    """The machine's word for why `zfs` refused; ``failed`` when it is none that is known here."""
    said = " ".join(_why(stderr).split())  # zfs breaks its longer sentences into lines
    return next((code for text, code in _CODES if text in said), "failed")


def reason(stderr: str) -> str:
    """What `zfs` said, as the end of a sentence: its first paragraph on one line, without its advice."""
    lines = []
    for line in _why(stderr).splitlines():
        if line.startswith(("Partially received snapshot is saved", "usage:")):
            break
        if line.strip() and line.strip() not in lines:
            lines.append(line.strip())
    return " ".join(lines[:4]) or "it said nothing"


def meaning(stderr: str) -> Tuple[str, str]:
    """Both: its code, and the end of a sentence."""
    return classify(stderr), reason(stderr)


NOTHING_TO_DESTROY = "could not find any snapshots to destroy"
"""What `zfs destroy` says, as an error, when none of the snapshots is there."""


def blamed(names: Sequence[str], stderr: str) -> Dict[str, Failed]:
    """Those of ``names``, snapshots or bookmarks, that `zfs` complains of, or of whose dataset it does.

    All of them when it never came to the names: then it would be no use to try fewer.
    """
    if any(text in stderr for text, _ in _NEVER_RAN):
        return {name: Failed(name, *meaning(stderr)) for name in names}
    of: Dict[str, List[str]] = {}
    for name in names:
        of.setdefault(name, []).append(name)
        of.setdefault(dataset_of(name), []).append(name)
    found: Dict[str, Failed] = {}
    for line in stderr.splitlines():
        quoted = line.split("'")
        mentioned = quoted[1] if len(quoted) > 2 else ""
        if line.startswith(_UNQUOTED):  # cannot destroy snapshot p/a@1: it's being held. Run 'zfs holds …
            mentioned = line[len(_UNQUOTED) :].rpartition(": ")[0]
        for name in of.get(mentioned, ()):
            found.setdefault(name, Failed(name, classify(line), line.strip()))
    return found
