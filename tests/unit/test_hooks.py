"""Hooks: what they are told, and how each way to go wrong is told."""

from __future__ import annotations

import asyncio
import os
import time
from datetime import timedelta
from pathlib import Path

import pytest

from zfsync_ssh import hooks as module
from zfsync_ssh.config import Hooks
from zfsync_ssh.errors import HookError
from zfsync_ssh.hooks import MAX_OUTPUT_BYTES, Point, run_hook

POINT = Point("web", "before_push", "tank/web", "backup:pool/web", "20210127-0636_M", 3, "some\0thing")


def shell(script: str, seconds: float = 20, *arguments: str) -> Hooks:
    return Hooks({"before_push": ("/bin/sh", "-c", script, "hook", *arguments)}, timedelta(seconds=seconds))


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


async def gone(pid: int) -> bool:
    for _ in range(100):
        if not alive(pid):
            return True
        await asyncio.sleep(0.05)
    return False


async def test_a_hook_is_told_where_the_job_is() -> None:
    said = await run_hook(
        shell("env | grep ^ZFSYNC | sort; echo $HOME"), POINT, {"HOME": "/h", "PATH": "/usr/bin:/bin"}
    )
    assert said.splitlines() == [
        "ZFSYNC_EXIT_CODE=3",
        "ZFSYNC_HOOK=before_push",
        "ZFSYNC_JOB=web",
        "ZFSYNC_MESSAGE=some thing",
        "ZFSYNC_SNAPSHOT=20210127-0636_M",
        "ZFSYNC_SOURCE=tank/web",
        "ZFSYNC_TARGET=backup:pool/web",
        "/h",
    ]


async def test_words_reach_it_as_they_are_without_a_shell() -> None:
    assert await run_hook(Hooks({"before_push": ("/bin/echo", "$HOME", "a  b; c")}), POINT) == "$HOME a  b; c"


async def test_a_point_without_a_hook_does_nothing() -> None:
    assert await run_hook(Hooks(), POINT) == ""


async def test_its_input_is_empty() -> None:
    assert await run_hook(shell("cat; echo end"), POINT) == "end"


async def test_a_failure_is_told_with_the_end_of_what_it_said() -> None:
    with pytest.raises(HookError) as caught:
        await run_hook(shell("echo out; echo no  such >&2; echo database. >&2; exit 7"), POINT)
    assert str(caught.value).startswith("The hook before_push of job web, \"/bin/sh -c 'echo out;")
    assert str(caught.value).endswith(" failed with exit code 7: out no such database.")
    assert caught.value.exit_code == 8


async def test_one_that_a_signal_ended_is_told_so() -> None:
    with pytest.raises(HookError, match=r"was ended by signal 9\.$"):
        await run_hook(shell("kill -9 $$"), POINT)


@pytest.mark.parametrize(
    ("command", "reason"), [("/no/such", "No such file or directory"), ("/etc", "Permission denied")]
)
async def test_one_that_cannot_be_started_is_told(command: str, reason: str) -> None:
    with pytest.raises(HookError, match=rf"The hook before_push of job web, '{command}', cannot be run: {reason}"):
        await run_hook(Hooks({"before_push": (command,)}), POINT)


async def test_only_the_end_of_much_output_is_kept() -> None:
    said = await run_hook(shell("yes | head -c 3000000; echo the end"), POINT)
    assert len(said) <= MAX_OUTPUT_BYTES
    assert said.endswith("the end")


async def test_one_that_takes_too_long_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    begun = time.monotonic()
    with pytest.raises(HookError, match=r"was ended, for it took longer than 0\.3 s: begun\.$"):
        await run_hook(shell('echo begun; sleep 60 & echo $! > "$1"; wait', 0.3, str(tmp_path / "pid")), POINT)
    assert time.monotonic() - begun < 4
    assert await gone(int((tmp_path / "pid").read_text()))


async def test_one_that_does_not_listen_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_GRACE_SECONDS", 0.2)
    with pytest.raises(HookError, match="took longer"):
        await run_hook(
            shell('trap "" TERM; echo $$ > "$1"; while :; do sleep 0.1; done', 0.3, str(tmp_path / "pid")), POINT
        )
    assert await gone(int((tmp_path / "pid").read_text()))


async def test_one_whose_job_is_ended_is_ended_too(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    task = asyncio.create_task(run_hook(shell('echo $$ > "$1.new"; mv "$1.new" "$1"; sleep 60', 60, str(pid)), POINT))
    while not pid.exists():  # noqa: ASYNC110 - another process makes it
        await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not alive(int(pid.read_text()))


async def test_what_it_leaves_running_is_neither_waited_for_nor_ended(tmp_path: Path) -> None:
    begun = time.monotonic()
    assert await run_hook(shell('sleep 30 & echo $! > "$1"; echo up', 20, str(tmp_path / "pid")), POINT) == "up"
    assert time.monotonic() - begun < 5
    left = int((tmp_path / "pid").read_text())
    assert alive(left)
    os.kill(left, 9)
