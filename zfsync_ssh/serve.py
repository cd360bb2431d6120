"""The confined receiver: an agent of this installation, run by a forced command, for clients that are not trusted.

It takes what any client says to start an agent (`zfsync_ssh.bootstrap`), throws the payload away unexecuted, and
serves the protocol with its own `Agent`. What may be asked is decided by `zfsync_ssh.confinement`; here is the shell
around it: what has to be looked up, and the log.
"""

from __future__ import annotations

import os
import re
import select
import sys
import time
from collections.abc import Callable, Mapping

from . import complaint, zfs
from .bounds import Confinement, Refused, told
from .claims import Claims
from .confinement import Asked, describe, refusal
from .floor import DESTROYING_VERBS, below_floor
from .listing import InventoryParser, listing_problem, parse_numbers
from .messages import Begin, CleanBuffer, Operation, Send
from .process import PIPE_BYTES, enlarge_pipe
from .rekey import rekeyed
from .remote_agent import EXIT_PROTOCOL, Agent, move_stdio, ready_line
from .streamhead import read_head, resumed_snapshot
from .tree import Arriving, Bounds, Tree
from .verbs import MOVING_VERBS

MAX_HEADER_BYTES = 128
MAX_PAYLOAD_BYTES = 4 << 20
HEADER_SECONDS = 60.0
MAX_LOG_LINES = 200
"""Of one session: a client that is refused again and again does not fill the log."""

_HEADER = re.compile(rb"zfsync-agent ([0-9]{1,7}) ([0-9A-Za-z]{1,64})\n")

Tell = Callable[[str], None]


class NotAClient(Exception):
    """What comes in is not the start of an agent. The message is the end of a sentence."""


class Guard:
    """Decides what an agent may do, with what ZFS says of it, and tells what was refused."""

    def __init__(self, bounds: Confinement, tell: Tell) -> None:
        self._bounds = bounds
        self._tell = tell
        self._claims = Claims(bounds.root)

    def __call__(self, asked: Asked, tree: Tree | None) -> str:
        """Why ``asked`` may not be, as the end of a sentence; empty when it may."""
        why = refusal(asked, self._bounds, tree)
        if not why and tree is not None:
            try:
                self._claim(asked, tree)
                why = self._looked_up(asked, tree)
            except Refused as refused:
                why = str(refused)
        if why:
            self._tell(f"refused {describe(asked)}: {why}")
        elif isinstance(asked, Begin):
            self._tell(f"serves {told(asked.root)}, as a {'target' if asked.buffer else 'source'}")
        elif isinstance(asked, Operation) and asked.verb in DESTROYING_VERBS:
            self._tell(f"allowed {describe(asked)}")
        return why

    def ended(self) -> None:
        """What was asked has been done."""
        self._claims.drop()

    def _claim(self, asked: Asked, tree: Tree) -> None:
        """Keep what is looked at next from being moved by another session, or from being received into."""
        claims = self._claims
        if isinstance(asked, Arriving):
            if asked.discard:  # which destroys a dataset that has no snapshot yet
                claims.take_snapshots(asked.name)
            else:
                claims.share_snapshots(asked.name)
        elif isinstance(asked, Operation):
            dataset = asked.name.partition("@")[0]
            if asked.verb in DESTROYING_VERBS:
                claims.share_promotions()
                claims.take_snapshots(dataset)
            if asked.verb in MOVING_VERBS:
                claims.take(dataset)
            if asked.verb == "promote":
                claims.take_promotions()
        elif isinstance(asked, Send) and asked.token:
            claims.share_promotions()
            claims.share_snapshots(resumed_snapshot(asked.token, self._bounds)[0].partition("@")[0])
        elif isinstance(asked, CleanBuffer):
            claims.take(tree.buffer)

    def _looked_up(self, asked: Asked, tree: Tree) -> str:
        if isinstance(asked, Arriving):
            return self._arrives(asked, tree) if read_head(asked.head).base else ""
        if isinstance(asked, Send) and asked.token:
            # Without this, zfs would look for the GUID of the token in the whole pool.
            name, guid = resumed_snapshot(asked.token, self._bounds)
            guids = parse_numbers(tree.zfs(zfs.list_guids((name,))).lines)
            return "" if guids.get(name) == guid else f"{name} is not the snapshot that is to be resumed"
        floor = self._bounds.keep_at_least
        if floor and isinstance(asked, Operation) and asked.verb in DESTROYING_VERBS:
            dataset = asked.name.partition("@")[0]
            parser = InventoryParser(dataset, creation=True)
            for arguments in (
                zfs.list_datasets((dataset,), False),
                zfs.list_snapshots((dataset,), False, creation=True),
            ):
                done = tree.zfs(arguments)
                if done.status or listing_problem(0, done.stderr):  # what is not seen would not be kept
                    return f"the snapshots of {dataset} cannot be listed: {complaint.reason(done.stderr)}"
                for line in done.lines:
                    parser.feed(line)
            found = parser.finish().datasets.get("")
            return below_floor(asked.verb, asked.name, found.snapshots if found else None, floor, time.time())
        return ""

    def _arrives(self, stream: Arriving, tree: Tree) -> str:
        """Why an increment cannot be received; empty when it can."""
        head, snapshots = read_head(stream.head), [stream.origin]
        if not stream.origin:
            rows = tree.zfs(zfs.list_snapshot_names(stream.name)).rows
            snapshots = [row[0] for row in rows]
            if head.resuming:  # `zfs receive` goes on with a partial receive then, or refuses
                there = tree.zfs(zfs.list_any(stream.name)).status == 0
            else:  # its own snapshot, and not a partial receive alone, which may be dropped before the stream comes
                there = str(head.base) in [row[1] for row in rows]
            if not there:
                return f"{stream.name} is not there, or lacks the snapshot that the stream begins from"
        if not head.raw or not (self._bounds.append_only or self._bounds.keep_at_least):
            return ""
        if not snapshots:  # a clone whose first receive was cut off
            snapshots = [tree.zfs(zfs.get_property("origin", stream.name)).stdout.strip()]
        return rekeyed(stream.head, snapshots[-1], tree)


