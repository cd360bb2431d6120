"""Runs a hook: a command of the user's at a certain point of a job, with a time limit.

A hook has a session of its own, so that it can be ended with all that it started, but for what has begun another
session, as daemons do. What it leaves running when it ends in time stays.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from .config import Hooks
from .errors import HookError
from .units import span_words

MAX_OUTPUT_BYTES = 4096
"""How much of a hook's output is kept, from its end: the reason of a failure is there."""
_DRAINS = 32
"""Reads of 64 KiB at the end: more than a pipe holds, and an end all the same when something goes on writing."""
_GRACE_SECONDS = 5.0
"""How long what was told to end may take to do so before it is killed."""


@dataclass(frozen=True, slots=True)
class Point:
    """What a hook is told of where the job is, in its environment."""

    job: str
    hook: str
    source: str
    target: str = ""
    """The one that is pushed to; of several, for hooks about none of them, all, with spaces between."""
    snapshot: str = ""
    """The name that is being taken, or was, after the ``@``."""
    exit_code: int | None = None
    message: str = ""

    def environment(self) -> dict[str, str]:
        """The variables. Those about which nothing is known are empty."""
        return {
            "ZFSYNC_JOB": self.job,
            "ZFSYNC_HOOK": self.hook,
            "ZFSYNC_SOURCE": self.source,
            "ZFSYNC_TARGET": self.target,
            "ZFSYNC_SNAPSHOT": self.snapshot,
            "ZFSYNC_EXIT_CODE": "" if self.exit_code is None else str(self.exit_code),
            "ZFSYNC_MESSAGE": self.message.replace("\0", " "),
        }


async def run_hook(hooks: Hooks, point: Point, environment: Mapping[str, str] | None = None) -> str:
    """Run the command for this point, if there is one; the end of what it printed.

    `HookError` when it fails, cannot be started, or takes longer than it may.
    """
    command = hooks.commands.get(point.hook)
    if command is None:
        return ""
    name = f"The hook {point.hook} of job {point.job}, {shlex.join(command)!r},"
    env = {**(os.environ if environment is None else environment), **point.environment()}
    with _Output() as output:
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output.writer,
                stderr=output.writer,
                env=env,
                start_new_session=True,
            )
        except OSError as error:
            raise HookError(f"{name} cannot be run: {error.strerror}.") from error
        try:
            async with asyncio.timeout(hooks.timeout.total_seconds()):
                status = await process.wait()
        except TimeoutError as error:
            limit = _limit(hooks.timeout)
            raise HookError(f"{name} was ended, for it took longer than {limit}{output.told()}.") from error
        finally:
            # Also when the job itself is ended: nobody would wait for the hook any more.
            if process.returncode is None:
                await asyncio.shield(_end(process))
    if status:
        how = f"was ended by signal {-status}" if status < 0 else f"failed with exit code {status}"
        raise HookError(f"{name} {how}{output.told()}.")
    return output.text


async def _end(process: asyncio.subprocess.Process) -> None:
    """End the hook and all that is in its session's first process group."""
    _signal(process.pid, signal.SIGTERM)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_GRACE_SECONDS):
            await process.wait()
    _signal(process.pid, signal.SIGKILL)  # what it started may have stayed when it went
    await process.wait()


def _signal(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # gone already; FreeBSD and macOS: only zombies
        os.killpg(group, number)


class _Output:
    """The end of what a hook printed, read through a pipe of our own while it runs.

    A pipe of asyncio's would not do: `wait` then waits for whoever else holds the other end as well.
    """

    def __init__(self) -> None:
        self._kept = b""
        self._reader, self.writer = os.pipe()
        os.set_blocking(self._reader, False)

    def __enter__(self) -> _Output:
        asyncio.get_running_loop().add_reader(self._reader, self._read)
        return self

    def __exit__(self, *error: object) -> None:
        """What the hook has written is in the pipe by now, whatever else still holds it."""
        os.close(self.writer)
        for _ in range(_DRAINS):
            if not self._read():
                break
        asyncio.get_running_loop().remove_reader(self._reader)
        os.close(self._reader)

    def _read(self) -> bool:
        try:
            chunk = os.read(self._reader, 1 << 16)
        except BlockingIOError:
            return False
        self._kept = (self._kept + chunk)[-MAX_OUTPUT_BYTES:]
        return bool(chunk)

    @property
    def text(self) -> str:
        """As far as it was kept."""
        return self._kept.decode("utf-8", "replace").strip()

    def told(self) -> str:
        """To go behind a failure."""
        words = " ".join(self.text.split()).rstrip(".")
        return f": {words}" if words else ""


def _limit(span: timedelta) -> str:
    return span_words(span) if span >= timedelta(seconds=1) else f"{span.total_seconds():g} s"
