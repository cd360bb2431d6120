"""The command status, offline: what it prints of a history of runs, and its exit code."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from zfsync_ssh import state
from zfsync_ssh.cli import main, status
from zfsync_ssh.history import DatasetRun, History, Run

CONFIG = """\
[job.web]
source = "tank/web"
target = "backup:pool/web"
keep = "hourly=3"

[job.db]
source = "tank/db"
target = "backup:pool/db"
keep = "hourly=3"
"""


@pytest.fixture
def history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> History:
    """An empty one, beside a configuration with two jobs."""
    path = tmp_path / ".config/zfsync/zfsync.toml"
    path.parent.mkdir(parents=True)
    path.write_text(CONFIG)
    path.chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv(state.VARIABLE, str(tmp_path / "state"))
    (tmp_path / "state").mkdir()
    return History(tmp_path / "state")


def remember(history: History, job: str, *, hours: float, exit_code: int = 0, message: str = "") -> None:
    """A run of ``job`` that ended so many hours ago."""
    ended, target = time.time() - 3600 * hours, f"backup:pool/{job}"
    outcome = DatasetRun(job, target, f"tank/{job}", ended, bool(exit_code), 7, "new", "new", message)
    history.add(Run(job, target, ended - 1, ended, exit_code, 7, message), [outcome])


def asked(*words: str) -> int:
    return main(["status", "--offline", *words])


def test_nothing_is_known_before_the_first_run(history: History, capsys: pytest.CaptureFixture[str]) -> None:
    assert asked("--warn", "1h") == 3
    assert capsys.readouterr().out == "ZFSYNC UNKNOWN: no run is known yet\n"


def test_a_copy_is_fine_then_a_warning_then_critical(history: History, capsys: pytest.CaptureFixture[str]) -> None:
    remember(history, "web", hours=5)
    limits = (("6h", "1d"), ("4h", "1d"), ("1h", "2h"))
    assert [asked("web", "--warn", warn, "--crit", crit) for warn, crit in limits] == [0, 1, 2]
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["ZFSYNC OK", "ZFSYNC WARNING", "ZFSYNC CRITICAL"]
    assert "tank/web" in lines[2]


def test_without_limits_a_run_that_failed_is_the_worst_of_all_jobs(
    history: History, capsys: pytest.CaptureFixture[str]
) -> None:
    remember(history, "web", hours=1)
    assert asked("web") == 0
    remember(history, "db", hours=1, exit_code=5, message="backup cannot be reached.")
    assert asked() == 2
    out = capsys.readouterr().out
    assert "web to backup:pool/web: last run " in out
    assert "db to backup:pool/db: last run " in out
    assert "backup cannot be reached." in out
    assert asked("web") == 0  # only those that are named


def test_a_run_that_failed_makes_the_copy_no_older_than_the_last_good_one(
    history: History, capsys: pytest.CaptureFixture[str]
) -> None:
    remember(history, "web", hours=5)
    remember(history, "web", hours=1, exit_code=3, message="no space")
    assert [asked("web", "--warn", "4h", "--crit", crit) for crit in ("6h", "4h")] == [1, 2]
    assert "what is there is 5h old: no space" in capsys.readouterr().out


def test_json_is_one_document(history: History, capsys: pytest.CaptureFixture[str]) -> None:
    remember(history, "web", hours=1, exit_code=3, message="tank/web failed.")
    assert asked("web", "--json") == 2
    document = json.loads(capsys.readouterr().out)
    assert (document["verdict"], document["problems"]) == ("CRITICAL", [])
    (target,) = document["targets"]
    assert (target["job"], target["target"], target["last_exit_code"], target["failures"]) == (
        "web",
        "backup:pool/web",
        3,
        1,
    )


def test_metrics_go_to_their_file_and_nothing_is_printed(
    history: History, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    remember(history, "web", hours=1)
    assert asked("web", "--prometheus", str(tmp_path / "m.prom")) == 0
    assert capsys.readouterr().out == ""
    metrics = (tmp_path / "m.prom").read_text()
    assert 'zfsync_last_run_exit_code{target="backup:pool/web",zfsync_job="web"} 0.0' in metrics


def test_what_control_characters_say_is_shown_and_not_obeyed(
    history: History, capsys: pytest.CaptureFixture[str]
) -> None:
    remember(history, "web", hours=1, exit_code=7, message="bad \x1b[2J name.")
    assert asked("web") == 2
    assert "\x1b" not in capsys.readouterr().out


@pytest.mark.parametrize("words", [("--warn", "soon"), ("--crit", "0h1"), ("nosuchjob",)])
def test_what_cannot_be_asked_is_a_usage_error(
    history: History, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert asked(*words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words[-1] in line or words[0] in line


@pytest.mark.parametrize("words", [(), ("--warn", "1h"), ("--prometheus", "m.prom"), ("--json",)])
def test_a_side_that_could_not_be_asked_is_told_whatever_is_asked_for(
    history: History,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
) -> None:
    async def survey(*_: object, **__: object) -> tuple[list[object], list[str]]:
        return [], ["backup cannot be \x1b reached."]

    monkeypatch.setattr(status, "_survey", survey)
    monkeypatch.chdir(tmp_path)
    main(["status", *words])
    out, err = capsys.readouterr()
    if words == ("--json",):
        assert json.loads(out)["problems"] == ["backup cannot be \x1b reached."]
        assert err == ""
    else:
        assert len(err.splitlines()) == 1
        assert err.startswith("backup cannot be ")
        assert "\x1b" not in err
        assert "reached" not in out


def test_a_limit_that_would_never_warn_is_refused(history: History, capsys: pytest.CaptureFixture[str]) -> None:
    assert asked("--warn", "2d", "--crit", "1h") == 2
    assert capsys.readouterr().err == "zfsync: --warn 2d is more than --crit 1h: it would never warn.\n"
    remember(history, "web", hours=1)
    assert asked("web", "--warn", "2h", "--crit", "2h") == 0


def test_both_sides_are_asked_unless_it_is_offline(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = []

    async def survey(*_: object, look: bool) -> tuple[list[object], list[str]]:
        looked.append(look)
        return [], ["backup cannot be reached."]

    monkeypatch.setattr(status, "_survey", survey)
    assert main(["status"]) == 3
    assert asked() == 3
    assert looked == [True, False]
