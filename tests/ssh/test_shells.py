"""What the far end's login shell may be and say, and which python it has."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable

import pytest

from tests import agents
from tests.ssh.site import Run, Site, Sshd, login_shell

Zfsync = Callable[[list[str]], Run]


def push_through(site: Site, zfsync: Zfsync, shell: str, before: str = "", *more: str) -> Run:
    """Push one small dataset to a sshd whose login shell is ``shell``, which does ``before``, in sh, at first."""
    site.tree()
    return zfsync(site.arguments(sshd_with(site, shell, before), *more))


def reach_through(site: Site, zfsync: Zfsync, before: str = "", *more: str) -> Run:
    """Run a command that does nothing before it has an agent through a login shell that does ``before``."""
    return zfsync(["cleanbuffer", *site.arguments(sshd_with(site, "/bin/sh", before), *more)[2:]])


def sshd_with(site: Site, shell: str, before: str) -> int:
    """The port of a sshd with this login shell."""
    script = site.script("login", login_shell(shell, before))
    return site.sshd(ForceCommand=str(script)).port


# -- shells --


@pytest.mark.parametrize("name", ["bash", "dash", "csh", "tcsh", "zsh", "mksh", "fish"])
def test_the_login_shell_may_be(name: str, site: Site, zfsync: Zfsync) -> None:
    shell = shutil.which(name)
    if shell is None:
        pytest.skip(f"there is no {name} on this machine")
    run = push_through(site, zfsync, shell)
    assert (run.status, run.err) == (0, "")
    assert site.arrived
    site.nothing_is_left()


def test_the_shells_own_start_up_file_may_speak(site: Site, zfsync: Zfsync) -> None:
    shell = shutil.which("csh")
    if shell is None:
        pytest.skip("there is no csh on this machine")
    (site.directory / "far-home/.cshrc").write_text("echo 'Welcome to csh!'\necho -n 'without an end'\n")
    run = push_through(site, zfsync, shell)
    assert (run.status, run.err) == (0, "")
    assert site.arrived


# -- noise --


@pytest.mark.parametrize(
    "noise",
    [
        pytest.param("printf 'You have mail: '", id="an-unfinished-line"),
        pytest.param("yes 'No unauthorized use.' | head -c 10240", id="10-KiB"),
        pytest.param("head -c 20000 /bin/sh", id="binary"),
        pytest.param("printf '\\0zfsync-agent-ready \\nzfsync-agent-ready 0123456789abcdef\\n'", id="like-a-hello"),
        pytest.param("head -c 300000 /dev/zero >&2", id="300-KB-on-stderr"),
    ],
)
def test_what_the_login_shell_says_before_is_skipped(noise: str, site: Site, zfsync: Zfsync) -> None:
    run = push_through(site, zfsync, "/bin/sh", noise, "--dry-run")
    assert (run.status, run.err) == (0, "")
    assert "1 to send" in run.out


def test_a_login_shell_that_says_too_much_is_not_listened_to(site: Site, zfsync: Zfsync) -> None:
    run = reach_through(site, zfsync, "yes spam | head -c 70000")
    assert (run.status, run.sentence) == (
        6,
        "The agent cannot be started on 127.0.0.1: its login shell printed more than 64 KiB before the agent's hello.",
    )
    site.nothing_is_left()


def test_a_login_shell_that_never_stops_talking_is_left(site: Site, zfsync: Zfsync) -> None:
    run = reach_through(site, zfsync, "exec yes spam")
    assert run.status == 6
    assert "printed more than 64 KiB" in run.sentence
    site.nothing_is_left()


def test_a_login_shell_that_ends_is_quoted(site: Site, zfsync: Zfsync) -> None:
    run = reach_through(site, zfsync, "echo 'This account is not available.'; exit 1")
    assert run.status == 6
    assert run.sentence.startswith("The agent cannot be started on 127.0.0.1: ")
    assert "This account is not available." in run.sentence


def test_a_login_shell_that_says_no_more_is_quoted_too(
    site: Site, zfsync: Zfsync, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zfsync_ssh.agent.HELLO_SECONDS", 1.0)
    monkeypatch.setattr("zfsync_ssh.agent.CLOSE_SECONDS", 0.2)
    run = reach_through(site, zfsync, "echo 'Choose a terminal type:'; exec sleep 60")
    assert run.status == 6
    assert "did not say hello within" in run.sentence
    assert "Choose a terminal type:" in run.sentence
    for process in site.far:
        process.kill()  # sshd leaves alone what does not read its input


# -- pythons --


def test_no_python_there_is_said(site: Site, zfsync: Zfsync) -> None:
    run = reach_through(site, zfsync, "", "--remote-python", "/nonexistent/python3")
    assert (run.status, run.sentence) == (
        6,
        "The agent cannot be started on 127.0.0.1: it has no python3 of version 3.8 or newer: "
        "install one, or name it with --remote-python.",
    )


def test_a_remote_python_that_could_be_shell_code_is_refused(site: Site, zfsync: Zfsync) -> None:
    run = zfsync(site.arguments(1, "--remote-python", "python3' && reboot '"))
    assert run.status == 2
    assert "cannot be the remote python" in run.sentence


@pytest.mark.parametrize(
    "shim",
    [
        pytest.param("echo 'python3: not set up' >&2; exit 127", id="that-leads-nowhere"),
        pytest.param("exit 96", id="that-is-too-old"),
    ],
)
def test_the_next_python_is_taken_after_one(shim: str, site: Site, zfsync: Zfsync) -> None:
    log = site.directory / "tried"
    site.script("far/python3", f"echo $$ >> {log}\n{shim}")
    run = push_through(site, zfsync, "/bin/sh", "", "--dry-run")
    assert (run.status, run.err) == (0, "")
    assert len(log.read_text().splitlines()) == 1


def test_the_first_python_there_runs_the_agent(site: Site, sshd: Sshd, zfsync: Zfsync) -> None:
    site.tree()
    path = f"{site.directory}/far:/usr/local/bin:/usr/bin:/bin"
    show = ["/usr/bin/env", "-i", f"PATH={path}", "python3", "-c", "import platform; print(platform.python_version())"]
    there = subprocess.run(show, capture_output=True, text=True, check=True).stdout.strip()
    run = zfsync(site.arguments(sshd.port, "--dry-run", "--verbose"))
    assert (run.status, run.err) == (0, "")
    assert f"(python {there}, " in run.out
    assert not agents.IS_ANOTHER or there == agents.version()


def test_the_remote_python_that_is_named_is_the_one(site: Site, zfsync: Zfsync) -> None:
    log = site.directory / "tried"
    mine = site.script("my python", f'echo $$ >> {log}\nexec python3 "$@"')
    run = push_through(site, zfsync, "/bin/sh", "", "--dry-run", "--remote-python", str(mine))
    assert (run.status, run.err) == (0, "")
    assert len(log.read_text().splitlines()) == 1


def test_nothing_is_written_at_the_far_end(site: Site, zfsync: Zfsync) -> None:
    run = push_through(site, zfsync, "/bin/sh", "cd")
    assert run.status == 0
    assert list((site.directory / "far-home").iterdir()) == []


def test_no_zfs_there_is_said(site: Site, sshd: Sshd) -> None:
    site.tree()
    (site.directory / "far/zfs").unlink()
    run = site.push(sshd.port)
    assert run.status == 7
    assert "zfsync: There is no working zfs on 127.0.0.1: " in run.err
    site.nothing_is_left()
