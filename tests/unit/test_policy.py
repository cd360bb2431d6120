"""What may be done from memory, as the choices of a run have it."""

from __future__ import annotations

import pytest

from zfsync_ssh.policy import Divergence, Policy
from zfsync_ssh.selection import Selection


def test_a_run_that_destroys_nothing_may_go_by_what_is_remembered() -> None:
    assert Policy().may_recall


@pytest.mark.parametrize(
    "policy",
    [
        Policy(delete_snapshots=True),
        Policy(delete_datasets=True),
        *(Policy(on_divergence=choice) for choice in Divergence if choice is not Divergence.FAIL),
        Policy(usable=True),
        Policy(selection=Selection(since=1.0)),
    ],
)
def test_what_may_destroy_or_needs_to_see_more_looks_for_itself(policy: Policy) -> None:
    assert not policy.may_recall
