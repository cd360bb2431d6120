"""A job as a systemd service and the timer that starts it: the texts of both. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path

from .schedule import Schedule

_PLAIN = re.compile(r"[A-Za-z0-9_@+=:,./-]+")


def unit_names(job: str) -> tuple[str, str]:
    """The names of the service and of the timer."""
    return f"zfsync-{job}.service", f"zfsync-{job}.timer"


def job_of(timer: str) -> str:
    """The job whose timer has this name; empty for another timer."""
    name = timer.removeprefix("zfsync-").removesuffix(".timer")
    return name if unit_names(name)[1] == timer else ""


def when(timer: str) -> str:
    """The times at which a timer of this text starts its service."""
    key = "OnCalendar="
    return ", ".join(line.removeprefix(key) for line in timer.splitlines() if line.startswith(key))


def unit_directory(*, root: bool, home: Path) -> Path:
    """Where units are: the machine's for root, else the user's own, which `systemctl --user` knows."""
    return Path("/etc/systemd/system") if root else home / ".config/systemd/user"


def units(
    job: str, argv: Sequence[str], schedule: Schedule, *, jitter: timedelta = timedelta(0), user: bool = False
) -> Mapping[str, str]:
    """Both units, by the names of their files. ``user``: of a user's own manager, which knows no network target."""
    service, timer = unit_names(job)
    network = "" if user else "Wants=network-online.target\nAfter=network-online.target\n"
    calendar = "".join(f"OnCalendar={line}\n" for line in schedule.calendar())
    delay = f"RandomizedDelaySec={jitter.total_seconds():g}\n" if jitter else ""
    return {
        service: (
            f"# Made by 'zfsync cron install {job}'.\n"
            f"[Unit]\nDescription=zfsync job {job}\n{network}\n"
            f"[Service]\nType=oneshot\nExecStart={' '.join(map(_word, argv))}\n"
        ),
        timer: (
            f"# Made by 'zfsync cron install {job}'.\n"
            f"[Unit]\nDescription=When zfsync runs the job {job}\n\n"
            f"[Timer]\n{calendar}AccuracySec=1s\n{delay}Persistent=true\n\n"
            "[Install]\nWantedBy=timers.target\n"
        ),
    }


def _word(word: str) -> str:
    """One word of a command line, as systemd reads it: with ``%`` for specifiers and ``$`` for variables."""
    word = word.replace("%", "%%").replace("$", "$$")
    return word if _PLAIN.fullmatch(word) else '"' + word.replace("\\", r"\\").replace('"', r"\"") + '"'
