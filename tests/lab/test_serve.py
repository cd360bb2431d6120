"""The confined receiver on real ZFS: a forced command of a real sshd, with ordinary clients, and with hostile ones."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.conftest import Run, World
from tests.lab.driver import Lab, Machine

KEY = "/root/serve-key"
LOG = "/run/serve.log"
SYSLOG = f"""
import os, socket
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind('/dev/log')
os.chmod('/dev/log', 0o666)
with open('{LOG}', 'ab', 0) as log:
    while True:
        log.write(s.recv(65536) + b'\\n')
"""


class Served(World):
    """A world whose receiver has the sender's key confined to ``root``, and the target in that."""

    def __init__(self, sender: Machine, receiver: Machine) -> None:
        super().__init__(sender, receiver)
        self.root = f"{self.above}/web"
        self.target = f"{self.root}/dst"
        self.buffer = f"{self.target}.zfsyncbuffer"
        self.neighbour = f"{self.above}/web2"
        receiver.run(["zfs", "create", self.root])
        receiver.run(["zfs", "create", self.neighbour])
        receiver.run(["zfs", "snapshot", f"{self.neighbour}@1"])
        receiver.sh(f": > {LOG}")
        self.before = self.others()

    def confine(self, *options: str, root: str = "") -> None:
        """What the key may do from now on."""
        words = " ".join(("zfsync serve --root", root or self.root, *options))
        public = self.sender.run(["cat", f"{KEY}.pub"]).stdout
        self.receiver.sh(
            "sed -i '/serve-key/d' /root/.ssh/authorized_keys\n"
            f"cat >> /root/.ssh/authorized_keys <<'END'\nrestrict,command=\"{words}\" {public.strip()}\nEND"
        )

    def ask(self, *argv: str) -> Run:
        """Run a `zfsync` with the confined key."""
        return self.run(["zfsync", argv[0], "--port", str(self.receiver.ssh_port), "-i", KEY, *argv[1:]])

    def there(self, dataset: str = "") -> str:
        return f"{self.receiver.ssh_host}:{dataset or self.target}"

    def send(self, *options: str, target: str = "") -> Run:
        return self.ask("push", "--json", *options, self.source, self.there(target))

    @property
    def log(self) -> str:
        return self.receiver.run(["cat", LOG]).stdout

    def others(self) -> str:
        """Every dataset and snapshot that is none of the client's, with its GUID and properties that matter."""
        listing = "name,guid,createtxg,mountpoint,canmount,readonly,origin,userrefs"
        lines = self.receiver.run(["zfs", "list", "-Hrt", "all", "-o", listing, "pool"]).stdout.splitlines()
        return "\n".join(line for line in lines if not line.startswith((f"{self.root}/", f"{self.root}\t")))


@pytest.fixture(scope="module")
def receiving(lab: Lab) -> Iterator[Machine]:
    """The receiver, with zfsync installed and a log."""
    receiver, sender = lab.machine("receiver"), lab.machine("sender")
    lab.install(receiver)
    sender.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "serve-key", "-f", KEY])
    receiver.sh("cat > /root/syslog.py; setsid python3 /root/syslog.py >/dev/null 2>&1 </dev/null &", input=SYSLOG)
    receiver.sh("for _ in $(seq 100); do [ -S /dev/log ] && exit 0; sleep 0.1; done; exit 1")
    yield receiver
    receiver.sh("sed -i '/serve-key/d' /root/.ssh/authorized_keys; pkill -f '[s]yslog.py' || true; rm -f /dev/log")


@pytest.fixture
def served(lab: Lab, receiving: Machine) -> Iterator[Served]:
    """A confined key. Nothing that is not the client's changes in a test."""
    made = Served(lab.machine("sender"), receiving)
    yield made
    assert made.others() == made.before
    made.close()


def grow(world: World) -> None:
    world.create("/a")
    world.create("/a/b")
    world.create("/vol", "-s", "-V", "8M")
    for child in ("", "/a", "/a/b"):
        world.write(child, 100)
    world.snapshot("1")
    world.write("/a/b", 300, "more")
    world.snapshot("2")


@pytest.mark.parametrize("options", [(), ("--append-only",)])
def test_the_ordinary_client_works_through_it(served: Served, options: tuple[str, ...]) -> None:
    served.confine(*options)
    grow(served)
    run = served.send()
    assert run.status == 0, run
    served.assert_equal()
    assert served.get("readonly") == "on"
    assert served.get("canmount", "/a") == "noauto"
    for name in "345":
        served.write("/a", 50, name)
        served.snapshot(name)
    run = served.send()
    assert run.status == 0, run
    served.assert_equal()
    assert "refused" not in served.log
    assert "serves" in served.log

    source, copy = served.source, served.there()
    for argv in (("compare", source, copy), ("verify", source, copy)):
        run = served.ask(*argv)
        assert run.status == 0, run


