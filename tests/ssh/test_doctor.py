"""`zfsync doctor` over a real sshd: it sees what is in the way, and changes nothing."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest

from tests.ssh.site import Run, Site
from tests.ssh.test_keys import Client, agent, client
from zfsync_ssh import keys
from zfsync_ssh.cli import doctor

__all__ = ["agent", "client"]


class Checks:
    """What `zfsync doctor --json` said."""

    def __init__(self, run: Run) -> None:
        document = json.loads(run.out)
        self.status = run.status
        self.verdict = document["verdict"]
        self.rows: list[dict[str, Any]] = document["checks"]

    def of(self, what: str, where: str = "127.0.0.1:") -> dict[str, Any]:
        """The one check of this name at an end."""
        (found,) = [row for row in self.rows if row["what"] == what and row["where"].startswith(where)]
        return found

    @property
    def bad(self) -> list[str]:
        """What is not well."""
        return [row["what"] for row in self.rows if row["level"] == "problem"]


@pytest.fixture(autouse=True)
def _zfs_is_where_cron_finds_it(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "CRON_PATH", f"{site.directory}/near:/usr/bin:/bin")
    for end in ("near", "far"):
        site.script(f"{end}/zpool", "printf 'health\\tONLINE\\ncapacity\\t3\\nfeature@encryption\\tenabled\\n'")


def look(client: Client, *options: str) -> Checks:
    return Checks(client.zfsync(["doctor", "--job", "web", "--config", str(client.config), "--json", *options]))


CHANGING = {"receive", "create", "rename", "destroy", "set", "inherit", "hold", "release", "bookmark", "promote"}


def test_all_is_well_for_a_job_with_its_own_key_at_a_confined_receiver(client: Client, site: Site) -> None:
    assert client.setup("--install", "--append-only").status == 0
    client.forget_host()
    before = [state.guids("src" if state is site.sender else site.pool) for state in (site.sender, site.receiver)]
    found = look(client)
    assert (found.status, found.verdict) == (0, "ok"), found.rows
    assert found.of("agent")["text"].startswith("a confined receiver, zfsync ")
    assert found.of("key")["text"].startswith(f"the job's own key {keys.key_of('web')}, ED25519 SHA256:")
    assert client.host_print in found.of("host key")["text"]
    assert found.of("sessions")["text"].startswith("5 at once")
    assert found.of("zfs")["text"] == "zfs-2.3.1-1, zfs-kmod-2.3.1-1"
    assert "not there yet" in found.of("target")["text"]
    assert found.of("source", "this machine")["text"] == "src/tree is there, newest @1"
    for state in (site.sender, site.receiver):
        assert not CHANGING & {command[0] for command in state.commands()}
    assert before == [
        state.guids("src" if state is site.sender else site.pool) for state in (site.sender, site.receiver)
    ]
    site.nothing_is_left()


def test_an_ordinary_account_is_looked_at_as_well(client: Client, site: Site) -> None:
    place = f"127.0.0.1:{site.root}"
    way = ["-p", str(client.sshd.port), "-i", str(site.keys.user), "-F", f"{site.directory}/ssh_config"]
    found = Checks(client.zfsync(["doctor", place, *way, "--json"]))
    assert (found.status, found.verdict) == (0, "ok"), found.rows
    assert found.of("agent")["text"].startswith("the agent, ")
    assert "in known_hosts" in found.of("host key")["text"]
    assert {row["where"] for row in found.rows} == {place}


def test_it_is_told_in_words(client: Client, site: Site) -> None:
    run = client.zfsync(["doctor", "--job", "web", "--config", str(client.config)])
    assert run.status == 1
    lines = run.out.splitlines()
    assert lines[0] == "this machine: src/tree"
    assert f"127.0.0.1:{site.root}" in lines
    assert any(line.startswith("  problem  login") for line in lines)
    assert any(
        f"-> A key for the job alone: zfsync key setup 127.0.0.1:{site.root} --job web" in line for line in lines
    )
    assert lines[-1] == "A run would fail: 1 problem."


def test_a_login_that_is_refused(client: Client) -> None:
    assert client.setup().status == 0
    found = look(client)
    assert (found.status, found.bad) == (1, ["login"])
    assert "refused the job's key" in found.of("login")["text"]


def test_a_host_key_that_is_not_trusted(client: Client, site: Site) -> None:
    assert client.setup("--install").status == 0
    other = " ".join(site.keys.other.with_suffix(".pub").read_text().split()[:2])
    keys.known_hosts().write_text(f"[127.0.0.1]:{client.sshd.port} {other}\n")
    logins = client.sshd.logins
    found = look(client)
    assert (found.status, found.bad, client.sshd.logins) == (1, ["host key"], logins)


def test_a_host_that_does_not_answer(client: Client) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    found = look(client, "--port", str(port))
    assert (found.status, found.bad) == (1, ["connection"])


def test_a_key_that_others_can_read(client: Client) -> None:
    assert client.setup("--install").status == 0
    keys.key_of("web").chmod(0o644)
    found = look(client)
    assert found.bad == ["key"]
    assert found.of("key")["remedy"] == f"chmod 600 {keys.key_of('web')}"


def test_a_pool_and_a_source_that_are_not_there(client: Client, site: Site) -> None:
    assert client.setup("--install").status == 0
    site.receiver.destroy(site.pool)
    site.sender.destroy("src/tree")
    found = look(client)
    assert (found.status, found.bad) == (1, ["source", "target"])
    assert found.of("target")["text"] == f"There is no pool {site.pool}"


def test_a_host_without_zfs(client: Client, site: Site) -> None:
    assert client.setup("--install", "--unconfined").status == 0
    site.script("far/zfs", "echo The ZFS modules are not loaded. >&2; exit 1")
    found = look(client)
    assert (found.status, found.bad) == (1, ["zfs"])
    assert "no working zfs" in next(row for row in found.rows if row["level"] == "problem")["text"]


def test_a_host_without_python(client: Client, site: Site) -> None:
    assert client.setup("--install", "--unconfined").status == 0
    found = look(client, "--remote-python", "/no/such/python")
    assert (found.status, found.bad) == (1, ["agent"])
    assert "no python3" in found.of("agent")["text"]


def test_fewer_sessions_than_a_run_wants(client: Client, site: Site) -> None:
    sshd = site.sshd(AuthorizedKeysFile=str(client.account), MaxSessions="2")
    client.config.write_text(client.config.read_text().replace(f"{client.sshd.port}", f"{sshd.port}"))
    assert client.setup("--install").status == 0
    found = look(client)
    assert (found.status, found.verdict) == (0, "warning")
    assert found.of("sessions")["text"].startswith("sshd gives 2 at once, and a run wants 5")


def test_no_session_at_all(client: Client, site: Site) -> None:
    sshd = site.sshd(AuthorizedKeysFile=str(client.account), MaxSessions="0")
    way = ["-p", str(sshd.port), "-i", str(site.keys.user), "-F", f"{site.directory}/ssh_config"]
    found = Checks(client.zfsync(["doctor", f"127.0.0.1:{site.root}", *way, "--json"]))
    assert (found.status, found.bad) == (1, ["connection"])
    assert "MaxSessions" in found.of("connection")["text"]


@pytest.mark.usefixtures("agent")
def test_an_ssh_agent_is_not_asked_because_cron_has_none(client: Client) -> None:
    found = look(client)
    assert found.bad == ["login"]
    assert "cron has no agent" in found.of("login")["remedy"]


def test_a_job_that_pulls_is_looked_at_from_its_source_on(client: Client, site: Site) -> None:
    site.receiver.create(f"{site.pool}/tree")
    site.receiver.snapshot(f"{site.pool}/tree@1")
    text = client.config.read_text().replace('"src/tree"', "X").replace(f'"127.0.0.1:{site.root}"', '"src/tree"')
    client.config.write_text(text.replace("X", f'"127.0.0.1:{site.root}"'))
    assert client.setup("--install", "--read-only").status == 0
    found = look(client)
    assert (found.status, found.verdict) == (0, "ok"), found.rows
    assert found.of("source")["text"] == f"{site.root} is there, newest @1"
    assert "src/tree is there" in found.of("target", "this machine")["text"]


def test_a_job_that_pulls_runs_by_a_key_that_may_only_read(client: Client, site: Site) -> None:
    site.receiver.create(f"{site.pool}/tree")
    site.receiver.snapshot(f"{site.pool}/tree@1")
    site.sender.create("here")
    site.script("far/zfs", f"export FAKEZFS_RECORDS=1\n{site.zfs_there}")
    text = client.config.read_text().replace('"src/tree"', f'"127.0.0.1:{site.root}"')
    text = text.replace(f'target = "127.0.0.1:{site.root}"', 'target = "here/copy"')
    client.config.write_text(f"{text}no-hold = true\nno-bookmark = true\n")
    assert client.setup("--install", "--read-only").status == 0
    run = client.run_job()
    assert (run.status, run.err) == (0, ""), run
    assert site.sender.guids("here/copy") == site.receiver.guids(site.root)


def test_a_place_that_the_job_does_not_go_to_is_a_mistake(client: Client) -> None:
    run = client.zfsync(["doctor", "elsewhere:p/x", "--job", "web", "--config", str(client.config)])
    assert run.status == 2
    assert "has nothing to do with elsewhere:p/x" in run.sentence
    assert client.zfsync(["doctor"]).status == 2
