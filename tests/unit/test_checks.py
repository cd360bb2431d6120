"""How what `zfsync doctor` finds is judged."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from zfsync_ssh import about as about_module
from zfsync_ssh import checks
from zfsync_ssh.about import About, Place, parse
from zfsync_ssh.allowed import Permitted
from zfsync_ssh.bounds import Confinement
from zfsync_ssh.checks import Level, Wanted
from zfsync_ssh.config import parse as parse_config
from zfsync_ssh.confinement import refusal
from zfsync_ssh.dataset import Dataset, Inventory, Snapshot
from zfsync_ssh.doctor import schedule_check
from zfsync_ssh.messages import Query
from zfsync_ssh.process import Completed
from zfsync_ssh.tree import Tree

ALL = frozenset({"create", "mount", "receive", "rename", "destroy"})
WANTED = Wanted({"create", "mount", "receive", "rename"}, ALL)


def told(*places: Place, root: bool = False, problem: str = "") -> About:
    return About("backup", root, 0.0, ("zfs-2.3.1",), False, problem, places)


def at(dataset: str, here: frozenset[str] = ALL, below: frozenset[str] = ALL) -> Place:
    return Place(dataset, Permitted(here, below))


# ---- permissions -----------------------------------------------------------------------------------------------------


def test_what_is_missing_is_told_as_the_command_that_grants_it() -> None:
    found = checks.permissions(
        told(at("pool/b", ALL - {"mount"}, ALL - {"rename"})), WANTED, "pool/b/web", receives=True
    )
    assert found == checks.Check(
        "permissions",
        Level.PROBLEM,
        "backup may not mount, rename on pool/b",
        "zfs allow -u backup mount,rename pool/b",
    )


def test_what_is_to_be_pasted_is_quoted() -> None:
    about = told(at("pool/my web", below=ALL - {"mount"}))._replace(user="x; reboot")
    found = checks.permissions(about, WANTED, "pool/my web/data", receives=True)
    assert found.remedy == "zfs allow -u 'x; reboot' mount 'pool/my web'"


def test_what_a_run_does_without_is_a_warning() -> None:
    found = checks.permissions(told(at("pool/b", below=ALL - {"destroy"})), WANTED, "pool/b/web", receives=True)
    assert (found.level, found.remedy) == (Level.WARNING, "zfs allow -u backup destroy pool/b")


def test_for_receiving_the_dataset_above_counts_because_the_buffer_is_made_in_it() -> None:
    nothing: frozenset[str] = frozenset()
    places = (at("pool/b", nothing, nothing), at("pool/b/web"))
    assert checks.permissions(told(*places), WANTED, "pool/b/web", receives=True).remedy.endswith(" pool/b")
    assert checks.permissions(told(*places), WANTED, "pool/b/web", receives=True, beside=False).level is Level.OK
    assert checks.permissions(told(*places), WANTED, "pool/b/web", receives=False).level is Level.OK
    # only adding asks for something on the dataset above itself
    adding = at("pool/b", frozenset({"create", "mount", "receive"}))
    assert checks.permissions(told(adding), WANTED, "pool/b/web", receives=True).level is Level.OK


def test_a_pool_has_nothing_above_it() -> None:
    assert checks.permissions(told(at("pool")), WANTED, "pool", receives=True).level is Level.OK


def test_a_source_needs_them_on_the_whole_tree() -> None:
    for place in (at("tank/a", below=ALL - {"mount"}), at("tank/a", here=ALL - {"mount"})):
        found = checks.permissions(told(at("tank"), place), WANTED, "tank/a", receives=False)
        assert found.remedy == "zfs allow -u backup mount tank/a"


def test_root_needs_none_and_what_cannot_be_known_is_no_problem() -> None:
    assert checks.permissions(told(root=True), WANTED, "p", receives=True).level is Level.OK
    assert checks.permissions(None, WANTED, "p", receives=True).level is Level.WARNING
    assert checks.permissions(told(problem="no such thing"), WANTED, "p", receives=True).level is Level.WARNING


# ---- the rest --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("there", "words"),
    [(100.0, ""), (161.9, ""), (41.0, ""), (170.0, "68 s ahead of"), (10.0, "90 s behind")],
)
def test_clocks_may_differ_by_a_minute_and_by_as_long_as_the_answer_took(there: float, words: str) -> None:
    found = checks.clock(there, 100.0, 102.0)
    assert (found.level is Level.OK) == (not words)
    assert words in found.text


def test_fewer_sessions_than_a_run_wants_are_a_warning() -> None:
    assert checks.sessions(5, 5).level is Level.OK
    found = checks.sessions(2, 5)
    assert (found.level, found.remedy.startswith("Set MaxSessions 10 ")) == (Level.WARNING, True)


POOL = {"health": "ONLINE", "capacity": "12", "readonly": "off", "feature@encryption": "enabled"}


@pytest.mark.parametrize(
    ("changed", "level"),
    [
        ({}, Level.OK),
        ({"capacity": "95%"}, Level.WARNING),
        ({"health": "DEGRADED"}, Level.WARNING),
        ({"health": "SUSPENDED"}, Level.PROBLEM),
        ({"health": "UNAVAIL", "capacity": "-"}, Level.PROBLEM),
        ({"readonly": "on"}, Level.PROBLEM),
        ({"feature@encryption": "disabled"}, Level.PROBLEM),
    ],
)
def test_a_pool_is_looked_at(changed: dict[str, str], level: Level) -> None:
    assert checks.pool({**POOL, **changed}, "pool/x", True, receives=True).level is level


def test_what_only_a_target_needs_is_not_asked_of_a_source() -> None:
    poor = {**POOL, "capacity": "95", "readonly": "on", "feature@encryption": "disabled"}
    assert checks.pool(poor, "pool/x", True, receives=False).level is Level.OK
    assert checks.pool({**poor, "readonly": "off", "capacity": "1"}, "p", False, receives=True).level is Level.OK
    assert checks.pool({}, "pool/x", False, receives=True).level is Level.WARNING


def inventory(*, there: bool, available: int = 1000, newest: str = "", above: tuple[str, ...] = ("pool",)) -> Inventory:
    snapshots = (Snapshot(newest, 1, 1),) if newest else ()
    root = Dataset("pool/x", "filesystem", 1, available=available, snapshots=snapshots)
    return Inventory("pool/x", {"": root} if there else {}, ancestors=() if there else above, available=available)


def test_a_target_is_there_or_can_be_made() -> None:
    assert "newest @a" in checks.target(inventory(there=True, newest="a"), 5000, root="pool/x").text
    assert checks.target(inventory(there=False), 500, root="pool/x").level is Level.OK
    assert checks.target(inventory(there=False), 5000, root="pool/x").level is Level.WARNING
    assert checks.target(inventory(there=True, available=0), 0, root="pool/x").level is Level.PROBLEM
    none = checks.target(inventory(there=False, above=()), 0, root="pool/x")
    assert none.text == "There is no pool pool"
    assert "one of another host is HOST:DATASET, without a slash before it" in none.remedy


def test_a_source_has_something_to_send() -> None:
    assert checks.source(inventory(there=True, newest="a"), "pool/x", takes=False).level is Level.OK
    assert checks.source(inventory(there=True), "pool/x", takes=True).level is Level.OK
    found = checks.source(inventory(there=True), "pool/x", takes=False)
    assert (found.level, found.remedy) == (Level.WARNING, "zfs snapshot -r pool/x@NAME")


def test_the_worst_is_the_verdict() -> None:
    fine, odd, bad = checks.ok("a", ""), checks.warning("a", "", ""), checks.problem("a", "")
    assert [checks.worst(one) for one in ([], [fine], [fine, odd], [bad, odd])] == [
        Level.OK, Level.OK, Level.WARNING, Level.PROBLEM,
    ]  # fmt: skip


def test_a_schedule_that_nothing_starts_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no crontab
    job = parse_config('[job.w]\nsource="a/b"\ntarget="c/d"\nschedule="daily"\n', Path("/f")).jobs["w"]
    found = schedule_check(job, root=False, home=tmp_path)
    assert found is not None
    assert (found.level, found.remedy) == (Level.WARNING, "zfsync cron install w, or --systemd")


def test_a_line_of_cron_that_would_look_elsewhere_for_its_files_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = "0 0 * * * env XDG_CONFIG_HOME=/c zfsync cron run w # zfsync:w"
    (tmp_path / "crontab").write_text(f"#!/bin/sh\necho '{line}'\n")
    (tmp_path / "crontab").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", "/c")
    job = parse_config('[job.w]\nsource="a/b"\ntarget="c/d"\nschedule="daily"\n', Path("/f")).jobs["w"]
    found = {}
    for base in ("", "not/absolute", "/s"):
        monkeypatch.setenv("XDG_STATE_HOME", base)
        check = schedule_check(job, root=False, home=tmp_path)
        assert check is not None
        found[base] = check.level, check.remedy
    fine = (Level.OK, "")
    assert found == {"": fine, "not/absolute": fine, "/s": (Level.WARNING, "zfsync cron install w")}


@pytest.mark.parametrize(
    ("systemctl", "loginctl", "level", "text", "remedy"),
    [
        ("", "echo Linger=yes", Level.OK, "timer of systemd", ""),
        ("", "echo Linger=no", Level.WARNING, "timer of systemd, but only while you are logged in",
         "loginctl enable-linger"),
        ("", "exit 1", Level.WARNING, "timer of systemd, but only while you are logged in", "loginctl enable-linger"),
        ("echo disabled; exit 1", "echo Linger=yes", Level.WARNING, "timer of systemd, which is not enabled: disabled",
         "zfsync cron install w --systemd"),
        ("echo 'No bus.' >&2; exit 1", "echo Linger=yes", Level.WARNING, "which is not enabled: No bus",
         "zfsync cron install w --systemd"),
        (None, "echo Linger=yes", Level.WARNING, "systemctl cannot be run: No such file or directory.",
         "Install it by cron, where systemd does not run."),
    ],
)  # fmt: skip
def test_a_timer_that_systemd_does_not_start_is_told(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    systemctl: str | None,
    loginctl: str,
    level: Level,
    text: str,
    remedy: str,
) -> None:
    asked = f'"--user is-enabled zfsync-w.timer"|"show-user {os.getuid()} -p Linger"'
    asks = f'case "$*" in {asked}) ;; *) exit 9;; esac'
    for name, does in (("systemctl", systemctl), ("loginctl", loginctl)):
        if does is not None:
            (tmp_path / name).write_text(f"#!/bin/sh\n{asks}\n{does}\n")
            (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    job = parse_config('[job.w]\nsource="a/b"\ntarget="c/d"\nschedule="daily"\n', Path("/f")).jobs["w"]
    units = tmp_path / ".config/systemd/user"
    units.mkdir(parents=True)
    (units / "zfsync-w.timer").touch()
    found = schedule_check(job, root=False, home=tmp_path)
    assert found is not None
    assert (found.level, found.remedy) == (level, remedy)
    assert found.text.endswith(text)


def test_a_timer_of_the_machine_needs_nobody_to_be_logged_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "systemctl").write_text('#!/bin/sh\n[ "$*" = "is-enabled zfsync-w.timer" ]\n')
    (tmp_path / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("zfsync_ssh.systemd.unit_directory", lambda *, root, home: home)
    (tmp_path / "zfsync-w.timer").touch()
    job = parse_config('[job.w]\nsource="a/b"\ntarget="c/d"\nschedule="daily"\n', Path("/f")).jobs["w"]
    found = schedule_check(job, root=True, home=tmp_path)
    assert found is not None
    assert found.level is Level.OK


# ---- what an agent says of itself ------------------------------------------------------------------------------------


class FakeTree(Tree):
    """A tree whose zfs knows a few datasets and permissions."""

    def zfs(self, arguments: tuple[str, ...]) -> Completed:
        if arguments[0] == "version":
            return Completed(0, "zfs-2.3.1\nzfs-kmod-2.3.2\n", "")
        if arguments[0] == "allow":
            text = f"---- Permissions on {arguments[1]} ---\nLocal+Descendent permissions:\n\teveryone create\n"
            return Completed(0, text, "")
        there = [name for name in ("pool", "pool/b", "pool/b/web") if name in arguments]
        return Completed(0, "".join(f"{name}\t1\toff\n" for name in there), "")


@pytest.fixture
def ordinary(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process has no root's rights."""
    monkeypatch.setattr("os.geteuid", lambda: 4321)
    return iter(())


