"""Where what zfsync remembers lies."""

from __future__ import annotations

from pathlib import Path

import pytest

from zfsync_ssh import state


def test_it_lies_where_state_belongs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(state.VARIABLE)
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/h")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert state.state_directory() == Path("/var/lib/zfsync")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert state.state_directory() == Path("/h/.local/state/zfsync")
    monkeypatch.setenv("XDG_STATE_HOME", "/s")
    assert state.state_directory() == Path("/s/zfsync")
    monkeypatch.setenv(state.VARIABLE, "/elsewhere")
    assert state.state_directory() == Path("/elsewhere")
