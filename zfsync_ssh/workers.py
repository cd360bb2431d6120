"""Sends what a plan has to send: workers, each with a channel of its own, that share one queue."""

from __future__ import annotations

import asyncio
import collections
import time
from dataclasses import dataclass, field, replace

from . import zfs
from .advice import receive_failure
from .agent import AgentClient
from .concurrency import task_group
from .dataset import Host
from .decision import REFUSED, UPTODATE, TargetState
from .dispatch import Dispatch
from .endpoint import Endpoint
from .errors import AgentError, ConnectError, ZfsError, ZfsyncError
from .events import Notice, Observer, Opened, Progress, SendEnded, SendStarted, Status
from .item import Item, Step
from .ledger import Ledger
from .messages import (
    MAX_SYNC_BOOKMARKS,
    MAX_SYNC_SNAPSHOTS,
    Abort,
    Answer,
    End,
    Message,
    Result,
    Stream,
    Sync,
    trimmed,
)
from .plan import place_for
from .policy import Policy
from .protocol import MAX_IN_FLIGHT
from .sending import Sending
from .source import Source
from .steps import one_by_one, replan
from .throttle import Throttle

PROGRESS_SECONDS = 0.2
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


@dataclass(slots=True)
class _Sent:
    """A dataset whose streams are on their way, and the answers that are still to come."""

    item: Item
    place: str
    answer: asyncio.Future[Message]
    started: float
    results: list[asyncio.Future[Message]] = field(default_factory=list)
    problem: str = ""
    """What went wrong at the source."""
    bytes: int = 0

    @property
    def known(self) -> bool:
        """Whether all answers have come."""
        return self.answer.done() and all(result.done() for result in self.results)


@dataclass(slots=True)
class _Lane:
    """A data channel and what goes over it now."""

    index: int
    client: AgentClient
    sending: Sending | None = None
    before: int = 0
    """Bytes of the current dataset in streams that are done."""
    error: AgentError | None = None


