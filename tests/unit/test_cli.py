"""The command line: what it takes apart, what it refuses, and with which sentence."""

from __future__ import annotations

import os
import string
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.strategies import names
from zfsync_ssh import __version__, cli
from zfsync_ssh.channel import Channel
from zfsync_ssh.cli import cleanbuffer, main, replicate
from zfsync_ssh.cli.options import with_ages
from zfsync_ssh.errors import EXIT_INTERRUPTED, ConnectError, UsageError, ZfsError
from zfsync_ssh.location import Location, parse_location
from zfsync_ssh.transport import SshOpener

# ---- targets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("backup:pool/data", (None, "backup", "pool/data")),
        ("backup:pool", (None, "backup", "pool")),
        ("root@backup.example.org:pool/data", ("root", "backup.example.org", "pool/data")),
        ("192.0.2.1:pool", (None, "192.0.2.1", "pool")),
        ("[2001:db8::1]:pool/data", (None, "2001:db8::1", "pool/data")),
        ("me@[fe80::1%eth0]:pool/data", ("me", "fe80::1%eth0", "pool/data")),
        ("backup:pool/a:b c", (None, "backup", "pool/a:b c")),
        ("me@backup:pool/12:00", ("me", "backup", "pool/12:00")),
        ("back-up:pool", (None, "back-up", "pool")),
        ("my.name@b:pool", ("my.name", "b", "pool")),
        ("pool/data", (None, "", "pool/data")),
        ("pool", (None, "", "pool")),
        ("a/b:pool", (None, "", "a/b:pool")),
    ],
)
def test_a_target_is_taken_apart(text: str, place: tuple[str | None, str, str]) -> None:
    assert parse_location(text) == Location(*place)


hosts = st.text(string.ascii_letters + string.digits + ".-_", min_size=1, max_size=8).filter(
    lambda host: host[0] != "-"
)


@given(st.none() | hosts, hosts | st.ip_addresses(v=6).map(str), names)
def test_any_user_host_and_dataset_come_back(user: str | None, host: str, dataset: str) -> None:
    where = f"[{host}]" if ":" in host else host
    text = f"{user}@{where}:{dataset}" if user else f"{where}:{dataset}"
    assert parse_location(text) == Location(user, host, dataset)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it is empty"),
        (":pool", "give [USER@]HOST:DATASET"),
        ("@backup:pool", "give [USER@]HOST:DATASET"),
        ("me@:pool", "give [USER@]HOST:DATASET"),
        ("me@pool", "it names a snapshot or bookmark"),
        ("[]:pool", "give [USER@]HOST:DATASET"),
        ("[::1:pool", "give [USER@]HOST:DATASET"),
        ("[::1]pool", "give [USER@]HOST:DATASET"),
        ("[::1]/pool:x", "give [USER@]HOST:DATASET"),
        ("backup:", "give one after backup:"),
        ("backup:/pool/data", "without a slash in front, as in backup:pool/data."),
        ("me@[::1]:/pool", "without a slash in front, as in me@[::1]:pool."),
        ("/pool/data", "without a slash in front, as in pool/data."),
        ("ssh://me@backup/pool/data", "without a slash in front, as in me@backup:pool/data."),
        ("10.0.0.1/pool/d", "without a slash in front, as in 10.0.0.1:pool/d."),
        ("::1:pool", "give [USER@]HOST:DATASET"),
        ("fe80::1:pool", "put the IPv6 address in brackets"),
        ("backup:pool/a@snap", "it names a snapshot or bookmark"),
        ("me@backup:pool/a#mark", "it names a snapshot or bookmark"),
        ("backup:-pool", "a pool's name begins with a letter"),
        ("-oProxyCommand=x:pool", "no host or user begins with '-'"),
        ("me@-oProxyCommand=x:pool", "no host or user begins with '-'"),
        ("-lroot@backup:pool", "no host or user begins with '-'"),
        ("[-x]:pool", "no host or user begins with '-'"),
    ],
)
def test_what_is_no_target_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_location(text)
    assert why in str(caught.value)


@given(st.text(max_size=20) | st.text("ab:/@[]-#. ", max_size=12))
def test_any_text_is_a_target_or_a_usage_error(text: str) -> None:
    try:
        place = parse_location(text)
    except UsageError:
        return
    assert not place.host.startswith("-")
    assert place.user is None or place.user[0] != "-"
    assert text.endswith(":" + place.dataset if place.host else place.dataset)


