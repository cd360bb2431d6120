"""The error tree, and the exit code of each error.

::

    ZfsyncError               1   a defect: nothing below describes it
    ├── UsageError            2   the command line or the configuration is wrong
    ├── DatasetError          3   one dataset failed; the others go on
    ├── LockedError           4   another run is at work on the same target
    ├── ConnectError          5   the host cannot be reached, or the connection was lost: that may pass
    │   ├── HostKeyError      5   the host is not known by the key that it shows
    │   └── LoginError        5   the host does not let us in
    ├── AgentError            6   the agent cannot be started, or has gone
    │   ├── StalledError      6   it takes nothing any more, or gives nothing
    │   ├── SilenceError      6   one of the two sides has not heard the other for too long
    │   └── ProtocolError     6   a message that the protocol does not allow
    │       ├── LocalProtocolError    ... sent by our own side: a defect here
    │       └── RemoteProtocolError   ... received: a defect, or a hostile peer, there
    ├── ZfsError              7   ZFS refused, and the run cannot go on without it
    └── HookError             8   a hook of a job failed, or took too long

Also shipped to the far end: standard library only, Python >= 3.8.
"""

from __future__ import annotations

from typing import Tuple

EXIT_OK = 0
EXIT_INTERRUPTED = 130


class ZfsyncError(Exception):
    """The root of the tree. The message is one sentence for the user: what happened to what, and what to do."""

    exit_code = 1

    @property
    def problems(self) -> Tuple[str, ...]:
        """What it says, a sentence or more for each line."""
        return (str(self),)


class UsageError(ZfsyncError):
    """The command line or the configuration asks for something that cannot be."""

    exit_code = 2


class DatasetError(ZfsyncError):
    """One dataset could not be brought up to date, or a snapshot not be destroyed."""

    exit_code = 3


class LockedError(ZfsyncError):
    """Another run holds the lock of the same target."""

    exit_code = 4


class ConnectError(ZfsyncError):
    """No authenticated, trusted SSH connection could be made, or the one there was has gone."""

    exit_code = 5
    may_pass = True
    """Whether it is worth trying again after a while."""


class HostKeyError(ConnectError):
    """The host's key is not the one that is known, or none is known for it."""

    may_pass = False


class LoginError(ConnectError):
    """The host does not take the user's keys, or they cannot be read."""

    may_pass = False


class AgentError(ZfsyncError):
    """The agent could not be started at the far end, or its channel has gone."""

    exit_code = 6


class StalledError(AgentError):
    """A stream to an agent has stood still for too long, and the channel was given up with it."""


class SilenceError(AgentError):
    """The agent was not heard of for too long, or did not hear us: the machine or the way there is to blame."""


class ProtocolError(AgentError):
    """A message that the protocol does not allow at this point."""


class LocalProtocolError(ProtocolError):
    """Our own side tried to break the protocol: a defect in this program."""


class RemoteProtocolError(ProtocolError):
    """The other side broke the protocol."""


class ZfsError(ZfsyncError):
    """A `zfs` command that the whole run depends on was refused.

    ``code`` is what `zfsync_ssh.complaint.classify` makes of the reason.
    """

    exit_code = 7

    def __init__(self, message: str, code: str = "failed") -> None:
        super().__init__(message)
        self.code = code


class HookError(ZfsyncError):
    """A command that the user wants run at a certain point of a job did not do well."""

    exit_code = 8
