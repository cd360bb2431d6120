"""What a user is told of what ZFS refused."""

from __future__ import annotations

import pytest

from tests.unit.dsl import dataset
from zfsync_ssh import complaint
from zfsync_ssh.advice import cannot_list, receive_failure
from zfsync_ssh.dataset import Host, Inventory
from zfsync_ssh.messages import Listed, Result
from zfsync_ssh.plan import make_plan

THERE = Host("there")


def told(result: Result, host: Host = THERE) -> str:
    source = Inventory("src", {"": dataset("@a,1", "src")})
    (item,) = make_plan(source, Inventory("dst", {}, ancestors=("dst",)), host=host).items
    return receive_failure(host, item, "dst", result)


@pytest.mark.parametrize(
    ("stderr", "sentence"),
    [
        (
            "cannot receive: stream has unsupported feature, feature flags = 20000000",
            "there:dst cannot be received: cannot receive: stream has unsupported feature, feature flags = 20000000, "
            "which only a newer OpenZFS than the one there knows.",
        ),
        (
            "cannot receive new filesystem stream: invalid property 'direct'",
            "there:dst cannot be received: cannot receive new filesystem stream: invalid property 'direct'; "
            "--exclude-property leaves out what the OpenZFS there does not know.",
        ),
        (
            "cannot receive new filesystem stream: 'checksum' must be one of 'on | off | fletcher2'",
            "there:dst cannot be received: cannot receive new filesystem stream: 'checksum' must be one of "
            "'on | off | fletcher2'; --exclude-property leaves out what the OpenZFS there does not know.",
        ),
    ],
)
def test_what_an_older_zfs_does_not_know_is_told_with_what_to_do(stderr: str, sentence: str) -> None:
    code, reason = complaint.meaning(stderr)
    assert told(Result(False, code, reason, "dst")) == sentence


def test_a_property_is_to_be_granted_only_where_a_permission_was_missing() -> None:
    refused = told(Result(False, "unset", "longname=on could not be set (dataset does not exist)", "dst"))
    assert refused == "there:dst has arrived, but longname=on could not be set (dataset does not exist): " + (
        "set that there by 'zfs set'."
    )
    assert "'zfs allow -u USER" in told(
        Result(False, "unset", "readonly=on could not be set (permission denied)", "dst")
    )


@pytest.mark.parametrize("host", [THERE, Host()])
def test_sudo_is_for_another_host_alone(host: Host) -> None:
    way = "log in as root, or use --sudo if sudoers allows it" if host.name else "run zfsync as root"
    assert f"; {way}, or grant it there: 'zfs allow" in told(Result(False, "permission", "denied", "dst"), host)
    assert cannot_list(host, "dst", Listed(False, "permission", "denied")) == (
        f"{host} does not let this user run zfs: denied; {way}, or see 'zfs allow' there."
    )
