"""The agent: a blocking loop that serves the protocol on two file descriptors, beside the target's ZFS.

It is pushed over the SSH channel by `zfsync_ssh.bootstrap` and installs nothing. It runs one thing at a time; several
datasets are received in parallel by several agents. It ends with its input: when the connection goes, `zfs receive`
sees the end of its own input, keeps what it has got as a partial receive, and the agent goes after it.

Also shipped to the far end: standard library only, Python >= 3.8.
"""

from __future__ import annotations

import os
import select
import sys
import zlib
from typing import List, NamedTuple, Optional, Sequence, Tuple

from . import __version__, zfs
from .buffer import PATH_PROPERTY, check_buffer, rename_plan
from .dataset import FILESYSTEM, ancestors_of, check_name, child_of
from .decision import REFUSED, RESUME, UPTODATE, Decision, TargetState, decide, state_of
from .errors import ProtocolError, RemoteProtocolError, UsageError
from .listing import InventoryParser, listing_problem, missing
from .lock import Lock
from .messages import (
    MAX_OPERATIONS,
    PROTOCOL,
    Abort,
    Answer,
    Apply,
    Begin,
    Bye,
    CleanBuffer,
    Close,
    Data,
    End,
    Failure,
    Hello,
    Inventory,
    Listed,
    Measure,
    Message,
    Operation,
    Output,
    Ping,
    Pong,
    Result,
    Results,
    Send,
    Stream,
    Sync,
)
from .messages import Lock as LockMessage
from .process import Completed, Outputs, Receiver, enlarge_pipe, run
from .protocol import Connection

PIPE_BYTES = 1 << 20
"""Size asked for the pipes that join the agent to sshd and to `zfs receive`; the default of 64 KiB halves the speed."""
READ_BYTES = 256 << 10
OUTPUT_BYTES = 64 << 10
MAX_SILENCE_SECONDS = 300.0
"""A client says something at least every `zfsync_ssh.agent.PING_SECONDS`; one that is silent for so long has gone."""

EXIT_PROTOCOL = 6


class _Gone(Exception):
    """The client has closed its end, or is silent for too long."""


class _Target(NamedTuple):
    """What `Begin` said; a source when there is no buffer."""

    root: str
    buffer: str
    command: Tuple[str, ...]

    @property
    def roots(self) -> Tuple[str, ...]:
        """The trees to list: the target's, and the buffer's where it is not within that."""
        apart = self.buffer and child_of(self.root, self.buffer) is None
        return (self.root, self.buffer) if apart else (self.root,)


class _Step:
    """The child that the last `Sync` was about, and how far its streams have come."""

    __slots__ = ("broken", "decision", "name", "newest", "placeholder", "sync")

    def __init__(self, sync: Sync, decision: Decision, name: str, placeholder: bool) -> None:
        self.sync = sync
        self.placeholder = placeholder
        self.decision = decision
        self.name = name
        self.newest = decision.base
        self.broken = ""
        """Why no stream can be received for it any more."""
        if decision.kind in (REFUSED, UPTODATE):
            self.broken = decision.why or "it is up to date"


