"""The steps at which faults happen are all that a run says and does: none is forgotten when the program grows."""

from __future__ import annotations

import typing

import pytest

from tests.faults import steps
from zfsync_ssh import events, messages, operations


def names(union: object) -> set[str]:
    return {kind.__name__ for kind in typing.get_args(union)}


def test_every_event_is_a_step_or_listed_as_none() -> None:
    assert names(events.Event) == {*steps.EVENTS, *steps.NO_EVENTS}


def test_every_message_is_a_step_an_answer_or_listed_as_none() -> None:
    assert names(messages.Message) == {*steps.MESSAGES, *steps.BY_VERB, *steps.ANSWERS, *steps.NO_MESSAGES}


def test_every_verb_is_a_step_or_listed_as_none() -> None:
    assert set(operations._ARGUMENTS) == {*steps.VERBS, *steps.NO_VERBS} - {"nothing"}


def test_every_column_is_one_of_the_table() -> None:
    used = {*steps.EVENTS.values(), *steps.MESSAGES.values(), *steps.VERBS.values(), *steps.ZFS.values()}
    assert used | {"push agent", *steps.RESULTS.values(), *steps.OUTPUTS.values()} == set(steps.COLUMNS)


@pytest.mark.parametrize(
    ("label", "where"),
    [
        ("event:Planned", "plan"),
        ("push agent", "push agent"),
        ("from agent:Hello", "hello"),
        ("to target:Apply placeholder", "prepare"),
        ("from target:Results of Apply park", "changes"),
        ("from source:Results of Apply destroy-snapshot", "report"),
        ("from target:Results of CleanBuffer", "rename"),
        ("from target:Result of Lock", "lock"),
        ("from target:Result of Stream", "result"),
        ("from source:Output of Send", "stream middle"),
        ("from source:Output of Inventory", "inventory"),
        ("from target:Answer of Sync", "sync"),
        ("to target:Data", "stream middle"),
        ("source:hold done", "hold"),
        ("zfs receive before", "stream start"),
        ("zfs receive after", "stream end"),
    ],
)
def test_a_label_belongs_to_a_column(label: str, where: str) -> None:
    assert steps.column(label) == where


def test_steps_are_counted_and_what_is_none_is_left_out() -> None:
    labels = [
        "event:Started",
        "to target:Sync",
        "event:Notice",
        "to target:Sync",
        "to target:Ping",
        *["to target:Data"] * 5,
    ]
    found = steps.steps_of(labels)
    assert [str(step) for step in found if step.label != "to target:Data"] == [
        "event:Started 1/1",
        "to target:Sync 1/2",
        "to target:Sync 2/2",
    ]
    assert [step.nth for step in found if step.label == "to target:Data"] == [1, 2, 3]
