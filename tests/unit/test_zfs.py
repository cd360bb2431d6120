"""Command lines of `zfs`, and what its messages mean."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.strategies import names
from zfsync_ssh import zfs
from zfsync_ssh.blame import Failed
from zfsync_ssh.complaint import blamed, classify, reason, unset
from zfsync_ssh.dataset import FILESYSTEM, VOLUME
from zfsync_ssh.errors import UsageError
from zfsync_ssh.zfs import MAX_ARGUMENT_BYTES, Reception, Stream, batches

COLUMNS = (
    "name,guid,createtxg,type,used,receive_resume_token,origin,encryption,compression,"
    "zfsync:placeholder,zfsync:exclude,zfsync:path,"
    "written,available,encryptionroot,keystatus,zfsync:stream,zfsync:aside,zfsync:gone"
)


# ---- argument lists --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (zfs.list_datasets(["p/a", "p/b"]), f"list -Hp -r -t filesystem,volume -o {COLUMNS} p/a p/b"),
        (zfs.list_datasets(["p/a"], recursive=False), f"list -Hp -d0 -t filesystem,volume -o {COLUMNS} p/a"),
        (zfs.list_datasets(["p/a"], holds="x:y"), f"list -Hp -r -t filesystem,volume -o {COLUMNS},x:y p/a"),
        (
            zfs.list_snapshots(["p/a"], creation=True),
            "list -Hp -r -t snapshot,bookmark -o name,guid,createtxg,creation p/a",
        ),
        (zfs.list_snapshots(["p/a", "p/b"]), "list -Hp -r -t snapshot,bookmark -o name,guid,createtxg p/a p/b"),
        (zfs.list_snapshots(["p/a"], False), "list -Hp -d1 -t snapshot,bookmark -o name,guid,createtxg p/a"),
        (zfs.list_existing(["p", "p/a"]), "list -Hp -d0 -t filesystem,volume -o name,available,encryption p p/a"),
        (zfs.list_written(["p/a@1", "p/a@2"]), "list -Hp -t snapshot -o name,written,referenced p/a@1 p/a@2"),
        (zfs.send(Stream("p/a", "2")), "send p/a@2"),
        (zfs.send(Stream("p/a", "2", flags="cL")), "send -L -c p/a@2"),
        (zfs.send(Stream("p/a", "2", "p/b@1", single=True, flags="Lec")), "send -L -e -c -i p/b@1 p/a@2"),
        (zfs.send(Stream("p/a", "2", "@1", flags="Lec")), "send -L -e -c -I @1 p/a@2"),
        (zfs.send(Stream("p/a", "2", "#1", flags="Lec")), "send -L -e -c -i #1 p/a@2"),
        (zfs.send(Stream("p/a", "2", raw=True)), "send -w p/a@2"),
        (zfs.send(Stream("p/a", "2", "@1", raw=True)), "send -w -I @1 p/a@2"),
        (zfs.send(Stream("p/a", "2", "#1", raw=True)), "send -w -i #1 p/a@2"),
        (zfs.send(Stream("p/a", "2", "@1", raw=True, token="1-2-3-4")), "send -t 1-2-3-4"),
        (zfs.receive("p/t", Reception()), "receive -s -u -x mountpoint -x canmount -x sharenfs -x sharesmb p/t"),
        (zfs.receive("p/t", Reception(filesystem=False)), "receive -s -u p/t"),
        (
            zfs.receive("p/t", Reception(force=True)),
            "receive -s -u -F -x mountpoint -x canmount -x sharenfs -x sharesmb p/t",
        ),
        (
            zfs.receive("p/t", Reception((("canmount", "noauto"), ("readonly", "on")), force=True)),
            "receive -s -u -F -o canmount=noauto -o readonly=on -x mountpoint -x sharenfs -x sharesmb p/t",
        ),
        (
            zfs.receive("p/t", Reception((("canmount", "on"),), ("atime",), "p/b@1")),
            "receive -s -u -o canmount=on -x mountpoint -x sharenfs -x sharesmb -x atime -o origin=p/b@1 p/t",
        ),
        (
            zfs.get_placeholder("p/t"),
            "get -H -o property,value,source zfsync:placeholder,readonly,canmount,mounted p/t",
        ),
        (zfs.abort_receive("p/t"), "receive -A p/t"),
        (zfs.create("p/t", []), "create -u p/t"),
        (zfs.create("p/t", [("canmount", "off"), ("a:b", "c")]), "create -u -o canmount=off -o a:b=c p/t"),
        (zfs.rename("p/x", "p/t", FILESYSTEM), "rename -u p/x p/t"),
        (zfs.rename("p/x", "p/t", VOLUME), "rename p/x p/t"),
        (zfs.inherit("zfsync:path", ["p/a", "p/b"]), "inherit zfsync:path p/a p/b"),
        (zfs.set_properties([("a:b", "c"), ("d", "e")], ["p/a", "p/b"]), "set a:b=c d=e p/a p/b"),
        (zfs.rollback("p/a@1"), "rollback -r p/a@1"),
        (zfs.promote("p/a"), "promote p/a"),
        (zfs.inherit_key("p/a"), "change-key -i p/a"),
        (zfs.list_snapshot_names("p/a"), "list -Hp -d1 -t snapshot -o name,guid,createtxg,userrefs,clones p/a"),
        (zfs.list_iv_sets(["p/a@1"]), "list -Hp -t snapshot,bookmark -o name,ivsetguid p/a@1"),
        (zfs.list_all_holds("p/a"), "list -Hpr -t snapshot -o name,userrefs p/a"),
        (zfs.holds_of(["p/a@1"]), "holds -Hp p/a@1"),
        (
            zfs.list_traits(["p/a"]),
            "get -Hp -t filesystem,volume -o name,property,value compression,dnodesize p/a",
        ),
        (zfs.list_features("p"), "get -Hp -o property,value all p"),
        (
            zfs.list_own_properties(["p/a"]),
            "get -Hp -t filesystem,volume -s local,received -o name,property,value all p/a",
        ),
        (zfs.destroy_empty("p/t"), "destroy p/t"),
        (zfs.hold("tag", ["p@1", "p/a@1"]), "hold tag p@1 p/a@1"),
        (zfs.hold("tag", ["p@1"], recursive=True), "hold -r tag p@1"),
        (zfs.release("tag", ["p@1", "p/a@1"]), "release tag p@1 p/a@1"),
        (zfs.release("tag", ["p@1"], recursive=True), "release -r tag p@1"),
        (zfs.list_holds(["p@1", "p@2"]), "list -Hp -t snapshot -o name,userrefs p@1 p@2"),
        (zfs.list_guids(["p@1", "p#m"]), "list -Hp -t snapshot,bookmark -o name,guid p@1 p#m"),
        (zfs.list_any("p#m"), "list -H -d0 -t all -o name p#m"),
        (zfs.bookmark("p@1", "p#m"), "bookmark p@1 p#m"),
        (zfs.destroy_bookmark("p#m"), "destroy p#m"),
        (zfs.destroy_snapshots(["p/a@1"]), "destroy p/a@1"),
        (zfs.destroy_snapshots(["p/a@1", "p/a@2", "p/a@3"]), "destroy p/a@1,2,3"),
        (zfs.snapshot(["p@1", "p/a@1"]), "snapshot p@1 p/a@1"),
        (zfs.snapshot(["p@1"], [("a:b", "c"), ("d:e", "f")]), "snapshot -o a:b=c -o d:e=f p@1"),
    ],
)
def test_a_command_line_is_exactly_this(arguments: tuple[str, ...], line: str) -> None:
    assert list(arguments) == line.split(" ")


def test_a_name_with_spaces_is_one_argument() -> None:
    received = zfs.receive("p/a b", Reception((("zfsync:path", "p/a b"),), filesystem=False))
    assert received[-3:] == ("-o", "zfsync:path=p/a b", "p/a b")
    assert zfs.send(Stream("p/a b", "x y", "@u v"))[-2:] == ("@u v", "p/a b@x y")


@given(names, names)
def test_a_name_is_never_taken_for_an_option(one: str, other: str) -> None:
    lines = (
        zfs.list_datasets([one]), zfs.list_snapshots([one]), zfs.list_existing([one]), zfs.list_written([one + "@-x"]),
        zfs.send(Stream(one, "-x")), zfs.send(Stream(one, "-x", "@-y")), zfs.receive(one, Reception()),
        zfs.abort_receive(one), zfs.set_properties([("a:b", "-c")], [one]), zfs.rollback(one + "@-x"), zfs.promote(one),
        zfs.create(one, [("canmount", "off")]), zfs.rename(one, other, VOLUME), zfs.inherit("zfsync:path", [one]),
        zfs.destroy_empty(one),
    )  # fmt: skip
    for line in lines:
        named = [argument for argument in line if argument.startswith((one, other))]
        assert named
        assert not any(argument.startswith("-") for argument in named)


def test_nothing_is_ever_destroyed_with_what_hangs_on_it() -> None:
    assert not any(argument.startswith("-") for argument in zfs.destroy_empty("p/t"))


@pytest.mark.parametrize("name", ["p/a", "p/a@", "@1", "p/a#m", "p/a@1%2", "p/a@1,2", "p/a@1@2", "p/a@%", ""])
def test_only_snapshots_are_destroyed_as_snapshots(name: str) -> None:
    with pytest.raises(UsageError, match="is no snapshot, and is not destroyed as one"):
        zfs.destroy_snapshots(["p/a@1", name])


def test_snapshots_of_several_datasets_are_not_destroyed_as_those_of_one() -> None:
    with pytest.raises(UsageError, match="of several datasets"):
        zfs.destroy_snapshots(["p/a@1", "p/b@2"])


@pytest.mark.parametrize("name", ["p/a", "p/a#", "#m", "p/a@1", "p/a#m#n", ""])
def test_only_a_bookmark_is_destroyed_as_a_bookmark(name: str) -> None:
    with pytest.raises(UsageError, match="is no bookmark, and is not destroyed as one"):
        zfs.destroy_bookmark(name)


# ---- batches ---------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 40_000)))
def test_batches_are_all_the_names_in_order_and_each_fits(lengths: list[int]) -> None:
    all_names = [chr(ord("a") + at % 26) * length for at, length in enumerate(lengths)]
    cut = list(batches(all_names))
    assert [name for batch in cut for name in batch] == all_names
    for batch in cut:
        assert batch
        assert len(" ".join(batch)) <= MAX_ARGUMENT_BYTES
    for batch, following in itertools.pairwise(cut):
        assert len(" ".join([*batch, following[0]])) > MAX_ARGUMENT_BYTES


def test_a_name_beyond_all_limits_goes_by_itself() -> None:
    huge = "x" * (MAX_ARGUMENT_BYTES + 1)
    assert list(batches(["a", huge, "b"])) == [["a"], [huge], ["b"]]


def test_a_batch_is_filled_to_the_last_byte() -> None:
    assert list(batches(["a" * (MAX_ARGUMENT_BYTES - 2), "b"])) == [["a" * (MAX_ARGUMENT_BYTES - 2), "b"]]
    assert [len(batch) for batch in batches(["a" * (MAX_ARGUMENT_BYTES - 1), "b"])] == [1, 1]
    most = MAX_ARGUMENT_BYTES // 2
    assert [len(batch) for batch in batches(["x"] * (2 * most + 1))] == [most, most, 1]


def test_a_batch_leaves_room_for_the_rest_of_the_command_line() -> None:
    longest = zfs.list_written(["x" * MAX_ARGUMENT_BYTES])
    assert len(" ".join(longest)) + 1024 < 128 << 10


def test_no_names_make_no_batch() -> None:
    assert list(batches([])) == []


# ---- messages --------------------------------------------------------------------------------------------------------

CUT = (
    "cannot receive new filesystem stream: checksum mismatch or incomplete stream.\n"
    "Partially received snapshot is saved.\n"
    "A resuming stream can be generated on the sending system by running:\n"
    "    zfs send -t 1-df73b11db-e8-789c6360"
)


@pytest.mark.parametrize(
    ("stderr", "code"),
    [
        ("cannot open 'p/nope': dataset does not exist", "missing"),
        (
            "cannot receive new filesystem stream: destination 'p/t/x' exists\nmust specify -F to overwrite it",
            "exists",
        ),
        (CUT, "cut"),
        (
            "cannot receive incremental stream: destination p/t/part contains partially-complete state from "
            '"zfs receive -s".',
            "partial",
        ),
        (
            "cannot receive incremental stream: destination p/t/part has been modified\nsince most recent snapshot",
            "modified",
        ),
        (
            "cannot open 'p/no': dataset does not exist\n"
            "cannot receive new filesystem stream: unable to restore to destination",
            "missing",
        ),
        ("cannot receive: invalid stream (bad magic number)", "failed"),
        ("cannot receive: failed to read from stream", "cut"),
        ("cannot resume send: resume token is corrupt (invalid format)", "partial"),
        (
            "cannot receive new filesystem stream: property 'canmount' does not apply to datasets of this type",
            "failed",
        ),
        ("cannot receive new filesystem stream: out of space", "no-space"),
        ("cannot create 'p/t': permission denied", "permission"),
        ("cannot destroy 'p/t': dataset is busy", "busy"),
        ("sudo: a password is required", "permission"),
        ("cannot run 'zfs': No such file or directory", "no-zfs"),
        ("The ZFS modules cannot be auto-loaded.", "no-zfs"),
        ("cannot open 'q': no such pool 'q'", "missing"),
        ("cannot destroy snapshot p/a@2: it's being held. Run 'zfs holds -r p/a@2' to see holders.", "busy"),
        ("cannot destroy 'p/a@3': snapshot has dependent clones\nuse '-R' to destroy the following", "busy"),
        ("cannot release hold from snapshot 'p/a@1': no such tag on this dataset", "missing"),
        ("cannot hold snapshot 'p/a@1': tag already exists on this dataset", "exists"),
        ("cannot create bookmark 'p/a#1': bookmark exists", "exists"),
        ("cannot create snapshot 'p/a@2': dataset already exists\nno snapshots were created", "exists"),
        ("bookmark 'p/a#1' does not exist.", "missing"),
        ("cannot open 'p/a#2': no such pool or dataset", "missing"),
        ("cannot create 'p/b/c': parent does not exist", "missing"),
        ("cannot hold: permission denied", "permission"),
        ("", "failed"),
    ],
)
def test_a_message_has_its_code(stderr: str, code: str) -> None:
    assert classify(stderr) == code


@given(st.text(max_size=60))
def test_any_message_has_a_code_and_a_reason_on_one_line(stderr: str) -> None:
    assert classify(stderr)
    assert len(reason(stderr).splitlines()) == 1


def test_a_reason_is_what_was_said_on_one_line() -> None:
    assert reason("cannot open 'p': it\n\n  is gone  \n") == "cannot open 'p': it is gone"


UNSET = "cannot receive readonly property on p/a: permission denied\n"


def test_a_property_that_receive_goes_on_without_is_no_reason_for_its_failure() -> None:
    assert unset(UNSET) == {"readonly": "permission denied"}
    assert unset("cannot receive new filesystem stream: out of space\n") == {}
    assert classify(UNSET + "cannot receive new filesystem stream: out of space\n") == "no-space"
    assert reason(UNSET + "cannot receive: out of space\n") == "cannot receive: out of space"
    assert classify(UNSET) == "permission"


def test_a_reason_leaves_out_the_advice_on_resuming() -> None:
    assert reason(CUT) == "cannot receive new filesystem stream: checksum mismatch or incomplete stream."


def test_a_reason_is_short() -> None:
    assert reason("\n".join("abcdefgh")) == "a b c d"


@pytest.mark.parametrize("stderr", ["", "\n", " \n \n"])
def test_silence_is_a_reason_as_well(stderr: str) -> None:
    assert reason(stderr) == "it said nothing"


def test_a_reason_leaves_out_how_the_command_is_used() -> None:
    assert reason("cannot open 'p@9': dataset does not exist\nusage:\n\tbookmark <snapshot>") == (
        "cannot open 'p@9': dataset does not exist"
    )


@pytest.mark.parametrize(
    ("stderr", "codes"),
    [
        ("cannot hold snapshot 'p/a@1': dataset does not exist", {"p/a@1": "missing"}),
        ("cannot open 'p/a': dataset does not exist\nusage:\n\tsnapshot", {"p/a@1": "missing", "p/a@2": "missing"}),
        (
            "cannot create snapshot 'p/b@1': dataset already exists\n"
            "cannot create snapshot 'p/a@2': out of space\nno snapshots were created",
            {"p/b@1": "exists", "p/a@2": "no-space"},
        ),
        ("cannot destroy snapshot p/a@2: it's being held. Run 'zfs holds -r p/a@2' to see holders.", {"p/a@2": "busy"}),
        ("cannot destroy 'p/a@1': snapshot has dependent clones\nuse '-R' to …:\np/b", {"p/a@1": "busy"}),
        ("cannot hold: permission denied", {}),
        ("cannot open 'p': dataset does not exist", {}),
        ("sudo: it's wrong: 'p/a@11'", {}),
    ],
)
def test_zfs_blames_the_names_that_it_mentions(stderr: str, codes: dict[str, str]) -> None:
    found = blamed(["p/a@1", "p/a@2", "p/b@1", "p/b@1 x"], stderr)
    assert {name: failed.code for name, failed in found.items()} == codes


@pytest.mark.parametrize(
    ("stderr", "code"),
    [
        ("sudo: a password is required", "permission"),
        ("cannot run 'zfs': No such file or directory", "no-zfs"),
        ("Permission denied the ZFS utilities must be run as root.", "permission"),
    ],
)
def test_what_kept_zfs_from_running_is_so_for_all_names(stderr: str, code: str) -> None:
    assert blamed(["p@1", "p@2"], stderr) == {name: Failed(name, code, stderr) for name in ("p@1", "p@2")}


def test_what_is_blamed_says_why_in_the_words_of_zfs() -> None:
    line = "cannot hold snapshot 'p/a@1': dataset does not exist"
    assert blamed(["p/a@1"], line + "\nmore") == {"p/a@1": Failed("p/a@1", "missing", line)}
