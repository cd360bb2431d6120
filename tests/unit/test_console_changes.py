"""How changes at the target are shown, and how something is asked before a loss."""

from __future__ import annotations

import asyncio
import io
import json
import os
import sys

import pytest
from rich.console import Console

from zfsync_ssh.console import ask
from zfsync_ssh.console.live import LiveConsole
from zfsync_ssh.console.ndjson import NdjsonConsole
from zfsync_ssh.console.plain import PlainConsole
from zfsync_ssh.console.text import changed
from zfsync_ssh.events import Answered, Changed, Ended, Event, Question, Started

ROLLBACK = Changed("there:dst/a", "is rolled back to @b", loss="@mine")
FAILED = Changed("there:dst/a", "is destroyed", loss="all", problem="it is held")


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (Changed("dst/a", "is renamed to dst/b"), "dst/a is renamed to dst/b"),
        (ROLLBACK, "there:dst/a is rolled back to @b; lost: @mine"),
        (Changed("dst/a", "is destroyed", loss="all", planned=True), "would be done: dst/a is destroyed; lost: all"),
        (FAILED, "there:dst/a: FAILED: that it is destroyed: it is held"),
    ],
)
def test_a_change_is_one_line(event: Changed, text: str) -> None:
    assert changed(event) == text


def plain(*events: Event, quiet: bool = False) -> tuple[str, str]:
    out, err = io.StringIO(), io.StringIO()
    console = PlainConsole(out, err, quiet=quiet, verbose=False)
    for event in events:
        console(event)
    return out.getvalue(), err.getvalue()


def test_plain_lines_tell_changes_and_even_the_quiet_ones_what_failed() -> None:
    assert plain(ROLLBACK, FAILED) == (changed(ROLLBACK) + "\n", changed(FAILED) + "\n")
    assert plain(ROLLBACK, FAILED, quiet=True) == ("", changed(FAILED) + "\n")


def test_a_question_is_shown_even_to_the_quiet_without_control_characters() -> None:
    assert plain(Question("lost:\n  a\x1b[2Jb\nGo on? "), Answered(True), quiet=True) == (
        "",
        "lost:\n  a [2Jb\nGo on? ",
    )


def test_json_has_all_of_them() -> None:
    out = io.StringIO()
    console = NdjsonConsole(out)
    for event in (ROLLBACK, Question("Go on? "), Answered(False)):
        console(event)
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [line["event"] for line in lines] == ["changed", "question", "answered"]
    assert lines[0]["loss"] == "@mine"


def test_the_live_display_makes_room_for_a_question_and_goes_on() -> None:
    out = io.StringIO()
    console = LiveConsole(console=Console(file=out, force_terminal=True, width=100), verbose=False)
    console(Started("src", "there:dst", False))
    console(ROLLBACK)
    console(FAILED)
    console(Question("lost:\n  a\nGo on? "))
    assert "Go on? " in out.getvalue()
    console(Answered(True))
    console(Ended({}, 0, 1.0, 0))
    assert "is rolled back to @b; lost: @mine" in out.getvalue()
    assert "FAILED: that it is destroyed" in out.getvalue()


@pytest.mark.parametrize(
    ("typed", "yes"), [(b"y\n", True), (b" YES \n", True), (b"n\n", False), (b"\n", False), (b"", False)]
)
async def test_only_a_yes_is_one(typed: bytes, yes: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    events: list[Event] = []
    with os.fdopen(reader) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        os.write(writer, typed)
        os.close(writer)
        assert await asyncio.wait_for(ask("Go on? ", events.append), 5) == yes
    assert events == [Question("Go on? "), Answered(yes)]
