"""The error tree: as it is drawn, and with exit codes that tell the classes apart."""

from __future__ import annotations

import inspect
import re

from zfsync_ssh import errors
from zfsync_ssh.cli.wiring import EXIT_CODES
from zfsync_ssh.errors import ZfsError, ZfsyncError

CLASSES = {name: kind for name, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, ZfsyncError)}


def test_the_drawing_shows_every_class_below_its_parent() -> None:
    drawn: dict[str, str] = {}
    line_of_parents: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        if found := re.match(r"([ │├└─]*)(\w+Error)\b", line):
            depth = len(found[1])
            line_of_parents = [entry for entry in line_of_parents if entry[0] < depth]
            drawn[found[2]] = line_of_parents[-1][1] if line_of_parents else "Exception"
            line_of_parents.append((depth, found[2]))
    assert drawn == {name: kind.__base__.__name__ for name, kind in CLASSES.items() if kind.__base__}


def test_the_drawing_shows_the_exit_codes() -> None:
    for name, code in re.findall(r"(\w+Error) +(\d)", errors.__doc__ or ""):
        assert CLASSES[name].exit_code == int(code)


def test_direct_children_of_the_root_are_told_apart_by_their_codes() -> None:
    codes = [kind.exit_code for kind in CLASSES.values() if kind.__base__ in (ZfsyncError, Exception)]
    assert len(set(codes)) == len(codes)


def test_the_help_lists_every_exit_code() -> None:
    told = set(re.findall(r"^  (\d+) ", EXIT_CODES, re.MULTILINE))
    codes = {kind.exit_code for kind in CLASSES.values()}
    assert told == {str(code) for code in (*codes, errors.EXIT_OK, errors.EXIT_INTERRUPTED)}


def test_a_refusal_has_a_message_and_a_code() -> None:
    assert str(ZfsError("why", "busy")) == "why"
    assert ZfsError("why", "busy").code == "busy"
    assert ZfsError("why").code == "failed"
