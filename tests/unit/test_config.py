"""The configuration: what it may say, and every way in which it may be wrong, told with file, line and key."""

from __future__ import annotations

import dataclasses
import errno
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from zfsync_ssh.config import MAX_NAME_CHARS, Config, Job, config_paths, job_of, load, parse
from zfsync_ssh.config_example import example
from zfsync_ssh.config_values import ConfigError
from zfsync_ssh.errors import UsageError
from zfsync_ssh.location import Location, Way
from zfsync_ssh.retention import Class
from zfsync_ssh.selection import Selection

FILE = Path("/etc/zfsync/zfsync.toml")
JOB = '[job.web]\nsource = "tank/web"\ntarget = "backup:pool/web"\n'


def read(text: str) -> Config:
    return parse(text, FILE)


def job(keys: str = "") -> Job:
    return read(JOB + keys).jobs["web"]


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert str(caught.value) == "\n".join(caught.value.problems)
    return [problem.removeprefix(f"{FILE}:") for problem in caught.value.problems]


# ---- what is right ---------------------------------------------------------------------------------------------------


def test_the_least_that_a_job_can_be() -> None:
    targets = (Location(None, "backup", "pool/web"),)
    assert job() == Job("web", Location(None, "", "tank/web"), targets, connection=Way(job="web"))
    assert read("").jobs == {}


def test_the_example_loads_and_so_does_every_line_of_it_that_is_commented_out(tmp_path: Path) -> None:
    path = tmp_path / "zfsync.toml"
    path.write_text(example())
    path.chmod(0o600)
    loaded = load(path).job("web")
    assert loaded.timing.schedule is not None
    assert loaded.retention.keep is not None
    assert loaded.retention.keep.at_least == 3
    assert loaded.retention.keep_target is not None
    everything = "\n".join(
        line.removeprefix("#") if line.startswith("#") and not line.startswith("# ") else line
        for line in example().splitlines()
        if not line.startswith("keep-target")  # nor does it go together with delete-snapshots
    )
    whole = parse(everything, path).jobs["web"]
    assert len(whole.hooks.commands) == 5
    assert whole.transfer.rate_limit == 50 << 20
    policy = whole.transfer.policy
    for part in (whole, whole.retention, whole.transfer, policy, policy.selection, policy.properties, whole.connection,
                 whole.timing):  # fmt: skip
        for field in dataclasses.fields(part):
            default = field.default if field.default is not dataclasses.MISSING else None
            same = ("on_divergence", "channels", "flags", "usable", "until", "keep_target")
            assert field.name in same or getattr(part, field.name) != default, f"the example lacks {field.name}"


def test_all_of_a_job() -> None:
    read_job = job(
        'keep = "hourly=24,daily=30"\nkeep-target = "within=30d"\nkeep-at-least = 2\nskip-unwritten = true\n'
        'exclude = ["tmp"]\nno-intermediates = true\nno-recursive = true\nchannels = 8\nrate-limit = 2000\n'
        'stall-timeout = "2m"\n'
        'on-divergence = "set-aside"\nport = 2222\nidentity = "~/.ssh/id"\nsudo = true\nschedule = "every 15m"\n'
        'jitter = "30s"\nwait = "10m"\nretry-for = "1h"\nlog-file = "/var/log/z.log"\nsyslog = true\n'
        '[job.web.hooks]\nbefore_snapshot = ["/bin/sync", ""]\ntimeout = "10s"\n'
    )
    assert read_job.retention.keep is not None
    assert read_job.retention.keep_target is not None
    assert read_job.retention.keep.classes == (Class.DAILY, Class.HOURLY)
    assert read_job.retention.keep_target.within == timedelta(days=30)
    assert (read_job.retention.keep.at_least, read_job.retention.keep_target.at_least) == (2, 2)
    assert read_job.transfer.policy.selection == Selection(exclude=("tmp",), intermediates=False)
    assert (read_job.transfer.recursive, read_job.transfer.channels, read_job.transfer.rate_limit) == (False, 8, 2000)
    assert read_job.transfer.stall_timeout == 120
    assert read_job.connection.identity == Path.home() / ".ssh/id"
    assert str(read_job.timing.schedule) == "*/15 * * * *"
    assert read_job.timing.retry_for == timedelta(hours=1)
    assert read_job.hooks.commands == {"before_snapshot": ("/bin/sync", "")}
    assert read_job.hooks.timeout == timedelta(seconds=10)
    assert read_job.log_file == Path("/var/log/z.log")


