"""One JSON object per line and event: for programs. The fields are those of the classes in `zfsync_ssh.events`."""

from __future__ import annotations

import dataclasses
import json
import re
import time
from typing import TextIO

from ..events import Event


class NdjsonConsole:
    """Writes events to ``out``, each with its name (``send-started``) and the time (seconds since 1970)."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def __call__(self, event: Event) -> None:
        """Write one event."""
        name = re.sub(r"(?<!^)(?=[A-Z])", "-", type(event).__name__).lower()
        record = {"event": name, "time": round(time.time(), 3), **dataclasses.asdict(event)}
        self._out.write(json.dumps(record) + "\n")
        self._out.flush()
