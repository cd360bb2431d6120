"""One run: inventories, plan, workers, cleanbuffer, outcomes. The rest of the program is wiring around this."""

from __future__ import annotations

import asyncio
import collections
import time
from dataclasses import dataclass, field, replace
from typing import Any

from . import zfs
from .advice import advice, receive_failure
from .agent import AgentClient
from .concurrency import both, task_group
from .dataset import Host, Inventory, parent_of
from .decision import REFUSED, UPTODATE, TargetState
from .endpoint import Endpoint
from .errors import EXIT_INTERRUPTED, EXIT_OK, AgentError, ConnectError, DatasetError, UsageError, ZfsError, ZfsyncError
from .events import (
    Cleaned,
    Connected,
    Ended,
    Finished,
    Notice,
    Observer,
    Opened,
    Outcome,
    Planned,
    Progress,
    SendEnded,
    SendStarted,
    Started,
    Status,
)
from .messages import (
    MAX_SYNC_BOOKMARKS,
    MAX_SYNC_SNAPSHOTS,
    Abort,
    Answer,
    CleanBuffer,
    End,
    Message,
    Operation,
    Result,
    Stream,
    Sync,
    trimmed,
)
from .plan import Item, Plan, Step, make_plan, place_for, replan, snapshots_to_send, with_estimates
from .selection import EVERYTHING, Selection
from .source import Sending, Source

PROGRESS_SECONDS = 0.2
MAX_STEPS_AHEAD = 16
"""Streams of one dataset that may be without their result: well below the protocol's own bound."""
PIPELINE = 1
"""Datasets that a channel may have sent and not heard the result of, while it sends the next."""
_LOOK_AGAIN = ("stale", "partial", "diverged", "exists")
"""Codes that may only mean that the target has changed since it was listed: it is looked at once more."""


@dataclass(frozen=True, slots=True)
class Options:
    """How to go about it. ``owner`` is told to another run that wants the same target."""

    channels: int = 4
    recursive: bool = True
    dry_run: bool = False
    owner: str = ""
    selection: Selection = EVERYTHING


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


@dataclass(slots=True)
class _Lane:
    """A data channel and what goes over it now."""

    index: int
    client: AgentClient
    sending: Sending | None = None
    before: int = 0
    """Bytes of the current dataset in streams that are done."""
    error: AgentError | None = None


