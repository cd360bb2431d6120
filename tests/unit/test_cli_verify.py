"""The command line of `zfsync verify`."""

from __future__ import annotations

import pytest

from tests.unit.test_cli import outcome
from zfsync_ssh.cli.verify import split_snapshot
from zfsync_ssh.location import Location


@pytest.mark.parametrize(
    ("text", "place", "snapshot"),
    [
        ("tank/data", (None, "", "tank/data"), ""),
        ("tank", (None, "", "tank"), ""),
        ("tank@now", (None, "", "tank"), "now"),
        ("tank/data@12:00", (None, "", "tank/data"), "12:00"),
        ("backup:pool@now", (None, "backup", "pool"), "now"),
        ("me@backup:pool/data", ("me", "backup", "pool/data"), ""),
        ("me@backup:pool/a:b@x y", ("me", "backup", "pool/a:b"), "x y"),
        ("me@[::1]:pool@now", ("me", "::1", "pool"), "now"),
    ],
)
def test_a_place_may_name_a_snapshot(text: str, place: tuple[str | None, str, str], snapshot: str) -> None:
    assert split_snapshot(text) == (Location(*place), snapshot)


def test_its_help_says_what_sudo_does_not_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert outcome("verify", "--help") == 0
    assert "reads no contents: log in as root" in " ".join(capsys.readouterr().out.split())


VERIFY = ("verify", "tank/data", "backup:pool/data")


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        ((*VERIFY, "--channels", "0"), "--channels 0 is not possible: give 1 or more."),
        ((*VERIFY, "--sample=-1"), "--sample -1 is not possible: give 1 or more, or leave it out to read everything."),
        ((*VERIFY, "--sample", "0"), "--sample 0 is not possible: give 1 or more, or leave it out to read everything."),
        ((*VERIFY, "--seed", "x"), "--seed x chooses nothing without --sample: give both."),
        (("verify", "tank@", "pool@1"), "'tank@' names no snapshot: give one after the @, or no @."),
        (
            ("verify", "tank@1", "pool"),
            "Only one of the two names a snapshot: give @SNAPSHOT for both, or for neither.",
        ),
        (("verify", "tank//a", "pool"), "'tank//a' is not a dataset: it has an empty part between slashes."),
    ],
)
def test_a_wrong_command_line_ends_with_2_and_one_sentence(
    argv: tuple[str, ...], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert outcome(*argv) == 2
    assert capsys.readouterr().err == f"zfsync: {sentence}\n"