# ---- refusals --------------------------------------------------------------------------------------------------------


def outcome(*argv: str) -> int:
    """The exit code, however it is given."""
    try:
        return main(argv)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else -1


PUSH = ("push", "tank/data", "backup:pool/data")
ALONE = "it names a snapshot or bookmark; give the dataset alone."


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (("push", "tank//data", "backup:pool"), "'tank//data' is not a dataset: it has an empty part between slashes."),
        (
            ("push", "tank@a", "backup:pool"),
            f"'tank@a' is not a dataset: {ALONE}",
        ),
        (("push", "tank", ":pool"), "':pool' is no place: give [USER@]HOST:DATASET, for example backup:pool/data."),
        (("pull", "tank", "pool"), "'tank' names no host to pull from: give [USER@]HOST:SOURCE."),
        (
            ("pull", "a:tank", "b:pool"),
            "'b:pool' names a host: pull is to this machine, push goes between any two.",
        ),
        (("push", "tank/a", "tank/a/b"), "tank/a/b is part of the source tank/a itself: choose another target."),
        (("restore", "x:tank/a", "x:tank"), "tank has the source tank/a in its own tree: choose another target."),
        (("cleanbuffer", "backup:1"), "'1' is not a dataset: a pool's name begins with a letter."),
        (
            ("prune", "pool", "--keep", "daily"),
            "--keep: 'daily' is not one of secondly, minutely, hourly, daily, weekly, monthly, yearly or within, each "
            "with =.",
        ),
        ((*PUSH, "--channels", "0"), "--channels: it has to be a number from 1 to 256."),
        ((*PUSH, "--channels=-3"), "--channels: it has to be a number from 1 to 256."),
        (
            (*PUSH, "--rate-limit", "50MB/s"),
            "--rate-limit: '50MB/s' is not a rate: give bytes per second, 1K or more; K, M and G are 2^10, 2^20 "
            "and 2^30, as in 50M.",
        ),
        ((*PUSH, "--port", "0"), "0 is not a port: give one from 1 to 65535."),
        ((*PUSH, "-p", "65536"), "65536 is not a port: give one from 1 to 65535."),
        ((*PUSH, "--identity", "/no/such/key"), "There is no key /no/such/key."),
        (
            (*PUSH, "--buffer", "pool/a@b"),
            f"--buffer: 'pool/a@b' is not a dataset: {ALONE}",
        ),
        (
            (*PUSH, "--buffer", "other/x"),
            "other/x cannot be the buffer: it has to be in the target's pool, pool, because a "
            "rename cannot leave a pool.",
        ),
        ((*PUSH, "--buffer", "pool/data"), "pool/data cannot be the buffer: the target lies inside it."),
        (
            (*PUSH, "--remote-python", "it's"),
            '"it\'s" cannot be the remote python: give a plain path, or a name on the PATH there.',
        ),
    ],
)
def test_a_wrong_command_line_ends_with_2_and_one_sentence(
    argv: tuple[str, ...], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert outcome(*argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"zfsync: {sentence}\n"


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        ((), "the following arguments are required: COMMAND"),
        (("shove",), "invalid choice: 'shove'"),
        (("push",), "the following arguments are required: SOURCE, TARGET"),
        (("push", "tank"), "the following arguments are required: TARGET"),
        (("cleanbuffer",), "the following arguments are required: TARGET"),
        (("prune", "pool/data"), "the following arguments are required: --keep"),
        ((*PUSH, "--channels", "many"), "invalid int value: 'many'"),
        ((*PUSH, "--port", "ssh"), "invalid int value: 'ssh'"),
        ((*PUSH, "--compress", "gzip"), "invalid choice: 'gzip'"),
        ((*PUSH, "more"), "unrecognized arguments: more"),
        ((*PUSH, "--no-such-option"), "unrecognized arguments: --no-such-option"),
        (("cleanbuffer", "backup:pool", "--dry-run"), "unrecognized arguments: --dry-run"),
    ],
)
def test_what_the_parser_refuses_ends_with_2_and_its_reason_last(
    argv: tuple[str, ...], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert outcome(*argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert sentence in err.splitlines()[-1]
    assert "usage: zfsync" in err


def test_a_key_that_is_there_is_no_reason_to_refuse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = tmp_path / "key"
    key.touch()
    assert outcome(*PUSH, "--identity", str(key), "--remote-python", "!") == 2
    assert "There is no key" not in capsys.readouterr().err


def test_verbose_adds_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert outcome("push", "tank//", "backup:pool", "--verbose") == 2
    err = capsys.readouterr().err
    assert err.startswith("Traceback (most recent call last):")
    assert err.splitlines()[-1].startswith("zfsync: 'tank//' is not a dataset")


# ---- a limited rate --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("options", "receives"), [((), True), (("--rate-limit", "1M"), False)])
def test_a_limited_source_has_no_large_window_to_fill_at_once(
    options: tuple[str, ...], receives: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    async def opened(opener: SshOpener) -> Channel:
        asked.append(opener._receives)
        raise ConnectError("enough")

    monkeypatch.setattr(SshOpener, "open", opened)
    assert outcome("push", "web:tank/data", "backup:pool/data", *options) == 5
    assert sorted(asked) == sorted([receives, False])


# ---- how it ends -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (KeyboardInterrupt(), EXIT_INTERRUPTED, "zfsync: interrupted: the next run goes on where this one stopped.\n"),
        (ZfsError("it said \x1b]0;x\x07\nand more"), 7, "zfsync: it said  ]0;x  and more\n"),
        (ZfsError("there has no pool x."), 7, "zfsync: there has no pool x.\n"),
    ],
)
def test_an_error_has_its_exit_code(
    error: BaseException, code: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*_: object) -> int:
        raise error

    monkeypatch.setattr(replicate, "run_job", run)
    assert outcome(*PUSH) == code
    assert capsys.readouterr().err == said


def test_a_run_that_ends_has_the_code_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    for command in (replicate, cleanbuffer):
        monkeypatch.setattr(command, "run_job", lambda *_: 3)
    assert outcome(*PUSH) == 3
    assert outcome("cleanbuffer", "backup:pool") == 3


# ---- help ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "example"),
    [
        ("push", "zfsync push tank/data"),
        ("pull", "zfsync pull web:"),
        ("cleanbuffer", "zfsync cleanbuffer"),
        ("prune", "zfsync prune"),
    ],
)
def test_the_help_of_a_command_has_an_example_that_its_parser_takes(
    command: str, example: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert outcome(command, "--help") == 0
    out = capsys.readouterr().out
    assert "exit codes:" in out
    lines = [line for line in out.splitlines() if line.startswith(f"  zfsync {command} ")]
    examples = [line.split("  #")[0].split() for line in lines]
    assert examples
    for words in examples:
        arguments = cli._parser([cli.COMMANDS[command]]).parse_args(words[1:])
        assert parse_location(arguments.target).dataset


def test_the_help_of_the_program_names_its_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert outcome("--help") == 0
    out = capsys.readouterr().out
    assert "push" in out
    assert "cleanbuffer" in out
    assert "example" in out


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert outcome("--version") == 0
    assert capsys.readouterr().out == f"zfsync {__version__}\n"


def test_the_package_runs_as_a_module() -> None:
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "zfsync_ssh", "push", "tank//", "backup:pool"], cwd=root, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith("zfsync: 'tank//' is not a dataset")


