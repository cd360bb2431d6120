"""A job's key: set up over the user's own access, and then all that it opens at the far end is one tree."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.ssh.processes import eventually
from tests.ssh.site import REPOSITORY, Run, Site, Sshd, zfs_script
from zfsync_ssh import keys, state
from zfsync_ssh.ssh_lines import fingerprint

Zfsync = Callable[[list[str]], Run]


class Client:
    """The near machine, with a job that has no key yet, and a far machine with zfsync."""

    def __init__(self, site: Site, zfsync: Zfsync) -> None:
        self.site = site
        self.zfsync = zfsync
        self.account = site.directory / "far-home/.ssh/authorized_keys"
        self.account.parent.mkdir()
        self.account.write_text(site.keys.user.with_suffix(".pub").read_text())
        self.sshd = site.sshd(AuthorizedKeysFile=str(self.account))
        site.script("near/zfs", f"export FAKEZFS_RECORDS=1\n{zfs_script(site.sender)}")
        site.script("far/zfsync", f'PYTHONPATH={REPOSITORY} exec {sys.executable} -m zfsync_ssh "$@"')
        site.tree("a")
        self.config = site.directory / "zfsync.toml"
        self.config.write_text(
            f'[job.web]\nsource = "src/tree"\ntarget = "127.0.0.1:{site.root}"\nport = {self.sshd.port}\n'
            f'ssh-config = "{site.directory}/ssh_config"\n'
        )
        self.config.chmod(0o600)

    def setup(self, *options: str, place: str = "") -> Run:
        place = place or f"127.0.0.1:{self.site.root}"
        own = ["--config", str(self.config), "--identity", str(self.site.keys.user)]
        return self.zfsync(["key", "setup", place, "--job", "web", *own, *options])

    def run_job(self) -> Run:
        return self.zfsync(["cron", "run", "web", "--config", str(self.config)])

    def ssh(self, command: str = "") -> subprocess.CompletedProcess[str]:
        """OpenSSH's own client with the job's key."""
        known = f"UserKnownHostsFile={keys.known_hosts()}"
        options = ["-F", "none", "-o", known, "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes"]
        argv = ["ssh", *options, "-i", str(keys.key_of("web")), "-p", str(self.sshd.port), "127.0.0.1"]
        return subprocess.run([*argv, *filter(None, [command])], input="", capture_output=True, text=True, timeout=60)

    def forget_host(self) -> None:
        """Empty the user's own known_hosts."""
        (self.site.directory / "home/.ssh/known_hosts").unlink()

    @property
    def host_print(self) -> str:
        return fingerprint(self.site.keys.host.with_suffix(".pub").read_text())


@pytest.fixture
def client(site: Site, zfsync: Zfsync, monkeypatch: pytest.MonkeyPatch) -> Client:
    monkeypatch.setenv(keys.VARIABLE, str(site.directory / "etc"))
    monkeypatch.setenv(state.VARIABLE, str(site.directory / "state"))
    return Client(site, zfsync)


# ---- from nothing to a run -------------------------------------------------------------------------------------------


def test_after_setup_the_job_runs_by_its_own_key_and_nothing_else_goes_with_that(client: Client) -> None:
    site = client.site
    run = client.setup("--append-only", "--install")
    assert (run.status, run.out) == (0, ""), run
    assert f"ED25519 {client.host_print}: your known_hosts has it" in run.err
    assert f"Logged in with the key: it reaches {site.root} alone." in run.err
    line = client.account.read_text().splitlines()[1]
    assert line.startswith(
        f'restrict,command="{site.directory}/far/zfsync serve --root {site.root} --append-only" ssh-'
    )
    assert client.account.read_text().splitlines()[0] == site.keys.user.with_suffix(".pub").read_text().strip()

    client.forget_host()  # what was pinned is enough
    run = client.run_job()
    assert (run.status, run.err) == (0, ""), run
    assert site.arrived

    for command in ("", "id", "sh -c id"):
        done = client.ssh(command)
        assert "uid=" not in done.stdout, done
        assert done.returncode != 0
        assert "This key is for zfsync alone" in done.stderr, done
    elsewhere = ["-p", str(client.sshd.port), "-i", str(keys.key_of("web")), "src/tree", f"127.0.0.1:{site.pool}"]
    assert "which is all that this key reaches" in client.zfsync(["compare", *elsewhere]).err


def test_setup_again_changes_nothing(client: Client) -> None:
    assert client.setup("--install").status == 0
    key, account = keys.key_of("web").read_bytes(), client.account.read_text()
    run = client.setup("--install")
    assert run.status == 0, run
    assert "it is pinned already" in run.err
    assert "There is the key" in run.err
    assert "The key's line is in" in run.err
    assert (keys.key_of("web").read_bytes(), client.account.read_text()) == (key, account)
    assert len(keys.known_hosts().read_text().splitlines()) == 1


