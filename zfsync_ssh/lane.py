"""A channel of a run, what goes over it, and the answers to that."""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Hashable
from dataclasses import dataclass, field

from .agent import AgentClient
from .decision import TargetState
from .errors import AgentError, RemoteProtocolError
from .item import Item
from .messages import MAX_SYNC_BOOKMARKS, MAX_SYNC_SNAPSHOTS, Answer, Message, Result, Sync, trimmed
from .sending import Sending
from .watchdog import Watch


@dataclass(slots=True, eq=False)
class Sent:
    """A dataset whose streams are on their way, and the answers that are still to come."""

    item: Item
    place: str
    answer: asyncio.Future[Message]
    started: float
    results: list[asyncio.Future[Message]] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    """Bytes of the streams that the results are about."""
    problem: str = ""
    """What went wrong at the source."""
    code: str = "source"
    bytes: int = 0

    @property
    def known(self) -> bool:
        """Whether all answers have come."""
        return self.answer.done() and all(result.done() for result in self.results)


@dataclass(slots=True)
class Lane:
    """A data channel and what goes over it now."""

    index: int
    client: AgentClient
    watch: Watch
    sending: Sending | None = None
    stalled: asyncio.Future[str] | None = None
    """Done, with what to say, when the stream that is being sent is to be ended."""
    under_way: collections.deque[Sent] = field(default_factory=collections.deque)
    """What is not settled yet."""
    before: int = 0
    """Bytes of the current dataset in streams that are done."""
    error: AgentError | None = None

    @property
    def ahead(self) -> set[str]:
        """The children that are on their way to their own places."""
        return {sent.item.child for sent in self.under_way if sent.place == sent.item.target and not sent.problem}

    @property
    def waiting(self) -> Sent | None:
        """The first that answers are still to come about."""
        return next((sent for sent in self.under_way if not sent.known), None)

    @property
    def mark(self) -> Hashable | None:
        """Changes with every byte and answer; None when the lane waits for nothing."""
        if self.sending is None and self.waiting is None:
            return None
        return self.client.progress, self.before, self.sending and (id(self.sending), self.sending.length)


def question_about(item: Item, place: str, known: TargetState | None) -> Sync:
    """What is asked of the agent that is to receive ``item`` into ``place``, of which ``known`` is what was listed."""
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


def check_answers(client: AgentClient, sent: Sent, answer: Message, results: list[Message]) -> None:
    """Hang up on an agent that answers about something else; `RemoteProtocolError`."""
    problem = ""
    if not isinstance(answer, Answer) or answer.child != sent.item.child:
        problem = f"an Answer about another dataset than {sent.item.source.name}"
    for result, length in zip(results, sent.lengths, strict=True):
        if isinstance(result, Result) and result.ok and result.length != length:
            problem = f"a Result of {result.length} bytes for a Stream of {length} of {sent.item.source.name}"
    if problem:
        error = RemoteProtocolError(f"The agent on {client.host} broke the protocol: received {problem}.")
        client.give_up(error)
        raise error


def target_waits(client: AgentClient, sent: Sent, whole: bool, since: float) -> str:
    """Whom a stream waits for that the target has taken nothing of ``since`` then, ``whole`` or not: a clause."""
    if client.heard <= since:
        return f"the agent on {client.host} was not heard of"
    what = "receive came to no end after the whole stream" if whole else "receive took nothing more"
    if not sent.results:
        what = "list came to no end"
    return f"zfs {what} on {client.host}, where the agent answers ('zpool status' there may say why)"
