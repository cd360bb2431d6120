"""When jobs run: what is read, and what systemd is told."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from zfsync_ssh.schedule import parse_schedule


@pytest.mark.parametrize(
    ("text", "fields", "calendar"),
    [
        ("every 1m", "* * * * *", ["*-*-* *:*:00"]),
        ("minutely", "* * * * *", ["*-*-* *:*:00"]),
        ("every 15m", "*/15 * * * *", ["*-*-* *:0,15,30,45:00"]),
        ("Every 1H", "0 * * * *", ["*-*-* *:0:00"]),
        ("every 60m", "0 * * * *", ["*-*-* *:0:00"]),
        ("hourly", "0 * * * *", ["*-*-* *:0:00"]),
        ("every 6h", "0 */6 * * *", ["*-*-* 0,6,12,18:0:00"]),
        ("daily", "0 0 * * *", ["*-*-* 0:0:00"]),
        ("@daily", "0 0 * * *", ["*-*-* 0:0:00"]),
        ("every 1d", "0 0 * * *", ["*-*-* 0:0:00"]),
        ("weekly", "0 0 * * 1", ["Mon *-*-* 0:0:00"]),
        ("monthly", "0 0 1 * *", ["*-*-1 0:0:00"]),
        ("yearly", "0 0 1 1 *", ["*-1-1 0:0:00"]),
        ("7,37  1-5 *  jan-feb mon-wed", "7,37 1-5 * jan-feb mon-wed", ["Mon,Tue,Wed *-1,2-* 1,2,3,4,5:7,37:00"]),
        ("0 0 * * 0,7", "0 0 * * 0,7", ["Sun *-*-* 0:0:00"]),
        ("0 3 13 * 5", "0 3 13 * 5", ["*-*-13 3:0:00", "Fri *-*-* 3:0:00"]),
        ("0 3 */2 * 5", "0 3 */2 * 5", ["Fri *-*-1,3,5,7,9,11,13,15,17,19,21,23,25,27,29,31 3:0:00"]),
        ("10-30/10 0 1 * *", "10-30/10 0 1 * *", ["*-*-1 0:10,20,30:00"]),
    ],
)  # fmt: skip
def test_a_schedule_is_read_and_told_to_systemd(text: str, fields: str, calendar: list[str]) -> None:
    schedule = parse_schedule(text)
    assert str(schedule) == fields
    assert list(schedule.calendar()) == calendar
    assert parse_schedule(str(schedule)) == schedule
    if shutil.which("systemd-analyze"):
        for line in calendar:
            subprocess.run(["systemd-analyze", "calendar", line], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "'' is no schedule: write five fields as in a crontab, 'every 15m', or one of minutely, hourly"),
        ("often", "'often' is no schedule"),
        ("@reboot", "is no schedule"),
        ("* * * *", "is no schedule"),
        ("* * * * * root", "is no schedule"),
        ("every", "is no schedule"),
        ("every 7m", "cron cannot run something every 7m: give a span that divides an hour or a day"),
        ("every 90m", "cron cannot run something every 90m"),
        ("every 5h", "cron cannot run"),
        ("every 2d", "cron cannot run"),
        ("every 30s", "cron cannot run"),
        ("every 0m", "cron cannot run"),
        ("every week", "'week' is no span of time"),
        ("60 * * * *", "'60' is no minute: it goes from 0 to 59"),
        ("* 24 * * *", "'24' is no hour"),
        ("* * 0 * *", "'0' is no day of the month: it goes from 1 to 31"),
        ("* * * 13 *", "'13' is no month"),
        ("* * * * 8", "'8' is no day of the week: it goes from 0 to 7"),
        ("* * * * fry", "'fry' is no day"),
        ("30-10 * * * *", "'30-10' is no minute"),
        ("*/0 * * * *", "'[*]/0' is no minute"),
        ("5/10 * * * *", "'5/10' is no minute: a step needs a range, as in [*]/10"),
        ("1,,2 * * * *", "'' is no minute"),
        ("~ * * * *", "'~' is no minute"),
        ("* * * * *\n* * * * *", "is no schedule"),
    ],
)
def test_what_is_none_is_refused(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse_schedule(text)