def test_several_jobs_and_targets() -> None:
    config = read(JOB + '[job."db.1"]\nsource = "web:a/b"\ntarget = ["root@backup:pool/b", "usb/b"]\n')
    assert list(config.jobs) == ["web", "db.1"]
    assert config.job("db.1").targets == (Location("root", "backup", "pool/b"), Location(None, "", "usb/b"))
    with pytest.raises(UsageError, match=r"There is no job 'wep' in /etc/zfsync/zfsync.toml: did you mean web\."):
        config.job("wep")
    with pytest.raises(UsageError, match=r"no job 'x' in .*: there is web, db.1\."):
        config.job("x")


def test_values_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        job().name = "other"  # type: ignore[misc]
    with pytest.raises(TypeError):
        read(JOB).jobs["x"] = job()  # type: ignore[index]


# ---- what is wrong ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("channels = 0", "job.web.channels: it has to be a number from 1 to 256."),
        ("channels = true", "job.web.channels: it has to be a number from 1 to 256."),
        ('channels = "4"', "job.web.channels: it has to be a number from 1 to 256, without quotes."),
        ("port = 65536", "job.web.port: it has to be a number from 1 to 65535."),
        ("sudo = 1", "job.web.sudo: it has to be true or false."),
        ('chanels = 4', "job.web.chanels: it is not known here: did you mean channels."),
        (
            'delete-snapshots = true\nkeep-target = "daily=3"',
            "job.web.delete-snapshots: it destroys what keep-target keeps longer than the source does: take one.",
        ),
        (
            'keep-target = "hourly=9,daily=365,weekly=0,secondly=1"\nkeep = "hourly=48,daily=0"',
            "job.web.keep-target: it counts daily snapshots, and without daily in keep the job takes none: add daily=1 "
            "there, or leave it out here.",
        ),
        ('keep_target = "daily=3"', "job.web.keep_target: it is not known here: did you mean keep-target."),
        ('identity = "id"', "job.web.identity: it has to begin with / or ~/, for cron starts"),
        ('identity = ""', 'job.web.identity: it has to be a text, as in "text".'),
        ('remote-python = "a\\nb"', 'job.web.remote-python: it has to be a text, as in "text".'),
        ('jitter = "5"', "job.web.jitter: '5' is no span of time: write it as 30s, 15m, 48h, 2d or 1w."),
        ("jitter = 5", 'job.web.jitter: it has to be a span of time in quotes, as in "10m".'),
        ('rate-limit = "fast"', "job.web.rate-limit: 'fast' is not a rate: "),
        ('stall-timeout = "29s"', "job.web.stall-timeout: it has to be at least 30s, or 0s for no limit"),
        ("rate-limit = 0", "job.web.rate-limit: '0' is not a rate: "),
        ('on-divergence = "destroy"', "job.web.on-divergence: it has to be one of fail, set-aside, rollback, replace."),
        ('keep = "within=2d"\nkeep-at-least = 1', "job.web.keep: it names no class to take snapshots of: "),
        ('keep-target = "within=2d"', "job.web.keep-target: within alone keeps nothing once the clock is wrong: "),
        ('keep = "daily=x"', "job.web.keep: daily=x has to be a number from 0 to 1000000."),
        ('keep-target = ""', 'job.web.keep-target: it has to be counts in quotes, as in "hourly=24,daily=30".'),
        ("skip-unwritten = true", "job.web.skip-unwritten: it is about snapshots, and without keep "),
        ('exclude = "tmp"', 'job.web.exclude: it has to be a list of patterns, as in ["tmp", "*/cache"].'),
        ("exclude = [1]", 'job.web.exclude: it has to be a list of patterns, as in ["tmp", "*/cache"].'),
        ('exclude = ["re:("]', "job.web.exclude: 're:(' is not a regular expression: missing ), "),
        ('schedule = "every 7m"', "job.web.schedule: cron cannot run something every 7m: "),
        ('buffer = "other/x"', "job.web.buffer: it cannot be that of pool/web: it has to be in the target's pool"),
        ('buffer = "/x"', "job.web.buffer: '/x' is not a dataset: "),
        ("hooks = 1", "job.web.hooks: it has to be a table, which begins with [job.web.hooks]."),
        ('hooks.before_push = "ls -l"', "job.web.hooks.before_push: it has to be a command as a list "),
        ("hooks.before_push = []", "job.web.hooks.before_push: it has to be a command as a list "),
        ('hooks.before_push = ["", "a"]', "job.web.hooks.before_push: it has to be a command as a list "),
        ('hooks.timeout = "0s"', "job.web.hooks.timeout: it has to be at least 1s."),
        ('hooks.before_puch = ["ls"]', "job.web.hooks.before_puch: it is not known here: did you mean before_push."),
    ],
)  # fmt: skip
def test_a_wrong_value_is_told_with_line_and_key(line: str, problem: str) -> None:
    (found,) = problems(f"# first\n{JOB}\n{line}\n")
    assert found.startswith(f"6: {problem}")
    assert found.endswith(".")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('[job.web]\nsource = "a/b"\n', ["1: job.web: it has no target."]),
        ('[job.web]\n', ["1: job.web: it has no source.", "1: job.web: it has no target."]),
        ('[job]\nweb = 1\n', ["2: job.web: it has to be a table, which begins with [job.web]."]),
        ('job = 3\n', ["1: job: it has to be a table, which begins with [job]."]),
        ('[jobs.web]\nsource = "a/b"\n', ["1: jobs: it is not known here: did you mean job."]),
        ('[job."a b"]\nsource = "a/b"\ntarget = "c/d"\n', ["1: job.a b: a job's name is of letters, digits"]),
        ('[job.w]\nsource = "h:"\ntarget = []\n', ["2: job.w.source: 'h:' names no", "3: job.w.target: it names no"]),
        ('[job.w]\nsource = "a"\ntarget = ["b", "b"]\n', ["3: job.w.target: it names a target twice."]),
        ('[job.w]\nsource = "a/b"\ntarget = ["x:a/b/c", "a/b/c"]\n', ["3: job.w.target: a/b/c is part of the source"]),
        ('[job.w]\nsource = "a/b"\ntarget = ["x:a", "a"]\n', ["3: job.w.target: a has the source a/b in its own tree"]),
        ('[job.w]\nsource = "x:a/b"\ntarget = ["x:a", "a"]\n', ["3: job.w.target: a has the source a/b in its own"]),
    ],
)  # fmt: skip
def test_a_job_that_is_not_whole_is_told(text: str, found: list[str]) -> None:
    told = problems(text)
    assert len(told) == len(found), told
    for one, beginning in zip(told, found, strict=True):
        assert one.startswith(beginning)


