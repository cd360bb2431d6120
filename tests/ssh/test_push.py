"""Whole pushes through a real sshd: how many connections and sessions, and what is agreed upon."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.ssh.processes import eventually
from tests.ssh.site import Run, Site, Sshd, login_shell

Zfsync = Callable[[list[str]], Run]


@pytest.fixture
def ssh_agent(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An ssh-agent that has the user's key, as the one to ask; its socket."""
    address = site.directory / "agent.sock"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", address], stdout=subprocess.DEVNULL)
    try:
        eventually("ssh-agent listens", address.exists)
        monkeypatch.setenv("SSH_AUTH_SOCK", str(address))
        subprocess.run(["ssh-add", "-q", site.keys.user], check=True)
        yield address
    finally:
        agent.terminate()
        agent.wait()


def test_a_tree_goes_over_one_connection_with_a_session_for_each_agent(site: Site, sshd: Sshd) -> None:
    site.tree("a", "a/b", "c", "d", "e")
    run = site.push(sshd.port, "--channels", "4")
    assert (run.status, run.err) == (0, "")
    assert site.arrived
    assert (sshd.connections, sshd.logins, sshd.sessions) == (1, 1, 5)
    site.nothing_is_left()


def test_a_tree_that_is_up_to_date_needs_one_session(site: Site, sshd: Sshd, zfsync: Zfsync) -> None:
    site.tree("a", "b")
    assert zfsync(site.arguments(sshd.port)).status == 0
    assert (sshd.connections, sshd.sessions) == (1, 4)
    run = zfsync(site.arguments(sshd.port))
    assert (run.status, run.err) == (0, "")
    assert "3 up to date" in run.out
    assert (sshd.connections, sshd.sessions) == (2, 5)


def test_a_dry_run_needs_one_session_and_changes_nothing(site: Site, sshd: Sshd, zfsync: Zfsync) -> None:
    site.tree("a")
    run = zfsync(site.arguments(sshd.port, "--dry-run"))
    assert (run.status, run.err) == (0, "")
    assert sshd.sessions == 1
    assert {command[0] for command in site.receiver.commands()} == {"list"}


@pytest.mark.parametrize(
    ("limit", "sentence", "sessions"),
    [
        ("1", "opens only the first of 4 channels (sshd's MaxSessions): going on with that one.", 1),
        ("2", "opens only 1 of 4 channels (sshd's MaxSessions): going on with 1.", 2),
    ],
)
def test_an_sshd_that_has_no_more_sessions_means_fewer_channels(
    limit: str, sentence: str, sessions: int, site: Site, zfsync: Zfsync
) -> None:
    sshd = site.sshd(MaxSessions=limit)
    site.tree("a", "a/b", "c")
    run = zfsync(site.arguments(sshd.port, "--channels", "4"))
    assert (run.status, run.err) == (0, f"127.0.0.1 {sentence}\n")
    assert site.arrived
    assert (sshd.connections, sshd.sessions) == (1, sessions)


@pytest.mark.parametrize("limit", [1, 2])
def test_a_pull_from_an_sshd_that_has_few_sessions(limit: int, site: Site, zfsync: Zfsync) -> None:
    sshd = site.sshd(MaxSessions=str(limit))
    for child in ("", "/a", "/a/b", "/c"):
        site.receiver.create(site.root + child)
        site.receiver.snapshot(f"{site.root}{child}@1")
    site.sender.create("here")
    _, _, there, *way = site.arguments(sshd.port, "--channels", "3", "--buffer-behind", "0")
    run = zfsync(["pull", there, "here/copy", *way])
    assert (run.status, run.err) == (0, "")
    assert site.sender.guids("here/copy") == site.receiver.guids(site.root)
    assert (sshd.connections, sshd.sessions) == (1, limit)


