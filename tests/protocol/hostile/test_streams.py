"""Streams that are not what they were announced to be."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from tests.fakezfs import begin_record, make_token
from tests.protocol.hostile.conftest import ROOT, Serve, changing, sync
from tests.protocol.test_agent import SNAPSHOTS, fake_stream
from zfsync_ssh.dataset import Bookmark, Snapshot
from zfsync_ssh.decision import RESUME, TargetState
from zfsync_ssh.messages import (
    Answer,
    Data,
    End,
    Ping,
    Pong,
    Result,
    Stream,
    Sync,
)


def bad_streams() -> Iterator[tuple[str, bytes]]:
    good = fake_stream(SNAPSHOTS[0])
    yield "a package", begin_record("filesystem", 11, 0, package=True) + begin_record("filesystem", 11, 0) + good
    yield "nobody resumes", begin_record("filesystem", 11, 0, resuming=True) + good
    yield "begins from another snapshot", begin_record("filesystem", 11, 77) + good
    yield "of another snapshot", begin_record("filesystem", 12, 0) + good
    yield "not that of a filesystem", begin_record("volume", 11, 0) + good
    yield "no stream of ZFS", good
    yield "no stream of ZFS", b"#!/bin/sh\n" + b"x" * 1000
    yield "before it has begun", b""
    yield "before it has begun", begin_record("filesystem", 11, 0)[:311]


@pytest.mark.parametrize(("says", "stream"), list(bad_streams()))
def test_a_stream_is_what_it_was_announced_to_be(serve: Serve, says: str, stream: bytes) -> None:
    hostile = serve()
    hostile.begin()
    hostile.ask(sync())
    hostile.say(Stream("/n", 0, 11), *([Data(stream[:100]), Data(stream[100:])] if stream else []), End(len(stream)))
    result = hostile.hear()
    assert isinstance(result, Result)
    assert (result.ok, result.code) == (False, "refused")
    assert says in result.message
    assert changing(hostile.receiver) == []
    assert "refused a stream into" in hostile.log[-1]


def test_a_stream_is_of_a_snapshot(serve: Serve) -> None:
    hostile = serve()
    hostile.begin()
    hostile.ask(sync())
    stream = begin_record("filesystem", 0, 0) + fake_stream(SNAPSHOTS[0])
    hostile.say(Stream("/n", 0, 0), Data(stream), End(len(stream)))
    result = hostile.hear()
    assert isinstance(result, Result)
    assert "of no snapshot" in result.message
    assert changing(hostile.receiver) == []


@pytest.mark.parametrize(
    ("base", "head", "says"),
    [
        (77, begin_record("filesystem", 11, 0), "goes on with no receive"),  # nothing would keep it from being mounted
        (77, begin_record("filesystem", 11, 77), "goes on with no receive"),
        (77, begin_record("filesystem", 11, 0, resuming=True), "begins from another snapshot"),
        (0, begin_record("filesystem", 11, 77, resuming=True), "begins from another snapshot"),
    ],
)
def test_a_token_excuses_a_stream_from_nothing(serve: Serve, base: int, head: bytes, says: str) -> None:
    hostile = serve()
    hostile.begin()
    token = make_token({"toname": "src/tree@1", "toguid": 11, "bytes": 5, **({"fromguid": base} if base else {})})
    bookmarks = (Bookmark("base", 77, 1),)  # or it would not be resumed
    answer = hostile.ask(sync(known=TargetState(True, False, base, token))._replace(bookmarks=bookmarks))
    assert isinstance(answer, Answer)
    assert answer.decision.kind == RESUME
    stream = head + fake_stream(SNAPSHOTS[0])
    hostile.say(Stream("/n", base, 11, token), Data(stream), End(len(stream)))
    result = hostile.hear()
    assert isinstance(result, Result)
    assert says in result.message
    assert changing(hostile.receiver) == []


def kept() -> int:
    """How many pieces of streams are in memory: of this process, where the receiver is a thread."""
    return sum(isinstance(one, Data) for one in gc.get_objects())


def test_a_stream_that_does_not_begin_takes_up_nothing(serve: Serve) -> None:
    hostile = serve()
    hostile.begin()
    hostile.ask(sync())
    empty = Data(b"")
    before = kept()
    hostile.say(Stream("/n", 0, 11), *[empty] * 1000, Ping(1))
    assert hostile.hear() == Pong(1)
    assert kept() < before + 10
    stream = begin_record("filesystem", 11, 0) + fake_stream(SNAPSHOTS[0])
    hostile.say(Data(stream), End(len(stream)))
    assert hostile.hear() == Result(True, name=f"{ROOT}/n", length=len(stream))


def test_a_stream_of_one_snapshot_is_received(serve: Serve) -> None:
    hostile = serve(append_only=True)
    hostile.begin()
    hostile.ask(sync())
    stream = begin_record("filesystem", 11, 0) + fake_stream(SNAPSHOTS[0])
    hostile.say(Stream("/n", 0, 11), *(Data(stream[at : at + 7]) for at in range(0, len(stream), 7)), End(len(stream)))
    assert hostile.hear() == Result(True, name=f"{ROOT}/n", length=len(stream))


def test_a_stream_through_a_program_is_not_taken(serve: Serve) -> None:
    hostile = serve()
    assert hostile.begin().ok
    hostile.ask(sync())
    hostile.say(Stream("/n", 0, 11, filter="zstd"), Data(b"x" * 1000), End(1000))
    result = hostile.hear()
    assert isinstance(result, Result)
    assert "compressed" in result.message


def test_an_increment_to_what_is_not_there_is_not_looked_for_in_the_pool(serve: Serve) -> None:
    hostile = serve(append_only=True)
    hostile.begin()
    newest = hostile.receiver.guids("dst/backups/web2")[""][-1][1]
    snapshots = (Snapshot("4", newest, 1), Snapshot("5", 5, 2))
    known = TargetState(True, False, newest)
    answer = hostile.ask(Sync("/n", "filesystem", f"{ROOT}/n", snapshots, (), known))
    assert isinstance(answer, Answer)
    stream = begin_record("filesystem", 5, newest) + fake_stream(snapshots[1], newest)
    hostile.say(Stream("/n", newest, 5), Data(stream), End(len(stream)))
    result = hostile.hear()
    assert isinstance(result, Result)
    assert f"{ROOT}/n is not there" in result.message
    assert changing(hostile.receiver) == []


def test_nor_when_what_is_there_is_a_partial_receive_that_is_dropped_first(serve: Serve) -> None:
    """Dropping it destroys a dataset that has no snapshot yet: then nothing is there when the stream comes."""
    hostile = serve(append_only=True)
    hostile.receiver.create(f"{ROOT}/n")
    with hostile.receiver.open() as state:
        state["datasets"][f"{ROOT}/n"]["token"] = "1-0-0-"
    hostile.begin()
    newest = hostile.receiver.guids("dst/backups/web2")[""][-1][1]
    snapshots = (Snapshot("4", newest, 1), Snapshot("5", 5, 2))
    known = TargetState(True, False, newest, "1-0-0-")
    answer = hostile.ask(Sync("/n", "filesystem", f"{ROOT}/n", snapshots, (), known))
    assert isinstance(answer, Answer)
    assert answer.decision.discard
    stream = begin_record("filesystem", 5, newest) + fake_stream(snapshots[1], newest)
    hostile.say(Stream("/n", newest, 5), Data(stream), End(len(stream)))
    result = hostile.hear()
    assert isinstance(result, Result)
    assert "lacks the snapshot that the stream begins from" in result.message
    assert changing(hostile.receiver) == []
