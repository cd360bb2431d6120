"""Two runs to the same target at once."""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Callable

from tests.ssh.processes import eventually
from tests.ssh.site import AT_ONCE, Run, Site, Sshd

Zfsync = Callable[[list[str]], Run]


def first_run(site: Site, sshd: Sshd) -> subprocess.Popen[str]:
    """A run that is amid its streams."""
    site.tree("a")
    run = site.start(site.arguments(sshd.port, *AT_ONCE))
    eventually("the first run sends", lambda: site.receives("a"))
    return run


def test_the_second_of_two_runs_ends_and_says_who_the_first_is(site: Site, sshd: Sshd, zfsync: Zfsync) -> None:
    with site.held():
        first = first_run(site, sshd)
        second = zfsync(site.arguments(sshd.port))
        assert second.status == 4
        assert re.fullmatch(
            rf"127\.0\.0\.1:{site.root} is locked by zfsync on {re.escape(socket.gethostname())}, pid {first.pid}, "
            r"since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC: wait for it to end, or end it\.",
            second.sentence,
        )
        assert zfsync(["cleanbuffer", *site.arguments(sshd.port)[2:]]).status == 4
    ended = site.wait(first)
    assert (ended.status, ended.err) == (0, "")
    assert site.arrived
    assert not site.lock.exists()


def test_a_dry_run_and_another_target_need_not_wait(site: Site, sshd: Sshd, zfsync: Zfsync) -> None:
    with site.held():
        first = first_run(site, sshd)
        assert zfsync(site.arguments(sshd.port, "--dry-run")).status == 0
        arguments = site.arguments(sshd.port, "--no-recursive")
        assert zfsync([word.replace(site.root, f"{site.pool}/other") for word in arguments]).status == 0
        assert first.poll() is None
    assert list(site.receiver.guids(f"{site.pool}/other")) == [""]
    assert site.wait(first).status == 0


def test_the_lock_of_a_run_that_was_killed_is_free(site: Site, sshd: Sshd, zfsync: Zfsync) -> None:
    with site.held():
        first = first_run(site, sshd)
        first.kill()
        site.wait(first)
        eventually("the lock is free", lambda: not site.lock.exists())
    eventually("all processes there have ended", lambda: not site.far)
    second = zfsync(site.arguments(sshd.port))
    assert (second.status, second.err) == (0, "")
    assert site.arrived
    site.nothing_is_left()
