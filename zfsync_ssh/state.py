"""Where zfsync keeps what it has to remember, and how such a directory is made."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "ZFSYNC_STATE_DIR"
"""The environment variable that names another directory: tests have one of their own."""
_BASES = ("XDG_STATE_HOME", "XDG_CONFIG_HOME")


def state_directory() -> Path:
    """The directory of this account; it need not be there."""
    if named := os.environ.get(VARIABLE):
        return Path(named)
    if os.geteuid() == 0:
        return Path("/var/lib/zfsync")
    base = os.environ.get("XDG_STATE_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".local/state") / "zfsync"


def bases() -> dict[str, str]:
    """The variables that say where this account's files are, if they are set: neither cron nor systemd has them."""
    return {name: os.environ[name] for name in _BASES if os.environ.get(name, "").startswith("/")}


def make_private(directory: Path) -> None:
    """Make a directory, and those above it that are missing, for this account alone, whatever the umask. `OSError`.

    One that is there stays as it is: somebody may have wanted it so.
    """
    for path in (*reversed(directory.parents), directory):
        if not path.exists():
            try:
                path.mkdir(mode=0o700)
            except FileExistsError:  # another run was quicker
                continue
            path.chmod(0o700)
