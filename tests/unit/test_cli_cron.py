"""The commands config and cron, with a crontab and a systemctl made for the test."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.unit.test_crontab import FAKE
from zfsync_ssh import state
from zfsync_ssh.cli import main
from zfsync_ssh.config_example import example
from zfsync_ssh.history import History, Run

SYSTEMCTL = """#!/bin/sh
echo "$@" >> "$0.log"
[ ! -e "$0.fail" ] || case "$*" in *"$(cat "$0.fail")"*) echo "no bus." >&2; exit 1;; esac
"""
"""Fails for every command line that has the words of a file beside it in it."""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with a configuration, and programs of its own before all others."""
    for name, text in (("crontab", FAKE), ("systemctl", SYSTEMCTL)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    path = tmp_path / ".config/zfsync/zfsync.toml"
    path.parent.mkdir(parents=True)
    path.write_text(example() + '[job.plain]\nsource = "tank/a"\ntarget = "usb/a"\n')
    path.chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    for variable in ("XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr("sys.argv", ["/usr/lib/pytest"])
    monkeypatch.setattr("zfsync_ssh.systemd.unit_directory", lambda *, root, home: home / "units")
    return tmp_path


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err.removeprefix("zfsync: ").strip()


def test_a_configuration_is_checked(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "check"]) == 0
    assert capsys.readouterr().out == f"{home}/.config/zfsync/zfsync.toml: 2 jobs, all well: web, plain\n"


def test_all_that_is_wrong_with_it_is_told_a_line_each(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = home / "bad.toml"
    path.write_text('[job.a]\nsource = "x"\nport = 0\ntarget = "y"\nprot = 1\n')
    path.chmod(0o600)
    assert main(["config", "check", "--config", str(path)]) == 2
    assert [line.split(" ")[:2] for line in capsys.readouterr().err.splitlines()] == [
        ["zfsync:", f"{path}:3:"],
        ["zfsync:", f"{path}:5:"],
    ]


def test_the_example_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "example"]) == 0
    assert capsys.readouterr().out == example()


