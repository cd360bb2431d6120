"""The table of faults and steps: what passed, what failed, and what says nothing."""

from __future__ import annotations

from tests.faults.cells import Cell, Verdict
from tests.faults.steps import Step
from tests.faults.table import failures, table, totals


def verdict(fault: str, label: str, *wrong: str, landed: bool = True) -> Verdict:
    return Verdict(Cell("push", "plain", fault, Step(label, 1, 1), True, 0), landed, list(wrong))


VERDICTS = [
    verdict("cut", "to target:Data"),
    verdict("cut", "to target:Data", "the target has lost a snapshot"),
    verdict("cut", "event:Ended", landed=False),
    verdict("kill sshd", "to target:Sync", "the run after it failed", landed=False),
    verdict("kill zfsync", "to target:Sync"),
]


def test_a_cell_of_the_table_tells_how_many_passed_of_those_that_say_something() -> None:
    rows = {row.split("|")[1].strip(): row for row in table(VERDICTS, "push").splitlines()}
    assert [cell.strip() for cell in rows["cut"].split("|") if cell.strip()] == ["cut", "**1/2**"]
    assert [cell.strip() for cell in rows["kill zfsync"].split("|") if cell.strip()] == ["kill zfsync", "1"]
    assert "1" not in table(VERDICTS, "pull")


def test_what_went_wrong_counts_whether_the_fault_happened_or_not() -> None:
    assert totals(VERDICTS).startswith("5 cells: 4 in which the fault happened, of which 2 passed and 2 failed; in 1 ")
    assert [line.rpartition(": ")[2] for line in failures(VERDICTS)] == [
        "the target has lost a snapshot",
        "the run after it failed",
    ]