def test_what_was_cut_off_is_resumed(served: Served) -> None:
    served.confine("--append-only")
    served.create("/a")
    served.write("/a", 60_000)
    served.snapshot("1")
    running = served.start_words(
        "zfsync", "push", "--json", "-i", KEY, "--rate-limit", "3M", served.source, served.there()
    )
    running.wait_for_bytes(9_000_000)
    running.signal("KILL")
    running.wait()
    served.wait_until(served.receiver, f"zfs list -Hro receive_resume_token {served.root} | grep -q 1-")
    run = served.send()
    assert run.status == 0, run
    assert run.outcomes[served.source + "/a"]["what"].startswith("resume")
    served.assert_equal()


def test_append_only_refuses_what_would_lose_something(served: Served) -> None:
    served.confine("--append-only")
    grow(served)
    assert served.send().status == 0
    before = served.snapshots()
    served.sender.run(["zfs", "destroy", "-r", f"{served.source}@1"])
    run = served.send("--delete-snapshots")
    assert "may only add to what is there (zfsync serve --append-only): no destroy-snapshot" in run.out
    assert served.snapshots() == before
    served.receiver.run(["zfs", "snapshot", f"{served.target}/a@theirs"])
    served.snapshot("3")
    for how in ("rollback", "replace", "set-aside"):
        run = served.send("--on-divergence", how, "--yes")
        assert run.status == 3, run
        assert "may only add to what is there" in run.out
    assert set(before) <= set(served.snapshots())
    assert "refused 'rollback' of" in served.log


def test_without_it_what_is_within_may_go_down_to_the_floor(served: Served) -> None:
    served.confine("--keep-at-least", "2")
    grow(served)
    served.snapshot("3")
    assert served.send().status == 0
    for name in "12":
        served.sender.run(["zfs", "destroy", "-r", f"{served.source}@{name}"])
    run = served.send("--delete-snapshots")
    assert "keep-at-least" in run.out
    left = [line.partition("\t")[0] for line in served.snapshots()]
    assert f"{served.target}/a@1" not in left
    assert f"{served.target}/a@2" in left


def test_what_is_younger_than_the_floor_stays_by_the_times_that_streams_brought(served: Served) -> None:
    served.confine("--keep-at-least", "1h")
    grow(served)
    assert served.send().status == 0
    times = ["zfs", "list", "-Hprt", "snapshot", "-o", "creation"]
    here = served.sender.run([*times, served.source]).stdout
    assert served.receiver.run([*times, served.target]).stdout == here
    before = served.snapshots()
    served.sender.run(["zfs", "destroy", "-r", f"{served.source}@1"])
    run = served.send("--delete-snapshots")
    assert "all snapshots younger than 1h of each dataset stay" in run.out
    assert served.snapshots() == before
    served.receiver.run(["zfs", "snapshot", f"{served.target}/a@theirs"])
    served.snapshot("3")
    run = served.send("--on-divergence", "rollback", "--yes")
    assert run.status == 3, run
    assert f"{served.target}/a@theirs" in "".join(served.snapshots())
    served.receiver.run(["zfs", "destroy", f"{served.target}/a@theirs"])
    served.confine("--keep-at-least", "1s")
    served.sender.sh("sleep 2")
    run = served.send("--delete-snapshots")
    assert run.status == 0, run
    served.assert_equal()


def test_the_receiver_prunes_by_itself_what_its_clients_may_only_add_to(served: Served) -> None:
    served.confine("--append-only")
    served.create("/a")
    days = [f"202611{day:02}-0000_D" for day in range(20, 25)]
    for name in days:
        served.write("/a", 20, name)
        served.snapshot(name)
    assert served.send().status == 0
    before = served.snapshots()
    prune = ["zfsync", "prune", served.root, "--keep", "daily=2"]
    would = served.receiver.run([*prune, "--dry-run"]).stdout
    assert f"{served.target}/a loses snapshots that are not to be kept" in would
    assert served.snapshots() == before
    served.receiver.run(prune)
    left = served.snapshots_of(served.receiver, f"{served.target}/a")
    assert left == served.snapshots_of(served.sender, f"{served.source}/a")[-2:]
    served.write("/a", 20, "more")
    served.snapshot("20261125-0000_D")
    assert served.send().status == 0
    assert served.snapshots_of(served.receiver, f"{served.target}/a") == [*days[-2:], "20261125-0000_D"]
    assert set(served.digest(served.receiver, served.target)) < set(served.digest(served.sender, served.source))