class Agent:
    """Serves one client. ``reader`` and ``writer`` are file descriptors."""

    def __init__(self, reader: int, writer: int) -> None:
        self._reader = reader
        self._writer = writer
        self._connection = Connection(agent=True)
        self._target: Optional[_Target] = None
        self._lock: Optional[Lock] = None
        self._step: Optional[_Step] = None

    def serve(self) -> int:
        """Answer until Close or the end of input; the exit status."""
        self._send(Hello(PROTOCOL, __version__, sys.version.split()[0], os.uname().nodename, os.getpid()))
        try:
            while True:
                message = self._next()
                if isinstance(message, Close):
                    self._release()
                    self._send(Bye())
                    return 0
                self._answer(message)
        except (_Gone, BrokenPipeError):
            return 0
        except ProtocolError as error:
            self._send(Failure("protocol", str(error)))
            return EXIT_PROTOCOL
        finally:
            self._release()

    # -- messages --

    def _send(self, message: Message) -> None:
        view = memoryview(self._connection.send(message))
        while view:
            view = view[os.write(self._writer, view) :]

    def _send_results(self, results: List[Result]) -> None:
        while len(results) > MAX_OPERATIONS:
            self._send(Results(tuple(results[:MAX_OPERATIONS]), True))
            results = results[MAX_OPERATIONS:]
        self._send(Results(tuple(results)))

    def _next(self) -> Message:
        """The next message that is not a Ping; those are answered here."""
        while True:
            message = self._connection.next_message()
            if isinstance(message, Ping):
                self._send(Pong(message.number))
            elif message is not None:
                return message
            else:
                if not select.select([self._reader], [], [], MAX_SILENCE_SECONDS)[0]:
                    raise _Gone
                data = os.read(self._reader, READ_BYTES)
                if not data:
                    raise _Gone
                self._connection.receive(data)

    def _answer(self, message: Message) -> None:
        if isinstance(message, Begin):
            self._send(self._begin(message))
        elif isinstance(message, LockMessage):
            self._send(self._take_lock(message))
        elif isinstance(message, Inventory):
            self._send(self._inventory(message))
        elif isinstance(message, Measure):
            self._send(self._measure(message))
        elif isinstance(message, Send):
            self._send(self._send_stream(message))
        elif isinstance(message, Apply):
            self._send_results([self._apply(operation) for operation in message.operations])
        elif isinstance(message, Sync):
            self._send(self._sync(message))
        elif isinstance(message, Stream):
            self._stream(message)
        elif isinstance(message, CleanBuffer):
            self._send_results(self._clean_buffer(message))

    # -- what each asks for --

    def _begin(self, message: Begin) -> Result:
        if message.protocol != PROTOCOL:
            return Result(False, "protocol", "the agent speaks protocol %d, not %d" % (PROTOCOL, message.protocol))
        try:
            for name in (message.root, message.buffer) if message.buffer else (message.root,):
                check_name(name)
        except UsageError as error:
            return Result(False, "name", str(error))
        problem = check_buffer(message.root, message.buffer) if message.buffer else None
        if problem:
            return Result(False, "name", "%s cannot be the buffer: %s" % (message.buffer, problem))
        self._target = _Target(message.root, message.buffer, message.command)
        return Result(True)

    @property
    def _begun(self) -> _Target:
        if self._target is None:
            raise RemoteProtocolError("received a question before a Begin that was accepted")
        return self._target

    @property
    def _receiving(self) -> _Target:
        if not self._begun.buffer:
            raise RemoteProtocolError("received a question for a target, and this is a source")
        return self._begun

    def _take_lock(self, message: LockMessage) -> Result:
        lock = Lock(self._begun.root)
        try:
            holder = lock.acquire(message.owner)
        except OSError as error:
            return Result(False, "lock", "cannot lock %s: %s" % (lock.path, error.strerror))
        if holder is not None:
            return Result(False, "locked", holder)
        self._release()
        self._lock = lock
        return Result(True)

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _zfs(self, arguments: Tuple[str, ...]) -> Completed:
        return run((*self._begun.command, *arguments))

    def _inventory(self, message: Inventory) -> Listed:
        target = self._begun
        roots, deep = target.roots, message.recursive
        listing = self._list(zfs.list_datasets(roots, deep), zfs.list_snapshots(roots, deep))
        problem = listing_problem(listing.status, listing.stderr)
        if problem:
            return Listed(False, zfs.classify(problem), zfs.reason(problem))
        ancestors: Tuple[str, ...] = ()
        if target.root in missing(listing.stderr):
            ancestors = tuple(self._zfs(zfs.list_existing(ancestors_of(target.root))).stdout.splitlines())
        return Listed(True, ancestors=ancestors)

    def _measure(self, message: Measure) -> Listed:
        names = [self._begun.root + snapshot for snapshot in message.snapshots]
        self._list(*(zfs.list_written(batch) for batch in zfs.batches(names)))
        return Listed(True)  # a snapshot that has gone meanwhile is only missing in the sum

    def _list(self, *commands: Tuple[str, ...]) -> Outputs:
        """Run listings and send what they print, compressed, as it comes."""
        compressor = zlib.compressobj(1)
        pending = bytearray()
        with Outputs([(*self._begun.command, *arguments) for arguments in commands]) as listing:
            for chunk in listing:
                pending += compressor.compress(chunk)
                while len(pending) >= OUTPUT_BYTES:
                    self._send(Output(bytes(pending[:OUTPUT_BYTES])))
                    del pending[:OUTPUT_BYTES]
        self._send(Output(bytes(pending) + compressor.flush()))
        return listing

    def _send_stream(self, message: Send) -> Result:
        """Run `zfs send` and pass its stream on as it comes."""
        begun = self._begun
        if message.child and not message.child.startswith("/"):
            raise RemoteProtocolError("received a Send of something outside the source")
        stream = zfs.Stream(begun.root + message.child, *message[1:])
        length = 0
        with Outputs([(*begun.command, *zfs.send(stream))], PIPE_BYTES) as sending:
            for chunk in sending:
                length += len(chunk)
                self._send(Output(chunk))
        if sending.status:
            return Result(False, zfs.classify(sending.stderr), zfs.reason(sending.stderr), stream.dataset, length)
        return Result(True, name=stream.dataset, length=length)

    def _apply(self, operation: Operation) -> Result:
        target, name = self._receiving, operation.name
        if operation.verb == "ancestor" and child_of(name, target.root):
            properties = [("canmount", "off")]
        elif operation.verb == "placeholder" and child_of(target.root, name) is not None:
            properties = [("canmount", "off"), ("readonly", "on"), (zfs.PLACEHOLDER_PROPERTY, name)]
        elif operation.verb == "drop" and (child_of(target.root, name) is not None or child_of(target.buffer, name)):
            dropped = self._zfs(zfs.abort_receive(name))
            if dropped.status:
                return Result(False, zfs.classify(dropped.stderr), zfs.reason(dropped.stderr), name)
            return Result(True, name=name)
        elif operation.verb == "buffer" and name == target.buffer:
            # Told apart by this from a dataset of somebody else's that was named as the buffer: that one never goes.
            properties = [("canmount", "off"), ("mountpoint", "none"), ("readonly", "on")]
            properties.append((zfs.PLACEHOLDER_PROPERTY, name))
        else:
            return Result(False, "refused", "%s of %s is not for this agent" % (operation.verb, name), name)
        done = self._zfs(zfs.create(name, properties))
        if done.status and "dataset already exists" not in done.stderr:
            return Result(False, zfs.classify(done.stderr), zfs.reason(done.stderr), name)
        return Result(True, name=name)

    def _sync(self, sync: Sync) -> Answer:
        target = self._receiving
        own = target.root + sync.child
        waiting = child_of(target.buffer, sync.name)
        if sync.name != own and not (sync.child and waiting and waiting.count("/") == 1):
            raise RemoteProtocolError("received a Sync that would receive outside its child's places")
        name, state = (sync.name, sync.known) if sync.known is not None else self._look(sync, own)
        if sync.child and not sync.child.startswith("/"):
            raise RemoteProtocolError("received a Sync of a child that is none")
        if not sync.snapshots:
            raise RemoteProtocolError("received a Sync without snapshots")
        decision = decide(sync.snapshots, sync.bookmarks, state, sync.raw)
        self._step = _Step(sync, decision, name, state.placeholder)
        return Answer(sync.child, decision, name)

    def _look(self, sync: Sync, own: str) -> Tuple[str, TargetState]:
        """Where the child is now, its own place before the buffer, and its state."""
        target = self._begun
        names = (own,) if sync.name == own else (own, sync.name)
        parser = InventoryParser(target.root, target.buffer)
        for arguments in (zfs.list_datasets(names, False), zfs.list_snapshots(names, False)):
            for line in self._zfs(arguments).stdout.splitlines():
                parser.feed(line)
        inventory = parser.finish()
        dataset = inventory.datasets.get(sync.child) or inventory.buffered.get(sync.child)
        return dataset.name if dataset else sync.name, state_of(dataset)

    # -- one stream --

    def _stream(self, message: Stream) -> None:
        """Feed the stream to `zfs receive`, or read it to its end and refuse it."""
        refusal = self._unfit(message)
        if refusal is not None:
            self._send(refusal)
            while not isinstance(self._next(), (End, Abort)):
                pass
            return
        step = self._step
        assert step is not None  # or it had been unfit
        result = self._receive(step, message)
        if result.ok:
            step.newest = message.to
        else:
            step.broken = "the step before it failed"

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
        command = self._begun.command
        first = not step.newest
        force = first and step.placeholder
        if step.decision.discard:
            dropped = self._zfs(zfs.abort_receive(step.name))
            step.decision = step.decision._replace(discard=False)
            if dropped.status:
                return self._refuse(step, zfs.classify(dropped.stderr), zfs.reason(dropped.stderr))
        if force and not self._is_empty_placeholder(step.name):
            return self._refuse(step, "exists", "it is no longer zfsync's own empty placeholder, so it is not replaced")
        properties = self._properties(step) if first else ()
        arguments = zfs.receive(step.name, properties, force, step.sync.kind == FILESYSTEM)
        with Receiver((*command, *arguments), PIPE_BYTES) as receiver:
            length = 0
            problem = ""
            while True:
                item = self._next()
                if isinstance(item, Data):
                    length += len(item.payload)
                    if not receiver.write(item.payload):
                        break
                else:
                    if isinstance(item, Abort):
                        problem = item.reason or "the sender stopped"
                    elif isinstance(item, End) and item.length != length:
                        problem = "%d of %d bytes arrived" % (length, item.length)
                    break
            done = receiver.finish()
        if problem:
            result = Result(False, "aborted", problem, step.name, length)
        elif done.status:
            result = Result(False, zfs.classify(done.stderr), zfs.reason(done.stderr), step.name, length)
        elif self._connection.streaming:
            result = Result(False, "failed", "zfs receive ended before its stream did", step.name, length)
        else:
            result = Result(True, name=step.name, length=length)
            if force:
                self._zfs(zfs.inherit(zfs.PLACEHOLDER_PROPERTY, [step.name]))
        self._send(result)
        while self._connection.streaming:
            self._next()
        return result

    def _refuse(self, step: _Step, code: str, message: str) -> Result:
        """Answer a stream that cannot be received, and read it to its end."""
        result = Result(False, code, message, step.name)
        self._send(result)
        while self._connection.streaming:
            self._next()
        return result

    def _is_empty_placeholder(self, name: str) -> bool:
        """Whether ``name`` is zfsync's placeholder and nobody can have written to it: looked up, not believed."""
        listed = self._zfs(zfs.list_placeholder(name))
        return listed.stdout.rstrip("\n") == "\t".join((name, name, "on", "off", "no"))

    def _properties(self, step: _Step) -> Sequence[Tuple[str, str]]:
        """What to set on a dataset that begins here: nothing mounts by itself, and the root cannot be written to."""
        properties: List[Tuple[str, str]] = []
        if step.sync.kind == FILESYSTEM:
            properties.append(("canmount", "noauto"))
        if not step.sync.child:
            properties.append(("readonly", "on"))
        if step.name != self._begun.root + step.sync.child:
            properties.append((PATH_PROPERTY, self._begun.root + step.sync.child))
        return properties

    # -- the buffer --

    def _clean_buffer(self, message: CleanBuffer) -> List[Result]:
        """Rename what waits, parents first; one result for each, named by its child. Then the buffer goes, if empty."""
        target = self._receiving
        listed = self._zfs(zfs.list_datasets(target.roots))
        problem = listing_problem(listed.status, listed.stderr)
        if problem:
            return [Result(False, zfs.classify(problem), zfs.reason(problem), target.buffer)]
        if {target.root, target.buffer} <= set(missing(listed.stderr)):
            return [Result(False, "missing", "there is neither the target nor its buffer", target.buffer)]
        parser = InventoryParser(target.root, target.buffer)
        for line in listed.stdout.splitlines():
            parser.feed(line)
        partial = [line.split("\t")[0] for line in listed.stdout.splitlines() if line.split("\t")[4] != "-"]
        for names in zfs.batches(partial):  # one that has a snapshot is whole all the same
            for line in self._zfs(zfs.list_snapshots(names, False)).stdout.splitlines():
                parser.feed(line)
        inventory = parser.finish()
        results = []
        waiting = {}
        for child, dataset in inventory.buffered.items():
            if not dataset.complete:
                results.append(Result(False, "partial", "its receive is not finished", child))
            else:
                waiting[child] = dataset.name
        present = [child for child, dataset in inventory.datasets.items() if dataset.complete]
        moves, stuck = rename_plan(target.root, waiting, present, message.placeholders)
        results += [Result(False, "stuck", why.reason, why.child) for why in stuck]
        moved: List[str] = []
        for move in moves:
            destination = target.root + move.child
            if not move.source:
                made = self._apply(Operation("placeholder", destination))
                if not made.ok:
                    results.append(made._replace(name=move.child))
                continue
            done = self._zfs(zfs.rename(move.source, destination, inventory.buffered[move.child].kind))
            if done.status:
                results.append(Result(False, zfs.classify(done.stderr), zfs.reason(done.stderr), move.child))
            else:
                moved.append(destination)
                results.append(Result(True, name=move.child))
        for names in zfs.batches(moved):
            self._zfs(zfs.inherit(PATH_PROPERTY, names))
        if inventory.buffer is not None and inventory.buffer.placeholder and all(result.ok for result in results):
            self._zfs(zfs.destroy_empty(target.buffer))
        return results


def move_stdio() -> Tuple[int, int]:
    """Take fd 0 and 1 for the protocol and leave harmless ones in their places, so that nothing else writes into it."""
    reader, writer = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    return reader, writer


def main(nonce: str) -> int:
    """Serve on what were stdin and stdout, after the line that tells the client where the noise ends."""
    reader, writer = move_stdio()
    enlarge_pipe(reader, PIPE_BYTES)
    enlarge_pipe(writer, PIPE_BYTES)
    os.write(writer, ready_line(nonce))
    return Agent(reader, writer).serve()


def ready_line(nonce: str) -> bytes:
    """The line behind which the protocol begins. It starts afresh, whatever a login shell has printed before."""
    return ("\nzfsync-agent-ready %s\n" % nonce).encode("ascii")
