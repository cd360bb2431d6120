"""Whom the connection trusts, and what it gives away: host certificates, agent forwarding, secrets, options."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.ssh.processes import eventually
from tests.ssh.site import AT_ONCE, Run, Site, Sshd

Zfsync = Callable[[list[str]], Run]


def certified(site: Site, name: str, *options: str) -> Sshd:
    """A sshd whose host key has a certificate of an authority that is in known_hosts, and nothing else is."""
    directory = site.directory / "certified"
    directory.mkdir()
    for key in ("authority", "host"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", directory / key], check=True)
    words = ["-h", "-I", "far", "-n", name, *options, directory / "host.pub"]
    subprocess.run(["ssh-keygen", "-q", "-s", directory / "authority", *map(str, words)], check=True)
    sshd = site.sshd(HostKey=str(directory / "host"), HostCertificate=str(directory / "host-cert.pub"))
    (site.directory / "home/.ssh/known_hosts").unlink()
    site.trust(directory / "authority", sshd.port, "@cert-authority")
    return sshd


def test_a_host_certificate_of_a_known_authority_is_trusted(site: Site, zfsync: Zfsync) -> None:
    sshd = certified(site, "127.0.0.1")
    site.tree("a")
    run = zfsync(site.arguments(sshd.port))
    assert (run.status, run.err) == (0, "")
    assert site.arrived


@pytest.mark.parametrize(
    ("name", "options"),
    [("elsewhere", ()), ("127.0.0.1", ("-V", "20200101:20200201")), ("127.0.0.1", ("-V", "20990101:20990201"))],
)
def test_a_host_certificate_for_another_host_or_time_is_not(
    name: str, options: tuple[str, ...], site: Site, zfsync: Zfsync
) -> None:
    sshd = certified(site, name, *options)
    run = zfsync(site.arguments(sshd.port))
    assert run.status == 5
    assert "127.0.0.1" in run.sentence
    assert sshd.logins == 0


def test_a_host_certificate_of_a_revoked_authority_is_not(site: Site, zfsync: Zfsync) -> None:
    sshd = certified(site, "127.0.0.1")
    site.trust(site.directory / "certified/authority", sshd.port, "@revoked")
    assert zfsync(site.arguments(sshd.port)).status == 5
    assert sshd.logins == 0


# -- what is given away --


def test_no_key_or_token_is_in_a_process_list_or_in_what_is_said(site: Site, sshd: Sshd) -> None:
    site.tree("a")
    with site.held():
        started = site.start(site.arguments(sshd.port, "-v", *AT_ONCE))
        eventually("a is received", lambda: site.receives("a"))
        lines = [
            Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            for pid in os.listdir("/proc")
            if pid.isdigit() and os.path.exists(f"/proc/{pid}/cmdline")
        ]
    run = site.wait(started)
    assert run.status == 0
    key = "".join(site.keys.user.read_text().splitlines()[1:-1])
    assert len(key) > 200
    for text in (*lines, run.out, run.err, sshd.log):
        for at in range(0, len(key) - 40, 20):
            assert key[at : at + 40] not in text
    assert not re.search("PRIVATE KEY", run.out + run.err)


# -- options --


@pytest.mark.parametrize(
    ("place", "why"),
    [
        ("-oProxyCommand=id:dst/x", "no host or user begins with '-'"),
        ("-l@host:dst/x", "no host or user begins with '-'"),
        ("host:-r", "a pool's name begins with a letter"),
        ("host:dst/-r@x", "it names a snapshot"),
        ("host:dst/$(id)", "ZFS allows letters"),
        ("host:dst/;id", "ZFS allows letters"),
        ("host:dst/'x'", "ZFS allows letters"),
    ],
)
def test_what_looks_like_an_option_or_a_command_is_no_place(place: str, why: str, site: Site, zfsync: Zfsync) -> None:
    run = zfsync(["push", "src/tree", "--", place] if place.startswith("-") else ["push", "src/tree", place])
    assert run.status == 2
    assert why in run.sentence


def test_names_with_all_that_zfs_allows_arrive_and_no_shell_sees_them(site: Site, sshd: Sshd, zfsync: Zfsync) -> None:
    names = ("-r", "--help", "a b", " a", "-rf dst", "a:b", "..a", "-", "_", "x" * (255 - len(site.root) - 40))
    for name in names:
        site.sender.create(f"src/tree/{name}")
        for snapshot in ("-1", "a b:c", "--all"):
            site.sender.snapshot(f"src/tree/{name}@{snapshot}", 100)
    site.tree()
    run = zfsync(site.arguments(sshd.port))
    assert (run.status, run.err) == (0, "")
    assert site.arrived
