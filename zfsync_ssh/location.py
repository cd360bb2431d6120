"""Where a tree is, as the user names it, and what the user says of the way there. Pure."""

from __future__ import annotations

import contextlib
import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from .dataset import Host, check_name, child_of
from .errors import UsageError

_UNSAFE = re.compile(r"[\s\x00-\x1f\x7f'\"`$;&<>|(){}]")
"""In no name of a host or user, as OpenSSH has it since 9.6: ssh_config may put both into a command (ProxyCommand),
where a blank would make two words of one, and the second an option."""


class Location(NamedTuple):
    """``[[USER@]HOST:]DATASET``, taken apart. Without a host it is on this machine."""

    user: str | None
    host: str
    dataset: str

    @property
    def shown(self) -> str:
        """As the user names it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        who = f"{self.user}@" if self.user else ""
        return f"{who}{host}:{self.dataset}" if self.host else self.dataset


@dataclass(frozen=True, slots=True)
class Way:
    """The way to other hosts, and what runs there. What is None is as ssh, or the other host, has it."""

    port: int | None = None
    identity: Path | None = None
    ssh_config: Path | None = None
    remote_python: str | None = None
    sudo: bool = False
    job: str = ""
    """The job whose own key is used, where it has one and ``identity`` names no other."""


def place(location: Location) -> str:
    """A tree as the user names it, and as the history has it."""
    return Host(location.host).at(location.dataset)


def overlap(source: str, target: str) -> str:
    """Why of two trees of one machine the one cannot be the target of the other; empty when it can.

    With the source in its tree, zfsync would take the source's own datasets for copies that stand in a wrong place.
    """
    if child_of(source, target) is not None:
        return f"{target} is part of the source {source} itself: choose another"
    if child_of(target, source) is not None:
        return f"{target} has the source {source} in its own tree: choose another"
    return ""


def _meant(text: str) -> str:
    """How a place would be right that is written as a URL, as a path, or without its colon; empty for all others."""
    url = re.fullmatch(r"[a-z]+://([^/]+)/+(.*)", text)
    path = re.fullmatch(r"(|(?:[^/:@]+@)?(?:[^/:@\[\]]+|\[[^/\]]+\]):)/+(.*)", text)
    address = re.fullmatch(r"([^/@]+@)?([0-9]{1,3}(?:\.[0-9]{1,3}){3})/+(.*)", text)
    if url:
        return f"{url[1]}:{url[2]}"
    if address:
        return f"{address[1] or ''}{address[2]}:{address[3]}"
    return path[1] + path[2] if path and path[2] else ""


def parse_location(text: str) -> Location:
    """Take ``[[USER@]HOST:]DATASET`` apart; HOST may be an IPv6 address in brackets. `UsageError` for anything else.

    A colon before the first slash ends a host's name, as with scp.
    """
    if meant := _meant(text):
        raise UsageError(f"{text!r} is no place: give [USER@]HOST:DATASET without a slash in front, as in {meant}.")
    before = text.partition("/")[0]
    if ":" not in before and "[" not in before:
        return Location(None, "", check_name(text))
    user, at, where = text.partition("@")
    if not at or ":" in user or "/" in user:
        user, at, where = "", "", text
    if where.startswith("["):
        host, found, dataset = where[1:].partition("]:")
    else:
        host, found, dataset = where.partition(":")
    if found and host and not dataset:
        raise UsageError(f"{text!r} names no dataset: give one after {host}:, for example {host}:pool/data.")
    if not found or not host or (at and not user):
        raise UsageError(f"{text!r} is no place: give [USER@]HOST:DATASET, for example backup:pool/data.")
    with contextlib.suppress(ValueError):
        ipaddress.IPv6Address(where.rpartition(":")[0])
        raise UsageError(f"{text!r} is no place: put the IPv6 address in brackets, [ADDRESS]:DATASET.")
    if host.startswith("-") or user.startswith("-"):
        raise UsageError(f"{text!r} is no place: no host or user begins with '-'.")
    if _UNSAFE.search(host + user) or "\\" in host:
        raise UsageError(
            f"{text!r} is no place: no host or user has a blank, a quote or one of $;&<>|(){{}} in its name."
        )
    return Location(user or None, host, check_name(dataset))
