"""Compressed streams and limited rates through real agents, with a fake zfs; and what goes wrong with filters."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import pytest

from tests.fakezfs import content
from tests.protocol.conftest import Pair
from tests.protocol.test_agent import SNAPSHOTS, Talk, fake_stream, talk
from zfsync_ssh.decision import NEW
from zfsync_ssh.errors import UsageError
from zfsync_ssh.events import Event, Progress, Status
from zfsync_ssh.messages import Abort, Answer, Data, End, Failure, Result, Stream, Sync

__all__ = ["talk"]  # the fixture

BYTES = 600_000
"""Of one snapshot of the fake zfs, which repeats 32 bytes."""
ROOT = f"dst/throughput{os.getpid()}"

STAND_IN = f"""#!{sys.executable} -IS
import os, sys, zlib
work = zlib.decompressobj() if "-dcq" in sys.argv else zlib.compressobj(1)
while True:
    data = os.read(0, 1 << 16)
    out = (work.compress if hasattr(work, "compress") else work.decompress)(data) if data else work.flush()
    while out:
        out = out[os.write(1, out):]
    if not data:
        sys.exit(0 if getattr(work, "eof", True) else "the input ended too early")
"""


@pytest.fixture(autouse=True)
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory in front of the PATH, with stand-ins for the filters that are not installed here."""
    directory = tmp_path / "programs"
    directory.mkdir()
    for name in ("zstd", "lz4"):
        if not shutil.which(name):
            script(directory / name, STAND_IN)
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")
    return directory


