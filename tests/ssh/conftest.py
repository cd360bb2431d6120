"""A real OpenSSH sshd on 127.0.0.1, with a fake `zfs` at both ends: see `tests.ssh.site`."""

from __future__ import annotations

import itertools
import os
import platform
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.ssh.site import SSHD, Keys, Run, Site, Sshd, prepare_machine
from zfsync_ssh import cli

_numbers = itertools.count(1)


@pytest.fixture(scope="session", autouse=True)
def _interruptible() -> Iterator[None]:
    """A shell without job control starts what is in the background with SIGINT ignored, and the tests' children too."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    """Key pairs, and the reason why there can be no sshd, where there is one."""
    if not Path(SSHD).exists():
        pytest.skip("there is no sshd on this machine: install openssh-server")
    if platform.system() != "Linux":
        pytest.skip("these tests look into /proc, as Linux has it")
    prepare_machine()
    directory = tmp_path_factory.mktemp("keys")
    for name in ("host", "user", "other"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", directory / name], check=True)
    return Keys(directory / "host", directory / "user", directory / "other")


@pytest.fixture
def site(tmp_path: Path, keys: Keys) -> Iterator[Site]:
    """Two fake machines; their sshd is still to be started, with `Site.sshd`."""
    made = Site.make(tmp_path, keys, f"dst{os.getpid()}-{next(_numbers)}")
    try:
        yield made
    finally:
        made.end()


@pytest.fixture
def sshd(site: Site) -> Sshd:
    """The sshd of the far machine, as it is by default."""
    return site.sshd()


@pytest.fixture
def zfsync(site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Run]:
    """Runs the command in this process, which is quicker, and lets a test change its constants."""
    for name in ("SSH_AUTH_SOCK", "SSH_CLIENT", "SSH_CONNECTION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in site.environment.items():
        if not name.startswith("PYTHON"):
            monkeypatch.setenv(name, value)

    def run(arguments: list[str]) -> Run:
        capsys.readouterr()
        status = cli.main(arguments)
        captured = capsys.readouterr()
        return Run(status, captured.out, captured.err)

    return run
