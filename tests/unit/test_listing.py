"""What `zfs list` prints, made into an inventory."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.strategies import COMPONENT_CHARS, children
from zfsync_ssh.buffer import encode
from zfsync_ssh.dataset import Bookmark, Dataset, Inventory, Snapshot
from zfsync_ssh.listing import InventoryParser, Lines, listing_problem, missing, parse_numbers, parse_sizes

# As OpenZFS 2.3 prints them.
DATASET_ROW = "p/a/b\t14133053774265923717\t21\tfilesystem\t26274816\t-\t-\toff\ton\t-\t-\t-\t4096\t99\t-\t-\tLec\t-\t-"
SNAPSHOT_ROW = "p/a/b@1\t8370277833477533805\t190"
BOOKMARK_ROW = "p/a/b#bm\t8370277833477533805\t190"


def row(
    name: str,
    *,
    kind: str = "filesystem",
    token: str = "-",
    origin: str = "-",
    encryption: str = "off",
    compression: str = "off",
    placeholder: str = "-",
    path: str = "-",
    written: str = "0",
    root: str = "-",
    key: str = "-",
    stream: str = "-",
    aside: str = "-",
    gone: str = "-",
) -> str:
    """One row of `list_datasets`."""
    values = ("7", "3", kind, "100", token, origin, encryption, compression, placeholder, "-", path)
    return "\t".join((name, *values, written, "99", root, key, stream, aside, gone))


def parsed(*lines: str, root: str = "p/a", buffer: str = "p/a.zfsyncbuffer") -> Inventory:
    parser = InventoryParser(root, buffer)
    for line in lines:
        parser.feed(line)
    return parser.finish()


# ---- rows ------------------------------------------------------------------------------------------------------------


def test_real_rows_are_read() -> None:
    inventory = parsed(DATASET_ROW, SNAPSHOT_ROW, BOOKMARK_ROW)
    assert inventory.root == "p/a"
    assert inventory.datasets == {
        "/b": Dataset(
            "p/a/b", "filesystem", 14133053774265923717, 26274816, compressed=True, written=4096,
            available=99, stream="Lec",
            snapshots=(Snapshot("1", 8370277833477533805, 190),),
            bookmarks=(Bookmark("bm", 8370277833477533805, 190),),
        )
    }  # fmt: skip
    assert inventory.buffered == {}


def test_every_column_has_its_place() -> None:
    line = row(
        "p/a/v", kind="volume", token="1-2-3-4", origin="p/x@y", encryption="aes-256-gcm", written="5", root="p/a",
        key="available", stream="raw", aside="p/a/v", gone="2026-01-31T00:00:00Z",
    )  # fmt: skip
    assert parsed(line).datasets["/v"] == Dataset(
        "p/a/v", "volume", 7, 100, "1-2-3-4", "p/x@y", encrypted=True, written=5, available=99, encryption_root="p/a",
        key_loaded=True, stream="raw", aside=True, gone="2026-01-31T00:00:00Z",
    )  # fmt: skip


def test_the_property_that_tells_of_holds_may_follow_and_nothing_else() -> None:
    parser = InventoryParser("p/a", holds=True)
    parser.feed(row("p/a") + "\tzfsync:b:p/t:1")
    assert parser.finish().datasets[""].holds == "zfsync:b:p/t:1"
    with pytest.raises(ValueError, match="a row of 19 columns, not 20"):
        parser.feed(row("p/a"))


def test_the_time_of_a_snapshot_is_read_where_it_was_asked_for() -> None:
    parser = InventoryParser("p/a", creation=True)
    parser.feed(row("p/a"))
    parser.feed("p/a@1\t5\t10\t1700000000")
    assert parser.finish().datasets[""].snapshots == (Snapshot("1", 5, 10, 0, 1700000000),)
    with pytest.raises(ValueError, match="a row of 3 columns"):
        parser.feed("p/a@1\t5\t10")


@pytest.mark.parametrize(("compression", "compressed"), [("off", False), ("on", True), ("lz4", True), ("zstd-3", True)])
def test_what_zfs_compresses_is_known(compression: str, compressed: bool) -> None:
    assert parsed(row("p/a", compression=compression)).datasets[""].compressed is compressed


@pytest.mark.parametrize(
    ("encryption", "encrypted"), [("off", False), ("-", False), ("on", True), ("aes-128-ccm", True)]
)
def test_a_pool_without_encryption_has_none(encryption: str, encrypted: bool) -> None:
    assert parsed(row("p/a", encryption=encryption)).datasets[""].encrypted is encrypted


def test_the_order_of_the_rows_does_not_matter() -> None:
    lines = [
        row("p/a"), row("p/a/b"), row("p/a/b/c d"), row("p/a/z"), row("p/a.zfsyncbuffer"),
        row("p/a.zfsyncbuffer/2F78"), "p/a@1\t1\t10", "p/a@2\t2\t20", "p/a@3\t3\t30", "p/a#x\t9\t15", "p/a#y\t8\t5",
        "p/a/b@1\t4\t10", "p/a/b/c d@x y:z\t5\t40", "p/a.zfsyncbuffer/2F78@1\t6\t10",
    ]  # fmt: skip
    expected = parsed(*lines)
    assert [snapshot.name for snapshot in expected.datasets[""].snapshots] == ["1", "2", "3"]
    assert [bookmark.name for bookmark in expected.datasets[""].bookmarks] == ["y", "x"]
    assert expected.datasets["/b/c d"].snapshots == (Snapshot("x y:z", 5, 40),)
    assert [snapshot.guid for snapshot in expected.buffered["/x"].snapshots] == [6]
    shuffled = random.Random(1)
    for _ in range(50):
        shuffled.shuffle(lines)
        inventory = parsed(*lines)
        assert inventory.datasets == expected.datasets
        assert inventory.buffered == expected.buffered
        assert list(inventory) == ["", "/b", "/b/c d", "/z"]  # parents first


@given(st.sets(children, max_size=8))
def test_parents_come_before_their_children(some: set[str]) -> None:
    order = list(parsed(*[row("p/a" + child) for child in some]))
    assert set(order) == some
    for at, child in enumerate(order):
        assert not any(child.startswith(later + "/") for later in order[at:])


@given(children, st.text(COMPONENT_CHARS, min_size=1, max_size=10))
def test_odd_names_are_read_as_they_are(child: str, snapshot: str) -> None:
    name = "p/a" + child
    inventory = parsed(row(name), f"{name}@{snapshot}\t1\t2", f"{name}#{snapshot}\t1\t2")
    assert inventory.datasets[child].snapshots == (Snapshot(snapshot, 1, 2),)
    assert inventory.datasets[child].bookmarks == (Bookmark(snapshot, 1, 2),)


def test_a_snapshot_whose_dataset_has_gone_meanwhile_is_left_out() -> None:
    assert parsed(row("p/a"), "p/a/gone@1\t1\t2", "p/a/gone#1\t1\t2").datasets == {
        "": Dataset("p/a", "filesystem", 7, 100, available=99)
    }


def test_what_is_in_neither_tree_is_left_out() -> None:
    inventory = parsed(row("p"), row("p/ab"), row("p/a"), row("q/a"))
    assert list(inventory) == [""]


def test_ancestors_are_passed_on() -> None:
    assert InventoryParser("p/a/b").finish(("p", "p/a")).ancestors == ("p", "p/a")


@pytest.mark.parametrize(
    "line",
    [
        "", "p/a", "p/a\tfilesystem", row("p/a") + "\tmore", row("p/a").replace("\t7\t", "\tx\t"),
        row("p/a").replace("\t100\t", "\tx\t"), "p/b@1", "p/b@1\t1", "p/b@1\t1\t2\t3", "p/b@1\tx\t2", "p/b#1\t1\t-",
        "p/b@1\t\t",
    ],
)  # fmt: skip
def test_a_line_of_another_shape_is_a_value_error(line: str) -> None:
    for before, after in (([row("p/b")], []), ([], [row("p/b")])):
        with pytest.raises(ValueError, match=r".+"):
            parsed(*before, line, *after, root="p/b")


@given(st.lists(st.text(max_size=30) | st.text("p/a@#\t-1é", max_size=30), max_size=5))
def test_any_lines_are_read_or_a_value_error(lines: list[str]) -> None:
    try:
        inventory = parsed(row("p/a"), *lines)
    except ValueError:
        return
    assert "" in inventory


def test_equal_snapshot_names_are_kept_once() -> None:
    one, other = parsed(row("p/a"), row("p/a/b"), "p/a@daily-1\t1\t2", "p/a/b@daily-1\t3\t2").datasets.values()
    assert one.snapshots[0].name is other.snapshots[0].name


# ---- placeholders ----------------------------------------------------------------------------------------------------


def test_a_placeholder_says_its_own_name() -> None:
    inventory = parsed(row("p/a", placeholder="p/a"), row("p/a/b", placeholder="p/a/b"), row("p/a/c"))
    assert {child: dataset.placeholder for child, dataset in inventory.datasets.items()} == {
        "": True,
        "/b": True,
        "/c": False,
    }


def test_a_placeholder_that_is_inherited_does_not_count() -> None:
    inventory = parsed(row("p/a", placeholder="p/a"), row("p/a/b", placeholder="p/a"), row("p/a/b/c", placeholder="p"))
    assert [dataset.placeholder for dataset in inventory.datasets.values()] == [True, False, False]


# ---- the buffer ------------------------------------------------------------------------------------------------------


@given(children)
def test_what_waits_is_found_by_its_hexadecimal_name(child: str) -> None:
    name = "p/a.zfsyncbuffer/" + encode(child)
    inventory = parsed(row("p/a.zfsyncbuffer"), row(name), f"{name}@1\t1\t2")
    assert inventory.datasets == {}
    assert inventory.buffered[child].name == name
    assert inventory.buffered[child].snapshots == (Snapshot("1", 1, 2),)


@given(children)
def test_what_waits_is_found_by_its_property(child: str) -> None:
    inventory = parsed(row("p/a.zfsyncbuffer/H-0123", path="p/a" + child))
    assert inventory.buffered[child].path == "p/a" + child


def test_strangers_in_the_buffer_are_left_alone() -> None:
    inventory = parsed(row("p/a.zfsyncbuffer"), row("p/a.zfsyncbuffer/home"), row("p/a.zfsyncbuffer/2F61/x"))
    assert inventory.datasets == inventory.buffered == {}


def test_the_buffer_itself_is_known_and_whether_it_is_ours() -> None:
    assert parsed(row("p/a")).buffer is None
    name = "p/a.zfsyncbuffer"
    for placeholder, ours in ((name, True), ("-", False)):
        inventory = parsed(row("p/a"), row(name, placeholder=placeholder), row(f"{name}/2F61", placeholder=placeholder))
        assert inventory.buffer == Dataset(name, "filesystem", 7, 100, placeholder=ours, available=99)
        assert list(inventory.datasets) == [""]
        assert not inventory.buffered["/a"].placeholder


def test_a_buffer_inside_the_target_is_not_part_of_it() -> None:
    inventory = parsed(
        row("p"), row("p/a"), row("p/buffer"), row("p/buffer/2F61", path="p/a/b"), root="p", buffer="p/buffer"
    )
    assert list(inventory.datasets) == ["", "/a"]
    assert list(inventory.buffered) == ["/a/b"]


def test_a_source_has_no_buffer() -> None:
    inventory = parsed(row("p/a/2F61", path="/a"), buffer="")
    assert list(inventory.datasets) == ["/2F61"]
    assert inventory.buffered == {}


# ---- lines -----------------------------------------------------------------------------------------------------------


def test_lines_cut_in_two_anywhere_are_the_same_lines() -> None:
    text = f"{DATASET_ROW}\n\né\n{SNAPSHOT_ROW}\n"
    data = text.encode()
    for cut in range(len(data) + 1):
        lines = Lines()
        assert lines.feed(data[:cut]) + lines.feed(data[cut:]) == text.splitlines()
        assert lines.rest is None


@given(st.lists(st.text(st.characters(max_codepoint=127), max_size=6).map(str.encode), max_size=10))
def test_lines_cut_anyhow_are_the_same_lines(chunks: list[bytes]) -> None:
    lines = Lines()
    heard = [line for chunk in chunks for line in lines.feed(chunk)]
    *whole, rest = b"".join(chunks).decode().split("\n")
    assert heard == whole
    assert lines.rest == (rest.encode() or None)


def test_a_line_that_is_no_text_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="utf-8"):
        Lines().feed(b"\xff\n")


# ---- complaints ------------------------------------------------------------------------------------------------------

GONE = "cannot open 'p/a b': dataset does not exist"


def test_missing_datasets_are_named() -> None:
    assert missing(f"{GONE}\ncannot open 'q': dataset does not exist\n") == ["p/a b", "q"]
    assert missing("cannot open 'p/a': permission denied\nwarning: cannot open 'p': dataset does not exist") == []
    assert missing("") == []


@pytest.mark.parametrize(
    ("status", "stderr", "problem"),
    [
        (0, "", ""),
        (0, "sudo: unable to resolve host: Name or service not known", ""),
        (0, GONE, ""),
        (0, "cannot iterate filesystems: I/O error", "cannot iterate filesystems: I/O error"),
        (0, f"warning\n{GONE}\ncannot iterate filesystems: I/O error", "cannot iterate filesystems: I/O error"),
        (1, GONE, ""),
        (1, f"{GONE}\n\n{GONE}\n", ""),
        (1, f"{GONE}\ncannot open 'q': I/O error\n", "cannot open 'q': I/O error"),
        (1, "cannot open 'q': I/O error", "cannot open 'q': I/O error"),
        (2, "", "zfs list ended with status 2"),
        (127, "cannot run 'zfs': No such file or directory", "cannot run 'zfs': No such file or directory"),
    ],
)
def test_only_what_is_not_there_is_no_problem(status: int, stderr: str, problem: str) -> None:
    assert listing_problem(status, stderr) == problem


def test_numbers_are_read_where_there_are_any() -> None:
    assert parse_numbers(["p/a@1\t100", "p/a b@x y\t0", "p/a@2\t-"]) == {"p/a@1": 100, "p/a b@x y": 0}
    assert parse_numbers([]) == {}


def test_what_snapshots_have_written_and_refer_to_is_read_where_it_is_told() -> None:
    lines = ["p/a@1\t100\t100", "p/a b@x y\t0\t100", "p/a@2\t-\t-", "p/a@older\t7", ""]
    assert parse_sizes(lines) == ({"p/a@1": 100, "p/a b@x y": 0, "p/a@older": 7}, {"p/a@1": 100, "p/a b@x y": 100})
    assert parse_sizes(()) == ({}, {})
