"""Names that would be options or commands to another program: each command refuses them before it starts anything."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zfsync_ssh.bootstrap import command
from zfsync_ssh.cli import main
from zfsync_ssh.config import parse
from zfsync_ssh.config_values import ConfigError
from zfsync_ssh.errors import UsageError
from zfsync_ssh.location import parse_location

NO_DATASET = "is not a dataset: a pool's name begins with a letter."
NO_HOST = "is no place: no host or user begins with '-'."
PLACE = "-oProxyCommand=id:pool"


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No configuration but one with the job ``web``, and no program that could be started."""
    config = tmp_path / ".config/zfsync/zfsync.toml"
    config.parent.mkdir(parents=True)
    config.write_text('[job.web]\nsource = "tank/a"\ntarget = "backup:pool/a"\nschedule = "daily"\n')
    config.chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("XDG_CONFIG_HOME", "SSH_AUTH_SOCK", "SSH_AGENT_PID"):
        monkeypatch.delenv(name, raising=False)

    def started(*_: object, **__: object) -> None:
        raise AssertionError("something was started")

    monkeypatch.setattr(subprocess, "Popen", started)
    monkeypatch.setattr("asyncio.run", started)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("push", "--", "-r", "backup:pool"), f"'-r' {NO_DATASET}"),
        (("push", "--", "tank/a", "backup:-r"), f"'-r' {NO_DATASET}"),
        (("push", "--", "tank/a", PLACE), f"'{PLACE}' {NO_HOST}"),
        (("push", "--", "tank/a", "-lroot@backup:pool"), f"'-lroot@backup:pool' {NO_HOST}"),
        (("push", "tank/a", "me@-x:pool"), f"'me@-x:pool' {NO_HOST}"),
        (("push", "tank/a", "[-x]:pool"), f"'[-x]:pool' {NO_HOST}"),
        (("push", "--buffer=-r", "tank/a", "backup:pool/a"), f"--buffer: '-r' {NO_DATASET}"),
        (("push", "--set=-r=x", "tank/a", "backup:pool"), "--set: '-r' is not the name of a property."),
        (("push", "--preserve=-r", "tank/a", "backup:pool"), "--preserve: '-r' is not the name of a property."),
        (("push", "--port=-1", "tank/a", "backup:pool"), "-1 is not a port: give one from 1 to 65535."),
        (("pull", "--", PLACE, "tank"), f"'{PLACE}' {NO_HOST}"),
        (("pull", "--", "web:tank", "-r"), f"'-r' {NO_DATASET}"),
        (("restore", "--", PLACE, "@monday", "tank"), f"'{PLACE}' {NO_HOST}"),
        (("restore", "--", "backup:pool", "@monday", "-r"), f"'-r' {NO_DATASET}"),
        (("restore", "--", "backup:pool", "-r", "tank"), "'-r' is no snapshot: give @NAME, between the copy and "
                                                        "where it is to go."),
        (("compare", "--", "-r", "backup:pool"), f"'-r' {NO_DATASET}"),
        (("compare", "--", "tank", PLACE), f"'{PLACE}' {NO_HOST}"),
        (("verify", "--", "-r", "backup:pool"), f"'-r' {NO_DATASET}"),
        (("verify", "--", "tank@-r", "-x:pool@-r"), f"'-x:pool' {NO_HOST}"),
        (("cleanbuffer", "--", "-r"), f"'-r' {NO_DATASET}"),
        (("cleanbuffer", "--", PLACE), f"'{PLACE}' {NO_HOST}"),
        (("cleanbuffer", "--buffer=-r", "backup:pool"), f"'-r' {NO_DATASET}"),
        (("holds", "--", "-r"), f"'-r' {NO_DATASET}"),
        (("holds", "--", PLACE), f"'{PLACE}' {NO_HOST}"),
        (("doctor", "--", "-r"), f"'-r' {NO_DATASET}"),
        (("doctor", "--", PLACE), f"'{PLACE}' {NO_HOST}"),
        (("doctor", "--job=-r"), "There is no job '-r' in {config}: there is web."),
        (("key", "setup", "--job=web", "--", PLACE), f"'{PLACE}' {NO_HOST}"),
        (("key", "setup", "--job=web", "--", "backup:-r"), f"'-r' {NO_DATASET}"),
        (("key", "setup", "--job=-r", "backup:pool"), "'-r' cannot be: a job's name is of letters, digits and _ . -, "
                                                      "at most 64."),
        (("key", "setup", "--job=web", "--remote-zfsync=-x", "backup:pool/a"), "'-x' is no program: give the path of "
                                                                             "zfsync there."),
        (("cron", "install", "--", "-r"), "There is no job '-r' in {config}: there is web."),
        (("cron", "run", "--", "-r"), "There is no job '-r' in {config}: there is web."),
        (("cron", "run", "--", "-r", "backup:pool"), f"--source: '-r' {NO_DATASET}"),
        (("cron", "run", "--", "tank", PLACE), f"--target: '{PLACE}' {NO_HOST}"),
        (("status", "--", "-r"), "There is no job '-r' in {config}: there is web."),
        (("serve", "--root=-r"), f"'-r' {NO_DATASET}"),
    ],
    ids=" ".join,
)  # fmt: skip
@pytest.mark.usefixtures("alone")
def test_what_begins_with_a_dash_is_refused_by_every_command(
    words: tuple[str, ...], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    out, err = capsys.readouterr()
    config = tmp_path / ".config/zfsync/zfsync.toml"
    assert (out, err) == ("", f"zfsync: {sentence.replace('{config}', str(config))}\n")


@pytest.mark.parametrize(
    "words",
    [
        ("push", "-r", "backup:pool"), ("push", "tank", PLACE), ("push", "tank", "-p22:pool"), ("pull", PLACE, "tank"),
        ("restore", "backup:pool", "-r", "tank"), ("compare", "-r", "tank"), ("verify", "tank", PLACE),
        ("cleanbuffer", PLACE), ("holds", "-r"), ("doctor", PLACE), ("cron", "install", "-r"), ("cron", "remove", "-r"),
        ("key", "setup", "--job", "-r", "backup:pool"), ("status", "-r"),
    ],
    ids=" ".join,
)  # fmt: skip
@pytest.mark.usefixtures("alone")
def test_without_two_dashes_before_it_it_is_an_option_that_there_is_not(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert "error: " in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ('source = "-r"', f"'-r' {NO_DATASET}"),
        (f'target = "{PLACE}"', f"'{PLACE}' {NO_HOST}"),
        (f'target = ["backup:pool", "{PLACE}"]', f"'{PLACE}' {NO_HOST}"),
        ('target = "x;id:pool"', "'x;id:pool' is no place: no host or user has a blank, a quote or one of $;&<>|(){} "
                                 "in its name."),
        ('buffer = "-r"', f"'-r' {NO_DATASET}"),
        ('set = ["-r=x"]', "'-r' is not the name of a property."),
        ("port = -22", "it has to be a number from 1 to 65535."),
    ],
)  # fmt: skip
def test_the_configuration_refuses_them_as_well(line: str, what: str) -> None:
    key = line.partition(" ")[0]
    rest = "".join(
        f'{name} = "{value}"\n' for name, value in (("source", "tank/a"), ("target", "usb/a")) if name != key
    )
    with pytest.raises(ConfigError) as caught:
        parse(f"[job.web]\n{line}\n{rest}", Path("/c"))
    assert caught.value.problems == (f"/c:2: job.web.{key}: {what}",)


