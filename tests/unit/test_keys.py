"""A job's own key, the host keys that are pinned, and the lines that OpenSSH reads of both."""

from __future__ import annotations

import errno
import fcntl
import os
import shlex
import stat
import subprocess
import threading
from pathlib import Path

import pytest

from zfsync_ssh import authorized, keys
from zfsync_ssh.config import parse
from zfsync_ssh.errors import HostKeyError, UsageError
from zfsync_ssh.floor import Floor
from zfsync_ssh.keysetup import Trust, ends_at, job_key, judge
from zfsync_ssh.location import Location, Way, parse_location
from zfsync_ssh.reach import ssh_options
from zfsync_ssh.ssh_keys import HostKeys, new_key, public_key
from zfsync_ssh.ssh_lines import Served, authorized_line, fingerprint, host_entry, kind_of, pinned, with_pin

ONE = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ6k1Jw4oHTBAC8mNGTKn6ZYhOvZGzpRzyd6dpyWwcHv"
TWO = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEKkVk6cHGnUjNmQm6XeCQMRKF9Q9D6YRvNkEqDNmTZA"


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory for keys; it is not there yet."""
    monkeypatch.setenv(keys.VARIABLE, str(tmp_path / "etc/zfsync"))
    return tmp_path / "etc/zfsync"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# ---- a job's key -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("umask", [0o000, 0o777])
def test_a_key_is_its_owners_alone_whatever_the_umask(directory: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        key = job_key("web")
    finally:
        os.umask(before)
    assert key.path == directory / "keys/web"
    assert (mode(key.path), mode(key.path.parent)) == (0o600, 0o700)
    assert sorted(path.name for path in key.path.parent.iterdir()) == ["web", "web.pub"]
    text = key.path.with_name("web.pub").read_text()
    assert text == f"{key.public} {key.comment}\n"
    assert key.comment.startswith("zfsync-web@")


def test_openssh_reads_the_key_and_shows_the_same_fingerprint() -> None:
    key = job_key("web")
    said = subprocess.run(["ssh-keygen", "-yf", key.path], capture_output=True, text=True, check=True).stdout
    assert said.split()[:2] == key.public.split()
    shown = subprocess.run(["ssh-keygen", "-lf", key.path], capture_output=True, text=True, check=True).stdout
    assert shown.split()[1] == fingerprint(key.public)
    assert shown.split()[-1] == f"({kind_of(key.public)})"


def test_a_key_that_is_there_is_used_again() -> None:
    first = job_key("web")
    data = first.path.read_bytes()
    again = job_key("web")
    assert (first.made, again.made) == (True, False)
    assert again.public == first.public == public_key(again.path)
    assert again.path.read_bytes() == data


def test_a_key_is_never_written_over(directory: Path) -> None:
    first = job_key("web")
    data = first.path.read_bytes()
    with pytest.raises(UsageError, match="cannot be written"):
        keys.store_key("web", *new_key("x"))
    assert first.path.read_bytes() == data
    assert sorted(path.name for path in (directory / "keys").iterdir()) == ["web", "web.pub"]


def test_a_key_of_somebody_else_with_a_passphrase_is_not_used(directory: Path) -> None:
    (directory / "keys").mkdir(parents=True)
    subprocess.run(["ssh-keygen", "-qt", "ed25519", "-N", "secret", "-f", directory / "keys/web"], check=True)
    with pytest.raises(UsageError, match="cannot be used"):
        job_key("web")


def test_no_job_has_the_file_of_another_ones_public_key() -> None:
    with pytest.raises(UsageError, match=r"rename web\.pub"):
        job_key("web.pub")
    job_key("web")
    assert keys.own_key("web.pub") is None


def test_a_job_uses_its_own_key_alone_and_an_identity_that_it_was_given_first() -> None:
    place = parse_location("me@backup:pool/web")
    assert ssh_options(Way(job="web"), place).identity is None
    path = job_key("web").path
    options = ssh_options(Way(job="web", port=7), place)
    assert (options.identity, options.own_key, options.user, options.port) == (path, True, "me", 7)
    assert ssh_options(Way(job="other"), place).identity is None
    assert ssh_options(Way(), place).identity is None
    given = ssh_options(Way(job="web", identity=Path("/k")), place)
    assert (given.identity, given.own_key) == (Path("/k"), False)


def test_keys_are_beside_the_configuration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(keys.VARIABLE)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert keys.key_of("web") == Path("/etc/zfsync/keys/web")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert keys.known_hosts() == tmp_path / "zfsync/known_hosts"


# ---- the host's key --------------------------------------------------------------------------------------------------


def test_pins_are_lines_that_openssh_reads(directory: Path) -> None:
    path = keys.pin(host_entry("Backup.Example", 22), ONE)
    assert keys.pin(host_entry("backup.example", 2222), TWO) == path
    assert mode(path) == 0o600
    for host, key in (("backup.example", ONE), ("[backup.example]:2222", TWO)):
        found = subprocess.run(["ssh-keygen", "-F", host, "-f", path], capture_output=True, text=True, check=True)
        assert found.stdout.splitlines()[1].split()[1:] == key.split()
        assert pinned(path.read_text(), host) == (key,)
    assert pinned(path.read_text(), "backup") == ()


def test_a_pin_starts_a_line_of_its_own_behind_one_without_an_end() -> None:
    text = with_pin(f"# mine\nother {TWO}", "backup", ONE)
    assert text == f"# mine\nother {TWO}\nbackup {ONE}\n"


@pytest.mark.parametrize(
    ("pins", "known", "expected", "why"),
    [
        ((ONE,), (), "", Trust.PINNED),
        ((TWO, ONE), (TWO,), "", Trust.PINNED),
        ((), (TWO, ONE), "", Trust.KNOWN),
        ((), (), fingerprint(ONE), Trust.EXPECTED),
        ((), (TWO,), fingerprint(ONE), Trust.EXPECTED),
        ((), (), "", Trust.UNKNOWN),
    ],
)
def test_why_a_host_key_is_trusted(pins: tuple[str, ...], known: tuple[str, ...], expected: str, why: Trust) -> None:
    assert judge("backup", ONE, HostKeys("backup", pins, known, None), expected) is why


@pytest.mark.parametrize(
    ("pins", "known", "expected", "words"),
    [
        ((TWO,), (ONE,), "", f"has changed: ED25519 {fingerprint(TWO)} is pinned in "),
        ((TWO,), (), fingerprint(ONE), "has changed"),
        ((), (TWO,), "", "your known_hosts has another one"),
        ((ONE,), (ONE,), fingerprint(TWO), f"and not {fingerprint(TWO)}: do not trust it"),
    ],
)
def test_when_a_host_key_is_refused(pins: tuple[str, ...], known: tuple[str, ...], expected: str, words: str) -> None:
    with pytest.raises(HostKeyError) as refused:
        judge("backup", ONE, HostKeys("backup", pins, known, None), expected)
    assert words in str(refused.value)
    assert "backup" in str(refused.value)


# ---- what a key is tied to -------------------------------------------------------------------------------------------


def test_the_line_ties_the_key_to_one_tree() -> None:
    served = Served("pool/web", "/opt/zfsync/bin/zfsync", append_only=True)
    assert authorized_line(ONE, "zfsync-web@here", served) == (
        f'restrict,command="/opt/zfsync/bin/zfsync serve --root pool/web --append-only" {ONE} zfsync-web@here'
    )
    assert authorized_line(ONE, "c", None) == f"restrict {ONE} c"


def test_each_bound_is_in_the_command() -> None:
    every = Served("pool/web", append_only=True, keep_at_least=Floor(3), read_only=True, sudo=True)
    assert every.words == (
        "zfsync", "serve", "--root", "pool/web", "--append-only", "--read-only", "--keep-at-least", "3", "--sudo",
    )  # fmt: skip


def test_no_name_leaves_the_quotes(tmp_path: Path) -> None:
    """sshd takes the command out of its quotes, where only \\" is special; a shell then reads it."""
    odd = tmp_path / "a \"b' $(touch x)"
    odd.mkdir()
    program = odd / "zfsync"
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    program.chmod(0o755)
    line = authorized_line(ONE, "c", Served("pool/my web", str(program)))
    command = line[len('restrict,command="') : line.index(f'" {ONE}')].replace('\\"', '"')
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout.split("\n") == ["serve", "--root", "pool/my web", ""]
    assert shlex.split(command)[0] == str(program)
    assert not (tmp_path / "x").exists()
    with pytest.raises(UsageError):
        authorized_line(ONE, "c", Served("pool", "a\nb"))


