"""Which properties may be set on which type of dataset, and what a copy is given. Pure.

`zfs receive -o` with a property that is not legal for the type fails the whole receive. The lists are those of
OpenZFS's module/zcommon/zfs_prop.c.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from .dataset import FILESYSTEM, VOLUME
from .errors import UsageError
from .policy import Properties
from .zfs import MOUNT_PROPERTIES


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_FILESYSTEM_ONLY = _words(
    "aclinherit aclmode acltype atime canmount casesensitivity defaultgroupobjquota defaultgroupquota "
    "defaultprojectobjquota defaultprojectquota defaultuserobjquota defaultuserquota devices dnodesize "
    "exec filesystem_limit filesystem_count mountpoint nbmand normalization overlay quota recordsize "
    "refquota relatime setuid sharenfs sharesmb snapdir special_small_blocks utf8only version vscan xattr "
    "zoned jailed"
)
_VOLUME_ONLY = _words("volsize volblocksize volthreading")
_BORN_WITH = _words(
    "casesensitivity encryption encryptionroot keyformat keylocation keystatus normalization origin "
    "pbkdf2iters type utf8only version volblocksize volsize objsetid guid createtxg receive_resume_token"
)
"""What a stream brings by itself, or nobody can set."""


def check(properties: Properties) -> Properties:
    """Return ``properties`` if they make sense; `UsageError` if not."""
    for name in (*properties.preserve, *properties.exclude, *(name for name, _ in properties.set)):
        if not name or name.startswith("-") or set(name) & set("= ,@"):
            raise UsageError(f"{name!r} is not the name of a property.")
    for name, _ in properties.set:
        if name in _BORN_WITH:
            raise UsageError(f"The property {name} cannot be set on a copy: it comes with the stream.")
    return properties


def applies(name: str, kind: str) -> bool:
    """Whether a property can be set on a filesystem or volume."""
    return name not in _BORN_WITH and name not in (_VOLUME_ONLY if kind == FILESYSTEM else _FILESYSTEM_ONLY)


def for_copy(kind: str, own: Mapping[str, str], wanted: Properties) -> tuple[str, ...]:
    """``NAME=VALUE`` for a copy of a dataset whose own properties, those set at the source, are ``own``."""
    assert kind in (FILESYSTEM, VOLUME)
    chosen = {name: value for name, value in own.items() if _preserved(name, wanted)}
    chosen.update(wanted.set)
    return tuple(f"{name}={value}" for name, value in chosen.items() if applies(name, kind))


def _preserved(name: str, wanted: Properties) -> bool:
    if name in wanted.exclude or name.startswith("zfsync:"):
        return False
    return name in wanted.preserve or ("all" in wanted.preserve and name not in MOUNT_PROPERTIES)


def parse_listing(lines: Iterable[str]) -> dict[str, dict[str, str]]:
    """The output of `zfsync_ssh.zfs.list_own_properties`: properties by full name of the dataset."""
    found: dict[str, dict[str, str]] = {}
    for line in lines:
        name, _, rest = line.partition("\t")
        key, tab, value = rest.partition("\t")
        if tab:
            found.setdefault(name, {})[key] = value
    return found