@pytest.mark.parametrize(
    ("root", "places"),
    [("pool/b/web", ["pool/b", "pool/b/web"]), ("pool/b/web/new", ["pool/b/web"]), ("pool", ["pool"])],
)
def test_an_agent_tells_of_its_root_and_of_what_is_above(ordinary: None, root: str, places: list[str]) -> None:
    about = parse(list(about_module.lines(FakeTree(root, "", ("nothing",)))))
    assert [place.dataset for place in about.places] == places
    assert all(place.permitted.here == {"create"} for place in about.places)
    assert about.versions == ("zfs-2.3.1", "zfs-kmod-2.3.2")
    assert (about.user, about.root, about.library, about.time > 0) == ("4321", False, False, True)


def test_with_sudo_zfs_runs_as_root(ordinary: None) -> None:
    about = parse(list(about_module.lines(FakeTree("pool", "", ("sudo", "-n", "zfs")))))
    assert about.root
    assert about.places == ()


def test_a_confined_receiver_tells_it_as_well() -> None:
    bounds = Confinement("pool/web", read_only=True)
    tree = Tree("pool/web", "", ("zfs",))
    assert refusal(Query("about", ()), bounds, tree) == ""
    assert "nothing that can be asked" in refusal(Query("allow", ("",)), bounds, tree)
