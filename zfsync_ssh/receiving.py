"""Receiving: a `Sync` about a child, and the streams that follow it, fed to `zfs receive`.

Also shipped to the far end: standard library only, Python >= 3.8.
"""

from __future__ import annotations

from typing import Dict, List, Optional, Set, Tuple

from . import complaint, filters, lzc, zfs
from .buffer import PATH_PROPERTY
from .conversation import Conversation
from .dataset import FILESYSTEM, MAX_RECEIVED_CHARS, child_of
from .decision import CLONE, FULL, NEW, REFUSED, RESUME, UPTODATE, Decision, TargetState, decide, state_of
from .errors import RemoteProtocolError
from .head import HEAD_BYTES, MAX_PAYLOAD_BYTES, BadHead, Head, parse_head
from .heartbeat import Heartbeat, Work
from .listing import InventoryParser
from .messages import Abort, Answer, Data, End, Message, Result, Stream, Sync
from .process import PIPE_BYTES, Completed, Receiver
from .tree import Arriving, Bounds, Tree


class _Step:
    """The child that the last `Sync` was about, and how far its streams have come."""

    __slots__ = ("broken", "decision", "first", "name", "newest", "placeholder", "sync")

    def __init__(self, sync: Sync, decision: Decision, name: str, placeholder: bool) -> None:
        self.sync = sync
        self.placeholder = placeholder
        self.decision = decision
        self.name = name
        self.newest = decision.base
        self.first = decision.kind in (NEW, CLONE, FULL) or not decision.base
        """The dataset is yet to begin."""
        self.broken = ""
        """Why no stream can be received for it any more."""
        if decision.kind in (REFUSED, UPTODATE):
            self.broken = decision.why or "it is up to date"


