"""What an agent answers about what is above its tree. What is made of it: tests/unit/test_plan.py."""

from __future__ import annotations

import pytest

from zfsync_ssh.unencrypted import is_encrypted_above


@pytest.mark.parametrize(
    ("lines", "encrypted"),
    [
        (["pool\t1000\toff", "pool/safe\t900\taes-256-gcm"], True),
        (["pool\t1000\taes-256-gcm", "pool/clear\t900\toff"], False),
        (["pool\t1000\t-"], False),  # a pool without encryption
        ([], False),  # the target is the pool itself
    ],
)
def test_the_nearest_above_tells(lines: list[str], encrypted: bool) -> None:
    assert is_encrypted_above(lines) is encrypted
