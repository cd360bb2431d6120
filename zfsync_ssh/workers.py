"""Sends what a plan has to send: workers, each with a channel of its own, that share one queue."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import time
from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Any

from . import complaint, zfs
from .advice import check_prepared, receive_failure
from .agent import AgentClient
from .concurrency import task_group
from .dataset import Host
from .decision import REFUSED, UPTODATE
from .dispatch import Dispatch
from .endpoint import Endpoint
from .errors import AgentError, ConnectError, StalledError, ZfsError, ZfsyncError
from .events import Notice, Observer, Opened, Progress, SendEnded, SendStarted, Status
from .item import Item, Step
from .lane import Lane, Sent, check_answers, question_about, target_waits
from .ledger import Ledger
from .messages import (
    Abort,
    Answer,
    End,
    Message,
    Operation,
    Result,
    Stream,
)
from .plan import place_for
from .policy import Policy
from .protocol import MAX_IN_FLIGHT
from .sending import Sending
from .source import Source
from .steps import one_by_one, replan
from .throttle import Throttle
from .watchdog import Watch, stood_still

PROGRESS_SECONDS = 0.2
KILL_SECONDS = 10.0
"""A `zfs send` that has not ended so long after it was killed is left to the kernel, which it waits for."""
SMALL_BYTES = 8 << 20
"""Estimate of a dataset whose streams are called small, and left to the library where it can send them."""
MAX_APART = 8
"""Snapshots of one dataset that go each in a stream of its own where that needs no process: of more, a package costs
less, as two processes cost what some ten small streams do (docs/libzfs.md)."""
MAX_STEPS_AHEAD = 16
"""Streams of one dataset that may be without their result: well below the protocol's own bound."""
DATASETS_AHEAD = 16
"""Datasets that a channel may have sent and not heard the result of, while it sends the next. With fewer, many small
ones over a long line would wait for round trips: 16 that take the receiver 10 ms each outlast 100 ms."""
BUFFERED_AHEAD = 1
"""The same behind one that goes to the buffer: its parent's result may come meanwhile, and spare the next a rename."""
MAX_QUESTIONS_AHEAD = MAX_IN_FLIGHT - MAX_STEPS_AHEAD - 2
"""Unanswered ones of a channel, behind which another dataset still fits."""
_LOOK_AGAIN = ("stale", "partial", "diverged", "exists")
"""Codes that may only mean that the target has changed since it was listed: it is looked at once more."""


