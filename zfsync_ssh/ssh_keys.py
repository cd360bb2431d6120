"""Keys, on asyncssh: those that are known of a host, and a job's own. Nothing is connected to: that is `transport`.

A key here is its type and base64, as in `zfsync_ssh.ssh_lines`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from .errors import UsageError
from .ssh_lines import host_entry, pinned

if TYPE_CHECKING:
    import asyncssh

_KNOWN_HOSTS = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2")
_SYSTEM_KNOWN_HOSTS = ("/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")


@dataclass(frozen=True, slots=True)
class HostKeys:
    """What is known of a host before it is connected to."""

    entry: str
    """Its name, as known_hosts has it."""
    pinned: tuple[str, ...]
    """In zfsync's own known_hosts. Where there is one, no other counts."""
    known: tuple[str, ...]
    """In the user's or the system's."""
    argument: Any
    """What asyncssh takes as known_hosts."""


def host_keys(configured: asyncssh.SSHClientConnectionOptions, pins: Path | None) -> HostKeys:
    """What is known of the host of ``configured``; ``pins`` is zfsync's own known_hosts."""
    import asyncssh

    # Read here, not by asyncssh: it trusts every host when a file is named "none", and leaves out the system's file.
    files = (
        *cast(list[str], configured.config.get("UserKnownHostsFile", list(_KNOWN_HOSTS))),
        *cast(list[str], configured.config.get("GlobalKnownHostsFile", list(_SYSTEM_KNOWN_HOSTS))),
    )
    texts = [path.read_text() for name in files if (path := Path(name).expanduser()).is_file()]
    everybody = asyncssh.import_known_hosts("\n".join(texts))
    name, port = configured.host_key_alias or configured.host, configured.port
    known, _, revoked, *_ = everybody.match(name, "", port if port != asyncssh.DEFAULT_PORT else None)
    entry = host_entry(name, port)
    own = pinned(pins.read_text(encoding="utf-8"), entry) if pins is not None and pins.is_file() else ()
    argument: Any = ([asyncssh.import_public_key(key) for key in own], [], revoked) if own else everybody
    return HostKeys(entry, own, tuple(map(plain, known)), argument)


def plain(key: asyncssh.SSHKey) -> str:
    """The type and base64 of a key's public half."""
    return " ".join(key.export_public_key().decode("ascii").split()[:2])


def new_key(comment: str) -> tuple[bytes, str]:
    """A new ed25519 key: the private one as OpenSSH writes it, and the public one."""
    import asyncssh

    key = asyncssh.generate_private_key("ssh-ed25519", comment=comment)
    return key.export_private_key(), plain(key)


def public_key(path: Path) -> str:
    """The public key of the private one in a file; `UsageError` when it cannot be read without a passphrase."""
    import asyncssh

    try:
        return plain(asyncssh.read_private_key(str(path)))
    except (OSError, ValueError) as error:  # asyncssh's own are ValueErrors
        raise UsageError(f"The key {path} cannot be used: {error}.") from error
