"""Where an unattended job tells what it did: a file, syslog, whoever looks on; all of them or none.

The file is opened for each entry, so that it may be moved away at any time and a new one begun, as log rotation does.
It is made for its owner alone, for it names datasets and hosts; one that is there already keeps its mode.
"""

from __future__ import annotations

import os
import syslog
from collections.abc import Callable
from datetime import datetime
from pathlib import Path


class JobLog:
    """The log of one job. It never fails: what it could not write is in ``problems``, a sentence each."""

    def __init__(
        self,
        job: str,
        *,
        file: Path | None = None,
        to_syslog: bool = False,
        now: Callable[[], datetime],
        tell: Callable[[str], None] | None = None,
    ) -> None:
        self._job = job
        self._file = file
        self._to_syslog = to_syslog
        self._now = now
        self._tell = tell
        self.problems: list[str] = []

    def __call__(self, text: str, *, failed: bool = False) -> None:
        """Write an entry, which goes on one line whatever is in it."""
        text = "".join(char if char.isprintable() else " " for char in text)
        if self._to_syslog:
            syslog.openlog("zfsync", syslog.LOG_PID, syslog.LOG_DAEMON)
            syslog.syslog(syslog.LOG_ERR if failed else syslog.LOG_INFO, f"{self._job}: {text}")
        if self._tell is not None and not failed:  # what failed is told in the end
            self._tell(text)
        if self._file is not None and not self.problems:
            self._append(f"{self._now():%Y-%m-%d %H:%M:%S%z} {self._job}: {text}\n".encode())

    def _append(self, line: bytes) -> None:
        assert self._file is not None
        try:
            fd = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.write(fd, line)  # in one go: several jobs may have one file
            finally:
                os.close(fd)
        except OSError as error:
            self.problems.append(f"The log {self._file} cannot be written: {error.strerror}.")
