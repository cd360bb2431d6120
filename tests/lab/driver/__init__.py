"""The driver of the lab: real machines with real pools, for the tests and for the command line.

lab = open_lab(run="sync-tests")
receiver = lab.up("receiver", disks=("1G",))
receiver.run(["zpool", "create", "tank", *receiver.disks])
lab.close()
"""

from .errors import (
    BuildFailed,
    CommandFailed,
    CommandTimedOut,
    LabError,
    MachineGone,
    NoSuchMachine,
    NotBuilt,
    Unusable,
)
from .lab import Lab, open_lab
from .machine import Machine

__all__ = [
    "BuildFailed",
    "CommandFailed",
    "CommandTimedOut",
    "Lab",
    "LabError",
    "Machine",
    "MachineGone",
    "NoSuchMachine",
    "NotBuilt",
    "Unusable",
    "open_lab",
]
