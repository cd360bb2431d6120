"""Defects that were, one test for each."""

from __future__ import annotations

import signal
import socket

from tests.ssh.processes import eventually
from tests.ssh.site import AT_ONCE, ENDS_SECONDS, Site, Sshd
from tests.ssh.test_cut import LARGE, SLOW_SECONDS, Pushing, Zfsync, pushing, receiving  # noqa: F401


def test_a_failed_connection_leaves_no_zfs_list_behind(site: Site) -> None:
    site.script("near/zfs", "sleep 1")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert "Traceback" not in site.push(port).err
    assert "ResourceWarning" not in site.push(port).err


def test_connection_refused_in_words(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert "127.0.0.1 cannot be reached: Connection refused." in site.push(port).err


def test_no_future_is_forgotten(site: Site, sshd: Sshd, pushing: Pushing) -> None:  # noqa: F811
    for child in "cde":
        site.tree(child)
    started = pushing(sshd.port, "--channels", "2", "--json")
    eventually("a has an agent", lambda: site.agent_of("a")).kill()
    assert site.wait(started).err == ""


def test_a_dead_channel_takes_no_more_datasets(site: Site, sshd: Sshd, pushing: Pushing) -> None:  # noqa: F811
    for child in "cde":
        site.tree(child)
    started = pushing(sshd.port, "--channels", "2", "--json")
    eventually("a has an agent", lambda: site.agent_of("a")).kill()
    run = site.wait(started)
    assert [name for name, outcome in run.outcomes.items() if outcome["status"] == "failed"] == ["tree/a"]


def test_a_reader_that_goes_away_is_no_failure(site: Site, sshd: Sshd) -> None:
    site.tree("a")
    run = site.start(site.arguments(sshd.port, *AT_ONCE))
    assert run.stdout is not None
    run.stdout.readline()
    run.stdout.close()
    assert run.stderr is not None
    said = run.stderr.read()
    assert (run.wait(ENDS_SECONDS), said) == (0, "")


def test_an_interrupt_before_the_hello_ends_the_run_at_once(site: Site) -> None:
    site.tree()
    sshd = site.sshd(ForceCommand="exec sleep 60")
    started = site.start(site.arguments(sshd.port, *AT_ONCE))
    eventually("session", lambda: site.far and len(site.near) == 1 and len(site.sender.commands()) == 2)
    started.send_signal(signal.SIGTERM)
    run = site.wait(started)
    assert (run.status, run.sentence) == (130, "interrupted: the next run goes on where this one stopped.")


def test_an_empty_buffer_goes(site: Site, sshd: Sshd, zfsync: Zfsync) -> None:
    site.tree("a")
    site.receiver.create(site.root + ".zfsyncbuffer", **{"zfsync:placeholder": site.root + ".zfsyncbuffer"})
    assert zfsync(site.arguments(sshd.port, "--no-recursive")).status == 0
    assert zfsync(site.arguments(sshd.port)).status == 0
    assert site.receiver.guids(site.root + ".zfsyncbuffer") == {}