@pytest.mark.parametrize(
    ("outer", "inner", "shared"),
    [
        ("", "", True),
        ('exclude = ["data*"]', "", False),
        ('exclude = ["cache"]', 'exclude = ["tmp"]', True),
        ("no-recursive = true", "", False),
        ("", "no-recursive = true", True),
        ('include = ["web"]', "", False),
        ('include = ["web", "data/home"]', "", True),
        ('include = ["web", "data/home"]', 'exclude = ["home"]', False),
        ('exclude = ["data/home"]', 'include = ["home"]', False),
        ("", 'include = ["h*"]', True),
        ('include = ["re:.*"]', 'exclude = ["tmp"]', True),
        ("#keep", "", False),
        ("", "#keep", False),
    ],
)
def test_two_jobs_that_would_prune_each_other_are_told(outer: str, inner: str, shared: bool) -> None:
    def table(name: str, source: str, more: str) -> str:
        keep = "" if more == "#keep" else 'keep = "daily=3"'
        return f'[job.{name}]\ntarget = "x:pool"\nsource = "{source}"\n{keep}\n{more}\n'

    text = table("b", "tank/data", inner) + table("a", "tank", outer)  # in any order
    problem = "3: job.b.source: job a has tank/data too, and each would prune the snapshots of the other: add 'data' to"
    assert [one[: len(problem)] for one in (problems(text) if shared else [])] == [problem] * shared
    if not shared:
        assert set(read(text).jobs) == {"a", "b"}


