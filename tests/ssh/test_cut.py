"""What becomes of a push that is cut off somewhere amid its streams, and of the next one."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from tests.ssh.processes import Running, eventually, of_connections
from tests.ssh.relay import relay_to
from tests.ssh.site import AT_ONCE, Run, Site, Sshd
from zfsync_ssh import transport
from zfsync_ssh.aftermath import Aftermath

Zfsync = Callable[[list[str]], Run]
Pushing = Callable[..., subprocess.Popen[str]]

LARGE, SMALL = 8 << 20, 100_000
PART = 1 << 20
"""More than python reads when it starts."""
SLOW_SECONDS = 0.015
"""For each 64 KiB: a large dataset takes some seconds, unless it is cut off."""


@pytest.fixture
def pushing(site: Site) -> Pushing:
    """Starts a push of the datasets ``a`` and ``b`` and waits until a part of the large ones has been received."""

    def start(port: int, *more: str, b: int = LARGE) -> subprocess.Popen[str]:
        site.tree("a", size=LARGE)
        site.tree("b", size=b)
        site.be_slow(SLOW_SECONDS)
        run = site.start(site.arguments(port, *AT_ONCE, *more))
        for child in "ab" if b == LARGE else "a":
            receiving(site, child)
        site.be_slow(0)
        return run

    return start


def receiving(site: Site, child: str) -> Running:
    """The `zfs receive` of ``child``, as soon as it has received a part."""

    def look() -> Running | None:
        receive = site.receives(child)
        return receive if receive and receive.bytes_read > PART else None

    return eventually(f"a part of {child} is received", look)


def goes_on(site: Site, sshd: Sshd, zfsync: Zfsync, resumed: int) -> None:
    """Check that the next run makes it complete, with so many streams that go on where they were cut off."""
    eventually("all processes there have ended", lambda: not site.far)
    run = zfsync(site.arguments(sshd.port))
    assert (run.status, run.err) == (0, "")
    assert site.arrived
    assert site.resumed == resumed
    site.nothing_is_left()


# -- agents --


def test_an_agent_that_is_killed_costs_its_own_dataset_only(
    site: Site, sshd: Sshd, zfsync: Zfsync, pushing: Pushing
) -> None:
    for child in "cde":  # which wait for a channel, and are not for the one that is dead by then
        site.tree(child)
    # b takes as long: the fake zfs would let the buffer be destroyed below what is left of the receive of a
    started = pushing(sshd.port, "--channels", "2", "--json")
    eventually("a has an agent", lambda: site.agent_of("a")).kill()
    run = site.wait(started)
    assert (run.status, run.err) == (3, "")  # and no future was forgotten
    assert {name: outcome["status"] for name, outcome in run.outcomes.items()} == {
        "tree": "sent",
        "tree/a": "failed",
        **dict.fromkeys(("tree/b", "tree/c", "tree/d", "tree/e"), "sent"),
    }
    assert run.outcomes["tree/a"]["code"] == "lost"
    assert run.outcomes["tree/a"]["message"].startswith("The agent on 127.0.0.1 has gone: ")
    assert run.events[-1]["exit_code"] == 3
    assert not site.lock.exists()
    goes_on(site, sshd, zfsync, resumed=1)


def test_a_receive_that_is_killed_costs_its_own_dataset_only(
    site: Site, sshd: Sshd, zfsync: Zfsync, pushing: Pushing
) -> None:
    started = pushing(sshd.port, "--channels", "2", "--json", b=SMALL)
    receiving(site, "a").kill()
    run = site.wait(started)
    assert (run.status, run.err) == (3, "")
    assert run.outcomes["tree/a"]["status"] == "failed"
    assert run.outcomes["tree/b"]["status"] == run.outcomes["tree"]["status"] == "sent"
    goes_on(site, sshd, zfsync, resumed=0)


def test_a_control_agent_that_is_killed_ends_the_run_after_the_streams(site: Site, sshd: Sshd, zfsync: Zfsync) -> None:
    site.tree("a", size=LARGE)
    with site.held():
        started = site.start(site.arguments(sshd.port, *AT_ONCE, "--channels", "2", "--json"))
        eventually("a is being received", lambda: site.receives("a"))
        eventually("the control agent has the lock", lambda: site.control_agent).kill()
    run = site.wait(started)
    assert run.status == 6
    assert run.sentence.startswith("The agent on 127.0.0.1 has gone: ")
    assert {outcome["status"] for outcome in run.outcomes.values()} == {"sent"}
    assert site.lock.exists()  # and free: what is killed cannot tidy up
    goes_on(site, sshd, zfsync, resumed=0)


def test_without_any_agent_left_the_run_ends(site: Site, sshd: Sshd, zfsync: Zfsync, pushing: Pushing) -> None:
    started = pushing(sshd.port, "--channels", "2", "--json")
    agents = site.agents
    assert len(agents) == 3
    for agent in agents:
        agent.kill()
    run = site.wait(started)
    assert run.status == 6
    assert "zfsync: The agent on 127.0.0.1 has gone: " in run.err
    assert {run.outcomes[name]["status"] for name in ("tree/a", "tree/b")} == {"failed"}
    goes_on(site, sshd, zfsync, resumed=2)


# -- the connection --


def test_a_connection_that_is_reset_ends_everything(site: Site, sshd: Sshd, zfsync: Zfsync, pushing: Pushing) -> None:
    with relay_to(sshd.port) as relay:
        site.trust(site.keys.host, relay.port)
        started = pushing(relay.port)
        relay.cut()
        run = site.wait(started)
    assert run.status == 5
    assert run.err.splitlines()[-1] == (
        "zfsync: The connection to 127.0.0.1 was lost: run the same command again, and it goes on where it was cut off."
    )
    assert "Traceback" not in run.err
    site.nothing_is_left()
    goes_on(site, sshd, zfsync, resumed=2)


def test_a_connection_that_is_reset_after_the_streams_is_called_lost_as_well(
    site: Site, sshd: Sshd, zfsync: Zfsync, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.tree("a", size=SMALL)
    clean_buffer = Aftermath.clean_buffer

    async def cut_before(self: Aftermath, *more: Any) -> None:
        relay.cut()
        await clean_buffer(self, *more)

    monkeypatch.setattr(Aftermath, "clean_buffer", cut_before)
    with relay_to(sshd.port) as relay:
        site.trust(site.keys.host, relay.port)
        run = zfsync(site.arguments(relay.port, *AT_ONCE))
    assert run.status == 5
    assert run.err.splitlines()[-1].startswith("zfsync: The connection to 127.0.0.1 was lost: ")
    site.nothing_is_left()


def test_an_sshd_that_is_killed_ends_everything(site: Site, sshd: Sshd, zfsync: Zfsync, pushing: Pushing) -> None:
    started = pushing(sshd.port)
    for pid in of_connections(sshd.pid):
        Running(pid, sshd.pid, ()).kill()
    run = site.wait(started)
    assert run.status == 5
    assert run.err.splitlines()[-1].startswith("zfsync: The connection to 127.0.0.1 was lost: ")
    assert "Traceback" not in run.err
    site.nothing_is_left()
    goes_on(site, sshd, zfsync, resumed=2)


def test_a_connection_that_falls_silent_is_given_up(
    site: Site, sshd: Sshd, zfsync: Zfsync, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "KEEPALIVE_SECONDS", 0.2)
    monkeypatch.setattr(transport, "KEEPALIVE_COUNT", 2)
    site.tree("a", size=LARGE)
    with relay_to(sshd.port, silent_after=LARGE // 4) as relay:
        site.trust(site.keys.host, relay.port)
        run = zfsync(site.arguments(relay.port, *AT_ONCE))
    assert run.status == 5
    assert run.err.splitlines()[-1].startswith("zfsync: The connection to 127.0.0.1 was lost: ")
    site.nothing_is_left()
    goes_on(site, sshd, zfsync, resumed=1)


# -- signals --


@pytest.mark.parametrize("numbers", [[signal.SIGINT], [signal.SIGTERM], [signal.SIGINT] * 3])
def test_an_interrupted_run_tidies_up(
    numbers: list[signal.Signals], site: Site, sshd: Sshd, zfsync: Zfsync, pushing: Pushing
) -> None:
    started = pushing(sshd.port)
    for number in numbers:
        started.send_signal(number)
    run = site.wait(started)
    assert run.status == 130
    *others, last = run.err.splitlines()
    assert last == "zfsync: interrupted: the next run goes on where this one stopped."
    for line in others:
        assert "FAILED" in line
        assert line.endswith("was not finished: the next run goes on with it.")
    site.nothing_is_left()
    goes_on(site, sshd, zfsync, resumed=2)