class Workers:
    """Sends items from ``source`` to ``target``, as fast as ``throttle`` allows."""

    def __init__(
        self,
        source: Source,
        target: Endpoint,
        *,
        policy: Policy,
        throttle: Throttle | None,
        ledger: Ledger,
        observe: Observer,
    ) -> None:
        self._source = source
        self._target = target
        self._policy = policy
        self._throttle = throttle
        self._ledger = ledger
        self._observe = observe
        self._dispatch = Dispatch((), set(), policy)
        self._settled = asyncio.Event()
        self._lanes: list[_Lane] = []

    async def run(self, control: AgentClient, dispatch: Dispatch, channels: int) -> None:
        """Send all of ``dispatch``, over up to ``channels`` channels, or ``control``'s when there is none."""
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
        self._lanes = [_Lane(index, client) for index, client in enumerate(clients or [control])]
        ticker = asyncio.create_task(self._report_progress())
        try:
            async with task_group() as group:
                for lane in self._lanes:
                    group.create_task(self._work(lane))
        finally:
            ticker.cancel()
        errors = [lane.error for lane in self._lanes if lane.error is not None]
        if errors and (self._target.lost or len(self._dispatch) or len(errors) == len(self._lanes)):
            raise self._lost(errors[0])
        if self._source.lost:
            raise _connection_lost(self._source.host)

    def _lost(self, error: AgentError) -> ZfsyncError:
        """What to say of an agent that has gone: that the connection has gone, if it has."""
        return _connection_lost(self._target.host) if self._target.lost else error

    async def _work(self, lane: _Lane) -> None:
        """Send one dataset after the other, always the next that can be, until none is left or the agent has gone."""
        sent: collections.deque[_Sent] = collections.deque()
        while lane.error is None:
            if lane.client.error is not None:
                lane.error = lane.client.error
                break
            self._settled.clear()
            while sent and sent[0].known:
                await self._settle(lane, sent.popleft())  # first: the next one's parent may be among them
            item = self._dispatch.take()
            if item is not None:
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

    async def _send(self, lane: _Lane, item: Item, fresh: bool = False) -> _Sent:
        """Send all streams of one dataset, without waiting for what the receiver makes of them."""
        await lane.client.channel.drain()  # what is sent ahead must not pile up here
        place = place_for(item, self._target.buffer, self._dispatch.present)
        question = _question(item, place, None if fresh else item.state)
        sent = _Sent(item, place, lane.client.ask(question), time.monotonic())
        waits = place.startswith(self._target.buffer + "/")
        lane.before = 0
        self._observe(SendStarted(lane.index, item.source.name, item.what, item.estimate, waits))
        for step in one_by_one(item.steps) if lane.client.confined else item.steps:
            if len(sent.results) >= MAX_STEPS_AHEAD:
                await asyncio.wait((sent.results[-MAX_STEPS_AHEAD],))
            if sent.problem or any(result.done() and not _ok(result) for result in sent.results):
                break
            await self._stream(lane, sent, step)
        self._observe(SendEnded(lane.index, item.source.name))
        return sent

    async def _stream(self, lane: _Lane, sent: _Sent, step: Step) -> None:
        """Send one stream to its end, or until the receiver says that it has failed."""
        item, client = sent.item, lane.client
        stream = zfs.Stream(
            item.source.name, step.to.name, step.base, item.raw, step.token, step.single, item.flags, item.filter
        )
        try:
            sending = await self._source.send(stream)
        except (ZfsError, AgentError, ConnectError) as error:
            sent.problem = str(error)
            return
        result = client.ask(Stream(item.child, step.base_guid, step.to.guid, step.token, item.filter))
        sent.results.append(result)
        lane.sending = sending
        try:
            await asyncio.wait((result, sending.pump_into(client, self._throttle)), return_when=asyncio.FIRST_COMPLETED)
            if result.done():
                await sending.kill()
                client.tell(Abort("the receiver had ended"))
            elif problem := await sending.finish():
                sent.problem = f"zfs send failed: {zfs.reason(problem)}."
                client.tell(Abort("zfs send failed"))
            else:
                client.tell(End(sending.length))
        except asyncio.CancelledError:
            await sending.kill()
            if client.streaming:
                client.tell(Abort("interrupted"))
            raise
        finally:
            lane.sending = None
            lane.before += sending.length
            sent.bytes += sending.length

    async def _settle(self, lane: _Lane, sent: _Sent, fresh: bool = False) -> None:
        """Wait for the answers about one dataset and make its outcome of them."""
        try:
            answer = await sent.answer
            results = [await result for result in sent.results]
        except AgentError as error:
            lane.error = error
            self._fail(sent, "lost", str(self._lost(error)))
            return
        assert isinstance(answer, Answer)
        failed = next((result for result in results if isinstance(result, Result) and not result.ok), None)
        if sent.problem:
            self._fail(sent, "source", f"{sent.item.source.name}: {sent.problem}")
        elif failed is not None and failed.code in _LOOK_AGAIN and not fresh:
            await self._look_again(lane, sent)
        elif failed is not None:
            self._fail(sent, failed.code, receive_failure(self._target.host, sent.item, sent.place, failed))
        else:
            self._dispatch.arrived(sent.item, sent.place)
            self._ledger.finish(sent.item, Status.SENT, bytes=sent.bytes, seconds=time.monotonic() - sent.started)
            self._settled.set()

    async def _look_again(self, lane: _Lane, sent: _Sent) -> None:
        """The target was not as it was listed: ask what it is now, and try once more."""
        item = sent.item
        self._observe(
            Notice(f"{self._target.host.at(sent.place)} has changed since it was listed: looking again.", True)
        )
        try:
            answer = await lane.client.ask(_question(item, sent.place, None))
            assert isinstance(answer, Answer)
            changed = replan(item, answer.decision, answer.name, self._policy)
        except AgentError as error:
            lane.error = error
            self._fail(sent, "lost", str(self._lost(error)))
            return
        if answer.decision.kind == UPTODATE:
            self._dispatch.arrived(changed, answer.name)
            self._ledger.finish(changed, Status.UP_TO_DATE)
            self._settled.set()
        elif answer.decision.kind == REFUSED:
            message = f"{self._target.host.at(answer.name)} has changed during the run: {answer.decision.why}."
            self._fail(replace(sent, item=changed), "diverged", message)
        else:
            await self._settle(lane, await self._send(lane, changed, fresh=True), fresh=True)

    async def _report_progress(self) -> None:
        while True:
            await asyncio.sleep(PROGRESS_SECONDS)
            for lane in self._lanes:
                if lane.sending is not None:
                    self._observe(Progress(lane.index, lane.before + lane.sending.length))

    def _fail(self, sent: _Sent, code: str, message: str) -> None:
        seconds = time.monotonic() - sent.started
        self._dispatch.failed(sent.item)
        self._settled.set()
        self._ledger.finish(sent.item, Status.FAILED, code=code, message=message, bytes=sent.bytes, seconds=seconds)


def _question(item: Item, place: str, known: TargetState | None) -> Sync:
    needed = {step.base_guid for step in item.steps} | {step.to.guid for step in item.steps if step.token}
    snapshots = trimmed(item.source.snapshots, needed, MAX_SYNC_SNAPSHOTS)
    bookmarks = trimmed(item.source.bookmarks, needed, MAX_SYNC_BOOKMARKS)
    return Sync(
        item.child,
        item.source.kind,
        place,
        snapshots,
        bookmarks,
        known,
        item.raw,
        item.origin.at if item.origin else "",
        item.origin.guid if item.origin else 0,
        item.flags,
        item.properties,
        item.excluded,
    )


def _connection_lost(host: Host) -> ConnectError:
    return ConnectError(
        f"The connection to {host} was lost: run the same command again, and it goes on where it was cut off."
    )


def _ok(future: asyncio.Future[Message]) -> bool:
    if future.cancelled() or future.exception() is not None:
        return False
    result = future.result()
    return isinstance(result, Result) and result.ok
