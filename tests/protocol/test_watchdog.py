"""Streams that stand still: `zfs send` gives nothing, `zfs receive` takes nothing, an agent is not heard of."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from pathlib import Path

import pytest

from tests import agents
from tests.fakezfs import State
from tests.protocol.conftest import FewChannels, Pair, zfs_command
from tests.protocol.test_agent import SNAPSHOTS, Talk, fake_stream, sync, talk  # noqa: F401
from tests.ssh.processes import eventually
from zfsync_ssh import agent, heartbeat, workers
from zfsync_ssh.errors import ConnectError
from zfsync_ssh.events import Event, Finished, Planned, Progress, Status
from zfsync_ssh.messages import PROTOCOL, Answer, Beat, Begin, Data, End, Hello, Result, Stream
from zfsync_ssh.orchestrator import Options, Replication
from zfsync_ssh.sending import LocalSending
from zfsync_ssh.source import LocalSource
from zfsync_ssh.workers import PROGRESS_SECONDS

LARGE, PART = 12 << 20, 3 << 20
"""More than all the pipes on the way hold, and so does what is left of it."""
LIMIT = 2.5


@pytest.fixture(autouse=True)
def _beats(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beats within the limit."""
    monkeypatch.setattr(agent, "BEAT_SECONDS", 1)
    monkeypatch.setattr(agent, "PING_SECONDS", 1)
    monkeypatch.setattr(agent, "SILENCE_SECONDS", 10)
    monkeypatch.setattr(agent, "CLOSE_SECONDS", 1)


def tree(pair: Pair, large: str = "/a", size: int = LARGE) -> None:
    for child in ("", "/a", "/b"):
        pair.sender.create("src/tree" + child)
        pair.sender.snapshot(f"src/tree{child}@1", size if child == large else 1000)