def test_jobs_of_other_hosts_and_trees_share_nothing() -> None:
    sources = {"a": "tank", "b": "h:tank/data", "c": "tank2", "d": "root@i:tank"}
    keys = 'target = "x:p"\nkeep = "daily=3"'
    tables = (f'[job.{name}]\nsource = "{source}"\n{keys}\n' for name, source in sources.items())
    assert list(read("".join(tables)).jobs) == list(sources)


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        ("", "", True),
        ("", "no-recursive = true", True),
        ('exclude = ["db"]', 'include = ["db"]', False),
        ('exclude = ["db"]', 'include = ["db", "web"]', True),
        ('include = ["a"]', 'include = ["b"]', False),
        ('include = ["a"]', 'include = ["a/b"]', True),
    ],
)
def test_two_jobs_with_the_same_source_have_to_share_it_out(one: str, other: str, shared: bool) -> None:
    line = 'source = "h:tank"\ntarget = "pool/copy"\nkeep = "daily=3"'
    text = f"[job.a]\n{line}\n{one}\n[job.b]\n{line}\n{other}\n"
    if not shared:
        assert len(read(text).jobs) == 2
        return
    (found,) = problems(text)
    why = "job a has h:tank too, and each would prune the snapshots of the other"
    assert found.endswith(f": {why}: leave keep out of one, or exclude there what the other takes.")


def test_all_that_is_wrong_is_told_at_once_in_the_order_of_the_lines() -> None:
    text = (
        '[job.a]\nport = 0\nsource = "x"\ntarget = "y"\nwhat = 1\n[job.b]\nsource = "tank/b"\ntarget = [\n"y",\n1\n]\n'
    )
    assert [problem.split(" ")[0] for problem in problems(text)] == ["2:", "5:", "8:"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a = 1\n[job\n", "2: it is not TOML: expected ']' at the end of a table declaration."),
        ("a = [1,", "1: it is not TOML: "),
        (JOB + "port = 1\nport = 2\n", "5: it is not TOML: cannot overwrite a value."),
    ],
)
def test_what_is_not_toml_is_told_with_its_line(text: str, problem: str) -> None:
    (found,) = problems(text)
    assert found.startswith(problem)


# ---- without a file --------------------------------------------------------------------------------------------------


def test_a_job_can_be_made_of_options_alone() -> None:
    made = job_of({"source": "tank/web", "target": ["backup:pool/web", "usb/web"], "keep": "daily=3", "sudo": True})
    named = read(f'[job.{made.name}]\nsource = "tank/web"\ntarget = ["backup:pool/web", "usb/web"]\n'
                 'keep = "daily=3"\nsudo = true\n')  # fmt: skip
    assert made == named.jobs["tank-web_backup-pool-web_usb-web"]
    assert job_of({"source": "tank/web", "target": "usb/web"}).name == "tank-web_usb-web"


