"""The agent: a blocking loop that serves the protocol on two file descriptors, beside the ZFS of a target, or a source.

It is pushed over the SSH channel by `zfsync_ssh.bootstrap` and installs nothing. It runs one thing at a time; several
datasets are received in parallel by several agents. It ends with its input: when the connection goes, `zfs receive`
sees the end of its own input, keeps what it has got as a partial receive, and the agent goes after it.

Also shipped to the far end: standard library only, Python >= 3.8.
"""

from __future__ import annotations

import os
import sys
import time
import zlib
from itertools import chain
from typing import TYPE_CHECKING, Iterable, List, Optional, Tuple, Union

from . import __version__, complaint, filters, zfs
from .buffer import check_buffer
from .conversation import Conversation, Gone, Silent
from .dataset import ancestors_of, check_name, pool_of
from .errors import ProtocolError, RemoteProtocolError, UsageError
from .heartbeat import Heartbeat
from .holds import RUN_LOCK, lock_name
from .listing import listing_problem, missing
from .lock import Lock, sweep
from .messages import (
    PROTOCOL,
    Apply,
    Begin,
    Bye,
    CleanBuffer,
    Close,
    Digest,
    Failure,
    Hello,
    Inventory,
    Listed,
    Message,
    More,
    Operation,
    Output,
    Query,
    Result,
    Send,
    Stream,
    Sync,
)
from .messages import Lock as LockMessage
from .process import PIPE_BYTES, Completed, Outputs, enlarge_pipe
from .recall import UNKNOWN, list_changed, list_rest, unknown
from .tree import BOUND, Bounds, Tree

if TYPE_CHECKING:
    from .lzc import LibraryOutput
    from .operations import Operations
    from .reading import Reading
    from .receiving import Receiving

OUTPUT_BYTES = 64 << 10
EXIT_PROTOCOL = 6
EXIT_SILENT = 95


