"""Which streams are compressed, by what; and what a filter's end is called."""

from __future__ import annotations

from pathlib import Path

import pytest

from zfsync_ssh import filters
from zfsync_ssh.compression import agreed_filter, filter_for, with_filters
from zfsync_ssh.dataset import FILESYSTEM, Dataset, Host, Inventory, Snapshot
from zfsync_ssh.errors import RemoteProtocolError, UsageError
from zfsync_ssh.plan import make_plan
from zfsync_ssh.process import Completed

HERE, THERE = Host(), Host("there")


def ends(here: str, there: str) -> tuple[tuple[Host, list[str]], tuple[Host, list[str]]]:
    return (HERE, here.split()), (THERE, there.split())


@pytest.mark.parametrize(
    ("choice", "here", "there", "agreed"),
    [
        ("none", "zstd lz4", "zstd lz4", ""),
        ("none", "", "", ""),
        ("auto", "lz4 zstd", "zstd lz4", "zstd"),
        ("auto", "zstd lz4", "lz4", "lz4"),
        ("auto", "zstd", "lz4", ""),
        ("auto", "", "zstd lz4", ""),
        ("zstd", "zstd", "lz4 zstd", "zstd"),
        ("lz4", "zstd lz4", "lz4", "lz4"),
    ],
)
def test_both_ends_have_to_have_the_program(choice: str, here: str, there: str, agreed: str) -> None:
    assert agreed_filter(choice, ends(here, there)) == agreed


@pytest.mark.parametrize(
    ("here", "there", "host"), [("lz4", "zstd", "this machine"), ("zstd", "lz4", "there"), ("", "", "this machine")]
)
def test_a_program_by_name_that_is_not_there_is_an_error_that_names_the_host(here: str, there: str, host: str) -> None:
    with pytest.raises(UsageError, match=f"^There is no program zstd on {host}, for --compress: .*\\.$"):
        agreed_filter("zstd", ends(here, there))


def test_only_what_zfs_neither_compresses_nor_encrypts_goes_through_a_filter() -> None:
    snapshots = (Snapshot("1", 1, 1),)
    datasets = {
        f"/{name}": Dataset(
            f"src/{name}", FILESYSTEM, 1, encrypted="e" in name, compressed="c" in name, snapshots=snapshots
        )
        for name in ("plain", "e", "c", "ec")
    }
    datasets["/plain"] = datasets["/plain"]._replace(compressed=False, encrypted=False)
    plan = make_plan(Inventory("src", datasets), Inventory("dst", {"": Dataset("dst", FILESYSTEM, 2)}), host=THERE)
    assert {item.child: item.filter for item in plan.items} == dict.fromkeys(datasets, "")
    chosen = with_filters(plan, "lz4")
    assert {item.child: item.filter for item in chosen.items} == {"/plain": "lz4", "/e": "", "/c": "", "/ec": ""}
    assert all(filter_for(item, "") == "" for item in chosen.items)


# ---- the programs ----------------------------------------------------------------------------------------------------


def test_programs_are_looked_for_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filters, "environment", lambda: {"PATH": f":{tmp_path}/none:{tmp_path}"})
    assert filters.installed() == ()
    for name, mode in (("lz4", 0o755), ("zstd", 0o644), ("gzip", 0o755)):
        (tmp_path / name).touch(mode)
    (tmp_path / "zstd").chmod(0o644)
    found = filters.installed()
    assert "lz4" in found
    assert "zstd" not in found
    (tmp_path / "zstd").chmod(0o755)
    assert filters.installed() == ("zstd", "lz4")


def test_a_filter_is_one_of_a_fixed_list() -> None:
    assert filters.named("") == filters.Filter((), ())
    assert filters.named("zstd").decompress[0] == "zstd"
    with pytest.raises(RemoteProtocolError, match="unknown filter, 'sh -c evil'"):
        filters.named("sh -c evil")


@pytest.mark.parametrize(
    ("done", "why"),
    [
        (Completed(0, "", "a warning"), ""),
        (Completed(-9, "", ""), "zstd, which the stream goes through, failed: killed by signal 9"),
        (Completed(1, "", ""), "zstd, which the stream goes through, failed: status 1"),
        (Completed(1, "", "one\nit is corrupt \n"), "zstd, which the stream goes through, failed: it is corrupt"),
        (
            Completed(127, "", "cannot run 'zstd': No such file or directory"),
            "zstd, which the stream goes through, failed: cannot run 'zstd': No such file or directory",
        ),
    ],
)
def test_a_filters_failure_has_its_own_words(done: Completed, why: str) -> None:
    assert filters.complaint(done, "zstd") == why


@pytest.mark.parametrize(
    ("done", "gave_way"),
    [
        (Completed(0, "", ""), False),
        (Completed(-13, "", ""), True),
        (Completed(-9, "", ""), False),
        (Completed(1, "", "Write error : Broken pipe"), True),
        (Completed(1, "", "corrupt"), False),
    ],
)
def test_a_filter_whose_reader_has_gone_is_not_to_blame(done: Completed, gave_way: bool) -> None:
    assert filters.gave_way(done) is gave_way
