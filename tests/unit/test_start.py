"""What a start imports: each module costs CPU before the first byte of a stream can go."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from zfsync_ssh import cli

REPOSITORY = Path(__file__).parents[2]
STOP = """
import sys
from zfsync_ssh import cli
from zfsync_ssh.errors import ConnectError
from zfsync_ssh.{module} import {opener}

async def refuse(self):
    raise ConnectError("far enough")

{opener}.open = refuse
code = cli.main(sys.argv[1:])
print(code, *sorted(sys.modules))
"""
LOADED = """
import gc
from zfsync_ssh.__main__ import YOUNG_OBJECTS
def collections():
    return sum(generation["collections"] for generation in gc.get_stats())
gc.set_threshold(YOUNG_OBJECTS)
before = collections()
import asyncssh
from zfsync_ssh import orchestrator, reach
from zfsync_ssh.cli import replicate
print(collections() - before)
"""
OTHER_COMMANDS = {f"zfsync_ssh.cli.{module}" for module in cli.COMMANDS.values()} - {"zfsync_ssh.cli.replicate"}
NOT_FOR_A_PUSH = OTHER_COMMANDS | {
    *("zfsync_ssh.config", "zfsync_ssh.cron", "zfsync_ssh.cli.cron_run", "zfsync_ssh.crontab", "zfsync_ssh.hooks"),
    *("zfsync_ssh.history", "zfsync_ssh.status", "zfsync_ssh.verify", "zfsync_ssh.doctor", "zfsync_ssh.keysetup"),
    *("zfsync_ssh.access", "zfsync_ssh.contents", "zfsync_ssh.reading"),
    *("zfsync_ssh.console.live", "rich", "prometheus_client", "tomllib", "sqlite3"),
}


def modules_of(script: str, *argv: str) -> tuple[int, set[str]]:
    """The exit code of a command line that gets as far as its first channel, and all modules it has imported."""
    done = subprocess.run(
        [sys.executable, "-c", script, *argv], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    code, *modules = done.stdout.splitlines()[-1].split()
    return int(code), set(modules)


def test_a_push_imports_nothing_that_is_for_other_commands() -> None:
    script = STOP.format(module="transport", opener="SshOpener")
    code, modules = modules_of(script, "push", "-q", "tank/data", "backup:pool/data")
    assert code == 5
    assert {"zfsync_ssh.cli.replicate", "zfsync_ssh.orchestrator"} <= modules
    assert not modules & NOT_FOR_A_PUSH


def test_a_push_to_a_pool_of_this_machine_needs_no_ssh() -> None:
    script = STOP.format(module="channel", opener="LocalOpener")
    code, modules = modules_of(script, "push", "-q", "tank/data", "usb/data")
    assert code == 5
    assert not {"asyncssh", "cryptography"} & modules


def test_all_is_loaded_before_the_garbage_collector_looks_at_it() -> None:
    done = subprocess.run([sys.executable, "-c", LOADED], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert int(done.stdout) == 0


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_each_command_is_in_the_module_that_is_said_to_have_it(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([command, "--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: zfsync {command} ")


def test_the_help_names_all_commands_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    lines = capsys.readouterr().out.splitlines()
    words = [line.split()[0] for line in lines if line.startswith("    ") and line[4] != " "]
    assert words == [*cli.COMMANDS]