def test_no_job_is_named_like_an_option() -> None:
    with pytest.raises(ConfigError, match="a job's name is of letters, digits"):
        parse('[job.-r]\nsource = "tank/a"\ntarget = "usb/a"\n', Path("/c"))


UNSAFE = " \t\n\r\x0b\x00\x1b'\"`$;&<>|(){}"
"""What ``ProxyCommand ssh -W %h:%p ...`` of an ssh_config would make more than one word of, or a shell a command."""


@given(st.sampled_from(UNSAFE), st.text("ab.-", max_size=4), st.text("ab.-", max_size=4), st.booleans())
def test_no_host_or_user_is_more_than_a_word_of_a_command(unsafe: str, before: str, after: str, user: bool) -> None:
    name = f"a{before}{unsafe}{after}"
    with pytest.raises(UsageError):
        parse_location(f"{name}@host:pool" if user else f"{name}:pool")


@given(st.text(max_size=12))
def test_a_python_is_one_word_of_the_far_shell_and_no_option(python: str) -> None:
    try:
        line = command([python])
    except UsageError:
        return
    assert python[0] != "-"
    quoted = line[-len(python) - 2 :]
    assert subprocess.run(
        ["/bin/sh", "-c", f"printf %s {quoted}"], capture_output=True, check=True
    ).stdout == os.fsencode(python)