def test_setup_with_other_bounds_replaces_the_line(client: Client) -> None:
    assert client.setup("--install").status == 0
    run = client.setup("--install", "--read-only")
    assert run.status == 0, run
    assert "Replaced the key's line in" in run.err
    assert "  it was: restrict,command=" in run.err
    first, second = client.account.read_text().splitlines()
    assert "--read-only" in second
    assert "command" not in first


def test_without_install_the_line_is_all_of_stdout(client: Client) -> None:
    before = client.account.read_text()
    run = client.setup("--append-only")
    (line,) = run.out.splitlines()
    assert (run.status, client.account.read_text()) == (0, before)
    assert client.sshd.logins == 0
    assert line.startswith(f'restrict,command="zfsync serve --root {client.site.root} --append-only" ssh-ed25519 ')
    with client.account.open("a") as file:
        file.write(run.out)
    assert "This key is for zfsync alone" in client.ssh("id").stderr


# ---- the host's key --------------------------------------------------------------------------------------------------


def test_a_host_that_nobody_knows_is_not_trusted_without_anybody_there(client: Client) -> None:
    client.forget_host()
    run = client.setup()
    assert run.status == 5, run
    assert client.host_print in run.err
    assert "give it as --host-key" in run.err
    assert not keys.known_hosts().exists()
    assert not keys.key_of("web").exists()


def test_a_host_whose_fingerprint_is_given_is_trusted(client: Client) -> None:
    client.forget_host()
    run = client.setup("--host-key", client.host_print, "--install")
    assert run.status == 0, run
    assert "it has the fingerprint that you gave" in run.err
    assert client.run_job().status == 0


def test_the_fingerprint_may_be_that_of_another_key_of_the_host(client: Client, site: Site) -> None:
    rsa = site.directory / "rsa"
    subprocess.run(["ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", rsa], check=True)
    sshd = site.sshd(HostKey=f"{site.keys.host}\nHostKey {rsa}", AuthorizedKeysFile=str(client.account))
    client.config.write_text(client.config.read_text().replace(f"{client.sshd.port}", f"{sshd.port}"))
    client.forget_host()
    public = rsa.with_suffix(".pub").read_text()
    run = client.setup("--host-key", fingerprint(public), "--install")
    assert run.status == 0, run
    assert f"RSA {fingerprint(public)}: it has the fingerprint that you gave." in run.err
    assert client.run_job().status == 0
    assert "ssh-rsa" in keys.known_hosts().read_text()


def test_another_fingerprint_than_was_given_is_refused(client: Client) -> None:
    client.forget_host()
    other = fingerprint(client.site.keys.other.with_suffix(".pub").read_text())
    run = client.setup("--host-key", other, "--install")
    assert run.status == 5, run
    assert f"and not {other}: do not trust it." in run.err
    assert client.sshd.logins == 0
    assert not keys.known_hosts().exists()


def test_what_is_no_fingerprint_is_a_mistake_in_the_command_line(client: Client) -> None:
    assert client.setup("--host-key", "12:34").status == 2
    assert client.sshd.connections == 0


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("said", "status"), [("y\n", 0), ("yes\n", 0), ("\n", 5), ("n\n", 5), ("", 5)])
def test_somebody_who_is_there_is_asked(
    client: Client, monkeypatch: pytest.MonkeyPatch, said: str, status: int
) -> None:
    client.forget_host()
    monkeypatch.setattr(sys, "stdin", Terminal(said))
    asked = Terminal()
    monkeypatch.setattr(sys, "stderr", asked)
    assert client.setup().status == status
    assert client.host_print in asked.getvalue()
    assert "[y/N]" in asked.getvalue()
    assert keys.known_hosts().exists() == keys.key_of("web").exists() == (status == 0)


def test_a_host_key_that_has_changed_is_refused_by_setup_and_by_the_job(client: Client, site: Site) -> None:
    assert client.setup("--install").status == 0
    port = client.sshd.port
    keys.known_hosts().write_text(
        f"[127.0.0.1]:{port} {' '.join(site.keys.other.with_suffix('.pub').read_text().split()[:2])}\n"
    )
    logins = client.sshd.logins
    run = client.setup("--install")
    assert run.status == 5
    assert re.match(r"zfsync: The host key of 127\.0\.0\.1 has changed: ED25519 SHA256:", run.err), run
    run = client.run_job()  # though the user's known_hosts has the right one
    assert run.status == 5
    assert f"is not the one that is pinned in {keys.known_hosts()}" in run.err
    assert client.sshd.logins == logins


