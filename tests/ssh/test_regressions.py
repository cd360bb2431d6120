"""Defects that were, one test for each."""

from __future__ import annotations

import signal
import socket

from tests.ssh.processes import eventually
from tests.ssh.site import AT_ONCE, ENDS_SECONDS, Site, Sshd
from tests.ssh.test_cut import Zfsync


def test_a_refused_connection_is_one_sentence_and_leaves_no_zfs_list_behind(site: Site) -> None:
    site.script("near/zfs", "exec sleep 60")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert "127.0.0.1 cannot be reached: Connection refused." in site.push(port).sentence
    site.nothing_is_left()


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