def test_such_jobs_whose_places_are_spelt_alike_are_told_apart() -> None:
    pairs = [
        ("tank/a/b", "usb/a/b"), ("tank/a-b", "usb/a-b"), ("tank/a b", "usb/a/b"), ("tank/a_usb/b", "usb/c"),
        ("tank/a", ["usb/b", "usb/c"]), ("tank/a", "usb/b_usb/c"), ("tank/a-", "usb/b"), ("tank-a", "usb/b"),
    ]  # fmt: skip
    names = [job_of({"source": source, "target": target}).name for source, target in pairs]
    assert len(set(names)) == len(pairs)
    assert (names[0], names[4]) == ("tank-a-b_usb-a-b", "tank-a_usb-b_usb-c")
    assert names[1].startswith("tank-a-b_usb-a-b-")
    assert job_of({"source": "tank/a-b", "target": "usb/a-b"}).name == names[1]  # it finds its history again


def test_such_jobs_with_long_names_are_told_apart() -> None:
    names = {job_of({"source": "tank/" + "x" * 90, "target": f"usb/{'x' * 90}{end}"}).name for end in ("", "a", "b")}
    assert len(names) == 3
    assert {len(name) for name in names} == {MAX_NAME_CHARS}


def test_what_is_wrong_with_it_is_told_by_option() -> None:
    with pytest.raises(ConfigError) as caught:
        job_of({"source": "tank/web", "target": "backup:", "keep": "daily", "chanels": 3})
    assert [problem.split(" ")[0] for problem in caught.value.problems] == ["--target:", "--keep:", "--chanels:"]


# ---- the file --------------------------------------------------------------------------------------------------------


def written(path: Path, text: str | bytes = JOB) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(0o600)
    return path


def test_the_users_own_file_comes_before_that_of_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    own, all_users = config_paths(tmp_path)
    assert (own, all_users) == (tmp_path / ".config/zfsync/zfsync.toml", FILE)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    assert config_paths()[0] == tmp_path / "xdg/zfsync/zfsync.toml"
    written(config_paths()[0])
    assert load().path == config_paths()[0]


def test_without_any_file_it_is_told_where_one_could_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zfsync_ssh.config.config_paths", lambda: (tmp_path / "a", tmp_path / "b"))
    with pytest.raises(UsageError, match=r"There is no configuration: make .*/a or .*/b; 'zfsync config example'"):
        load()
    with pytest.raises(UsageError, match=r"gone.toml cannot be read: No such file or directory\."):
        load(tmp_path / "gone.toml")


def test_a_directory_that_may_not_be_entered_has_none_for_this_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed, stat = tmp_path / "closed/zfsync.toml", os.stat

    def refuse(path: object, **more: Any) -> os.stat_result:
        if path == closed:
            raise PermissionError(errno.EACCES, "Permission denied")
        return stat(path, **more)  # type: ignore[arg-type]

    monkeypatch.setattr("os.stat", refuse)  # root may enter any
    monkeypatch.setattr("zfsync_ssh.config.config_paths", lambda: (closed, tmp_path / "own"))
    with pytest.raises(UsageError, match=r"There is no configuration: make "):
        load()
    written(tmp_path / "own")
    assert load().path == tmp_path / "own"


def test_a_file_that_others_can_change_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "zfsync.toml")
    path.chmod(0o620)
    with pytest.raises(UsageError, match=r"zfsync.toml can be changed by other users: make it your own, and 'chmod"):
        load(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_file_of_another_user_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "zfsync.toml")
    os.chown(path, 65534, 65534)
    with pytest.raises(UsageError, match="can be changed by other users"):
        load(path)


def test_a_file_that_is_not_utf_8_is_told_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"zfsync.toml:2: it is not UTF-8\."):
        load(written(tmp_path / "zfsync.toml", b"# a\n# \xff\n"))
