"""Starts that are cancelled halfway end, and leave no process."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable

import pytest

from zfsync_ssh.channel import LocalChannel
from zfsync_ssh.concurrency import after, end_process, task_group, whole
from zfsync_ssh.sending import start


async def channel() -> None:
    await LocalChannel.open(("/bin/sleep", "1000"))


async def process() -> None:
    await start(("/bin/sleep", "1000"), asyncio.subprocess.DEVNULL, asyncio.subprocess.PIPE)


@pytest.mark.parametrize("begin", [channel, process])
@pytest.mark.parametrize("turns", range(6))
async def test_a_start_that_is_cancelled_at_any_point_ends(begin: Callable[[], Awaitable[None]], turns: int) -> None:
    task = asyncio.ensure_future(begin())
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    done, _ = await asyncio.wait((task,), timeout=20)
    assert done, "it waits for ever"
    assert task.cancelled()


async def test_what_a_cancelled_start_has_made_is_undone() -> None:
    undone: list[int] = []

    async def make() -> int:
        await asyncio.sleep(0.01)
        return 7

    async def undo(number: int) -> None:
        undone.append(number)

    task = asyncio.ensure_future(whole(make(), undo))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert undone == [7]
    assert await whole(make(), undo) == 7
    assert undone == [7]


def test_a_process_that_is_ended_as_it_ends_keeps_its_exit_status_for_asyncio() -> None:
    pid = os.posix_spawn("/bin/sh", ("sh", "-c", "exit 3"), {})
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # it has ended, and nobody has been told
    end_process(pid, None)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3


async def test_of_two_that_fail_the_one_that_is_the_reason_is_told() -> None:
    async def fail(turns: int, message: str) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        raise ValueError(message)

    async def both() -> None:
        async with task_group() as group:
            reason = group.create_task(fail(5, "the reason"))
            group.create_task(after(reason, fail(0, "what came of it")))

    with pytest.raises(ValueError, match="the reason"):
        await both()


async def test_what_comes_after_fails_by_itself_too_and_is_ended_when_it_is_cancelled() -> None:
    async def fail() -> None:
        raise ValueError("by itself")

    with pytest.raises(ValueError, match="by itself"):
        await after(asyncio.ensure_future(asyncio.sleep(0)), fail())

    ended = asyncio.Event()

    async def last() -> None:
        try:
            await asyncio.Future()
        finally:
            ended.set()

    task = asyncio.ensure_future(after(asyncio.ensure_future(asyncio.sleep(0)), last()))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()
