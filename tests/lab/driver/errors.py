"""What can go wrong in the lab, one class per way of handling it.

LabError                    one sentence for the user; the command line ends with its `exit_code`
├── NotBuilt                a build stage is missing: `tests/lab/lab build`
├── BuildFailed             a recipe ended with an error; the sentence names the log
├── Unusable                this machine cannot do it: not root, disk full, no such backend
├── NoSuchMachine           the run has no machine of that name
├── MachineGone             the machine is powered off, or died under a command
├── CommandFailed           a command on a machine ended with another code than 0
└── CommandTimedOut         a command on a machine did not end in time
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

MAX_SHOWN_CHARS = 2000


class LabError(Exception):
    """One sentence for the user."""

    exit_code = 1


class NotBuilt(LabError):
    exit_code = 3


class BuildFailed(LabError):
    exit_code = 4


class Unusable(LabError):
    exit_code = 5


class NoSuchMachine(LabError):
    exit_code = 6


class MachineGone(LabError):
    exit_code = 7


class CommandTimedOut(LabError):
    exit_code = 8


class CommandFailed(LabError):
    """A command on a machine ended with `returncode`; the message shows the end of what it wrote."""

    exit_code = 9

    def __init__(self, machine: str, argv: Sequence[str], *, returncode: int, stdout: str, stderr: str) -> None:
        self.argv = tuple(argv)
        self.returncode = returncode
        self.stdout = stdout
        self.stderr = stderr
        shown = (stderr.strip() or stdout.strip())[-MAX_SHOWN_CHARS:]
        super().__init__(f"{machine}: {shlex.join(argv)} ended with {returncode}: {shown}")
