"""Which properties a copy is given."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zfsync_ssh.dataset import FILESYSTEM, VOLUME
from zfsync_ssh.errors import UsageError
from zfsync_ssh.policy import Properties
from zfsync_ssh.properties import applies, check, for_copy, parse_listing
from zfsync_ssh.zfs import MOUNT_PROPERTIES

OWN = {
    "compression": "zstd", "mountpoint": "/home", "canmount": "on", "sharenfs": "on", "my:note": "x=y", "volsize": "1G",
    "recordsize": "1M", "zfsync:stream": "Lec", "encryption": "aes-256-gcm",
}  # fmt: skip


@pytest.mark.parametrize(
    ("wanted", "given"),
    [
        (Properties(), ()),
        (Properties(preserve=("all",)), ("compression=zstd", "my:note=x=y", "recordsize=1M")),
        (Properties(preserve=("all",), exclude=("recordsize",)), ("compression=zstd", "my:note=x=y")),
        (Properties(preserve=("mountpoint",)), ("mountpoint=/home",)),
        (Properties(preserve=("compression",), set=(("compression", "lz4"),)), ("compression=lz4",)),
        (Properties(set=(("atime", "off"),)), ("atime=off",)),
        (Properties(preserve=("zfsync:stream", "encryption", "nothing")), ()),
    ],
)
def test_a_filesystem_is_given(wanted: Properties, given: tuple[str, ...]) -> None:
    assert for_copy(FILESYSTEM, OWN, wanted) == given


def test_a_volume_is_given_nothing_that_only_a_filesystem_has() -> None:
    wanted = Properties(preserve=("all",), set=(("atime", "off"), ("volthreading", "off")))
    assert for_copy(VOLUME, OWN, wanted) == ("compression=zstd", "my:note=x=y", "volthreading=off")
    assert not applies("quota", VOLUME)
    assert not applies("volthreading", FILESYSTEM)
    assert applies("my:note", VOLUME)


@given(st.sampled_from([FILESYSTEM, VOLUME]), st.sets(st.sampled_from([*OWN, "all"])))
def test_nothing_that_mounts_or_shares_is_preserved_unless_by_its_name(kind: str, preserve: set[str]) -> None:
    names = {pair.partition("=")[0] for pair in for_copy(kind, OWN, Properties(preserve=tuple(preserve)))}
    assert names & set(MOUNT_PROPERTIES) <= preserve
    assert not any(name.startswith("zfsync:") for name in names)


@pytest.mark.parametrize("name", ["", "-o", "a=b", "a b", "a,b", "a@b"])
def test_what_is_no_name_of_a_property_is_refused(name: str) -> None:
    for wanted in (Properties(preserve=(name,)), Properties(exclude=(name,)), Properties(set=((name, "x"),))):
        with pytest.raises(UsageError, match="is not the name of a property"):
            check(wanted)


def test_what_comes_with_the_stream_cannot_be_set() -> None:
    with pytest.raises(UsageError, match="encryption cannot be set on a copy"):
        check(Properties(set=(("encryption", "on"),)))
    wanted = Properties(set=(("atime", "off"),), preserve=("all",))
    assert check(wanted) is wanted


def test_a_listing_is_read_with_tabs_in_values() -> None:
    lines = ["src\tcompression\tzstd", "src\tmy:note\ta\tb", "src/a\tatime\toff", "src/a", "rest\tof a value"]
    assert parse_listing(lines) == {"src": {"compression": "zstd", "my:note": "a\tb"}, "src/a": {"atime": "off"}}
