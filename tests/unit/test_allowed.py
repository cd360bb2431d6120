"""What an account may do, out of what `zfs allow` prints; the texts are OpenZFS 2.3's."""

from __future__ import annotations

from zfsync_ssh.allowed import Account, permitted

WEB = """\
---- Permissions on pool/my web --------------------------------------
Local permissions:
	user backup send
Local+Descendent permissions:
	group staff @basic,destroy
	user (unknown: 1007) diff
---- Permissions on pool/backups -------------------------------------
Local permissions:
	user backup snapshot
Local+Descendent permissions:
	user backup create,mount,receive
	user other rollback
---- Permissions on pool ---------------------------------------------
Permission sets:
	@basic hold,release
Create time permissions:
	rename
Descendent permissions:
	user backup promote
Local+Descendent permissions:
	everyone userprop
"""


def test_what_is_inherited_what_is_local_and_what_comes_with_making_a_dataset() -> None:
    found = permitted(WEB, "pool/my web", Account("backup", ("backup",)))
    assert found.here == {"send", "create", "mount", "receive", "promote", "userprop"}
    assert found.below == {"create", "mount", "receive", "promote", "userprop", "rename"}


def test_groups_and_sets_count() -> None:
    found = permitted(WEB, "pool/my web", Account("me", ("staff", "wheel")))
    assert found.here == {"hold", "release", "destroy", "userprop"}
    assert found.below == {*found.here, "rename"}


def test_a_descendent_permission_is_not_for_the_dataset_itself() -> None:
    text = WEB[WEB.index("---- Permissions on pool --") :]
    found = permitted(text, "pool", Account("backup"))
    assert found.here == {"userprop"}
    assert found.below == {"promote", "userprop", "rename"}


def test_an_account_without_a_name_is_known_by_its_number() -> None:
    assert "diff" in permitted(WEB, "pool/my web", Account("1007")).here
    assert "diff" not in permitted(WEB, "pool/my web", Account("100")).here


def test_a_user_is_not_a_group_of_the_same_name() -> None:
    assert permitted(WEB, "pool/my web", Account("staff", ("backup", "other"))).here == {"userprop"}


def test_a_set_that_is_defined_nearer_by_counts() -> None:
    nearer = "---- Permissions on pool/my web ----\nPermission sets:\n\t@basic clone\n" + WEB
    assert "clone" in permitted(nearer, "pool/my web", Account("x", ("staff",))).here
    assert "hold" not in permitted(nearer, "pool/my web", Account("x", ("staff",))).here


def test_nothing_is_delegated() -> None:
    assert permitted("", "pool", Account("backup")) == (frozenset(), frozenset())