class Agent:
    """Serves one client, within ``bounds`` if there are any. ``reader`` and ``writer`` are file descriptors."""

    def __init__(self, reader: int, writer: int, bounds: Optional[Bounds] = None) -> None:
        self._conversation = Conversation(reader, writer)
        self._heart = Heartbeat(self._conversation)
        self._bounds = bounds
        self._begun: Optional[Tree] = None
        self._receiving: Optional[Receiving] = None
        self._does: Optional[Operations] = None
        self._reading: Optional[Reading] = None
        self._lock: Optional[Lock] = None

    def serve(self) -> int:
        """Answer until Close or the end of input; the exit status."""
        # Within bounds every stream is looked into, so it has to come as it is.
        through = filters.installed() if self._bounds is None else ()
        system, host, *_ = os.uname()
        self._send(Hello(PROTOCOL, __version__, sys.version.split()[0], host, os.getpid(), through, system))
        try:
            while True:
                message = self._conversation.next()
                if isinstance(message, Close):
                    self._let_go()
                    self._send(Bye())
                    return 0
                self._work(message)
        except Silent:
            return EXIT_SILENT
        except (Gone, ConnectionError):
            return 0
        except ProtocolError as error:
            if self._bounds is not None:
                self._bounds.tells(str(error))
            self._send(Failure("protocol", str(error)))
            return EXIT_PROTOCOL
        finally:
            self._let_go()

    def _let_go(self) -> None:
        self._release()
        self._stop_reading()

    def _stop_reading(self) -> None:
        if self._reading is not None:
            self._reading.close()
            self._reading = None

    def _send(self, message: Message) -> None:
        self._ended()
        self._conversation.send(message)

    def _send_results(self, results: List[Result]) -> None:
        self._ended()
        self._conversation.send_results(results)

    def _ended(self) -> None:
        """The guard hears first that something is done: who is answered may ask another session at once."""
        if self._bounds is not None:
            self._bounds.ended()

    def _answer(self, message: Message) -> None:
        if self._bounds is None:
            self._deal_with(message)
            return
        try:
            if not self._refused(message, self._bounds):
                self._deal_with(message)
        finally:
            self._ended()

    def _deal_with(self, message: Message) -> None:
        if isinstance(message, Begin):
            self._send(self._begin(message))
        elif isinstance(message, LockMessage):
            self._send(self._take_lock(message))
        elif isinstance(message, Inventory):
            self._send(self._inventory(message))
        elif isinstance(message, Query):
            self._send(self._query(message))
        elif isinstance(message, Send):
            self._send(self._send_stream(message))
        elif isinstance(message, (Digest, More)):
            self._read(message)
        elif isinstance(message, Apply):
            self._send_results(self._apply(message))
        elif isinstance(message, CleanBuffer):
            self._send_results(self._operations_on(self._target).clean_buffer(message))
        elif isinstance(message, (Sync, Stream)):
            if isinstance(message, Sync):
                self._send(self._receiver.sync(message))
            else:
                self._receiver.stream(message)

    def _work(self, message: Message) -> None:
        """Answer, with a heartbeat where that may take its time; a stream has its own."""
        quick = self._begun is None or isinstance(message, (Begin, LockMessage, Send, Stream))
        if quick or (isinstance(message, Sync) and message.known is not None):
            self._answer(message)
        else:
            with self._heart.during():
                self._answer(message)

    def _refused(self, message: Message, bounds: Bounds) -> bool:
        """Whether ``message`` may not be; then it is answered."""
        if self._begun is None and not isinstance(message, Begin):
            return False  # which is no question yet
        why = bounds.refuses(message, self._begun)
        if not why:
            return False
        if isinstance(message, (Inventory, Query, More)):
            self._send(Listed(False, "refused", why))
        elif isinstance(message, Sync):
            self._send(self._receiver.refuse(message, why))
        elif isinstance(message, CleanBuffer):
            self._conversation.send_results([Result(False, "refused", why, self._target.buffer)])
        elif isinstance(message, (Begin, LockMessage, Send, Digest)):
            self._send(Result(False, "refused", why))
        else:
            raise RemoteProtocolError(why)
        return True

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
        self._stop_reading()
        self._receiving = self._does = None
        self._heart.seconds = message.beat
        if self._bounds is not None:
            self._begun = Tree(message.root, message.buffer, self._bounds.command, self._bounds.scratch)
            return Result(True, BOUND)
        self._begun = Tree(message.root, message.buffer, message.command)
        return Result(True)

    @property
    def _tree(self) -> Tree:
        if self._begun is None:
            raise RemoteProtocolError("received a question before a Begin that was accepted")
        return self._begun

    @property
    def _target(self) -> Tree:
        if not self._tree.buffer:
            raise RemoteProtocolError("received a question for a target, and this is a source")
        return self._tree

    @property
    def _receiver(self) -> Receiving:
        if self._receiving is None:
            from .receiving import Receiving

            self._receiving = Receiving(self._target, self._conversation, self._heart, self._bounds)
        return self._receiving

    def _apply(self, message: Apply) -> List[Result]:
        """Carry out operations, those that may be; a result each."""
        operations = self._operations_on(self._tree)
        if self._bounds is None:
            return operations.apply(message.operations)
        results: List[Result] = []
        allowed: List[Operation] = []
        for one in message.operations:
            if allowed and allowed[-1].verb != one.verb:  # done first: whether this one may be can depend on it
                results += operations.apply(allowed)
                allowed = []
            why = self._bounds.refuses(one, self._tree)
            if why:
                results += [*operations.apply(allowed), Result(False, "refused", why, one.name)]
                allowed = []
            else:
                allowed.append(one)
        return results + operations.apply(allowed)

    def _operations_on(self, tree: Tree) -> Operations:
        if self._does is None:
            from .operations import Operations

            self._does = Operations(tree)
        return self._does

    def _take_lock(self, message: LockMessage) -> Result:
        target = bool(self._tree.buffer)
        lock = Lock(self._tree.root if target else lock_name(message.owner))
        try:
            if target:
                holder = lock.acquire(message.owner)
            else:  # it is locked by nobody, but a run that reads it is known to live as long as its own lock is taken
                sweep(RUN_LOCK)
                holder = lock.acquire_own(message.owner)
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

    def _inventory(self, message: Inventory) -> Listed:
        target, deep = self._tree, message.recursive
        roots, at, spared = target.roots, int(time.time()), False
        first = Completed(0, "", "")
        if message.known:
            first = target.zfs(list_rest(roots, message.holds))
            commands, spared = list_changed(first.lines, set(message.known), roots)
        else:
            datasets = zfs.list_datasets(roots, deep, message.holds, message.changes)
            commands = [datasets, zfs.list_snapshots(roots, deep, message.creation)]
        listing = self._list(*commands, before=first.stdout)
        stderr = first.stderr + listing.stderr
        if unknown(stderr):
            return Listed(False, UNKNOWN)
        problem = listing_problem(first.status or listing.status, stderr)
        if problem:
            return Listed(False, *complaint.meaning(problem))
        if target.root not in missing(stderr):
            return Listed(True, at=at, spared=spared)
        above = target.zfs(zfs.list_existing(ancestors_of(target.root))).rows
        if not above:
            return Listed(True)
        _, available, encryption = above[-1]
        ancestors = tuple(name for name, _, _ in above)
        return Listed(True, "", "", ancestors, int(available), encryption not in ("-", "off"))

    def _query(self, message: Query) -> Listed:
        """What is missing in the answer has gone meanwhile."""
        if message.kind == zfs.FEATURES_QUERY:
            # Anybody may ask that, and sudo may allow zfs alone. (Tests run something else in the place of zfs.)
            command = ("zpool",) if self._tree.command[-1] == "zfs" else self._tree.command
            self._send_outputs([(*command, *zfs.list_features(pool_of(self._tree.root)))])
            return Listed(True)
        if message.kind == zfs.ABOUT_QUERY:
            from . import about

            self._send_lines(("%s\n" % line).encode("utf-8") for line in about.lines(self._tree))
            return Listed(True)
        if message.kind == zfs.ABOVE_QUERY:
            above = ancestors_of(self._tree.root)
            self._list(*([zfs.list_existing(above)] if above else []))
            return Listed(True)
        if message.kind not in zfs.QUERIES:
            raise RemoteProtocolError("received a Query of an unknown kind, %r" % message.kind)
        names = [self._tree.named(name) for name in message.names]
        self._list(*(zfs.QUERIES[message.kind](batch) for batch in zfs.batches(names)))
        return Listed(True)

    def _read(self, message: Union[Digest, More]) -> None:
        """Open a snapshot, or send the next of its entries."""
        if self._reading is None:
            from .reading import Reading

            self._reading = Reading(self._tree)
        if isinstance(message, Digest):
            self._send(self._reading.open(message))
        else:
            lines, end = self._reading.batch(message)
            self._send_lines(lines)
            self._send(end)

    def _list(self, *commands: Tuple[str, ...], before: str = "") -> Outputs:
        """Run listings and send what they print, after the lines that are there already."""
        return self._send_outputs([(*self._tree.command, *arguments) for arguments in commands], before)

    def _send_outputs(self, commands: List[Tuple[str, ...]], before: str = "") -> Outputs:
        """Run commands and send what they print, as it comes."""
        with Outputs(commands) as listing:
            self._send_lines(chain([before.encode("utf-8")], listing))
        return listing

    def _send_lines(self, chunks: Iterable[bytes]) -> None:
        """Send lines, compressed, as they come."""
        compressor = zlib.compressobj(1)
        pending = bytearray()
        for chunk in chunks:
            pending += compressor.compress(chunk)
            while len(pending) >= OUTPUT_BYTES:
                self._send(Output(bytes(pending[:OUTPUT_BYTES])))
                del pending[:OUTPUT_BYTES]
        self._send(Output(bytes(pending) + compressor.flush()))

    def _send_stream(self, message: Send) -> Result:
        """Run `zfs send` and pass its stream on as it comes, or as the filter compresses it."""
        tree = self._tree
        stream = zfs.Stream(tree.named(message.child), *message[1:])
        length = 0
        sending = self._sending(stream)
        with self._heart.during(sending.kill) as work, sending:
            for chunk in sending:
                self._conversation.send_output(chunk)
                work.length = length = length + len(chunk)
        broken = filters.complaint(sending.filtered, stream.filter) if sending.filtered else ""
        if broken:  # first, since `zfs send` cannot end well either then
            return Result(False, "filter", broken, stream.dataset, length)
        if sending.status:
            return Result(False, *complaint.meaning(sending.stderr), stream.dataset, length)
        return Result(True, name=stream.dataset, length=length)

    def _sending(self, stream: zfs.Stream) -> Union[Outputs, LibraryOutput]:
        from . import lzc

        library = lzc.load(self._tree.command) if lzc.sends(stream) else None
        if library is not None:
            return lzc.LibraryOutput(library, stream)
        argv = (*self._tree.command, *zfs.send(stream))
        return Outputs([argv], PIPE_BYTES, filters.named(stream.filter).compress)


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