JOBS = """
[job.web]
source = "tank/web"
target = ["backup:pool/a/web", "me@other:x/web", "usb/web"]
[job.pull]
source = "web:tank/web"
target = "pool/web"
"""


def test_a_key_is_for_where_its_job_goes() -> None:
    jobs = parse(JOBS, Path("/f")).jobs
    for job, place in (
        ("web", "backup:pool/a/web"),
        ("web", "backup:pool/a"),
        ("web", "me@other:x"),
        ("pull", "web:tank"),
    ):
        ends_at(jobs[job], parse_location(place))
    for job, place, words in (
        ("web", "backup:pool/b", "which is not in pool/b"),
        ("web", "backup:pool/a/web/x", "which is not in"),
        ("web", "other:x/web", "it goes between tank/web, backup:pool/a/web, me@other:x/web, usb/web"),
        ("pull", "backup:pool/web", "it goes between web:tank/web, pool/web"),
    ):
        with pytest.raises(UsageError) as refused:
            ends_at(jobs[job], parse_location(place))
        assert words in str(refused.value)
    assert parse_location("x") == Location(None, "", "x")


# ---- authorized_keys at the far end ----------------------------------------------------------------------------------

BLOB = ONE.split()[1]


def test_a_line_is_added_at_the_end() -> None:
    assert authorized.with_line("", f"restrict {ONE}", BLOB) == (f"restrict {ONE}\n", [])
    assert authorized.with_line(f"{TWO} a\n", "new", BLOB) == (f"{TWO} a\nnew\n", [])
    assert authorized.with_line(f"{TWO} a", "new", BLOB) == (f"{TWO} a\nnew\n", [])


