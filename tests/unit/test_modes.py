"""Who may read and write what zfsync writes, whatever the umask."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.unit.dsl import tree
from zfsync_ssh import authorized, keys, metrics
from zfsync_ssh.cli import cron as cli_cron
from zfsync_ssh.cli import options
from zfsync_ssh.history import History, Run
from zfsync_ssh.joblog import JobLog
from zfsync_ssh.lock import Lock
from zfsync_ssh.remembered import Remembered
from zfsync_ssh.state import make_private


@pytest.fixture(params=[0o000, 0o022, 0o077], ids="umask {:03o}".format)
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory to write in, under a umask."""
    monkeypatch.setenv(keys.VARIABLE, str(tmp_path / "keys"))
    before = os.umask(request.param)
    yield tmp_path
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def history(place: Path) -> Path:
    made = History(place / "new/state")
    made.add(Run("web", "backup:pool", 1.0, 2.0, 0))
    return made.path


def remembered(place: Path) -> Path:
    made = Remembered(place / "new/state/remembered", "backup:pool")
    inventory = tree("pool", root="@a,1")
    inventory.at = 1000
    inventory.datasets[""] = inventory.datasets[""]._replace(version="1:1:x")
    made.learn(inventory)
    made.save()
    (path,) = (place / "new/state/remembered").iterdir()
    return path


def job_log(place: Path) -> Path:
    log = JobLog("web", file=place / "web.log", now=lambda: datetime.now(UTC))
    log("begun")
    assert log.problems == []
    return place / "web.log"


def plan_out(place: Path) -> Path:
    options._write_plan(place / "plan", {"zfsync-plan": 1})
    return place / "plan"


def private_key(place: Path) -> Path:
    return keys.store_key("web", b"private", "ssh-ed25519 AAAA web")


def pinned(place: Path) -> Path:
    return keys.pin("backup", "ssh-ed25519 AAAA")


def authorized_keys(place: Path) -> Path:
    authorized.install("restrict ssh-ed25519 AAAA web", "AAAA", str(place))
    return place / ".ssh/authorized_keys"


@pytest.mark.parametrize(
    "write",
    [history, remembered, job_log, plan_out, private_key, pinned, authorized_keys],
    ids=lambda one: one.__name__,
)
def test_what_is_private_is_its_owners_alone(write: Callable[[Path], Path], place: Path) -> None:
    path = write(place)
    assert mode(path) == 0o600
    for above in path.parents:
        if above == place:
            break
        # Root's /etc/zfsync is for everyone to look into: the configuration is in it, and keys/ is not.
        assert mode(above) == (0o755 if above == keys.directory() and os.geteuid() == 0 else 0o700)


@pytest.mark.parametrize("write", [job_log, plan_out], ids=lambda one: one.__name__)
def test_a_file_that_is_there_keeps_the_mode_that_its_user_gave_it(write: Callable[[Path], Path], place: Path) -> None:
    path = write(place)
    path.chmod(0o640)
    assert write(place) == path
    assert mode(path) == 0o640


def test_a_directory_that_is_there_stays_as_it_is(place: Path) -> None:
    place.chmod(0o750)
    make_private(place / "a/b")
    make_private(place / "a/b")
    assert [mode(place), mode(place / "a"), mode(place / "a/b")] == [0o750, 0o700, 0o700]


def test_a_lock_can_be_opened_by_other_accounts_and_written_to_by_none(place: Path) -> None:
    lock = Lock("pool/data", (str(place),))
    assert lock.acquire("me") is None
    assert mode(Path(lock.path)) == 0o644
    lock.release()


def test_metrics_and_units_are_for_everyone_to_read(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metrics.write(place / "zfsync.prom", b"x 1\n")
    assert mode(place / "zfsync.prom") == 0o644
    monkeypatch.setattr(cli_cron, "_units", lambda: place / "systemd/user")
    monkeypatch.setattr(cli_cron, "_systemctl", lambda *words: None)
    for text in ("one, which is longer", "two"):
        cli_cron._enable("web", {"zfsync-web.service": text})
    assert (place / "systemd/user/zfsync-web.service").read_text() == "two"
    assert mode(place / "systemd/user/zfsync-web.service") == 0o644
    assert (mode(place / "systemd"), mode(place / "systemd/user")) == (0o700, 0o700)
