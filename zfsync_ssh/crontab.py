"""Our lines in the user's crontab: each ends with ``# zfsync:JOB``, and no other line is ever touched.

The text is edited here and not by a library: python-crontab (3.4) writes every line anew, in its own spacing, and makes
comments of those that it does not know, such as FreeBSD's ``@every_minute``. Whether a line is right is for `crontab`
itself to say, which checks what it installs.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from .errors import UsageError
from .schedule import Schedule

_TIMEOUT_SECONDS = 30
_OURS = re.compile(
    r"[ \t]*(?P<when>@\w+|(?:[\w*/,~-]+[ \t]+){4}[\w*/,~-]+)[ \t]+(?P<command>.*\S)[ \t]+# zfsync:(?P<job>[\w.-]+)\s*",
    re.ASCII,
)
_NONE = (b"no crontab", b"No such file")
"""How `crontab -l` says that there is none yet: cron and cronie, busybox."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of ours."""

    job: str
    when: str
    command: str

    def __str__(self) -> str:
        return f"{self.when} {self.command} # zfsync:{self.job}"


def entry_for(job: str, schedule: Schedule, argv: Sequence[str]) -> Entry:
    """The line that runs ``argv``. To cron a ``%`` would be the end of the command."""
    command = shlex.join(argv)
    if not command.isprintable():
        raise UsageError(f"The command of {job} cannot be on one line of a crontab: {command!r}.")
    return Entry(job, str(schedule), command.replace("%", r"\%"))


# ---- the text, pure --------------------------------------------------------------------------------------------------


def entries(text: str) -> tuple[Entry, ...]:
    """Our lines in a crontab, in its order."""
    found = map(_OURS.fullmatch, text.split("\n"))
    return tuple(Entry(match["job"], match["when"], match["command"]) for match in found if match)


def with_entry(text: str, entry: Entry) -> str:
    """The crontab with this line: in the place of the one that the job had, else at the end."""
    lines, done = [], False
    for line in _lines(text):
        if not _is_of(line, entry.job):
            lines.append(line)
        elif not done:
            lines.append(f"{entry}\n")
            done = True
    if not done:
        if lines and not lines[-1].endswith("\n"):
            lines[-1] += "\n"
        lines.append(f"{entry}\n")
    return "".join(lines)


def without_entry(text: str, job: str) -> str:
    """The crontab without the lines of a job."""
    return "".join(line for line in _lines(text) if not _is_of(line, job))


def _lines(text: str) -> list[str]:
    """The lines with their ends, which are those of cron alone; joined they are the text."""
    return re.findall(r"[^\n]*\n|[^\n]+", text)


def _is_of(line: str, job: str) -> bool:
    found = _OURS.fullmatch(line.rstrip("\n"))
    return found is not None and found["job"] == job


# ---- the crontab itself ----------------------------------------------------------------------------------------------


class Crontab:
    """The crontab of the user who runs this, by the program `crontab`."""

    def __init__(self, command: Sequence[str] = ("crontab",)) -> None:
        self._command = tuple(command)

    def entries(self) -> tuple[Entry, ...]:
        """Our lines."""
        return entries(self._read())

    def install(self, entry: Entry) -> bool:
        """Put ``entry`` there; whether the job had a line before, which it takes the place of."""
        text = self._read()
        self._write(text, with_entry(text, entry))
        return any(found.job == entry.job for found in entries(text))

    def remove(self, job: str) -> bool:
        """Take the job's line away; whether there was one."""
        text = self._read()
        self._write(text, without_entry(text, job))
        return any(found.job == job for found in entries(text))

    def _read(self) -> str:
        done = self._run(("-l",))
        if done.returncode == 0:
            return done.stdout.decode("utf-8", "surrogateescape")  # others' lines come back as they were
        if any(words in done.stderr for words in _NONE):
            return ""
        # Never taken for an empty one: what is written next would be all that is left.
        raise UsageError(f"The crontab cannot be read: {_reason(done)}.")

    def _write(self, old: str, new: str) -> None:
        if new == old:
            return
        done = self._run(("-",), new.encode("utf-8", "surrogateescape"))
        if done.returncode:
            raise UsageError(f"The crontab was left as it is, for it cannot be written: {_reason(done)}.")
        if entries(self._read()) != entries(new):
            raise UsageError("The crontab was written, but reads otherwise: another program changed it too.")

    def _run(self, arguments: tuple[str, ...], data: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
        try:
            return subprocess.run(
                (*self._command, *arguments),
                input=data or b"",
                capture_output=True,
                check=False,
                timeout=_TIMEOUT_SECONDS,
                env={**os.environ, "LC_ALL": "C"},
            )
        except FileNotFoundError as error:
            raise UsageError(f"There is no {self._command[0]} here: install cron, or use a systemd timer.") from error
        except (OSError, subprocess.TimeoutExpired) as error:
            raise UsageError(f"{self._command[0]} cannot be run: {error}.") from error


def _reason(done: subprocess.CompletedProcess[bytes]) -> str:
    said = " ".join(done.stderr.decode("utf-8", "replace").split())
    return said.rstrip(".") or f"crontab ended with status {done.returncode}"
