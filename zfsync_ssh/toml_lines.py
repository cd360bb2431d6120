"""On which line of a TOML file each key stands, which `tomllib` does not tell. Pure.

In a file that is right as a whole, the shortest run of lines from the end of one statement on that is itself right, is
the next statement: a table's header, or a key with its value, which may go over several lines. So `tomllib` does all of
the reading here too.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping

Path = tuple[str, ...]


def lines_of(text: str) -> Mapping[Path, int]:
    """The line, from 1 on, of each table and key of ``text``, which has to be TOML; by its path from the root.

    What stands inside of a value, as in an inline table, is on the line on which its statement begins.
    """
    lines: dict[Path, int] = {}
    table: Path = ()
    for number, statement in _statements(text):
        try:
            read = tomllib.loads(statement)
        except tomllib.TOMLDecodeError:
            continue  # cannot be, in a file that is right: only a line would be missing from a message
        if statement.lstrip().startswith("["):
            table = _header(read)
            lines.setdefault(table, number)
        else:
            for path in _paths(read):
                lines.setdefault(table + path, number)
    return lines


def line_of(lines: Mapping[Path, int], path: Path) -> int:
    """The line of the nearest there is of ``path``: itself, or what it is in; 1 when there is none."""
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 1)


def error_line(error: tomllib.TOMLDecodeError) -> tuple[int | None, str]:
    """The line that an error of `tomllib` tells, if it does, and the error without it."""
    found = re.fullmatch(r"(.*) \(at (?:line (\d+), column \d+|end of document)\)", str(error), re.DOTALL)
    if not found:
        return None, str(error)
    return int(found[2]) if found[2] else None, found[1]


_BARE = re.compile(r"\s*([A-Za-z0-9_.-]+)\s*=\s*([^\s\"'\[{#][^\"'#]*?)\s*(?:#.*)?")
_VALUE = re.compile(r"true|false|[+-]?[0-9][0-9_.]*")


def bare_value(text: str, line: int) -> str:
    """What is wrong with a line whose value is a text without quotes, as a clause; empty for another line."""
    found = _BARE.fullmatch(text.split("\n")[line - 1])
    if not found or _VALUE.fullmatch(found[2]):
        return ""
    if found[2].lower() in ("true", "false"):
        return f"write {found[1]} = {found[2].lower()}"
    return f'a text needs quotes: {found[1]} = "{found[2]}"'


def _statements(text: str) -> Iterator[tuple[int, str]]:
    pending, first = "", 1
    for number, line in enumerate(text.splitlines(), 1):
        if not pending and (not line.strip() or line.lstrip().startswith("#")):
            continue
        first = first if pending else number
        pending += line + "\n"
        if _complete(pending):
            yield first, pending
            pending = ""
    if pending:
        yield first, pending


def _complete(statement: str) -> bool:
    try:
        tomllib.loads(statement)
    except tomllib.TOMLDecodeError:
        return False
    return True


def _header(read: object) -> Path:
    """The path that ``[a.b]`` or ``[[a.b]]`` names: there is one key at each level."""
    path: Path = ()
    while isinstance(read, dict) and read:
        (key,) = read
        path, read = (*path, key), read[key]
    return path


def _paths(read: Mapping[str, object]) -> Iterator[Path]:
    for key, value in read.items():
        yield (key,)
        if isinstance(value, dict):
            for rest in _paths(value):
                yield (key, *rest)
