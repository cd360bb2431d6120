"""What the configuration says of slips that are easy to make: how it would have been right."""

from __future__ import annotations

from pathlib import Path

import pytest

from zfsync_ssh.cli import main
from zfsync_ssh.config import job_of, parse
from zfsync_ssh.config_values import ConfigError

JOB = '[job.web]\nsource = "tank/web"\ntarget = "backup:pool/web"\n'


def problem(text: str) -> str:
    """The only one there is, without the file's name."""
    with pytest.raises(ConfigError) as caught:
        parse(text, Path("f"))
    (found,) = caught.value.problems
    return found.removeprefix("f:")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("wait = 10", 'wait: it has to be a span of time in quotes, as in "10m".'),
        ("delete-datasets = 30", 'delete-datasets: it has to be a span of time in quotes, as in "30d".'),
        ("delete-datasets = true", 'delete-datasets: it has to be a span of time in quotes, as in "30d".'),
        ("keep = {hourly=24}", 'keep: it has to be counts in quotes, as in "hourly=24,daily=30".'),
        (
            'keep = "hourly=24 daily=30"',
            "keep: 'hourly=24 daily=30' has no comma between its counts: write it as in hourly=24,daily=30.",
        ),
        ('port = "22"', "port: it has to be a number from 1 to 65535, without quotes."),
        ('port = "ssh"', "port: it has to be a number from 1 to 65535."),
        ('sudo = "true"', "sudo: it has to be true or false, without quotes."),
        ('exclude = ["/tmp"]', "exclude: '/tmp' matches no dataset: give 'tmp', relative to the source."),
        ('snapshots = ["@a"]', "snapshots: '@a' matches no snapshot: give 'a', what is after the @."),
        ("dry-run = true", "dry-run: it is an option for a person at a terminal: no job has it."),
        ("quiet = true", "quiet: it is an option for a person at a terminal: no job has it."),
        ("exclusion = 1", "exclusion: it is not known here: did you mean exclude."),
        ("hold = false", "hold: it is not known here: did you mean no-hold."),
        ("zzz = 1", "zzz: it is not known here: it is like none of the 47 there are."),
    ],
)
def test_a_slip_is_told_with_what_is_right(line: str, told: str) -> None:
    assert problem(f"{JOB}{line}\n") == f"4: job.web.{told}"


def test_a_job_keeps_none_of_the_class_that_it_never_takes_but_a_target_may() -> None:
    why = "a job takes no secondly snapshots, and leaves alone those that there are: leave it out"
    assert problem(f'{JOB}keep = "secondly=3,daily=2"\n') == f"4: job.web.keep: {why}."
    with pytest.raises(ConfigError, match=f"^--keep: {why}"):
        job_of({"source": "tank/web", "target": "usb/web", "keep": "secondly=3"})
    assert parse(f'{JOB}keep = "daily=2"\nkeep-target = "secondly=3,daily=2"\n', Path("f")).job("web")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[web]\nsource = "a"\ntarget = "b"\n', "1: web: the table of a job begins with [job.web]."),
        ("[job.x]\nsource = tank/web  # here\n", '2: it is not TOML: a text needs quotes: source = "tank/web".'),
        ("[job.x]\nwait = 10m\n", '2: it is not TOML: a text needs quotes: wait = "10m".'),
        ("[job.x]\nsudo = True\n", "2: it is not TOML: write sudo = true."),
        ("[job.x]\nexclude = [tmp]\n", "2: it is not TOML: invalid value, as a text without quotes is."),
    ],
)
def test_what_is_no_job_or_no_toml_is_told_with_what_is_right(text: str, told: str) -> None:
    assert problem(text) == told


def test_a_configuration_without_a_job_is_no_good(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "empty.toml"
    path.write_text("# nothing yet\n")
    path.chmod(0o600)
    for words in (["config", "check"], ["status"]):
        assert main([*words, "--config", str(path)]) == 2
        out, err = capsys.readouterr()
        assert (out, err) == ("", f"zfsync: There is no job in {path}: 'zfsync config example' shows one.\n")