def script(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def tree(pair: Pair) -> None:
    """One dataset that ZFS compresses, and below it one that it does not."""
    pair.sender.create("src/tree", compression="lz4")
    pair.sender.create("src/tree/plain", compression="off")
    for child in ("", "/plain"):
        for name in ("1", "2"):
            pair.sender.snapshot(f"src/tree{child}@{name}", BYTES)


async def push(pair: Pair, **options: Any) -> int:
    return await pair.push(root=ROOT, **options)


def equal(pair: Pair) -> bool:
    return pair.receiver.guids(ROOT) == pair.sender.guids("src/tree")


# ---- compression -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "pull"), [("zstd", False), ("lz4", True), ("auto", False), ("auto", True)])
async def test_what_zfs_does_not_compress_is_compressed_on_its_way(pair: Pair, name: str, pull: bool) -> None:
    tree(pair)
    assert await push(pair, pull=pull, compress=name) == 0
    assert equal(pair)
    sent = {outcome.target.removeprefix(f"there:{ROOT}"): outcome.bytes for outcome in pair.outcomes.values()}
    assert sent["/plain"] < BYTES
    assert sent[""] > 2 * BYTES


async def test_nothing_is_compressed_unasked(pair: Pair) -> None:
    tree(pair)
    assert await push(pair) == 0
    assert pair.outcomes["src/tree/plain"].bytes > 2 * BYTES


async def test_a_program_that_is_missing_is_said_before_anything_is_sent(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree(pair)
    monkeypatch.setattr("zfsync_ssh.filters.installed", tuple)  # here; the agents look for themselves
    with pytest.raises(UsageError, match="no program zstd on this machine, for --compress"):
        await push(pair, compress="zstd")
    assert ["send"] not in [command[:1] for command in pair.sender.commands()]
    assert await push(pair, compress="auto") == 0
    assert equal(pair)
    assert pair.outcomes["src/tree/plain"].bytes > 2 * BYTES


BROKEN = """#!/bin/sh
case "$*" in *{when}*) head -c 1000 >/dev/null; echo 'it broke' >&2; exit 3;; esac
exec {real} "$@"
"""


@pytest.mark.parametrize(("pull", "when"), [(False, "-1"), (True, "-1"), (False, "-dcq")])
async def test_a_filter_that_fails_at_either_end_fails_its_dataset_alone(
    pair: Pair, programs: Path, pull: bool, when: str
) -> None:
    tree(pair)
    found = shutil.which("zstd")
    assert found is not None
    real = programs / "real-zstd"
    shutil.copy(found, real)
    script(programs / "zstd", BROKEN.format(when=when, real=shlex.quote(str(real))))
    assert await push(pair, pull=pull, compress="zstd") == 3
    prefix = "far:" if pull else ""
    failed = pair.outcomes[f"{prefix}src/tree/plain"]
    assert failed.status is Status.FAILED
    assert "zstd, which the stream goes through, failed: it broke" in failed.message
    assert failed.code == ("filter" if when == "-dcq" else "source")
    assert pair.outcomes[f"{prefix}src/tree"].status is Status.SENT
    real.replace(programs / "zstd")
    assert await push(pair, pull=pull, compress="zstd") == 0
    assert equal(pair)


async def test_a_compressed_receive_that_is_refused_is_the_receivers_failure(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree(pair)
    monkeypatch.setenv("FAKEZFS_FULL", "100000")
    assert await push(pair, compress="lz4") == 3
    assert pair.outcomes["src/tree/plain"].code == "no-space"


# ---- the agent alone -------------------------------------------------------------------------------------------------


def begin(talk: Talk) -> None:
    talk.begin(ROOT)
    assert isinstance(answer := talk.ask(Sync("", "filesystem", ROOT, SNAPSHOTS)), Answer)
    assert answer.decision.kind == NEW


def test_an_agent_takes_no_filter_that_is_not_on_its_list(talk: Talk) -> None:
    begin(talk)
    talk.say(Stream("", 0, 11, filter="sh"))  # and no more: it hangs up
    heard = talk.hear()
    assert isinstance(heard, Failure)
    assert "unknown filter, 'sh'" in heard.message
    assert not any(command[0] == "receive" for command in talk.receiver.commands())


def test_what_is_not_compressed_as_was_said_is_a_failure_of_the_filter(talk: Talk) -> None:
    begin(talk)
    stream = fake_stream(SNAPSHOTS[0])
    talk.say(Stream("", 0, 11, filter="zstd"), Data(stream), End(len(stream)))
    result = talk.hear()
    assert isinstance(result, Result)
    assert (result.ok, result.code) == (False, "filter")
    assert result.message.startswith("zstd, which the stream goes through, failed: ")


def test_a_compressed_stream_that_is_cut_short_is_aborted_and_not_blamed_on_the_filter(talk: Talk) -> None:
    begin(talk)
    talk.say(Stream("", 0, 11, filter="zstd"), Data(b"\x28\xb5\x2f\xfd"), Abort("zfs send failed"))
    result = talk.hear()
    assert isinstance(result, Result)
    assert (result.ok, result.code, result.message) == (False, "aborted", "zfs send failed")


# ---- the rate limit --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pull", [False, True])
async def test_a_limited_run_never_has_more_on_its_way_than_the_limit_allows(pair: Pair, pull: bool) -> None:
    tree(pair)
    rate, burst = 3 << 19, 3 << 17
    seen: list[tuple[float, int]] = []
    arrived: dict[int, int] = {}

    def observe(event: Event) -> None:
        pair.events.append(event)
        if isinstance(event, Progress):
            arrived[event.channel] = event.bytes
            seen.append((time.monotonic(), sum(arrived.values())))

    started = time.monotonic()
    await pair.replicate(observe, root=ROOT, pull=pull, rate_limit=rate)
    assert equal(pair)
    assert len(seen) > 3
    for now, count in seen:
        assert count <= rate * (now - started) + burst
    total = sum(outcome.bytes for outcome in pair.outcomes.values())
    assert total > 4 * BYTES
    assert time.monotonic() - started >= (total - burst) / rate


@pytest.mark.parametrize("pull", [False, True])
async def test_a_limit_below_what_is_read_at_once_passes_on_pieces_of_that(pair: Pair, pull: bool) -> None:
    pair.sender.snapshot("src/tree@1", 50_000)
    started = time.monotonic()
    assert await push(pair, pull=pull, rate_limit=80 << 10) == 0
    assert time.monotonic() - started >= (50_000 - (20 << 10)) / (80 << 10)
    assert equal(pair)


def test_the_fake_streams_are_compressible() -> None:
    assert len(zlib.compress(content(1, BYTES), 1)) < BYTES // 10