def test_the_ssh_config_says_where_to_as_whom_and_with_which_key(site: Site, sshd: Sshd, zfsync: Zfsync) -> None:
    site.tree()
    user = sshd_user()
    (site.directory / "ssh_config").write_text(
        f"Host backup\n HostName 127.0.0.1\n Port {sshd.port}\n User {user}\n IdentityFile {site.keys.user}\n"
        f"Host *\n User nobody-at-all\n Port 1\n IdentityFile {site.keys.other}\n"
    )
    run = zfsync(["push", "src/tree", f"backup:{site.root}", "--ssh-config", str(site.directory / "ssh_config")])
    assert (run.status, run.err) == (0, "")
    assert f"src/tree -> backup:{site.root}" in run.out
    assert f"Accepted publickey for {user} " in sshd.log


def test_the_users_own_ssh_config_and_key_are_found(site: Site, sshd: Sshd, zfsync: Zfsync) -> None:
    site.tree()
    ssh = site.directory / "home/.ssh"
    (ssh / "config").write_text(f"Host backup\n HostName 127.0.0.1\n Port {sshd.port}\n User {sshd_user()}\n")
    (ssh / "id_ed25519").write_bytes(site.keys.user.read_bytes())
    (ssh / "id_ed25519").chmod(0o600)
    run = zfsync(["push", "src/tree", f"backup:{site.root}"])
    assert (run.status, run.err) == (0, "")
    assert site.arrived


def test_the_cipher_is_aes_gcm(site: Site, sshd: Sshd, zfsync: Zfsync) -> None:
    assert ciphers(zfsync(site.arguments(sshd.port, "--verbose"))) == ["aes128-gcm@openssh.com"]


def test_a_ciphers_line_in_the_ssh_config_wins(site: Site, sshd: Sshd, zfsync: Zfsync) -> None:
    (site.directory / "ssh_config").write_text("Ciphers aes256-ctr,chacha20-poly1305@openssh.com\n")
    assert ciphers(zfsync(site.arguments(sshd.port, "--verbose"))) == ["aes256-ctr"]


def test_an_sshd_that_has_no_aes_gcm_is_talked_to_all_the_same(site: Site, zfsync: Zfsync) -> None:
    sshd = site.sshd(Ciphers="chacha20-poly1305@openssh.com")
    assert ciphers(zfsync(site.arguments(sshd.port, "--verbose"))) == ["chacha20-poly1305@openssh.com"]


def test_a_key_in_ssh_agent_is_used_and_the_agent_is_never_forwarded(
    site: Site, zfsync: Zfsync, ssh_agent: Path
) -> None:
    seen = site.directory / "environment"
    shell = site.script("login", login_shell("/bin/sh", f"env > {seen}"))
    sshd = site.sshd(ForceCommand=str(shell))
    site.tree()
    (site.directory / "ssh_config").write_text("Host *\n ForwardAgent yes\n ForwardX11 yes\n")
    arguments = site.arguments(sshd.port)
    at = arguments.index("--identity")
    run = zfsync(arguments[:at] + arguments[at + 2 :])
    assert (run.status, run.err) == (0, "")
    assert "SSH_CONNECTION=" in seen.read_text()
    assert "SSH_AUTH_SOCK" not in seen.read_text()
    assert "DISPLAY" not in seen.read_text()


def test_an_incremental_push_sends_what_is_new(site: Site, sshd: Sshd, zfsync: Zfsync) -> None:
    site.tree("a")
    assert zfsync(site.arguments(sshd.port)).status == 0
    site.sender.snapshot("src/tree/a@2")
    run = zfsync(site.arguments(sshd.port, "--json"))
    assert (run.status, run.err) == (0, "")
    assert run.outcomes["tree/a"]["what"] == "@1 -> @2"
    assert run.outcomes["tree"]["status"] == "up-to-date"
    assert site.arrived


def sshd_user() -> str:
    """As whom the tests log in: as themselves."""
    import pwd

    return pwd.getpwuid(os.getuid()).pw_name


def ciphers(run: Run) -> list[str]:
    """What ``--verbose`` says of the connection, whatever became of the run."""
    return re.findall(r"^connected to .* \(python [\d.]+, ([^)]+)\)$", run.out, re.MULTILINE)
