"""The log of a job: a file that may be rotated at any time, syslog, and what happens when neither works."""

from __future__ import annotations

import syslog
from datetime import UTC, datetime
from pathlib import Path

import pytest

from zfsync_ssh.joblog import JobLog


def log(file: Path | None = None, *, to_syslog: bool = False) -> JobLog:
    return JobLog("web", file=file, to_syslog=to_syslog, now=lambda: datetime(2021, 1, 27, 6, 36, tzinfo=UTC))


def test_each_entry_is_a_line_with_the_time_and_the_job(tmp_path: Path) -> None:
    entries = log(tmp_path / "log")
    entries("took a")
    entries("said\nby \x1b[31mothers")
    assert (tmp_path / "log").read_text().splitlines() == [
        "2021-01-27 06:36:00+0000 web: took a",
        "2021-01-27 06:36:00+0000 web: said by  [31mothers",
    ]


def test_a_file_that_was_moved_away_is_begun_anew(tmp_path: Path) -> None:
    entries = log(tmp_path / "log")
    entries("one")
    (tmp_path / "log").rename(tmp_path / "log.1")
    entries("two")
    assert (tmp_path / "log.1").read_text().endswith("one\n")
    assert (tmp_path / "log").read_text().endswith("two\n")


def test_a_file_that_cannot_be_written_is_told_once_and_stops_nothing(tmp_path: Path) -> None:
    entries = log(tmp_path / "gone" / "log")
    entries("one")
    entries("two")
    assert entries.problems == [f"The log {tmp_path}/gone/log cannot be written: No such file or directory."]


def test_syslog_is_told_how_bad_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, str]] = []
    monkeypatch.setattr(syslog, "syslog", lambda level, text: told.append((level, text)))
    entries = log(to_syslog=True)
    entries("took a")
    entries("it is gone", failed=True)
    assert told == [(syslog.LOG_INFO, "web: took a"), (syslog.LOG_ERR, "web: it is gone")]


def test_without_either_nothing_is_told() -> None:
    log()("took a")
