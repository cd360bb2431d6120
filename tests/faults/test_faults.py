"""A dozen faults, each at its step, in the lab; `tests/faults/run` plays hundreds (docs/reliability.md)."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator

import pytest

from tests.faults import cells, trees
from tests.faults.field import Field, open_field
from tests.faults.fixed import FIXED
from tests.lab.driver.backend import choose

pytestmark = [pytest.mark.lab, pytest.mark.timeout(400)]

TRIES = 3
"""A step that depends on which of two channels is first may not come on a machine that is busy with other things."""


@pytest.fixture(scope="module")
def field() -> Iterator[Field]:
    """Two machines with prepared pools."""
    if choose(None).name == "host":
        pytest.skip("faults need machines of their own, which can be switched off")
    lab, made = open_field(run=f"faults{os.getpid()}")
    try:
        made.set_up(trees.build)
        yield made
    finally:
        made.close()
        lab.close()


@pytest.fixture(scope="module")
def before(field: Field) -> Callable[[str, str], cells.Before]:
    """Tells what there was before any fault; looked at once for each direction and scenario."""
    return functools.cache(functools.partial(cells.before, field))


@pytest.mark.parametrize("cell", FIXED, ids=str)
def test_after_a_fault_the_next_run_makes_all_well_and_nothing_was_lost(
    field: Field, before: Callable[[str, str], cells.Before], cell: cells.Cell
) -> None:
    for _ in range(TRIES):
        verdict = cells.play(field, cell, before(cell.direction, cell.scenario))
        if verdict.counts:
            break
    assert verdict.counts, f"the fault did not happen: has the step got another name, or comes it no more? {verdict}"
    assert not verdict.wrong, str(verdict)