def test_a_job_is_put_into_the_crontab_listed_and_removed(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cron", "install", "web"]) == 0
    assert capsys.readouterr().out == "web runs at */15 * * * *.\n"
    assert main(["cron", "list"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    job, when, command = line.split("\t")
    assert (job, when) == ("web", "*/15 * * * *")
    assert main(["cron", "install", "web", "--systemd"]) == 2
    assert said(capsys) == "web runs by the crontab already: 'zfsync cron remove web' first."
    assert not (home / "units").exists()
    assert command.endswith(f"{sys.executable} -m zfsync_ssh cron run web")
    assert main(["cron", "remove", "web"]) == 0
    assert main(["cron", "remove", "web"]) == 2
    assert said(capsys) == "The crontab has no line for a job web: 'zfsync cron list' shows those there are."


def test_a_job_that_is_removed_for_good_is_forgotten(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    history = History(state.state_directory())
    for job in ("web", "gone"):
        history.add(Run(job, "usb/a", 1, 2, 0))
    assert main(["cron", "install", "web"]) == 0
    assert main(["cron", "remove", "web"]) == 0
    assert history.runs("web")
    assert main(["cron", "install", "web"]) == 0
    for job in ("web", "gone"):  # one with a line, and one whose line has gone before
        assert main(["cron", "remove", job, "--forget"]) == 0
        assert not history.runs(job)
    assert main(["cron", "list"]) == 0
    capsys.readouterr()
    assert main(["cron", "remove", "web", "--forget"]) == 2
    assert said(capsys).startswith("The crontab has no line for a job web: ")


def test_the_line_names_the_program_and_the_file_in_full(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program = home / "zfsync"
    program.touch(0o755)
    monkeypatch.chdir(home)
    monkeypatch.setattr("sys.argv", ["./zfsync"])
    file = ".config/zfsync/zfsync.toml"
    assert main(["cron", "install", "plain", "--schedule", "daily", "--config", file]) == 0
    assert (
        home / "crontab.tab"
    ).read_text() == f"0 0 * * * {program} cron run plain --config {home / file} # zfsync:plain\n"


@pytest.mark.parametrize("by", [[], ["--systemd"]])
def test_what_is_installed_looks_for_its_files_where_this_shell_does(
    home: Path, monkeypatch: pytest.MonkeyPatch, by: list[str]
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(home / "my 100%"))
    assert main(["cron", "install", "web", *by]) == 0
    if by:
        start = (home / "units/zfsync-web.service").read_text().partition("ExecStart=")[2]
        assert start.startswith(f'/usr/bin/env "XDG_STATE_HOME={home}/my 100%%" XDG_CONFIG_HOME={home}/.config ')
    else:
        (line,) = (home / "crontab.tab").read_text().splitlines()
        assert f" /usr/bin/env 'XDG_STATE_HOME={home}/my 100\\%' XDG_CONFIG_HOME={home}/.config " in line


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["wep"], "There is no job 'wep' in {}: did you mean web."),
        (["plain"], "Job plain has no schedule: give it one in {}, or --schedule."),
        (["web", "--schedule", "every 7m"], "--schedule: cron cannot run something every 7m: "),
    ],
)
def test_what_cannot_be_installed_is_told(
    home: Path, capsys: pytest.CaptureFixture[str], argv: list[str], sentence: str
) -> None:
    assert main(["cron", "install", *argv]) == 2
    assert said(capsys).startswith(sentence.format(home / ".config/zfsync/zfsync.toml"))
    assert not (home / "crontab.tab").exists()


def test_a_job_is_made_a_timer_and_no_more(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    user = [] if os.geteuid() == 0 else ["--user"]
    assert main(["cron", "install", "web", "--systemd"]) == 0
    service, timer = (home / "units/zfsync-web.service"), (home / "units/zfsync-web.timer")
    assert "cron run web --no-jitter\n" in service.read_text()
    assert "RandomizedDelaySec=30\n" in timer.read_text()
    (home / "units/other.timer").write_text("[Timer]\nOnCalendar=daily\n")
    capsys.readouterr()
    assert main(["cron", "list"]) == 0
    assert capsys.readouterr().out == "web\t*-*-* *:0,15,30,45:00\tby systemd\n"
    assert main(["cron", "install", "web"]) == 2
    assert said(capsys) == "web runs by a systemd timer already: 'zfsync cron remove web --systemd' first."
    assert main(["cron", "remove", "web", "--systemd"]) == 0
    assert not service.exists()
    assert not timer.exists()
    asked = (home / "systemctl.log").read_text().splitlines()
    words = ["daemon-reload", "enable --now zfsync-web.timer", "disable --now zfsync-web.timer", "daemon-reload"]
    assert asked == [" ".join([*user, word]) for word in words]
    assert main(["cron", "remove", "web", "--systemd"]) == 2
    assert not (home / "crontab.tab").exists()


@pytest.mark.parametrize("words", ["daemon-reload", "enable --now zfsync-web.timer", "e"])
def test_what_systemctl_refuses_is_told_and_is_not_installed(
    home: Path, capsys: pytest.CaptureFixture[str], words: str
) -> None:
    (home / "systemctl.fail").write_text(words)
    assert main(["cron", "install", "web", "--systemd"]) == 2
    refused = "daemon-reload" if words == "e" else words
    assert said(capsys) == f"'systemctl {refused}' failed: no bus. So its units were removed again."
    assert list((home / "units").iterdir()) == []
    assert main(["cron", "install", "web"]) == 0


def test_a_timer_that_works_stays_when_another_cannot_be_had(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cron", "install", "web", "--systemd"]) == 0
    before = {path.name: path.read_text() for path in (home / "units").iterdir()}
    (home / "systemctl.fail").write_text("daemon-reload")
    assert main(["cron", "install", "web", "--systemd", "--schedule", "daily"]) == 2
    assert said(capsys).endswith("So its units stay as they were.")
    assert {path.name: path.read_text() for path in (home / "units").iterdir()} == before


@pytest.mark.parametrize("words", ["disable --now zfsync-web.timer", "daemon-reload"])
def test_units_go_whatever_systemctl_says(home: Path, capsys: pytest.CaptureFixture[str], words: str) -> None:
    assert main(["cron", "install", "web", "--systemd"]) == 0
    (home / "systemctl.fail").write_text(words)
    capsys.readouterr()
    assert main(["cron", "remove", "web", "--systemd"]) == 2
    assert said(capsys) == f"'systemctl {words}' failed: no bus."
    assert list((home / "units").iterdir()) == []


# ---- cron run --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["wep"], "There is no job 'wep' in {}: did you mean web."),
        (
            ["web", "--keep", "daily=3", "--channels", "2"],
            "--keep, --channels cannot be given for a job of the configuration: say it there, or name a TARGET.",
        ),
        (["web", "--wait", "soon"], "--wait: 'soon' is no span of time: write it as 30s, 15m, 48h, 2d or 1w."),
        (["tank/a", "tank/a/b"], "--target: tank/a/b is part of the source tank/a itself: choose another."),
        (["tank/a", "usb/a", "--keep", "daily"], "--keep: 'daily' is not one of "),
        (["tank/a", "usb/a", "--skip-unwritten"], "--skip-unwritten: it is about snapshots, and without keep "),
        (["tank/a", "usb/a", "--identity", "/no/such/key"], "There is no key /no/such/key."),
    ],
)
def test_what_cannot_be_run_is_told(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, argv: list[str], sentence: str
) -> None:
    monkeypatch.setenv(state.VARIABLE, str(home / "state"))
    assert main(["cron", "run", *argv]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert sentence.format(home / ".config/zfsync/zfsync.toml") in err


def test_every_wrong_option_of_a_job_is_told_on_a_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cron", "run", "tank/a", "usb/a", "--keep", "x", "--rate-limit", "y", "--wait", "z"]) == 2
    assert [line.split(" ")[:2] for line in capsys.readouterr().err.splitlines()] == [
        ["zfsync:", "--keep:"],
        ["zfsync:", "--rate-limit:"],
        ["zfsync:", "--wait:"],
    ]