class Replication:
    """One run that brings a target up to date with a source. `run` it once."""

    def __init__(self, source: Source, target: Endpoint, options: Options, observe: Observer) -> None:
        self._source = source
        self._target = target
        self._options = options
        self._observe = observe
        self._outcomes: dict[str, Outcome] = {}
        self._queue: collections.deque[Item] = collections.deque()
        self._present: set[str] = set()
        self._buffered: set[str] = set()
        self._lanes: list[_Lane] = []
        self._unfinished: dict[str, Item] = {}

    async def run(self) -> int:
        """Do all of it; the exit code.

        `ZfsyncError` for what ends the run as a whole, after everything is tidied up.
        """
        started = time.monotonic()
        source = self._source.host.at(self._source.root)
        self._observe(Started(source, str(self._target), self._options.dry_run))
        code, message = ZfsyncError.exit_code, ""
        try:
            await self._run()
            code = DatasetError.exit_code if self._failed or self._unfinished else EXIT_OK
        except ZfsyncError as error:
            code, message = error.exit_code, str(error)
            raise
        except asyncio.CancelledError:
            code = EXIT_INTERRUPTED
            raise
        finally:
            await asyncio.gather(self._target.close(), self._source.close())
            for item in tuple(self._unfinished.values()):
                message = f"{item.source.name} was not finished: the next run goes on with it."
                self._finish(item, Status.FAILED, code="unfinished", message=message)
            self._observe(Ended.of(self._outcomes.values(), time.monotonic() - started, code, message))
        return code

    @property
    def _failed(self) -> bool:
        return any(outcome.status is Status.FAILED for outcome in self._outcomes.values())

    async def _run(self) -> None:
        options = self._options
        source, (control, target) = await both(self._source.inventory(options.recursive), self._open_control())
        plan = make_plan(
            options.selection.datasets(source), target, host=self._target.host, selection=options.selection
        )
        if plan.work:
            plan = with_estimates(plan, await self._source.written(snapshots_to_send(plan)))
        self._observe(Planned(len(plan.items), len(plan.work), plan.estimate))
        self._settle_the_rest(plan)
        if not plan.items:
            raise UsageError(
                f"Nothing of {self._source.root} is selected: check --include, --exclude and zfsync:exclude."
            )
        if (plan.work or plan.buffer_left or plan.leftovers) and not options.dry_run:
            await self._prepare(control, plan, target)
            if plan.work:
                await self._send_all(control, plan)
            await self._clean_buffer(control, plan)
        if all(outcome.status is Status.NO_SNAPSHOTS for outcome in self._outcomes.values()):
            raise ZfsError(
                f"Nothing below {self._source.root} has a snapshot to send: make one with "
                f"'zfs snapshot -r {self._source.root}@NAME'.",
                "empty",
            )

    async def _open_control(self) -> tuple[AgentClient, Inventory]:
        client, hello = await self._target.open()
        self._observe(Connected(hello.host, hello.python, self._target.cipher))
        if not self._options.dry_run:
            await client.lock(self._target.root, self._options.owner)
        return client, await self._target.inventory(client, self._options.recursive)

    # -- before the streams --

    def _settle_the_rest(self, plan: Plan) -> None:
        """The outcomes of all datasets that have nothing to send; of all, in a dry run."""
        for item in plan.items:
            if item.problem:
                self._finish(item, Status.FAILED, code=item.code, message=item.problem)
            elif item.steps:
                if self._options.dry_run:
                    self._finish(item, Status.PLANNED)
            elif item.decision is None:
                name = item.source.name
                self._finish(item, Status.NO_SNAPSHOTS, message=f"{name} has no snapshot, so there is nothing to send.")
            else:
                self._finish(item, Status.UP_TO_DATE)

    async def _prepare(self, control: AgentClient, plan: Plan, target: Inventory) -> None:
        """Make what the streams will need: the root's ancestors, placeholders that can be made now, the buffer."""
        self._present = {child for child, dataset in target.datasets.items() if dataset.complete}
        operations = [Operation("ancestor", name) for name in plan.ancestors]
        for child in plan.placeholders:
            if parent_of(child) is None or parent_of(child) in self._present:
                self._present.add(child)
                operations.append(Operation("placeholder", self._target.root + child))
        places = [place_for(item, self._target.buffer, self._present) for item in plan.work]
        if target.buffer is None and any(place.startswith(self._target.buffer + "/") for place in places):
            operations.append(Operation("buffer", self._target.buffer))
        operations += [Operation("drop", name) for name in plan.leftovers]
        for result in await control.apply(operations):
            if not result.ok:
                what = f"{self._target.host} cannot prepare the dataset {result.name}: {result.message}"
                raise ZfsError(f"{what}{advice(result.code)}.", result.code)

    # -- the streams --

    async def _send_all(self, control: AgentClient, plan: Plan) -> None:
        self._queue.extend(plan.work)
        self._unfinished = {item.child: item for item in plan.work}
        wanted = min(self._options.channels, len(self._queue))
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
        if errors and (self._target.lost or self._queue or len(errors) == len(self._lanes)):
            raise self._lost(errors[0])
        if self._source.lost:
            raise _connection_lost(self._source.host)

    def _lost(self, error: AgentError) -> ZfsyncError:
        """What to say of an agent that has gone: that the connection has gone, if it has."""
        return _connection_lost(self._target.host) if self._target.lost else error

    async def _work(self, lane: _Lane) -> None:
        """Send one dataset after the other, always the next of the queue, until it is empty or the agent has gone."""
        sent: collections.deque[_Sent] = collections.deque()
        while self._queue and lane.error is None:
            if lane.client.error is not None:
                lane.error = lane.client.error
                break
            sent.append(await self._send(lane, self._queue.popleft()))
            if len(sent) > PIPELINE:
                await self._settle(lane, sent.popleft())
        while sent:
            await self._settle(lane, sent.popleft())

    async def _send(self, lane: _Lane, item: Item, fresh: bool = False) -> _Sent:
        """Send all streams of one dataset, without waiting for what the receiver makes of them."""
        place = place_for(item, self._target.buffer, self._present)
        question = _question(item, place, None if fresh else item.state)
        sent = _Sent(item, place, lane.client.ask(question), time.monotonic())
        waits = place.startswith(self._target.buffer + "/")
        lane.before = 0
        self._observe(SendStarted(lane.index, item.source.name, item.what, item.estimate, waits))
        for step in item.steps:
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
        stream = zfs.Stream(item.source.name, step.to.name, step.base, item.source.encrypted, step.token, step.single)
        try:
            sending = await self._source.send(stream)
        except (ZfsError, AgentError, ConnectError) as error:
            sent.problem = str(error)
            return
        result = client.ask(Stream(item.child, step.base_guid, step.to.guid, step.token))
        sent.results.append(result)
        lane.sending = sending
        try:
            await asyncio.wait((result, sending.pump_into(client)), return_when=asyncio.FIRST_COMPLETED)
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
            if sent.place == sent.item.target:
                self._present.add(sent.item.child)
            else:
                self._buffered.add(sent.item.child)
            self._finish(sent.item, Status.SENT, bytes=sent.bytes, seconds=time.monotonic() - sent.started)

    async def _look_again(self, lane: _Lane, sent: _Sent) -> None:
        """The target was not as it was listed: ask what it is now, and try once more."""
        item = sent.item
        self._observe(
            Notice(f"{self._target.host.at(sent.place)} has changed since it was listed: looking again.", True)
        )
        try:
            answer = await lane.client.ask(_question(item, sent.place, None))
            assert isinstance(answer, Answer)
            changed = replan(item, answer.decision, answer.name, self._options.selection)
        except AgentError as error:
            lane.error = error
            self._fail(sent, "lost", str(self._lost(error)))
            return
        if answer.decision.kind == UPTODATE:
            self._finish(changed, Status.UP_TO_DATE)
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

    # -- after the streams --

    async def _clean_buffer(self, control: AgentClient, plan: Plan) -> None:
        """Rename what waits into place, and say so of what cannot be."""
        late = tuple(child for child in plan.placeholders if child not in self._present)
        if not (self._buffered or plan.buffer_left or late):
            return
        results = await control.results(CleanBuffer(late))
        items = {item.child: item for item in plan.items}
        renamed = 0
        for result in results:
            item = items.get(result.name)
            if result.ok:
                renamed += 1
            elif item is not None:
                outcome = self._outcomes.get(self._source.host.at(item.source.name))
                if outcome is None or outcome.status is not Status.FAILED:
                    message = (
                        f"{item.source.name} has arrived, but waits in {self._target.buffer}: {result.message}. "
                        f"It is renamed into place by the first run, or 'zfsync cleanbuffer', that can."
                    )
                    self._finish(item, Status.FAILED, code=result.code, message=message)
            else:
                where = self._target.host.at(self._target.buffer)
                self._observe(Notice(f"{result.name or 'Everything'} stays in {where}: {result.message}."))
        for child in self._buffered - {result.name for result in results}:
            # Not there any more, or the buffer could not be read: it is not in its place in any case.
            message = f"{items[child].source.name} has arrived in {self._target.buffer}, but was not found there again."
            self._finish(items[child], Status.FAILED, code="stuck", message=message)
        self._observe(Cleaned(renamed))

    # -- outcomes --

    def _fail(self, sent: _Sent, code: str, message: str) -> None:
        seconds = time.monotonic() - sent.started
        self._finish(sent.item, Status.FAILED, code=code, message=message, bytes=sent.bytes, seconds=seconds)

    def _finish(self, item: Item, status: Status, **more: Any) -> None:
        outcome = Outcome(
            self._source.host.at(item.source.name),
            self._target.host.at(item.target),
            status,
            what=item.what,
            why=item.why,
            estimate=item.estimate,
            **more,
        )
        self._outcomes[outcome.source] = outcome
        self._unfinished.pop(item.child, None)
        self._observe(Finished(outcome))


def _question(item: Item, place: str, known: TargetState | None) -> Sync:
    needed = {step.base_guid for step in item.steps}
    snapshots = trimmed(item.source.snapshots, needed, MAX_SYNC_SNAPSHOTS)
    bookmarks = trimmed(item.source.bookmarks, needed, MAX_SYNC_BOOKMARKS)
    return Sync(item.child, item.source.kind, place, snapshots, bookmarks, known, item.source.encrypted)


def _connection_lost(host: Host) -> ConnectError:
    return ConnectError(
        f"The connection to {host} was lost: run the same command again, and it goes on where it was cut off."
    )


def _ok(future: asyncio.Future[Message]) -> bool:
    if future.cancelled() or future.exception() is not None:
        return False
    result = future.result()
    return isinstance(result, Result) and result.ok