class Workers:
    """Sends items from ``source`` to ``target``, as fast as ``throttle`` allows."""

    def __init__(
        self,
        source: Source,
        target: Endpoint,
        *,
        policy: Policy,
        throttle: Throttle | None,
        stall_timeout: float,
        buffer_there: bool,
        ledger: Ledger,
        observe: Observer,
    ) -> None:
        self._source = source
        self._target = target
        self._policy = policy
        self._throttle = throttle
        self._stall_timeout = stall_timeout
        self._buffer_there = buffer_there
        self._ledger = ledger
        self._observe = observe
        self._dispatch = Dispatch((), set(), policy)
        self._settled = asyncio.Event()
        self._lanes: list[Lane] = []
        self._making_buffer = asyncio.Lock()

    async def run(self, control: AgentClient, dispatch: Dispatch, channels: int) -> None:
        """Send all of ``dispatch``, over up to ``channels`` channels, or ``control``'s when there is none.

        The buffer is made with the first dataset that goes to it.
        """
        self._control = control
        self._dispatch = dispatch
        wanted = min(channels, len(dispatch))
        clients = await self._target.open_many(wanted)
        self._observe(Opened(len(clients) or 1, wanted))
        if len(clients) < wanted:
            self._observe(
                Notice(
                    f"{self._target.host} opens only {len(clients) or 'the first'} of {wanted} channels "
                    f"(sshd's MaxSessions): going on with {len(clients) or 'that one'}."
                )
            )
        self._lanes = [
            Lane(index, client, Watch(self._stall_timeout)) for index, client in enumerate(clients or [control])
        ]
        ticker = asyncio.create_task(self._tick())
        try:
            async with task_group() as group:
                for lane in self._lanes:
                    group.create_task(self._work(lane))
        finally:
            ticker.cancel()
        errors = [lane.error for lane in self._lanes if lane.error is not None]
        stalled = any(isinstance(error, StalledError) for error in errors)  # which is the datasets' failure
        if errors and (self._target.lost or len(self._dispatch) or (len(errors) == len(self._lanes) and not stalled)):
            raise self._lost(errors[0])
        if self._source.lost:
            raise connection_lost(self._source.host)

    def _lost(self, error: AgentError) -> ZfsyncError:
        """What to say of an agent that has gone: that the connection has gone, if it has."""
        return connection_lost(self._target.host) if self._target.lost else error

    async def _work(self, lane: Lane) -> None:
        """Send one dataset after the other, always the next that can be, until none is left or the agent has gone."""
        sent: collections.deque[Sent] = collections.deque()
        while lane.error is None:
            if lane.client.error is not None:
                lane.error = lane.client.error
                break
            self._settled.clear()
            while sent and sent[0].known:
                await self._settle(lane, sent.popleft())  # first: the next one's parent may be among them
            item = self._dispatch.take(lane.ahead)
            if item is not None:
                large = item.estimate > SMALL_BYTES  # which would hold up the news of those before it
                while large and any(self._dispatch.is_awaited(one.item.child) for one in sent):
                    await self._settle(lane, sent.popleft())
                sent.append(await self._send(lane, item))
                ahead = DATASETS_AHEAD if sent[-1].place == item.target else BUFFERED_AHEAD
                if len(sent) > ahead:
                    await self._settle(lane, sent.popleft())
                while sent and lane.client.unanswered > MAX_QUESTIONS_AHEAD:
                    await self._settle(lane, sent.popleft())
            elif sent:
                await self._settle(lane, sent.popleft())
            elif len(self._dispatch):
                await self._settled.wait()  # until what the next one needs has arrived, or failed
            else:
                break
        while sent:
            await self._settle(lane, sent.popleft())
        self._settled.set()

    async def _send(self, lane: Lane, item: Item, fresh: bool = False) -> Sent:
        """Send all streams of one dataset, without waiting for what the receiver makes of them."""
        await lane.client.channel.drain()  # what is sent ahead must not pile up here
        place = self._place(item, lane.ahead)
        waits = place.startswith(self._target.buffer + "/")
        if waits:
            await self._need_buffer()
        question = question_about(item, place, None if fresh else item.state)
        sent = Sent(item, place, lane.client.ask(question), time.monotonic())
        lane.under_way.append(sent)
        lane.before = 0
        self._observe(SendStarted(lane.index, item.source.name, item.what, item.estimate, waits))
        for step in self._streams(lane, item):
            if len(sent.results) >= MAX_STEPS_AHEAD:
                await asyncio.wait((sent.results[-MAX_STEPS_AHEAD],))
            if sent.problem or any(result.done() and not _ok(result) for result in sent.results):
                break
            await self._stream(lane, sent, step)
        self._observe(SendEnded(lane.index, item.source.name))
        return sent

    def _streams(self, lane: Lane, item: Item) -> Iterable[Step]:
        """The streams that bring the steps of ``item``: a confined receiver takes no package of several snapshots."""
        if lane.client.confined:
            return one_by_one(item.steps)
        by_library = item.estimate <= SMALL_BYTES and self._source.by_library and self._target.by_library
        return one_by_one(item.steps, MAX_APART) if by_library else item.steps

    def _place(self, item: Item, ahead: Collection[str] = ()) -> str:
        """Where to receive ``item``, the children ``ahead`` being on their way to their places before it."""
        return place_for(item, self._target.buffer, self._dispatch.present, ahead)

    async def _need_buffer(self) -> None:
        """Make the buffer, unless it is there."""
        if not self._buffer_there:
            async with self._making_buffer:
                if not self._buffer_there:
                    operation = Operation("buffer", self._target.buffer)
                    (result,) = await self._control.apply([operation])
                    check_prepared(operation, result, self._target.host, self._target.root)
                    self._buffer_there = True

    async def _stream(self, lane: Lane, sent: Sent, step: Step) -> None:
        """Send one stream to its end, or until the receiver says that it has failed."""
        item, client, small = sent.item, lane.client, sent.item.estimate <= SMALL_BYTES
        what = (item.source.name, step.to.name, step.base, item.raw, step.token, step.single)
        stream = zfs.Stream(*what, item.flags, item.filter, small)
        try:
            sending = await self._source.send(stream)
        except (ZfsError, AgentError, ConnectError) as error:
            sent.problem = f"{item.source.name}: {error}"
            return
        result = client.ask(Stream(item.child, step.base_guid, step.to.guid, step.token, item.filter, small))
        sent.results.append(result)
        lane.sending, lane.stalled = sending, asyncio.get_running_loop().create_future()
        try:
            await _first(result, sending.pump_into(client, self._throttle), lane.stalled)
            finishing = None if result.done() or lane.stalled.done() else asyncio.ensure_future(sending.finish())
            if finishing is not None:
                await _first(finishing, lane.stalled)
            if lane.stalled.done():
                sent.problem, sent.code = lane.stalled.result(), "stalled"
                client.tell(Abort("it stood still at the source"))
                await _kill(sending)
            elif finishing is None:
                await _kill(sending)
                client.tell(Abort("the receiver had ended"))
            elif problem := finishing.result():
                sent.problem = f"{item.source.name}: zfs send failed: {complaint.reason(problem)}."
                client.tell(Abort("zfs send failed"))
            else:
                client.tell(End(sending.length))
        except asyncio.CancelledError:
            await _kill(sending)
            if client.streaming:
                client.tell(Abort("interrupted"))
            raise
        finally:
            lane.sending = lane.stalled = None
            lane.before += sending.length
            sent.lengths.append(sending.length)
            sent.bytes += sending.length

    async def _settle(self, lane: Lane, sent: Sent, fresh: bool = False) -> None:
        """Wait for the answers about one dataset and make its outcome of them."""
        try:
            answer = await sent.answer
            results = [await result for result in sent.results]
            check_answers(lane.client, sent, answer, results)
        except AgentError as error:
            self._gone(lane, sent, error)
            return
        finally:
            lane.under_way.remove(sent)
        assert isinstance(answer, Answer)
        failed = next((result for result in results if isinstance(result, Result) and not result.ok), None)
        if sent.problem:
            self._fail(sent, sent.code, sent.problem)
        elif failed is not None and sent.place == sent.item.target != self._place(sent.item):
            # It was to be received below one that was ahead of it, which has not arrived.
            await self._settle(lane, await self._send(lane, sent.item))
        elif failed is not None and failed.code in _LOOK_AGAIN and not fresh:
            await self._look_again(lane, sent)
        elif failed is not None:
            self._fail(sent, failed.code, receive_failure(self._target.host, sent.item, sent.place, failed))
        else:
            self._dispatch.arrived(sent.item, sent.place)
            self._ledger.finish(sent.item, Status.SENT, bytes=sent.bytes, seconds=time.monotonic() - sent.started)
            self._settled.set()

    async def _look_again(self, lane: Lane, sent: Sent) -> None:
        """The target was not as it was listed: ask what it is now, and try once more."""
        item = sent.item
        self._observe(
            Notice(f"{self._target.host.at(sent.place)} has changed since it was listed: looking again.", True)
        )
        asked = replace(sent, answer=lane.client.ask(question_about(item, sent.place, None)), results=[])
        lane.under_way.append(asked)  # it may stand still as well
        try:
            answer = await asked.answer
            assert isinstance(answer, Answer)
            changed = replan(item, answer.decision, answer.name, self._policy)
        except AgentError as error:
            self._gone(lane, sent, error)
            return
        finally:
            lane.under_way.remove(asked)
        if answer.decision.kind == UPTODATE:
            self._dispatch.arrived(changed, answer.name)
            self._ledger.finish(changed, Status.UP_TO_DATE)
            self._settled.set()
        elif answer.decision.kind == REFUSED:
            message = f"{self._target.host.at(answer.name)} has changed during the run: {answer.decision.why}."
            self._fail(replace(sent, item=changed), "diverged", message)
        else:
            await self._settle(lane, await self._send(lane, changed, fresh=True), fresh=True)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(PROGRESS_SECONDS)
            for lane in self._lanes:
                if lane.sending is not None:
                    self._observe(Progress(lane.index, lane.before + lane.sending.length))
                if lane.client.error is None and lane.watch.stands(lane.mark):
                    self._end_stalled(lane)

    def _end_stalled(self, lane: Lane) -> None:
        """End the stream that stands still: the one from the source, or the channel if the target takes nothing."""
        client, since = lane.client, lane.watch.since
        if lane.sending is not None and not client.channel.paused:
            sent, who = lane.under_way[-1], lane.sending.waits_for(since)
        else:
            sent = lane.waiting or lane.under_way[-1]
            who = target_waits(client, sent, lane.sending is None, since)
        length = sent.bytes + (lane.sending.length if lane.sending and sent is lane.under_way[-1] else 0)
        name = self._source.host.at(sent.item.source.name)
        message = stood_still(name, self._stall_timeout, length, who)
        if lane.sending is None or lane.stalled is None or client.channel.paused:
            client.give_up(StalledError(message))
        elif not lane.stalled.done():
            lane.stalled.set_result(message)

    def _gone(self, lane: Lane, sent: Sent, error: AgentError) -> None:
        """The agent has gone before it answered about ``sent``."""
        lane.error = error
        self._fail(sent, "stalled" if isinstance(error, StalledError) else "lost", str(self._lost(error)))

    def _fail(self, sent: Sent, code: str, message: str) -> None:
        seconds = time.monotonic() - sent.started
        self._dispatch.failed(sent.item)
        self._settled.set()
        self._ledger.finish(sent.item, Status.FAILED, code=code, message=message, bytes=sent.bytes, seconds=seconds)


async def _kill(sending: Sending) -> None:
    """End a `zfs send`, and wait for its end for `KILL_SECONDS`."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(KILL_SECONDS):
            await sending.kill()


async def _first(*futures: asyncio.Future[Any]) -> None:
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)


def connection_lost(host: Host) -> ConnectError:
    """The error for a connection that has gone amid a run."""
    return ConnectError(
        f"The connection to {host} was lost: run the same command again, and it goes on where it was cut off."
    )


def _ok(future: asyncio.Future[Message]) -> bool:
    if future.cancelled() or future.exception() is not None:
        return False
    result = future.result()
    return isinstance(result, Result) and result.ok
