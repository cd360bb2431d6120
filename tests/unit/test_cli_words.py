"""What the command line says of slips that are easy to make, and what its help says."""

from __future__ import annotations

import pytest

from tests.unit.test_cli import PUSH, outcome


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (
            ("restore", "backup:pool/data@monday", "tank/data"),
            "The snapshot is a word of its own: write backup:pool/data @monday tank/data.",
        ),
        (
            ("restore", "me@backup:pool/data@12:00", "tank/data"),
            "The snapshot is a word of its own: write me@backup:pool/data @12:00 tank/data.",
        ),
        (("restore", "tank/data", "@mon"), "TARGET is missing after @mon: say where to, as in tank/data."),
        (
            ("cron", "run", "tank/web", "--keep", "daily=3"),
            "TARGET is missing after tank/web: say where to, as in backup:pool/data.",
        ),
        ((*PUSH, "--exclude", "/home"), "--exclude: '/home' matches no dataset: give 'home', relative to the source."),
        ((*PUSH, "--snapshots", "@mon"), "--snapshots: '@mon' matches no snapshot: give 'mon', what is after the @."),
        (
            ("prune", "pool", "--keep", "daily=1", "--keep-at-least", "-1"),
            "--keep-at-least -1 is not possible: give 0 or more.",
        ),
        (
            ("prune", "pool", "--keep", "hourly=24 daily=30"),
            "--keep: 'hourly=24 daily=30' has no comma between its counts: write it as in hourly=24,daily=30.",
        ),
        (
            ("serve", "--root", "pool/a", "--read-only", "--append-only"),
            "--read-only and --append-only exclude each other: take one.",
        ),
        (
            ("key", "setup", "h:pool/a", "--job", "a", "--read-only", "--append-only"),
            "--read-only and --append-only exclude each other: take one.",
        ),
    ],
)
def test_a_slip_is_told_with_what_is_right(
    argv: tuple[str, ...], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert outcome(*argv) == 2
    assert capsys.readouterr() == ("", f"zfsync: {sentence}\n")


@pytest.mark.parametrize(
    "argv", [(*PUSH, "-r"), ("pull", "--recursive", "web:tank", "pool/web"), ("cron", "run", "-R", "tank", "usb/tank")]
)
def test_what_is_recursive_already_says_so(argv: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert outcome(*argv) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.endswith("zfsync is recursive already, and --no-recursive sends SOURCE alone")


def test_a_user_is_not_taken_for_a_dataset_with_a_snapshot(capsys: pytest.CaptureFixture[str]) -> None:
    assert outcome("restore", "me@backup:pool/data", "tank/data", "--identity", "/no/such/key") == 2
    assert capsys.readouterr().err == "zfsync: There is no key /no/such/key.\n"


def test_restore_does_not_offer_what_has_no_effect_on_it(capsys: pytest.CaptureFixture[str]) -> None:
    offered = {}
    for command in ("push", "restore"):
        assert outcome(command, "--help") == 0
        out = capsys.readouterr().out
        offered[command] = {word.strip("[],") for word in out.split() if word.strip("[],").startswith("--")}
    assert offered["push"] - offered["restore"] == {"--no-bookmark", "--no-follow-renames", "--list-all"}


def test_the_help_of_prune_says_what_counts_as_what(capsys: pytest.CaptureFixture[str]) -> None:
    assert outcome("prune", "--help") == 0
    words = " ".join(capsys.readouterr().out.split())
    assert "with daily=90 alone Monday's weekly one is a daily one" in words
    assert "daily=90,monthly=36 destroys hourly and minutely ones" in words
