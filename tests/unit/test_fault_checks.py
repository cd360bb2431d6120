"""What is judged after a fault: each thing that may be wrong is seen, and all is well where nothing is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.faults import checks
from tests.faults.checks import Ends, Expected
from tests.faults.field import Look, Run, events_of

ENDS = Ends("tank/t", "pool/t")
BEFORE = Expected({"1": "one", "2": "two", "a1": "a-one"}, {"0": "zero", "1": "one"})


def look(root: str, snapshots: dict[str, str], **more: Any) -> Look:
    """An end with these snapshots, child and name -> GUID, all in order."""
    digests = BEFORE.source | BEFORE.target
    names = {root, *(root + name.partition("@")[0] for name in snapshots)}
    datasets = {name: {"name": name, "origin": "-", "receive_resume_token": "-"} for name in names}
    made = Look(datasets, {}, [], {guid: digests.get(guid, "?") for guid in snapshots.values()}, [], [], [])
    return replace(made, snapshots={root + name: guid for name, guid in snapshots.items()}, **more)


SOURCE = look("tank/t", {"@1": "1", "@2": "2", "/a@1": "a1"})
TARGET = look("pool/t", {"@0": "0", "@1": "1", "@2": "2", "/a@1": "a1"})
ENDED = {"event": "planned", "to_send": 2}


def wrong(source: Look = SOURCE, target: Look = TARGET, last: Run = Run(0, "", [ENDED])) -> str:  # noqa: B008
    """All that is found after the second run."""
    found = checks.equal(source, target, ENDS, BEFORE) + checks.kept(target, BEFORE, ())
    return "\n".join(found + checks.left_at_target(target, ENDS) + checks.left(source, target, last))


def changed(name: str, **values: str) -> Look:
    """The target, with other values of one dataset, which may be new."""
    row = {"name": name, "origin": "-", "receive_resume_token": "-"} | TARGET.datasets.get(name, {}) | values
    return replace(TARGET, datasets=TARGET.datasets | {name: row})


def test_nothing_is_wrong_when_all_is_well() -> None:
    assert wrong() == ""


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (look("pool/t", {"@0": "0", "@1": "1", "@2": "2"}), "pool/t/a@1 is missing"),
        (look("pool/t", {"@0": "0", "@1": "1", "@2": "2", "/b@1": "a1"}), "pool/t/a@1 is missing"),
        (look("pool/t", {"@1": "1", "@2": "2", "/a@1": "a1"}), "has lost a snapshot that it had, GUID 0"),
        (look("pool/t", {"@0": "0", "@1": "1", "@2": "2", "/a@1": "a1", "/a@9": "9"}), "is nobody's snapshot"),
        (replace(TARGET, contents=TARGET.contents | {"2": "garbled"}), "pool/t@2 has other contents"),
        (replace(TARGET, contents=TARGET.contents | {"0": "garbled"}), "pool/t@0 has other contents"),
        (changed("pool/t/a", origin="pool/t.zfsync-aside-1/a@1"), "pool/t/a stays a clone"),
        (changed("pool/t/a", receive_resume_token="1-ab"), "pool/t/a is left partly received"),
        (changed("pool/t.zfsyncbuffer"), "pool/t.zfsyncbuffer is left in the buffer"),
        (changed("pool/t.zfsyncbuffer/2F61"), "pool/t.zfsyncbuffer/2F61 is left in the buffer"),
        (changed("pool/t/a/%recv"), "is left of a receive"),
        (replace(TARGET, properties=[["pool/t/a", "zfsync:path", "pool/t/a"]]), "is left with its mark of the buffer"),
        (replace(TARGET, properties=[["pool/t/a", "zfsync:placeholder", "pool/t/a"]]), "the mark of a placeholder"),
        (replace(TARGET, held=["pool/t@1"]), "pool/t@1 is still held"),
        (replace(TARGET, processes=["7 zfs receive"]), "a process is left"),
        (replace(TARGET, files=["/run/lock/zfsync-pool%2Ft.lock"]), "a file is left"),
        (replace(TARGET, files=["/run/lock/zfsync-@run-1.lock"]), "a file is left"),
    ],
)
def test_what_is_wrong_at_the_target_is_seen(target: Look, said: str) -> None:
    assert said in wrong(target=target)


def test_what_is_wrong_at_the_source_is_seen() -> None:
    assert "tank/t@1 is still held" in wrong(replace(SOURCE, held=["tank/t@1"]))
    left = replace(SOURCE, properties=[["tank/t", "zfsync:holds.0123", "zfsync:x:1"]])
    assert "tank/t still has zfsync:holds.0123" in wrong(left)


def test_the_lock_of_a_killed_run_may_stay_until_a_run_has_something_to_send() -> None:
    left = replace(SOURCE, files=["/run/lock/zfsync-@run-1.lock"])
    assert wrong(left, last=Run(0, "", [{"event": "planned", "to_send": 0}])) == ""


def finished(source: str, status: str, message: str = "") -> dict[str, Any]:
    return {"event": "finished", "outcome": {"source": source, "status": status, "message": message}}


@pytest.mark.parametrize(
    ("run", "codes", "said"),
    [
        (Run(1, "Traceback (most recent call last):"), (0, 3), "exit code 1 is none of"),
        (Run(3, "Traceback", [finished("tank/t", "failed", "It failed.")]), (0, 3), "a traceback"),
        (Run(5, "lost"), (0, 5), "no sentence"),
        (Run(5, ""), (0, 5), "no sentence"),
        (Run(3, "x."), (0, 3), "nothing that failed"),
        (Run(0, "", [finished("tank/t", "failed", "It failed.")]), (0, 3), "exit code 0, and ['tank/t'] failed"),
        (Run(3, "x.", [finished("tank/t", "failed")]), (0, 3), "failed without a word"),
        (Run(0, ""), (), "it was killed, and ended with"),
    ],
)
def test_a_run_that_says_the_wrong_thing_is_told(run: Run, codes: tuple[int, ...], said: str) -> None:
    assert said in "\n".join(checks.first_run(run, codes))


def test_a_run_that_says_the_right_thing_is_believed() -> None:
    assert checks.first_run(Run(5, "zfsync: The connection was lost: run it again.\n"), (0, 5)) == []
    assert checks.first_run(Run(3, "", [finished("tank/t", "failed", "It failed.")]), (0, 3)) == []
    assert checks.first_run(Run(137, ""), ()) == checks.first_run(Run(None, ""), ()) == []


def test_what_was_called_done_has_to_be_there() -> None:
    done = [finished("tank/t", "sent"), finished("here:tank/t/a", "up-to-date")]
    assert checks.claims(Run(0, "", done), SOURCE, TARGET, ENDS) == []
    without = look("pool/t", {"@0": "0", "@1": "1"})
    assert len(checks.claims(Run(3, "", done), SOURCE, without, ENDS)) == 2
    assert "exit code 0, and the newest snapshot of tank/t/a has not arrived" in "\n".join(
        checks.claims(Run(0, ""), SOURCE, without, ENDS)
    )


def test_what_was_called_done_may_wait_in_the_buffer_of_a_run_that_broke_off() -> None:
    waiting = look("pool/t", {"@1": "1", "@2": "2", ".zfsyncbuffer/2F61@1": "a1"})
    done = [finished("tank/t/a", "sent")]
    assert checks.claims(Run(137, "", done), SOURCE, waiting, ENDS) == []
    assert checks.claims(Run(3, "", done), SOURCE, waiting, ENDS) != []


def test_a_last_line_that_was_cut_off_is_no_event() -> None:
    assert events_of('{"event": "started"}\n{"eve') == [{"event": "started"}]


def ended_so(status: str, message: str = "") -> dict[str, Any]:
    return {"event": "finished", "outcome": {"status": status, "source": "tank/t", "message": message}}


ASKS = ended_so("failed", "written since: --on-divergence set-aside keeps them, rollback loses them.")


@pytest.mark.parametrize(
    ("events", "asked"),
    [
        ([ended_so("skipped", "It has no snapshot."), ASKS], True),
        ([ASKS, ended_so("failed", "The pool is full.")], False),
        ([ended_so("sent")], False),
    ],
)
def test_a_run_asks_for_an_option_when_all_that_failed_names_it(events: list[dict[str, Any]], asked: bool) -> None:
    assert checks.asks_for(Run(3, "", events), "--on-divergence rollback") is asked
