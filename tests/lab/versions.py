"""What a result that is written down was measured with: the day, the commit, and the versions on a machine."""

from __future__ import annotations

import datetime
import subprocess

from tests.lab.driver import Lab, Machine
from tests.lab.driver.lab import CHECKOUT


def title_of(lab: Lab, machine: Machine, seed: int | None = None) -> str:
    """One sentence, to stand above a table."""
    commit = subprocess.run(["git", "-C", CHECKOUT, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    script = "uname -r; zfs version | tail -1; python3 -V; ssh -V 2>&1 | cut -d' ' -f1"
    kernel, zfs, python, ssh = machine.sh(script).stdout.splitlines()
    drawn = "" if seed is None else f", seed {seed}"
    return (
        f"{datetime.date.today()}, commit {commit.stdout.strip()}{drawn}; both machines Linux {kernel} "
        f"({lab.backend_name}), {zfs}, {python}, {ssh}."
    )