def skip_payload(reader: int) -> str:
    """Read what starts an agent, and throw it away; the nonce. `NotAClient` when it is anything else.

    Byte by byte up to the end of the line, and then exactly as many as it says: what follows is the protocol.
    """
    header = b""
    while not header.endswith(b"\n"):
        if len(header) >= MAX_HEADER_BYTES:
            raise NotAClient("its first line is too long")
        header += _read(reader, 1)
    found = _HEADER.fullmatch(header)
    if found is None:
        raise NotAClient(f"its first line is {told(header.decode('latin-1'))}")
    left = int(found[1])
    if left > MAX_PAYLOAD_BYTES:
        raise NotAClient(f"it announces an agent of {left} bytes")
    while left:
        left -= len(_read(reader, min(left, PIPE_BYTES)))
    return found[2].decode("ascii")


def _read(reader: int, count: int) -> bytes:
    if not select.select([reader], [], [], HEADER_SECONDS)[0]:
        raise NotAClient("it says nothing")
    data = os.read(reader, count)
    if not data:
        raise NotAClient("it has gone before it has begun")
    return data


def talk(reader: int, writer: int, bounds: Confinement, command: tuple[str, ...], tell: Tell) -> int:
    """Serve one client on two file descriptors; the exit status."""
    try:
        nonce = skip_payload(reader)
        os.write(writer, ready_line(nonce))
        guard = Guard(bounds, tell)
        held = Bounds(guard, lambda why: tell(f"hung up: {told(why)}"), command, bounds.root, guard.ended)
        return Agent(reader, writer, held).serve()
    except NotAClient as error:
        tell(f"hung up: {error}")
        sys.stderr.write("This key is for zfsync alone: use it with 'zfsync push' or another command of zfsync.\n")
    except Exception as error:
        tell(f"gave up: {told(repr(error))}")
        sys.stderr.write("zfsync serve gave up: its log says why.\n")
    return EXIT_PROTOCOL


def who(environment: Mapping[str, str]) -> str:
    """Who is at the other end, as sshd says."""
    address, _, rest = environment.get("SSH_CONNECTION", "").partition(" ")
    return f"{address} port {rest.partition(' ')[0]}" if address else "a client without SSH"


def session_log(client: str, bounds: Confinement) -> Tell:
    """What writes lines about ``client`` to syslog, MAX_LOG_LINES at most."""
    import syslog

    syslog.openlog("zfsync-serve", syslog.LOG_PID, syslog.LOG_DAEMON)
    lines = 0

    def tell(text: str) -> None:
        nonlocal lines
        lines += 1
        if lines <= MAX_LOG_LINES:
            left = " (this session's last line)" if lines == MAX_LOG_LINES else ""
            level = syslog.LOG_INFO if text.startswith(("serves", "allowed")) else syslog.LOG_WARNING
            syslog.syslog(level, f"{client}: {text} [{bounds.root}, {bounds.words}]{left}")

    return tell


def serve(bounds: Confinement, command: tuple[str, ...]) -> int:
    """Serve the client on stdin and stdout; the exit status."""
    tell = session_log(who(os.environ), bounds)
    reader, writer = move_stdio()
    enlarge_pipe(reader, PIPE_BYTES)
    enlarge_pipe(writer, PIPE_BYTES)
    return talk(reader, writer, bounds, command, tell)
