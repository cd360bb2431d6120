"""A job gets a key of its own to an account without root, and the doctor says what is missing, on real ZFS."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab.conftest import World
from tests.lab.driver import Lab

ACCOUNT = "/home/backup/.ssh/authorized_keys"


class Patient:
    """A job that pushes to an account without root's rights, and has no key yet."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.name = "key-" + world.above.rpartition("/")[2]
        self.config = f"/root/{self.name}.toml"
        self.place = f"backup@{world.receiver.ssh_host}:{world.target}"
        world.sender.run(
            ["sh", "-c", f"umask 077; cat > {self.config}"],
            input=f'[job.{self.name}]\nsource = "{world.source}"\ntarget = "{self.place}"\n'
            f'port = {world.receiver.ssh_port}\nkeep = "minutely=9"\nkeep-target = "minutely=9"\n',
        )

    def zfsync(self, *words: str) -> Any:
        return self.world.run(["zfsync", *words, "--config", self.config])

    def doctor(self) -> tuple[int, dict[str, Any]]:
        run = self.zfsync("doctor", "--job", self.name, "--json")
        document: dict[str, Any] = json.loads(run.out)
        return run.status, document

    def setup(self, *options: str) -> Any:
        return self.zfsync("key", "setup", self.place, "--job", self.name, "--install", *options)


@pytest.fixture
def patient(world: World, lab: Lab) -> Iterator[Patient]:
    lab.install(world.receiver)
    made = Patient(world)
    yield made
    world.receiver.sh(f"sed -i '/zfsync-{made.name}@/d' {ACCOUNT}")


def problems(document: dict[str, Any]) -> list[tuple[str, str]]:
    return [(row["what"], row["remedy"]) for row in document["checks"] if row["level"] != "ok"]


def test_from_nothing_to_a_job_that_runs_by_its_own_key(patient: Patient) -> None:
    world = patient.world
    world.create("/a")
    world.write("/a", 100)
    world.snapshot("1")
    status, document = patient.doctor()
    assert (status, document["verdict"]) == (1, "problem")
    (_, setup), (what, grant) = problems(document)
    assert f"zfsync key setup {patient.place} --job {patient.name}" in setup
    assert what == "permissions"
    assert grant.startswith("zfs allow -u backup ")
    assert grant.endswith(f" {world.above}")

    world.receiver.sh(grant)  # as it was told, by root there
    run = patient.setup()
    assert (run.status, run.out) == (0, ""), run
    assert f"it reaches {world.target} alone" in run.err
    before = world.receiver.run(["zfs", "list", "-Hrt", "all", "-o", "name,guid", world.above]).stdout
    status, document = patient.doctor()
    assert (status, document["verdict"], problems(document)) == (0, "ok", [])
    assert world.receiver.run(["zfs", "list", "-Hrt", "all", "-o", "name,guid", world.above]).stdout == before

    for _ in range(2):
        run = patient.zfsync("cron", "run", patient.name)
        assert (run.status, run.err) == (0, ""), run
    world.assert_equal()

    key = f"/etc/zfsync/keys/{patient.name}"
    login = ["-o", "IdentitiesOnly=yes", "-i", key, "-p", str(world.receiver.ssh_port)]
    done = world.sender.run(["ssh", *login, f"backup@{world.receiver.ssh_host}", "id"], check=False)
    assert "uid=" not in done.stdout
    assert "This key is for zfsync alone" in done.stderr


def test_each_permission_that_is_taken_away_is_missed(patient: Patient) -> None:
    world = patient.world
    world.snapshot("1")
    (_, (_, grant)) = problems(patient.doctor()[1])
    world.receiver.sh(grant)
    names = grant.split()[4].split(",")
    for name in names:
        world.receiver.sh(f"zfs unallow -u backup {name} {world.above}")
        found = [remedy for what, remedy in problems(patient.doctor()[1]) if what == "permissions"]
        assert found == [f"zfs allow -u backup {name} {world.above}"]
        world.receiver.sh(found[0])