def test_it_takes_the_place_of_every_line_of_the_same_key_and_no_other() -> None:
    text = f'# {ONE}\r\n{TWO} a\r\nfrom="a b",command="x y" {ONE} old\n\n{TWO}\n{ONE}\n'
    new, old = authorized.with_line(text, "new", BLOB)
    assert new == f"# {ONE}\r\n{TWO} a\r\nnew\n\n{TWO}\n"
    assert old == [f'from="a b",command="x y" {ONE} old', ONE]
    assert authorized.with_line(new.replace("new", f"restrict {ONE}"), f"restrict {ONE}", BLOB)[0] == new.replace(
        "new", f"restrict {ONE}"
    )


def test_the_directory_and_the_file_are_made_private(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        done = authorized.install("line", BLOB, str(tmp_path))
    finally:
        os.umask(before)
    path = tmp_path / ".ssh/authorized_keys"
    assert done == {"file": str(path), "did": "added", "old": ""}
    assert (mode(path.parent), mode(path), path.read_text()) == (0o700, 0o600, "line\n")
    assert [one.name for one in path.parent.iterdir()] == ["authorized_keys"]


def test_what_is_there_keeps_its_mode_its_bytes_and_its_link(tmp_path: Path) -> None:
    (tmp_path / ".ssh").mkdir()
    real = tmp_path / "managed"
    real.write_bytes(b"\xff not utf-8\r\n" + f"{ONE} c\n".encode())
    real.chmod(0o640)
    (tmp_path / ".ssh/authorized_keys").symlink_to(real)
    assert authorized.install(f"{ONE} c", BLOB, str(tmp_path))["did"] == "kept"
    done = authorized.install(f"restrict {ONE} c", BLOB, str(tmp_path))
    assert (done["did"], done["old"], done["file"]) == ("replaced", f"{ONE} c", str(real))
    assert real.read_bytes() == b"\xff not utf-8\r\n" + f"restrict {ONE} c\n".encode()
    assert mode(real) == 0o640
    assert (tmp_path / ".ssh/authorized_keys").is_symlink()


def test_two_at_once_lose_no_line(tmp_path: Path) -> None:
    directory = tmp_path / ".ssh"
    directory.mkdir()
    (directory / "authorized_keys").write_text("old\n")
    started = threading.Event()
    done: list[authorized.Answer] = []

    def install() -> None:
        started.set()
        done.append(authorized.install(f"{ONE} c", BLOB, str(tmp_path)))

    other = threading.Thread(target=install)
    fd = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)  # as one that has read, and is about to write
        other.start()
        started.wait()
        other.join(0.2)
        assert not done
        (directory / "authorized_keys").write_text("old\nof the other\n")
    finally:
        os.close(fd)
    other.join()
    assert (directory / "authorized_keys").read_text() == f"old\nof the other\n{ONE} c\n"


def test_where_directories_cannot_be_locked_it_is_done_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr(fcntl, "flock", flock)
    assert authorized.install(f"{ONE} c", BLOB, str(tmp_path))["did"] == "added"


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / ".ssh").write_text("")
    answer = authorized.answer({"do": "install", "line": "x", "key": BLOB}, str(tmp_path))
    assert list(answer) == ["problem"]
    assert str(tmp_path / ".ssh") in answer["problem"]


def test_zfsync_is_found_where_it_is_and_nothing_else_is_taken_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def program(name: str, says: str) -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\necho {says}\n")
        path.chmod(0o755)
        return str(path)

    program("other/zfsync", "usage: zfsync, the one in C")
    here = program(".local/bin/zfsync", "zfsync 1.2.3")
    monkeypatch.setattr(authorized, "_PLACES", ("~/.local/bin",))
    monkeypatch.setenv("PATH", f"{tmp_path}/other:relative")
    assert authorized.find("", str(tmp_path)) == {"path": here, "version": "1.2.3"}
    assert authorized.find(here, "/nowhere") == {"path": here, "version": "1.2.3"}
    assert authorized.find(f"{tmp_path}/other/zfsync", str(tmp_path)) == {"path": "", "version": ""}
    assert authorized.find("", "/nowhere") == {"path": "", "version": ""}
