"""A soak's table: which runs are compared with which, what grows and what does not, and what was wrong."""

from __future__ import annotations

from tests.soak.table import CONTEXT, FIGURES, Entry, blocks, failures, growing, is_growing, table, totals


def entries(count: int, **figures: float | list[float]) -> list[Entry]:
    """So many runs, with all figures 0 but these."""
    made = []
    for at in range(count):
        own = {name: value[at] if isinstance(value, list) else value for name, value in figures.items()}
        made.append(Entry(at + 1, "data", "push", 0, 2, [], {**dict.fromkeys({**FIGURES, **CONTEXT}, 0.0), **own}))
    return made


def test_runs_are_counted_by_the_hundred_and_fewer_in_two_halves() -> None:
    assert [(part.start, part.stop) for part in blocks(1000)] == [(at, at + 100) for at in range(0, 1000, 100)]
    assert [(part.start, part.stop) for part in blocks(250)] == [(0, 100), (100, 250)]
    assert [(part.start, part.stop) for part in blocks(41)] == [(0, 20), (20, 41)]
    assert [(part.start, part.stop) for part in blocks(1)] == [(0, 1)]


def test_what_leaks_slowly_is_growing_and_one_that_was_large_once_is_not() -> None:
    leak = [float(at // 50) for at in range(400)]
    once = [9.0 if at == 399 else 0.0 for at in range(400)]
    assert growing(entries(400, processes_target=leak)) == [FIGURES["processes_target"].title]
    assert growing(entries(400, processes_target=once)) == []


def test_of_few_runs_nothing_is_called_growing_or_flat() -> None:
    leak = [float(at) for at in range(199)]
    assert growing(entries(199, processes_target=leak)) == []
    assert "flat" not in table(entries(199, processes_target=leak))
    assert "flat" in table(entries(200))


def test_slack_is_in_the_unit_of_the_figure() -> None:
    slack = FIGURES["client_peak"].slack
    up = [0.0] * 100 + [slack * 1024] * 100
    assert not is_growing("client_peak", entries(200, client_peak=up))
    assert is_growing("client_peak", entries(200, client_peak=[one * 1.01 for one in up]))


def test_the_table_has_first_median_last_and_max_of_each_hundred_and_says_what_grows() -> None:
    up = [float(at) for at in range(200)]
    rows = {row.split("|")[1].strip(): row for row in table(entries(200, holds=up)).splitlines()}
    assert [cell.strip() for cell in rows[FIGURES["holds"].title].split("|")[2:-1]] == [
        "0 / 49.5 / 99 / 99", "100 / 149.5 / 199 / 199", "0", "**growing**",
    ]  # fmt: skip
    assert rows[FIGURES["partial"].title].split("|")[-2].strip() == "flat"


def test_a_run_that_was_not_counted_is_told_and_left_out_of_the_figures() -> None:
    made = [*entries(2), Entry(3, "rename", "pull", None, wrong=["it could not go on"])]
    assert totals(made).startswith("3 runs, 2 pushes and 1 pulls, which sent 4 datasets; 2 right and 1 wrong.")
    assert failures(made) == ["- run 3, pull after rename, exit code None: it could not go on"]
    assert "runs 2 to 2" in table(made)
    assert table(made[2:]) == "No run was counted."
    assert growing([]) == []
