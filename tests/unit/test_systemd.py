"""A job as units of systemd."""

from __future__ import annotations

import shutil
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest

from zfsync_ssh.schedule import parse_schedule
from zfsync_ssh.systemd import unit_directory, unit_names, units

ARGV = ["/usr/bin/env", "cron", "run", "my web", "100%", "$HOME", 'a"b\\c']


def test_the_pair_starts_the_job_when_the_schedule_says() -> None:
    made = units("web", ARGV, parse_schedule("every 15m"), jitter=timedelta(seconds=30))
    assert tuple(made) == unit_names("web") == ("zfsync-web.service", "zfsync-web.timer")
    service, timer = made.values()
    assert 'ExecStart=/usr/bin/env cron run "my web" "100%%" "$$HOME" "a\\"b\\\\c"\n' in service
    assert "Type=oneshot\n" in service
    assert "After=network-online.target\n" in service
    assert "OnCalendar=*-*-* *:0,15,30,45:00\n" in timer
    assert "RandomizedDelaySec=30\n" in timer
    assert "WantedBy=timers.target\n" in timer


def test_without_jitter_there_is_no_delay_and_a_user_has_no_network_target() -> None:
    service, timer = units("web", ARGV, parse_schedule("0 3 13 * 5"), user=True).values()
    assert "RandomizedDelaySec" not in timer
    assert timer.count("OnCalendar=") == 2
    assert "network" not in service


def test_units_lie_where_the_manager_looks() -> None:
    assert unit_directory(root=True, home=Path("/root")) == Path("/etc/systemd/system")
    assert unit_directory(root=False, home=Path("/home/ann")) == Path("/home/ann/.config/systemd/user")


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd here")
def test_systemd_itself_finds_nothing_wrong(tmp_path: Path) -> None:
    made = units("web", ARGV, parse_schedule("every 15m"), jitter=timedelta(minutes=1))
    for name, text in made.items():
        (tmp_path / name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *(str(tmp_path / name) for name in made)],
        capture_output=True,
        text=True,
    )
    assert "zfsync" not in done.stderr