def running(word: str) -> bool:
    """Whether a process has this word on its command line."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if word.encode() in path.read_bytes().split(b"\0"):
                return True
    return False


async def again(pair: Pair, state: State, pull: bool) -> None:
    """Check that the next run, with nothing that hangs, makes it complete."""
    state.hang()
    eventually("the run's zfs have ended", lambda: not running(pair.sender.path) and not running(pair.receiver.path))
    assert await pair.push(pull=pull) == 0
    assert pair.receiver.guids("dst/tree") == pair.sender.guids("src/tree")


@pytest.mark.parametrize("pull", [False, True])
async def test_a_receive_that_takes_nothing_more_costs_its_dataset_alone(pair: Pair, pull: bool) -> None:
    tree(pair)
    pair.receiver.hang(receive=PART)  # only the large one has so many
    assert await pair.push(pull=pull, stall_timeout=LIMIT) == 3
    stalled = pair.outcomes["far:src/tree/a" if pull else "src/tree/a"]
    assert (stalled.status, stalled.code) == (Status.FAILED, "stalled")
    assert "src/tree/a: its stream stood still for 2s after " in stalled.message
    assert (
        "bytes: zfs receive took nothing more on there, where the agent answers ('zpool status' there may say why). "
        "What has arrived is kept" in stalled.message
    )
    assert PART < stalled.bytes < LARGE
    assert sorted(outcome.status for outcome in pair.outcomes.values()) == ["failed", "sent", "sent"]
    await again(pair, pair.receiver, pull)


async def test_a_receive_that_does_not_come_to_its_end_is_given_up(pair: Pair) -> None:
    tree(pair, "")
    with pair.sender.open() as state:
        del state["datasets"]["src/tree/a"], state["datasets"]["src/tree/b"]
    pair.receiver.hang(receive=LARGE - (64 << 10))
    assert await pair.push(stall_timeout=LIMIT) == 3
    stalled = pair.outcomes["src/tree"]
    assert stalled.code == "stalled"
    assert f"after {stalled.bytes:,} bytes: zfs receive came to no end after the whole stream on there, " in (
        stalled.message
    )
    assert stalled.bytes > LARGE
    await again(pair, pair.receiver, False)


@pytest.mark.parametrize(
    ("pull", "who"),
    [(False, "gave nothing more on this machine"), (True, "gave nothing more on far, where the agent answers")],
)
async def test_a_send_that_gives_nothing_more_is_ended_and_what_has_arrived_is_kept(
    pair: Pair, pull: bool, who: str
) -> None:
    tree(pair)
    pair.sender.destroy("src/tree/b")
    pair.sender.hang(send=PART)
    assert await pair.push(pull=pull, stall_timeout=LIMIT, channels=1) == 3
    outcomes = {name.removeprefix("far:"): outcome for name, outcome in pair.outcomes.items()}
    assert {outcome.code for outcome in outcomes.values()} == {"stalled"}  # and each had its try, over one channel
    stalled = outcomes["src/tree/a"]
    assert f"after {stalled.bytes:,} bytes: zfs send {who}. What has arrived is kept" in stalled.message
    with pair.receiver.open() as state:
        assert any(dataset["token"] for dataset in state["datasets"].values())
    await again(pair, pair.sender, pull)
    assert any("-t" in command for command in pair.sender.commands())


@pytest.mark.parametrize("far", [False, True])
async def test_an_agent_that_is_not_heard_of_is_told_from_a_slow_pool(pair: Pair, far: bool) -> None:
    tree(pair, size=4 * LARGE)  # more than is read ahead from an agent here, too
    source, target = pair.remote_source("src/tree"), pair.target()
    stopped: list[int] = []

    def observe(event: Event) -> None:
        pair.events.append(event)
        if isinstance(event, Progress) and event.bytes > PART and not stopped:
            # Of the source's agents just the one that sends: the run would end with one that cannot begin.
            sending = [client for client in source._endpoint._clients if client._relay is not None]
            for client in sending if far else target._clients[1:]:
                hello = client._hello.result()
                assert isinstance(hello, Hello)
                os.kill(hello.pid, signal.SIGSTOP)
                stopped.append(hello.pid)

    options = Options(owner="test", stall_timeout=LIMIT, rate_limit=16 << 20)
    try:
        assert await Replication(source, target, options, observe).run() == 3
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
    assert stopped
    stalled = pair.outcomes["far:src/tree/a"]
    assert stalled.code == "stalled"
    host = "far" if far else "there"
    assert f"after {stalled.bytes:,} bytes: the agent on {host} was not heard of. What" in stalled.message
    await again(pair, pair.receiver, True)


async def test_a_target_that_is_not_heard_of_any_more_counts_as_cut_off(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent, "SILENCE_SECONDS", 1)
    tree(pair)
    pair.sender.create("src/tree/p")  # which the agent that is stopped is to make
    pair.sender.create("src/tree/p/c")
    pair.sender.snapshot("src/tree/p/c@1")
    source, target = pair.remote_source("src/tree"), pair.target()
    stopped: list[int] = []

    def observe(event: Event) -> None:
        if isinstance(event, Planned):
            hello = target._clients[0]._hello.result()
            assert isinstance(hello, Hello)
            os.kill(hello.pid, signal.SIGSTOP)
            stopped.append(hello.pid)

    try:
        with pytest.raises(ConnectError, match=r"there was not heard of for 1 seconds\. Run the same command again"):
            await Replication(source, target, Options(owner="test"), observe).run()
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
    await again(pair, pair.receiver, True)


async def test_a_second_look_at_the_target_that_comes_to_no_end_is_given_up(pair: Pair) -> None:
    pair.sender.snapshot("src/tree@1")
    assert await pair.push() == 0
    pair.sender.snapshot("src/tree@2")

    def observe(event: Event) -> None:
        pair.events.append(event)
        if isinstance(event, Planned):
            pair.receiver.snapshot("dst/tree@theirs")
            pair.receiver.hang(list=0)
        elif isinstance(event, Finished):
            pair.receiver.hang()

    assert await asyncio.wait_for(pair.replicate(observe, stall_timeout=LIMIT), 30) == 3
    stalled = pair.outcomes["src/tree"]
    assert stalled.code == "stalled"
    assert "bytes: zfs list came to no end on there, where the agent answers" in stalled.message


async def test_a_buffer_that_is_long_in_the_making_over_the_only_channel_does_not_end_the_watch(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree(pair, "", size=PART)
    monkeypatch.setenv("FAKEZFS_FULL", "2000")  # so the root fails, and what comes below it goes to the buffer
    pair.receiver.hang(create=0)
    target, options = pair.target(opener=FewChannels(1)), Options(owner="test", stall_timeout=LIMIT)
    source = LocalSource("src/tree", zfs_command(pair.sender))
    run = asyncio.create_task(Replication(source, target, options, pair.events.append).run())
    await asyncio.to_thread(
        eventually, "the buffer is made", lambda: any(command[0] == "create" for command in pair.receiver.commands())
    )
    await asyncio.sleep(LIMIT + 1)
    assert not run.done()
    pair.receiver.hang(receive=0)
    assert await asyncio.wait_for(run, 30) == 3
    assert "stalled" in [outcome.code for outcome in pair.outcomes.values()]
    pair.receiver.hang()


async def test_a_slow_pool_that_takes_a_little_now_and_then_is_waited_for(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree(pair)
    monkeypatch.setenv("FAKEZFS_SLOW", "0.02")  # for each 64 KiB: longer than the limit for all of it
    started = time.monotonic()
    assert await pair.push(stall_timeout=LIMIT) == 0
    assert time.monotonic() - started > LIMIT  # or it was not slow


@pytest.fixture
def unkillable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every `zfs send` here waits for the kernel, which lets it not end: a pool that is suspended does that."""
    kill = LocalSending.kill

    async def and_wait_for_the_kernel(sending: LocalSending) -> None:
        await kill(sending)
        await asyncio.Event().wait()

    monkeypatch.setattr(LocalSending, "kill", and_wait_for_the_kernel)
    monkeypatch.setattr(workers, "KILL_SECONDS", 0.1)


