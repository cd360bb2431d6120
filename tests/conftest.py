"""What holds for all tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from zfsync_ssh import state


@pytest.fixture(autouse=True)
def state_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory of its own for what zfsync remembers: the machine's own is not written to, nor read."""
    with pytest.MonkeyPatch.context() as patch:
        directory = tmp_path_factory.mktemp("state", numbered=True)
        patch.setenv(state.VARIABLE, str(directory))
        yield directory