@pytest.mark.parametrize(
    ("unbuffered", "status"),
    [("1", EXIT_INTERRUPTED), ("", 0)],  # all is done before what it prints at last is seen off
)
def test_a_reader_that_has_gone_is_no_defect(unbuffered: str, status: int, tmp_path: Path) -> None:
    jobs = tmp_path / "jobs.toml"
    jobs.write_text('[job.a]\nsource = "tank/a"\ntarget = "usb/a"\n')
    jobs.chmod(0o600)
    reader, writer = os.pipe()
    os.close(reader)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONUNBUFFERED": unbuffered}
    command = [sys.executable, "-m", "zfsync_ssh", "config", "check", "--config", "jobs.toml"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (status, b"")


@pytest.mark.parametrize(
    ("words", "seen"),
    [
        ("push --delete-datasets a/b h:c", "push --delete-datasets=0s a/b h:c"),
        ("push --delete-datasets 30d a/b h:c", "push --delete-datasets 30d a/b h:c"),
        ("push --delete-datasets=1h a/b h:c", "push --delete-datasets=1h a/b h:c"),
        ("push a/b h:c --delete-datasets", "push a/b h:c --delete-datasets=0s"),
    ],
)
def test_an_age_may_be_left_out(words: str, seen: str) -> None:
    assert with_ages(words.split()) == seen.split()
