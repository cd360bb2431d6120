"""Which permissions an account without root needs for what."""

from __future__ import annotations

from zfsync_ssh.delegation import PERMISSIONS, Use, delegated, grant, permissions, source_uses, target_uses
from zfsync_ssh.policy import DEFAULT, Divergence, Policy, Properties


def test_every_use_has_its_permissions() -> None:
    assert set(PERMISSIONS) == set(Use)


def test_an_ordinary_run_rolls_nothing_back_and_sets_no_mountpoint() -> None:
    wanted = permissions(target_uses(DEFAULT), DEFAULT)
    assert {"receive", "create", "mount", "canmount", "readonly", "userprop", "rename"} <= set(wanted)
    assert not {"rollback", "send", "mountpoint"} & set(wanted)
    assert wanted == tuple(sorted(set(wanted)))


def test_what_is_chosen_is_what_is_needed() -> None:
    assert permissions(source_uses(Policy(hold=False, bookmark=False))) == ("hold", "send")
    assert {"hold", "release", "bookmark", "snapshot"} <= set(permissions(source_uses(DEFAULT, snapshots=True)))
    assert Use.ROLLBACK in target_uses(Policy(on_divergence=Divergence.ROLLBACK))
    assert Use.DELETE in target_uses(Policy(on_divergence=Divergence.REPLACE))
    assert Use.PRUNE in target_uses(DEFAULT, prunes=True)
    assert Use.PRUNE not in source_uses(DEFAULT)


def test_a_property_is_set_by_the_permission_of_its_name() -> None:
    policy = Policy(
        properties=Properties(set=(("compression", "off"), ("com.example:x", "1")), preserve=("all", "atime"))
    )
    assert {"atime", "compression", "userprop"} <= set(permissions(target_uses(policy), policy))
    assert "all" not in permissions(target_uses(policy), policy)


def test_the_account_is_allowed_the_dataset_above_the_target_where_the_buffer_is_made_too() -> None:
    assert delegated("pool/backups/web/data") == "pool/backups/web"
    assert delegated("pool") == "pool"
    assert grant("backup", "pool/web", ("create", "mount")) == "zfs allow -u backup create,mount pool/web"