@pytest.mark.usefixtures("unkillable")
async def test_a_send_that_cannot_be_killed_holds_up_no_other_dataset_when_its_receive_fails(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree(pair)
    monkeypatch.setenv("FAKEZFS_FULL", str(PART))
    run = asyncio.create_task(pair.push(channels=1))
    done, _ = await asyncio.wait((run,), timeout=20)
    assert done == {run}
    assert run.result() == 3
    assert sorted(outcome.status for outcome in pair.outcomes.values()) == ["failed", "sent", "sent"]


@pytest.mark.usefixtures("unkillable")
async def test_a_send_that_cannot_be_killed_holds_up_no_interrupt(pair: Pair) -> None:
    tree(pair, "")
    pair.receiver.hang(receive=PART)
    run = asyncio.create_task(pair.push())
    await asyncio.to_thread(eventually, "a stream is sent", lambda: any(isinstance(e, Progress) for e in pair.events))
    run.cancel()
    done, _ = await asyncio.wait((run,), timeout=20)
    assert done == {run}
    pair.receiver.hang()


async def test_without_a_limit_a_stream_may_stand_still(pair: Pair) -> None:
    tree(pair)
    pair.receiver.hang(receive=PART)
    run = asyncio.create_task(pair.push(stall_timeout=0))
    await asyncio.sleep(2 * PROGRESS_SECONDS)
    assert not run.done()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    pair.receiver.hang()
    eventually("the run's zfs have ended", lambda: not running(pair.sender.path) and not running(pair.receiver.path))


async def test_an_agent_hears_from_its_client_however_long_the_line_is_full(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent, "PING_SECONDS", 0.05)
    target = pair.target()
    client, _ = await target.open()
    client.channel.pause_writing()  # as all channels are while the connection takes no more
    before = client.heard
    await asyncio.to_thread(eventually, "the agent has answered a Ping", lambda: client.heard > before)
    client.channel.resume_writing()
    await target.close()


# ---- the agent's side ------------------------------------------------------------------------------------------------


def receiving(talk: Talk, beat: int) -> None:  # noqa: F811
    """Have a stream received that stands still there."""
    talk.receiver.hang(receive=0)
    root = "dst/tree"
    assert talk.ask(Begin(PROTOCOL, root, f"{root}.zfsyncbuffer", zfs_command(talk.receiver), beat)) == Result(True)
    assert isinstance(talk.ask(sync()), Answer)
    talk.say(Stream("", 0, 11), Data(fake_stream(SNAPSHOTS[0])))


def test_an_agent_tells_how_far_a_stream_has_come_while_zfs_is_waited_for(talk: Talk) -> None:  # noqa: F811
    receiving(talk, beat=1)
    talk.say(End(length := len(fake_stream(SNAPSHOTS[0]))))
    assert [talk.hear(), talk.hear()] == [Beat(length), Beat(length)]
    talk.receiver.hang()


def test_an_agent_that_was_not_asked_to_tells_nothing(talk: Talk) -> None:  # noqa: F811
    receiving(talk, beat=0)
    talk.socket.settimeout(1.5)
    with pytest.raises(TimeoutError):
        talk.hear()
    talk.receiver.hang()


@pytest.mark.parametrize("whole", [False, True])
def test_a_receive_that_hangs_does_not_outlive_its_client(
    talk: Talk,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    whole: bool,
) -> None:
    if agents.IS_ANOTHER:
        pytest.skip("how patient an agent is can be changed in the tests' own process alone")
    monkeypatch.setattr(heartbeat, "PATIENCE_BEATS", 1)
    receiving(talk, beat=1)
    if whole:
        talk.say(End(len(fake_stream(SNAPSHOTS[0]))))
    assert isinstance(talk.hear(), Beat)
    assert talk.end() == 0  # the agent, which waits for the receive, has ended
