"""What holds for all tests."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from zfsync_ssh import state

_numbers = itertools.count()


@pytest.fixture(scope="session")
def _state_directories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


@pytest.fixture(autouse=True)
def state_directory(_state_directories: Path) -> Iterator[Path]:
    """A directory of its own for what zfsync remembers: the machine's own is not written to, nor read."""
    with pytest.MonkeyPatch.context() as patch:
        directory = _state_directories / str(next(_numbers))
        patch.setenv(state.VARIABLE, str(directory))
        yield directory
