"""Where zfsync keeps what it has to remember."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "ZFSYNC_STATE_DIR"
"""The environment variable that names another directory: tests have one of their own."""


def state_directory() -> Path:
    """The directory of this account; it need not be there."""
    if named := os.environ.get(VARIABLE):
        return Path(named)
    if os.geteuid() == 0:
        return Path("/var/lib/zfsync")
    base = os.environ.get("XDG_STATE_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".local/state") / "zfsync"