def test_a_client_cannot_change_the_key_of_what_is_there(served: Served) -> None:
    """An increment brings the key of its whole dataset: with another one nobody could open the older snapshots."""
    served.confine("--append-only")
    served.sender.sh(f"echo 'my own secret' | zfs create -o encryption=on -o keyformat=passphrase {served.source}/e")
    served.write("/e", 100)
    served.snapshot("1")
    assert served.send().status == 0
    served.write("/e", 100, "more")
    served.snapshot("2")
    assert served.send().status == 0  # the same key
    copy = f"{served.target}/e"
    served.sender.sh(
        f"printf 'another thief\\nanother thief\\n' | zfs change-key -o keyformat=passphrase {served.source}/e"
    )
    served.snapshot("3")
    run = served.send()
    assert run.status == 3, run
    assert f"'zfs set zfsync:rekey=on {copy}' there" in run.outcomes[served.source + "/e"]["message"]
    assert served.snapshots_of(served.receiver, copy) == ["1", "2"]
    served.receiver.sh(f"echo 'my own secret' | zfs load-key {copy}")
    served.receiver.run(["zfs", "unload-key", copy])
    served.receiver.run(["zfs", "set", "zfsync:rekey=on", copy])
    assert served.send().status == 0
    served.receiver.sh(f"echo 'another thief' | zfs load-key {copy}")


def test_a_job_takes_its_snapshots_at_a_confined_source_and_pulls_them(served: Served) -> None:
    for child in ("", "/a"):
        served.receiver.run(["zfs", "create", served.target + child])
    pulled = f"{served.source}/pulled"
    job = ["--keep", "minutely=9", "--no-hold", "--no-bookmark", served.there(), pulled]

    def ask() -> Run:
        words = ["cron", "run", "--port", str(served.receiver.ssh_port), "-i", KEY, *job]
        return served.run(["zfsync", *words])

    served.confine("--read-only")
    run = ask()
    assert run.status != 0, run
    assert "may only read" in run.err
    assert served.snapshots() == []
    served.confine("--append-only")
    run = ask()
    assert (run.status, run.err) == (0, ""), run
    taken = served.snapshots_of(served.receiver, f"{served.target}/a")
    assert len(taken) == 1
    assert served.snapshots_of(served.sender, f"{pulled}/a") == taken
    assert served.digest(served.sender, pulled) == served.digest(served.receiver, served.target)


def test_read_only_restores_compares_and_verifies(served: Served) -> None:
    served.confine()
    grow(served)
    assert served.send().status == 0
    served.confine("--read-only")
    back = f"{served.source}-back"
    run = served.ask("restore", served.there(), back)
    assert run.status == 0, run
    assert served.digest(served.sender, back) == served.digest(served.sender, served.source)
    for argv in (("compare", served.source, served.there()), ("verify", served.source, served.there())):
        run = served.ask(*argv)
        assert run.status == 0, run
    served.snapshot("9")
    run = served.send()
    assert run.status != 0
    assert "may only read" in run.err + run.out


@pytest.mark.parametrize("target", ["web2", "web2/x", "", "web.zfsync-aside-x", "webb"])
def test_another_root_is_refused_by_name(served: Served, target: str) -> None:
    served.confine()
    grow(served)
    name = f"{served.above}/{target}" if target else served.above
    run = served.send(target=name)
    assert run.status == 7, run
    assert name in run.err
    assert "which is all that this key reaches" in run.err
    assert f"'{name}'" in served.log
    assert "refused Begin" in served.log


HOSTILE = Path(__file__).with_name("hostile.py")


def test_a_hostile_client_reaches_nothing(served: Served, lab: Lab) -> None:
    """What only real ZFS can tell: packages, GUIDs that are another's, tokens, properties, a payload of code."""
    served.confine()
    served.sender.put(HOSTILE, "/root/hostile.py")
    sender = served.sender
    sender.run(["zfs", "create", f"{served.source}/web2"])
    served.write("", 30)
    served.snapshot("1")
    served.write("", 30, "b")
    served.snapshot("2")
    # The neighbour has a copy of the same source: its GUIDs are no secret to the client.
    host = served.receiver.ssh_host
    sender.sh(f"zfs send {served.source}@1 | ssh {host} zfs receive -u {served.neighbour}/copy")
    served.before = served.others()
    facts = {
        "host": host,
        "key": KEY,
        "root": served.root,
        "neighbour": served.neighbour,
        "source": served.source,
        "above": served.above,
    }
    done = sender.run(["python3", "/root/hostile.py", json.dumps(facts)], check=False, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    answers = json.loads(done.stdout.splitlines()[-1])
    assert len(answers) >= 8
    for what, answer in answers.items():
        assert answer.startswith("refused: "), (what, answer)
    assert served.others() == served.before
    assert served.receiver.sh("ls /root/pwned 2>/dev/null || true").stdout == ""
    log = served.log
    assert "refused a stream into" in log
    assert "refused Send" in log
    address = served.receiver.sh("getent hosts sender || true").stdout.split()
    assert not address or f"{address[0]} port " in log
