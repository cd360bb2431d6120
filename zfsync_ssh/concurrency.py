"""Structured concurrency beyond what asyncio has, and the end of its processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")
_U = TypeVar("_U")


@contextlib.asynccontextmanager
async def task_group() -> AsyncIterator[asyncio.TaskGroup]:
    """A TaskGroup that raises the error of the task that failed first, not a group of one."""
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from errors.exceptions[0].__cause__


async def both(first: Coroutine[Any, Any, _T], second: Coroutine[Any, Any, _U]) -> tuple[_T, _U]:
    """Run two at once, for their results; when one fails, end the other and raise its error."""
    async with task_group() as group:
        one, two = group.create_task(first), group.create_task(second)
    return one.result(), two.result()


async def after(first: asyncio.Future[Any], second: Coroutine[Any, Any, _T]) -> _T:
    """Run ``second``, and look at what comes of it once ``first`` has ended: that may be why it fails."""
    running = asyncio.ensure_future(second)
    try:
        await asyncio.wait((first, running))
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    return running.result()


async def whole(start: Coroutine[Any, Any, _T], undo: Callable[[_T], Awaitable[object]]) -> _T:
    """Do ``start`` to its end, even when cancelled meanwhile: then ``undo`` what it has made.

    For the start of a process: asyncio waits for ever for one whose start is cancelled before its pipes are there.
    """
    task = asyncio.ensure_future(start)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        with contextlib.suppress(OSError):
            await undo(await task)
        raise


def end_process(pid: int, returncode: int | None) -> None:
    """Kill a process that asyncio has started, if its ``returncode`` is not known yet.

    asyncio's own ``kill`` and ``close`` first ask whether it has ended, and if it just has, that takes its exit status
    away from asyncio itself, which then says so on stderr and calls it 255 (CPython gh-127049, mended in 3.13.2).
    """
    if returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
