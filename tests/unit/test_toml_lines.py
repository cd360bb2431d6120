"""Lines of keys in TOML files."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zfsync_ssh.toml_lines import error_line, line_of, lines_of

TEXT = '''\
# a comment
top = 1

[job.web]       # [job.not]
source = """
[job.trap]
target = 'x'
"""
target = [
  "a", # "]"
  "b",
]
"a.b".c = 'd'
'''


def test_each_key_is_on_the_line_on_which_its_statement_begins() -> None:
    text = (
        TEXT + '[job.web.hooks]\nbefore = { x = 1 }\n[job."last one"]\nsource = 1\n[[list]]\nk = 1\n[[list]]\nk = 2\n'
    )
    assert dict(lines_of(text)) == {
        ("top",): 2,
        ("job", "web"): 4,
        ("job", "web", "source"): 5,
        ("job", "web", "target"): 9,
        ("job", "web", "a.b"): 13,
        ("job", "web", "a.b", "c"): 13,
        ("job", "web", "hooks"): 14,
        ("job", "web", "hooks", "before"): 15,
        ("job", "web", "hooks", "before", "x"): 15,
        ("job", "last one"): 16,
        ("job", "last one", "source"): 17,
        ("list",): 18,
        ("list", "k"): 19,
    }


def test_the_line_of_what_is_not_there_is_that_of_what_it_is_in() -> None:
    lines = lines_of(TEXT)
    assert line_of(lines, ("job", "web", "target", "x")) == 9
    assert line_of(lines, ("job", "web", "keep")) == 4
    assert line_of(lines, ("other",)) == 1


values = st.sampled_from(
    ["1", '"x"', '"""\n[t]\nk = 1\n"""', "'''\n]\n'''", "[\n1,\n# ]\n2\n]", "{ z = 1 }", "[ [1], [2,\n3] ]"]
)
keys = st.sampled_from(["a", "b-c", '"q.r"', "'#'"])
rows = st.lists(st.tuples(keys, values, st.integers(0, 2)), unique_by=lambda row: row[0])
tables = st.lists(st.tuples(keys, rows), unique_by=lambda table: table[0])


@given(tables)
def test_every_key_of_any_file_has_the_line_on_which_it_was_written(
    tables: list[tuple[str, list[tuple[str, str, int]]]],
) -> None:
    written = ""
    expected: dict[tuple[str, ...], int] = {}
    for table, rows in tables:
        expected[(table.strip("\"'"),)] = written.count("\n") + 1
        written += f"[{table}]\n"
        for key, value, blank in rows:
            written += "\n# note = 1\n" * blank
            expected[table.strip("\"'"), key.strip("\"'")] = written.count("\n") + 1
            written += f"{key} = {value}\n"
    tomllib.loads(written)
    found = lines_of(written)
    assert {path: found[path] for path in expected} == expected


@pytest.mark.parametrize(
    ("text", "line"),
    [("a = 1\nb = = 2\n", 2), ("a = 1\na = 2\n", 2), ("a = [", None), ("[a\n", 1), ("a = 1\n\nb", None)],
)
def test_the_line_of_an_error_is_what_tomllib_tells(text: str, line: int | None) -> None:
    with pytest.raises(tomllib.TOMLDecodeError) as caught:
        tomllib.loads(text)
    told, words = error_line(caught.value)
    assert told == line
    assert "(at" not in words
