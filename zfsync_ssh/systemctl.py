"""Runs systemctl and loginctl: about the machine's manager for root, else about the user's own."""

from __future__ import annotations

import subprocess

from .errors import UsageError


def systemctl(*words: str, user: bool) -> None:
    """Have systemd do something; `UsageError` when it does not."""
    done = _run("systemctl", *["--user"] * user, *words)
    if done.returncode:
        raise UsageError(f"'systemctl {' '.join(words)}' failed: {_said(done.stderr)}.")


def not_enabled(unit: str, *, user: bool) -> str:
    """What systemd says of a unit that it would not start by itself, such as ``disabled``; empty when it would."""
    done = _run("systemctl", *["--user"] * user, "is-enabled", unit)
    return (_said(done.stdout) or _said(done.stderr) or "nothing") if done.returncode else ""


def lingers(uid: int) -> bool:
    """Whether a user's manager runs while the user is not logged in. Of one who is not, nothing is known otherwise."""
    return _said(_run("loginctl", "show-user", str(uid), "-p", "Linger").stdout) == "Linger=yes"


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise UsageError(f"{command[0]} cannot be run: {error.strerror}.") from error


def _said(text: str) -> str:
    return " ".join(text.split()).rstrip(".")
