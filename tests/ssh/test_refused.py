"""No connection: the host cannot be reached, trusted or logged in to. One sentence each, and an exit code."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.ssh.site import Run, Site, Sshd
from zfsync_ssh import transport

Zfsync = Callable[[list[str]], Run]


@contextlib.contextmanager
def server(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """A port that takes connections and does with each what ``answer`` does; it is closed at the end."""
    taken = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    taken.append(listening.accept()[0])
                    answer(taken[-1])

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in taken:
                connection.close()


def reach(site: Site, port: int, *more: str, to: str = "127.0.0.1") -> list[str]:
    """The arguments of a command that connects and does nothing else before that."""
    return ["cleanbuffer", *site.arguments(port, *more, to=to)[2:]]


def known_hosts(site: Site) -> Path:
    return site.directory / "home/.ssh/known_hosts"


# -- trust --


def test_an_unknown_host_key_is_not_accepted(site: Site, sshd: Sshd, zfsync: Zfsync) -> None:
    known_hosts(site).unlink()
    run = zfsync(reach(site, sshd.port))
    assert run.status == 5
    assert run.sentence.startswith("The host key of 127.0.0.1 is not the one in known_hosts, or none is there for it:")
    assert "ssh " in run.sentence
    assert sshd.logins == 0


def test_a_wrong_host_key_is_not_accepted(site: Site, sshd: Sshd, zfsync: Zfsync) -> None:
    known_hosts(site).unlink()
    site.trust(site.keys.other, sshd.port)
    run = zfsync(reach(site, sshd.port))
    assert run.status == 5
    assert "find out why the key has changed" in run.sentence
    assert sshd.logins == 0


def test_a_revoked_host_key_is_not_accepted(site: Site, sshd: Sshd, zfsync: Zfsync) -> None:
    site.trust(site.keys.host, sshd.port, "@revoked")
    run = zfsync(reach(site, sshd.port))
    assert (run.status, run.sentence) == (
        5,
        "The host key of 127.0.0.1 is marked as revoked in known_hosts: do not connect to it.",
    )
    assert sshd.logins == 0


def test_no_setting_turns_the_check_of_the_host_key_off(site: Site, sshd: Sshd, zfsync: Zfsync) -> None:
    known_hosts(site).unlink()
    (site.directory / "ssh_config").write_text("Host *\n StrictHostKeyChecking no\n")
    assert zfsync(reach(site, sshd.port)).status == 5
    assert sshd.logins == 0
    assert not known_hosts(site).exists()


# -- login --


def test_a_key_that_is_refused_is_said(site: Site, sshd: Sshd, zfsync: Zfsync) -> None:
    run = zfsync(reach(site, sshd.port, "--identity", str(site.keys.other)))
    assert run.status == 5
    assert run.sentence.startswith("127.0.0.1 refused every key that was offered:")
    assert "--identity" in run.sentence
    assert sshd.sessions == 0


def test_no_password_is_ever_asked_for(site: Site, zfsync: Zfsync) -> None:
    sshd = site.sshd(PubkeyAuthentication="no", PasswordAuthentication="yes", PermitRootLogin="yes")
    run = zfsync(reach(site, sshd.port))
    assert run.status == 5
    assert "refused every key" in run.sentence
    assert "Failed password" not in sshd.log


def test_a_key_that_is_none_is_said(site: Site, sshd: Sshd, zfsync: Zfsync) -> None:
    nonsense = site.directory / "nonsense"
    nonsense.write_text("this is no key\n")
    run = zfsync(reach(site, sshd.port, "--identity", str(nonsense)))
    assert run.status == 5
    assert run.sentence.startswith(f"The key {nonsense} cannot be used: ")


def test_a_key_that_does_not_exist_is_a_mistake_in_the_command_line(site: Site, sshd: Sshd, zfsync: Zfsync) -> None:
    run = zfsync(reach(site, sshd.port, "--identity", "/nonexistent/key"))
    assert (run.status, run.sentence) == (2, "There is no key /nonexistent/key.")
    assert sshd.connections == 0


def test_an_ssh_config_that_does_not_exist_is_a_mistake_in_the_command_line(
    site: Site, sshd: Sshd, zfsync: Zfsync
) -> None:
    run = zfsync(reach(site, sshd.port, "--ssh-config", "/nonexistent/config"))
    assert (run.status, run.sentence) == (2, "There is no SSH configuration /nonexistent/config.")
    assert sshd.connections == 0


def test_an_ssh_config_that_cannot_be_read_is_said(site: Site, sshd: Sshd, zfsync: Zfsync) -> None:
    (site.directory / "ssh_config").write_text("Port twenty-two\n")
    run = zfsync(reach(site, sshd.port))
    assert run.status == 2
    assert run.sentence.startswith("The SSH configuration cannot be read: ")
    assert sshd.connections == 0


# -- reach --


def test_a_host_that_does_not_exist_is_said(site: Site, zfsync: Zfsync) -> None:
    run = zfsync(reach(site, 22, to="nowhere.invalid"))
    assert run.status == 5
    assert run.sentence.startswith("There is no host nowhere.invalid: ")


def test_a_port_where_nobody_listens_is_said(site: Site, zfsync: Zfsync) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    run = zfsync(reach(site, port))
    assert run.status == 5
    assert run.sentence.startswith("127.0.0.1 cannot be reached: ")


def test_a_port_that_says_nothing_is_given_up(site: Site, zfsync: Zfsync, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "CONNECT_SECONDS", 0.2)
    with server(lambda connection: None) as port:
        run = zfsync(reach(site, port))
    assert run.status == 5
    assert run.sentence.startswith("127.0.0.1 did not answer within ")


def test_an_sshd_that_stops_answering_before_the_login_is_given_up(
    site: Site, zfsync: Zfsync, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "CONNECT_SECONDS", 0.2)
    with server(lambda connection: connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")) as port:
        run = zfsync(reach(site, port))
    assert run.status == 5
    assert run.sentence.startswith("127.0.0.1 did not answer within ")


def test_an_sshd_that_closes_at_once_is_said(site: Site, zfsync: Zfsync) -> None:
    with server(lambda connection: connection.close()) as port:
        run = zfsync(reach(site, port))
    assert run.status == 5
    assert re.match(r"The SSH connection to 127.0.0.1 failed: |127.0.0.1 cannot be reached: ", run.sentence)


def test_a_port_that_speaks_something_else_is_said(site: Site, zfsync: Zfsync) -> None:
    with server(lambda connection: connection.sendall(b"220 mail.example.org ESMTP\r\n" * 2000)) as port:
        run = zfsync(reach(site, port))
    assert run.status == 5
    assert run.sentence.startswith("The SSH connection to 127.0.0.1 failed: ")


def test_no_cipher_in_common_is_said(site: Site, zfsync: Zfsync) -> None:
    sshd = site.sshd(Ciphers="aes128-gcm@openssh.com")
    (site.directory / "ssh_config").write_text("Ciphers aes256-ctr\n")
    run = zfsync(reach(site, sshd.port))
    assert run.status == 5
    assert run.sentence.startswith("The SSH connection to 127.0.0.1 failed: ")


# -- a session --


@pytest.mark.parametrize("command", ["push", "pull", "compare", "verify", "cleanbuffer", "prune", "holds", "cron"])
def test_a_session_that_is_refused_is_said(command: str, site: Site, zfsync: Zfsync) -> None:
    sshd = site.sshd(MaxSessions="0")
    site.tree()
    _, here, there, *way = site.arguments(sshd.port)
    operands = {
        "push": [here, there],
        "pull": [there, here],
        "compare": [here, there],
        "verify": [here, there],
        "prune": [there, "--keep", "daily=1"],
        "cron": ["run", here, there, "--no-jitter"],
    }
    run = zfsync([command, *operands.get(command, [there]), *way])
    sentence = "sshd on 127.0.0.1 opens no session (open failed): MaxSessions in its sshd_config may allow none, "
    assert (run.status, run.err.count(sentence), run.err.count("\n")) == (5, 1, 1), run.err


# -- how it is said --


@pytest.mark.parametrize("more", [[], ["--json"], ["--quiet"]])
def test_a_traceback_is_only_for_those_who_ask(more: list[str], site: Site, zfsync: Zfsync) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    sentence = zfsync(reach(site, port, *more)).sentence
    assert sentence.startswith("127.0.0.1 cannot be reached: ")
    run = zfsync(reach(site, port, *more, "--verbose"))
    assert run.status == 5
    assert run.err.startswith("Traceback (most recent call last):\n")
    assert run.err.splitlines()[-1] == f"zfsync: {sentence}"