class Receiving:
    """Receives into one target what one client streams."""

    def __init__(
        self, tree: Tree, conversation: Conversation, heart: Heartbeat, bounds: Optional[Bounds] = None
    ) -> None:
        self._tree = tree
        self._heart = heart
        self._bounds = bounds
        self._conversation = conversation
        self._step: Optional[_Step] = None
        self._knows: Dict[str, bool] = {}
        self._begun: Set[str] = set()
        """Datasets of which only the beginning has arrived: what is below them would be in their way, if they are to
        begin anew."""

    def sync(self, sync: Sync) -> Answer:
        """Decide where the stream for a child has to begin."""
        target = self._tree
        if sync.child and not sync.child.startswith("/"):
            raise RemoteProtocolError("received a Sync of a child that is none")
        if not sync.snapshots:
            raise RemoteProtocolError("received a Sync without snapshots")
        own = target.root + sync.child
        if sync.name != own and not (sync.child and child_of(target.buffer, sync.name)):
            raise RemoteProtocolError("received a Sync that would receive outside its child's places")
        if not target.has(sync.name) or (sync.origin and not target.has(sync.origin.partition("@")[0])):
            raise RemoteProtocolError("received a Sync that names what is outside of its tree")
        name, state = (sync.name, sync.known) if sync.known is not None else self._look(sync, own)
        decision = decide(
            sync.snapshots, sync.bookmarks, state, sync.raw, sync.origin_guid if sync.origin else 0, sync.flags
        )
        if decision.kind in (NEW, CLONE) and name.rpartition("/")[0] in self._begun:
            return self.refuse(sync, "only the beginning of what is above it has arrived")
        self._step = _Step(sync, decision, name, state.placeholder)
        return Answer(sync.child, decision, name)

    def refuse(self, sync: Sync, why: str) -> Answer:
        """Answer a Sync that may not be, and remember it: streams may follow it before its client hears of that."""
        decision = Decision(REFUSED, why=why)
        self._step = _Step(sync, decision, sync.name, False)
        return Answer(sync.child, decision, sync.name)

    def _look(self, sync: Sync, own: str) -> Tuple[str, TargetState]:
        """Where the child is now, its own place before the buffer, and its state."""
        target = self._tree
        names = (own,) if sync.name == own else (own, sync.name)
        parser = InventoryParser(target.root, target.buffer)
        for arguments in (zfs.list_datasets(names, False), zfs.list_snapshots(names, False)):
            for line in self._tree.zfs(arguments).lines:
                parser.feed(line)
        inventory = parser.finish()
        dataset = inventory.find(sync.child)
        return dataset.name if dataset else sync.name, state_of(dataset)

    def stream(self, message: Stream) -> None:
        """Feed the stream to `zfs receive`, or read it to its end and refuse it."""
        refusal = self._unfit(message)
        if refusal is not None:
            self._tell(refusal)
            return
        step = self._step
        assert step is not None  # or it had been unfit
        result = self._receive(step, message)
        if result.ok:
            step.newest, step.first = message.to, False
            self._begun.discard(step.name)
        else:
            step.broken = "the step before it failed"
            if step.first and step.decision.kind != FULL:  # a placeholder stays what it was
                self._begun.add(step.name)

    def _unfit(self, message: Stream) -> Optional[Result]:
        """Why the stream cannot be received now; None when it can."""
        step = self._step
        if step is None or step.sync.child != message.child:
            raise RemoteProtocolError("received a Stream without the Sync for it")
        if step.broken:
            return Result(False, "refused", step.broken, step.name)
        resuming = step.decision.kind == RESUME and step.newest == step.decision.base
        if message.token != (step.decision.token if resuming else "") or message.base != step.newest:
            return Result(False, "stale", "the target has changed since it was listed", step.name)
        return None

    def _receive(self, step: _Step, message: Stream) -> Result:
        """Receive one stream; the result is sent as soon as it is known, which may be before the stream's end."""
        if len(step.name) > MAX_RECEIVED_CHARS:  # whoever asks: it would end the whole machine
            why = "its name has %d characters, and ZFS receives into %d at most" % (len(step.name), MAX_RECEIVED_CHARS)
            return self._refuse(step, "name", why)
        force = step.first and step.placeholder
        library = lzc.load(self._tree.command) if message.small and not message.filter else None
        first = self._first(HEAD_BYTES) if library is not None or self._bounds is not None or force else []
        why = self._confined(step, message, first)
        if why:
            return self._refuse(step, "refused", why)
        if step.decision.discard:
            dropped = self._tree.zfs(zfs.abort_receive(step.name))
            step.decision = step.decision._replace(discard=False)
            if dropped.status:
                return self._refuse(step, *complaint.meaning(dropped.stderr))
        head = _head(first) if force else None
        if head is not None and head.base:
            return self._refuse(step, "refused", "its stream is an increment, which takes no placeholder's place")
        if force and not self._tree.is_empty_placeholder(step.name):
            return self._refuse(step, "exists", "it is no longer zfsync's own empty placeholder, so it is not replaced")
        reception = self._reception(step, force)
        receiver = self._receiver(library, step.name, message.filter, first, reception)
        # The heart is around it all: when the client goes amid the stream, the command's end is still waited for.
        with self._heart.during(receiver.kill) as work, receiver:
            last = self._feed(receiver, first, work)
            done = receiver.finish()
        length = work.length
        problem = ""
        if isinstance(last, Abort):
            problem = last.reason or "the sender stopped"
        elif isinstance(last, End) and last.length != length:
            problem = "%d of %d bytes arrived" % (length, last.length)
        broken = self._broken_filter(receiver.filtered, done, message.filter)
        if problem:
            result = Result(False, "aborted", problem, step.name, length)
        elif broken:
            result = Result(False, "filter", broken, step.name, length)
        elif done.status:
            result = Result(False, *complaint.meaning(done.stderr), step.name, length)
        elif self._conversation.streaming:
            result = Result(False, "failed", "zfs receive ended before its stream did", step.name, length)
        else:
            result = _received(reception, done, step.name, length)
            if force:
                self._tree.zfs(zfs.inherit(zfs.PLACEHOLDER_PROPERTY, [step.name]))
        return self._tell(result)

    def _receiver(
        self, library: Optional[lzc.Library], name: str, filter_name: str, first: List[Message], how: zfs.Reception
    ) -> Receiver:
        """What receives a stream that begins with ``first``: the library where it can, else the command."""
        if library is not None:
            data = _begins(first)
            head = lzc.receives(data, how)
            if head is not None:
                return lzc.LibraryReceiver(library, name, data, head, how)
        argv = (*self._tree.command, *zfs.receive(name, how))
        return Receiver(argv, PIPE_BYTES, filters.named(filter_name).decompress)

    def _feed(self, receiver: Receiver, first: List[Message], work: Work) -> Optional[Message]:
        """Feed the stream to its receiver, the messages ``first`` before all others, and count it for the heartbeat.

        The message that ended it; None when the receiver has ended before.
        """
        while True:
            item = first.pop(0) if first else self._conversation.next_into(receiver)
            if isinstance(item, Data):
                item = len(item.payload) if receiver.write(item.payload) else -1
            if not isinstance(item, int):
                return item
            if item < 0:
                return None
            work.length += item

    def _first(self, count: int) -> List[Message]:
        """The messages of the stream up to its first ``count`` bytes, or its end; without empty ones, of any number."""
        first: List[Message] = []
        while count > 0:
            item = self._conversation.next()
            size = len(item.payload) if isinstance(item, Data) else count
            if size:
                first.append(item)
            count -= size
        return first

    def _confined(self, step: _Step, message: Stream, first: List[Message]) -> str:
        """Why a confined receiver does not take the stream, as the end of a sentence; empty when it does."""
        if self._bounds is None:
            return ""
        head = _head(first)
        if head is not None:
            arrived = sum(len(item.payload) for item in first if isinstance(item, Data))
            first += self._first(HEAD_BYTES + min(head.payload, MAX_PAYLOAD_BYTES) - arrived)
        said = (step.sync.kind, message.base, message.to, message.token, message.filter)
        origin = self._reception(step, False).origin
        record = _begins(first, HEAD_BYTES + MAX_PAYLOAD_BYTES)
        return self._bounds.refuses(Arriving(step.name, *said, origin, step.decision.discard, record), self._tree)

    @staticmethod
    def _broken_filter(filtered: Optional[Completed], received: Completed, name: str) -> str:
        """What a filter complains of, unless it only followed a `zfs receive` that had failed."""
        if filtered is None or (received.status and filters.gave_way(filtered)):
            return ""
        return filters.complaint(filtered, name)

    def _refuse(self, step: _Step, code: str, message: str) -> Result:
        """Answer a stream that cannot be received, and read it to its end."""
        return self._tell(Result(False, code, message, step.name))

    def _tell(self, result: Result) -> Result:
        """Answer a stream, and read what is left of it. The guard hears of its end before the client does."""
        if self._bounds is not None:
            self._bounds.ended()
        self._conversation.send(result)
        self._conversation.skip_stream()
        return result

    def _reception(self, step: _Step, force: bool) -> zfs.Reception:
        """How the next stream of ``step`` is received: nothing mounts by itself, and the root cannot be written to."""
        sync, decision = step.sync, step.decision
        properties: Dict[str, str] = {}
        if step.first:
            if sync.kind == FILESYSTEM:
                properties["canmount"] = "noauto"
            if not sync.child:
                properties["readonly"] = "on"
            if step.name != self._tree.root + sync.child:
                properties[PATH_PROPERTY] = self._tree.root + sync.child
        if step.newest == decision.base:  # the first of its streams
            properties.update(_pair(text) for text in sync.properties)
        origin = sync.origin if decision.kind == CLONE and step.first else ""
        excluded = tuple(filter(self._known, sync.excluded))
        return zfs.Reception(tuple(properties.items()), excluded, origin, force, sync.kind == FILESYSTEM)

    def _known(self, name: str) -> bool:
        """Whether the OpenZFS here knows the property ``name``; if not, `zfs receive` would refuse to exclude it."""
        if name not in self._knows:
            done = self._tree.zfs(zfs.try_property(name, self._tree.root.partition("/")[0]))
            self._knows[name] = complaint.classify(done.stderr) != "property"
        return self._knows[name]


def _begins(first: List[Message], count: int = HEAD_BYTES) -> bytes:
    """The first bytes of a stream that begins with these messages, ``count`` or all that there is."""
    return b"".join(item.payload for item in first if isinstance(item, Data))[:count]


def _head(first: List[Message]) -> Optional[Head]:
    """The head of a stream that begins with these messages; None when it cannot be read, as behind a filter."""
    try:
        return parse_head(_begins(first))
    except BadHead:
        return None


def _received(reception: zfs.Reception, done: Completed, name: str, length: int) -> Result:
    """The result of a `zfs receive` that ended well; it may have left out properties that were to be set."""
    unset = complaint.unset(done.stderr)
    lacking = ["%s=%s" % pair for pair in reception.properties if pair[0] in unset]
    if not lacking:
        return Result(True, name=name, length=length)
    why = unset[lacking[0].partition("=")[0]]
    return Result(False, "unset", "%s could not be set (%s)" % (" and ".join(lacking), why), name, length)


def _pair(text: str) -> Tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name or name.startswith("-"):
        raise RemoteProtocolError("received %r, which sets no property" % text)
    return name, value
