"""The options of a replication, and the policy that they come to."""

from __future__ import annotations

import argparse
import datetime
import json
from pathlib import Path
from typing import Any

import pytest

from zfsync_ssh.cli.options import (
    add_attended,
    add_choosing,
    add_target_choices,
    add_transfer,
    options_of,
    question,
    someone_to_ask,
    transfer_of,
    with_ages,
)
from zfsync_ssh.errors import UsageError
from zfsync_ssh.orchestrator import Options
from zfsync_ssh.policy import DEFAULT, Divergence, Policy, Properties


def parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_transfer(parser)
    add_attended(parser)
    add_choosing(parser)
    add_target_choices(parser)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args(with_ages(words))


def policy(*words: str) -> Policy:
    return transfer_of(parse(*words)).policy


def options(*words: str) -> Options:
    arguments = parse(*words)
    return options_of(arguments, transfer_of(arguments))


def test_without_options_nothing_is_destroyed_and_all_is_sent() -> None:
    assert policy() == DEFAULT


@pytest.mark.parametrize(
    ("words", "field", "value"),
    [
        ("--no-raw", "raw", False),
        ("--no-resume", "resume", False),
        ("--skip-empty", "skip_empty", True),
        ("--no-hold", "hold", False),
        ("--no-bookmark", "bookmark", False),
        ("--no-follow-renames", "follow_renames", False),
        ("--on-divergence fail", "on_divergence", Divergence.FAIL),
        ("--on-divergence set-aside", "on_divergence", Divergence.SET_ASIDE),
        ("--on-divergence rollback", "on_divergence", Divergence.ROLLBACK),
        ("--on-divergence replace", "on_divergence", Divergence.REPLACE),
        ("--delete-snapshots", "delete_snapshots", True),
        ("--delete-datasets", "delete_datasets", True),
        ("--delete-datasets=30d", "delete_age", 30 * 86400.0),
        ("--inherit-encryption-root", "inherit_encryption_root", True),
        ("--skip-preflight", "preflight", False),
        ("--preserve all --preserve a,b", "properties", Properties(preserve=("all", "a", "b"))),
        ("--set a=b=c", "properties", Properties(set=(("a", "b=c"),))),
        ("--exclude-property a", "properties", Properties(exclude=("a",))),
    ],
)
def test_an_option_is_a_field_of_the_policy(words: str, field: str, value: Any) -> None:
    assert getattr(policy(*words.split()), field) == value


@pytest.mark.parametrize(
    ("words", "field", "value"),
    [
        ("--include a --include b", "include", ("a", "b")),
        ("--exclude a", "exclude", ("a",)),
        ("--snapshots a", "snapshots", ("a",)),
        ("--exclude-snapshots a", "exclude_snapshots", ("a",)),
        ("--no-intermediates", "intermediates", False),
        ("--latest 3", "latest", 3),
        ("--since 2026-01-31", "since", datetime.datetime(2026, 1, 31, tzinfo=datetime.UTC).timestamp()),
        ("--since 2026-01-31T18:00", "since", datetime.datetime(2026, 1, 31, 18, tzinfo=datetime.UTC).timestamp()),
        (
            "--since 2026-01-31T18:00+01:00",
            "since",
            datetime.datetime(2026, 1, 31, 17, tzinfo=datetime.UTC).timestamp(),
        ),
    ],
)
def test_an_option_is_a_field_of_the_selection(words: str, field: str, value: Any) -> None:
    assert getattr(policy(*words.split()).selection, field) == value


def test_a_span_is_so_long_ago() -> None:
    now = datetime.datetime.now(datetime.UTC).timestamp()
    assert now - 3610 < policy("--since", "1h").selection.since < now - 3590


def test_the_age_may_be_left_out_and_what_follows_is_not_taken_for_it() -> None:
    assert with_ages(["push", "--delete-datasets", "tank/data", "--delete-datasets=1d"]) == [
        "push", "--delete-datasets=0s", "tank/data", "--delete-datasets=1d",
    ]  # fmt: skip
    assert not policy("--delete-snapshots").delete_datasets
    assert policy("--delete-datasets").delete_age == 0


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--latest", "-1"], "--latest: it has to be a number from 0"),
        (["--since", "yesterday"], "--since: 'yesterday' is no time: give 30d"),
        (["--delete-datasets=soon"], "--delete-datasets: 'soon' is no span of time"),
        (["--delete-datasets="], "--delete-datasets: it has to be"),
        (["--delete-datasets=-1d"], "--delete-datasets: '-1d' is no span of time"),
        (["--set", "atime"], "--set: 'atime' sets nothing"),
        (["--set", "guid=5"], "guid cannot be set on a copy"),
        (["--preserve", "a,,b"], "'' is not the name of a property"),
        (["--exclude-property", "a=b"], "'a=b' is not the name of a property"),
        (["--include", "re:("], r"'re:\(' is not a regular expression"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_sentence(words: list[str], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        policy(*words)


def test_the_rest_is_options_of_the_run() -> None:
    made = options("--channels", "2", "--no-recursive", "-n", "--rate-limit", "1K", "--compress", "zstd")
    assert (made.channels, made.recursive, made.dry_run, made.rate_limit, made.compress) == (
        2,
        False,
        True,
        1024,
        "zstd",
    )
    assert (made.expected, made.write_plan, made.confirm) == (None, None, None)
    assert options().rate_limit == 0
    assert [made.stall_timeout, options("--stall-timeout", "10m").stall_timeout] == [300, 600]
    assert options("--stall-timeout", "0s").stall_timeout == 0
    with pytest.raises(UsageError, match="--channels: it has to be a number from 1"):
        options("--channels", "0")


def test_a_plan_is_written_and_read(tmp_path: Path) -> None:
    path = tmp_path / "plan"
    write = options("--plan-out", str(path)).write_plan
    assert write is not None
    write({"zfsync-plan": 1})
    assert json.loads(path.read_text()) == {"zfsync-plan": 1}
    assert options("--plan-in", str(path)).expected == {"zfsync-plan": 1}
    path.write_text("[]")
    with pytest.raises(UsageError, match="is no plan that 'zfsync push --plan-out' has written"):
        options("--plan-in", str(path))
    path.write_text("{")
    with pytest.raises(
        UsageError, match=r"/plan is no plan that 'zfsync push --plan-out' has written: it is no JSON\."
    ):
        options("--plan-in", str(path))
    with pytest.raises(
        UsageError, match=r"There is no plan .*/missing: 'zfsync push --dry-run --plan-out .*/missing' "
    ):
        options("--plan-in", str(tmp_path / "missing"))
    with pytest.raises(UsageError, match=r"The plan .* cannot be read: Is a directory\."):
        options("--plan-in", str(tmp_path))
    write = options("--plan-out", str(tmp_path)).write_plan
    assert write is not None
    with pytest.raises(UsageError, match="The plan cannot be written to"):
        write({})


@pytest.mark.parametrize("words", [["--yes"], ["--json"], []])
def test_nobody_is_asked_who_does_not_want_it_or_is_not_there(
    words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    assert someone_to_ask(parse(*words)) == (not words)
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    assert not someone_to_ask(parse(*words))


def test_the_question_names_all_that_will_be_lost() -> None:
    assert question(["a: @x", "b: @y"]) == "This will be lost:\n  a: @x\n  b: @y\nGo on? [y/N] "