def test_a_revoked_key_is_not_trusted_though_it_is_pinned(client: Client, site: Site) -> None:
    assert client.setup("--install").status == 0
    site.trust(site.keys.host, client.sshd.port, "@revoked")
    run = client.run_job()
    assert run.status == 5
    assert "marked as revoked" in run.err


def test_a_pin_of_one_port_says_nothing_of_another(client: Client, site: Site, zfsync: Zfsync) -> None:
    assert client.setup("--install").status == 0
    other = site.sshd(HostKey=str(site.keys.other))
    site.trust(site.keys.other, other.port)
    assert zfsync(["cleanbuffer", *site.arguments(other.port)[2:]]).status != 5


# ---- what may be in the way ------------------------------------------------------------------------------------------


def test_without_zfsync_there_nothing_is_installed_and_what_to_do_is_said(client: Client, site: Site) -> None:
    (site.directory / "far/zfsync").unlink()
    before = client.account.read_text()
    run = client.setup("--install")
    assert run.status == 6, run
    assert "there is no zfsync" in run.err
    assert "--unconfined" in run.err
    assert client.account.read_text() == before
    run = client.setup("--install", "--unconfined")
    assert run.status == 0, run
    assert client.account.read_text().splitlines()[1].startswith("restrict ssh-ed25519 ")
    assert client.run_job().status == 0
    assert site.arrived


def test_a_zfsync_that_is_named_is_the_one_that_serves(client: Client, site: Site) -> None:
    (site.directory / "far/zfsync").rename(site.directory / "far/zfsync-own")
    run = client.setup("--install", "--remote-zfsync", f"{site.directory}/far/zfsync-own")
    assert run.status == 0, run
    assert f'command="{site.directory}/far/zfsync-own serve' in client.account.read_text()


def test_a_line_that_sshd_does_not_read_is_not_called_well(client: Client, site: Site) -> None:
    client.account.rename(site.directory / "elsewhere")
    client.account.symlink_to("/dev/null")
    sshd = site.sshd(AuthorizedKeysFile=str(site.directory / "elsewhere"))
    client.account.unlink()
    client.config.write_text(client.config.read_text().replace(f"{client.sshd.port}", f"{sshd.port}"))
    run = client.setup("--install")
    assert run.status == 5, run
    assert "refused the job's key" in run.err


def test_a_key_that_reaches_more_than_its_line_says_is_not_called_well(client: Client, site: Site) -> None:
    first = site.directory / "first"
    sshd = site.sshd(AuthorizedKeysFile=f"{first} {client.account}")
    client.config.write_text(client.config.read_text().replace(f"{client.sshd.port}", f"{sshd.port}"))
    assert client.setup().status == 0
    first.write_text(keys.key_of("web").with_name("web.pub").read_text())
    run = client.setup("--install")
    assert run.status == 6, run
    assert f"gives the key more than {site.root}" in run.err


def test_a_job_that_goes_elsewhere_gets_no_key(client: Client) -> None:
    run = client.setup("--install", place="127.0.0.1:other/pool")
    assert run.status == 2
    assert "which is not in other/pool" in run.err
    assert client.sshd.connections == 0


@pytest.fixture
def agent(site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, client: Client) -> Iterator[None]:
    """An ssh-agent that has the user's own key."""
    socket = tmp_path / "agent"
    started = subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.DEVNULL)
    try:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
        eventually("the agent listens", socket.exists)
        subprocess.run(["ssh-add", "-q", site.keys.user], check=True)
        yield
    finally:
        started.terminate()
        started.wait()


@pytest.mark.usefixtures("agent")
def test_the_users_ssh_agent_is_enough_to_install(client: Client) -> None:
    place = f"127.0.0.1:{client.site.root}"
    run = client.zfsync(["key", "setup", place, "--job", "web", "--config", str(client.config), "--install"])
    assert run.status == 0, run


@pytest.mark.usefixtures("agent")
def test_a_job_with_its_own_key_offers_none_of_the_agents(client: Client, site: Site) -> None:
    assert client.setup("--install").status == 0
    client.account.write_text(site.keys.user.with_suffix(".pub").read_text())
    run = client.run_job()
    assert run.status == 5, run
    assert f"refused the job's key {keys.key_of('web')}" in run.err


def test_a_job_does_not_wait_for_a_login_that_is_refused(client: Client, sshd: Sshd) -> None:
    with client.config.open("a") as file:
        file.write('retry-for = "1h"\n')
    assert client.setup().status == 0  # and nobody puts the line there
    connections = client.sshd.connections
    assert client.run_job().status == 5
    assert client.sshd.connections == connections + 1
