"""Lines of OpenSSH's files that zfsync writes: a pinned host key, and what ties a client's key to one tree. Pure.

A public key here is its type and its base64, ``ssh-ed25519 AAAA...``, without options or comment.
"""

from __future__ import annotations

import base64
import hashlib
import shlex
from dataclasses import dataclass

from .buffer import SUFFIX
from .errors import UsageError
from .floor import NO_FLOOR, Floor


def fingerprint(key: str) -> str:
    """As ``ssh-keygen -l`` shows it: ``SHA256:...``."""
    digest = hashlib.sha256(base64.b64decode(key.split()[1])).digest()
    return "SHA256:" + base64.b64encode(digest).decode("ascii").rstrip("=")


def kind_of(key: str) -> str:
    """The type of a key, as ``ssh-keygen -l`` calls it: ED25519, RSA, ECDSA."""
    name = key.split()[0].removeprefix("sk-").removeprefix("ssh-").partition("@")[0]
    return name.partition("-")[0].upper()


# ---- known_hosts -----------------------------------------------------------------------------------------------------


def host_entry(host: str, port: int) -> str:
    """What a host is called in known_hosts."""
    return host.lower() if port == 22 else f"[{host.lower()}]:{port}"


def pinned(text: str, entry: str) -> tuple[str, ...]:
    """The keys of a host in zfsync's own known_hosts, whose names are neither patterns nor hashed."""
    rows = (line.split() for line in text.splitlines() if not line.startswith("#"))
    return tuple(" ".join(row[1:3]) for row in rows if len(row) > 2 and row[0] == entry)


def with_pin(text: str, entry: str, key: str) -> str:
    """``text`` with one more key for the host."""
    if text and not text.endswith("\n"):
        text += "\n"
    return f"{text}{entry} {key}\n"


# ---- authorized_keys -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Served:
    """What the forced command of a key says: `zfsync serve` with these options. ``program`` is what runs it there."""

    root: str
    program: str = "zfsync"
    append_only: bool = False
    keep_at_least: Floor = NO_FLOOR
    read_only: bool = False
    sudo: bool = False

    @property
    def words(self) -> tuple[str, ...]:
        """The command."""
        words = [self.program, "serve", "--root", self.root]
        words += ["--append-only"] * self.append_only + ["--read-only"] * self.read_only
        words += ["--keep-at-least", str(self.keep_at_least)] if self.keep_at_least else []
        return (*words, *["--sudo"] * self.sudo)


def check_served(root: str) -> None:
    """`UsageError` when a key cannot be confined so."""
    if root.endswith(SUFFIX):
        raise UsageError(f"{root} is a buffer, and cannot be what a client is confined to: name its target.")


def authorized_line(key: str, comment: str, served: Served | None) -> str:
    """The line of authorized_keys for a client's key: tied to one tree, or for None without forwarding and terminal."""
    options = "restrict"
    if served is not None:
        # The account's login shell runs the command; between the quotes sshd itself knows only \" besides.
        command = shlex.join(served.words)
        if not command.isprintable():
            raise UsageError(f"{served.program!r} cannot be in a forced command: name a plain path.")
        options += ',command="{}"'.format(command.replace('"', '\\"'))
    return f"{options} {key} {comment}"
