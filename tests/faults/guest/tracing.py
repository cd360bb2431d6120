"""Traces a run of zfsync on a machine of the lab: stops it the NTH time that a label comes, and says so in the file
``reached``; or, where the label is ``-``, writes each label into the file ``labels``.

A step is an event, a message to or from an agent, an operation at a source on this machine, or the sending of an agent.
All are taken where the program itself makes them, so nothing has to be told here that is told there:

    event:Planned                       from the run's own events
    to target:Apply placeholder         a message, with the verb of its first operation
    from target:Result of Stream        an answer, with the question that it answers
    source:hold, source:hold done       before and after operations at a source here
    push agent                          the connection stands, and the agent is about to be sent
"""

from __future__ import annotations

import asyncio
import collections
import os
import signal
import weakref
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from zfsync_ssh import agent, bootstrap, orchestrator, protocol, source, transport
from zfsync_ssh.events import Event
from zfsync_ssh.messages import Answer, Apply, Begin, Bye, Listed, Message, Operation, Result, Results
from zfsync_ssh.protocol import Connection

HERE = Path("/run/faults")
ANSWERS = (Answer, Bye, Listed, Result, Results)
QUESTIONS = ("Begin", "Lock", "Inventory", "Query", "Apply", "Sync", "Stream", "CleanBuffer", "Send", "Close")


class Tracer:
    """Counts labels, and stops this process at one of them."""

    def __init__(self, label: str, nth: int) -> None:
        self._label = label
        self._nth = nth
        self._seen: collections.Counter[str] = collections.Counter()

    def __call__(self, label: str, *, soon: bool = False) -> None:
        """``label`` has come. With ``soon`` the stop is at the end of what the event loop does now."""
        self._seen[label] += 1
        if self._label == "-":
            with (HERE / "labels").open("a") as out:
                out.write(label + "\n")
        elif label == self._label and self._seen[label] == self._nth:
            if soon:
                asyncio.get_running_loop().call_soon(stop)
            else:
                stop()


def stop() -> None:
    """Stop until somebody lets this process go on."""
    (HERE / "reached.new").write_text(f"{os.getpid()}\n")
    (HERE / "reached.new").rename(HERE / "reached")
    os.kill(os.getpid(), signal.SIGSTOP)


class Ends:
    """What each connection is to, and the questions on it that are not answered yet."""

    def __init__(self) -> None:
        self._of: weakref.WeakKeyDictionary[Connection, str] = weakref.WeakKeyDictionary()
        self._asked: weakref.WeakKeyDictionary[Connection, collections.deque[str]] = weakref.WeakKeyDictionary()

    def sent(self, connection: Connection, message: Message) -> str:
        """The label of a message that goes out."""
        name = type(message).__name__
        if isinstance(message, Begin):
            self._of[connection] = "target" if message.buffer else "source"
        if isinstance(message, Apply) and message.operations:
            name += " " + message.operations[0].verb
        if type(message).__name__ in QUESTIONS:
            self._asked.setdefault(connection, collections.deque()).append(name)
        return f"to {self._of.get(connection, 'agent')}:{name}"

    def received(self, connection: Connection, message: Message) -> str:
        """The label of a message that has come."""
        name = type(message).__name__
        asked = self._asked.get(connection)
        if asked and (isinstance(message, ANSWERS) or name == "Output"):
            name += " of " + asked[0]
            if isinstance(message, ANSWERS) and not (isinstance(message, Results) and message.more):
                asked.popleft()
        return f"from {self._of.get(connection, 'agent')}:{name}"


def instrument(trace: Tracer) -> None:
    """Have all steps of this program traced."""
    ends = Ends()
    send, next_message, payload = Connection.send, Connection.next_message, bootstrap.payload
    apply, start_sending = source.LocalSource.apply, source.LocalSource.send
    begin = orchestrator.Replication.__init__

    def traced_send(self: Connection, message: Message) -> bytes:
        frame = send(self, message)
        trace(ends.sent(self, message), soon=True)
        return frame

    def traced_next(self: Connection) -> Message | None:
        message = next_message(self)
        if message is not None:
            trace(ends.received(self, message))
        return message

    def traced_payload(nonce: str, modules: tuple[str, ...] = bootstrap.MODULES) -> bytes:
        trace("push agent")
        return payload(nonce, modules)

    async def traced_apply(self: source.LocalSource, operations: Sequence[Operation]) -> list[Result]:
        verb = operations[0].verb if operations else "nothing"
        trace(f"source:{verb}")
        results = await apply(self, operations)
        trace(f"source:{verb} done")
        return results

    async def traced_sending(self: source.LocalSource, stream: Any) -> Any:
        sending = await start_sending(self, stream)
        trace("source:send")
        return sending

    def traced_begin(self: Any, from_: Any, to: Any, options: Any, observe: Callable[[Event], None]) -> None:
        def observed(event: Event) -> None:
            observe(event)
            trace(f"event:{type(event).__name__}")

        begin(self, from_, to, options, observed)

    protocol.Connection.send = traced_send  # type: ignore[method-assign]
    protocol.Connection.next_message = traced_next  # type: ignore[method-assign]
    bootstrap.payload = traced_payload
    source.LocalSource.apply = traced_apply  # type: ignore[method-assign]
    source.LocalSource.send = traced_sending  # type: ignore[method-assign]
    orchestrator.Replication.__init__ = traced_begin  # type: ignore[method-assign, assignment]


def be_impatient(keepalive: float, silence: float) -> None:
    """Give a silent connection up after 4 times ``keepalive`` seconds here, and ``silence`` there; 0 for as ever."""
    if keepalive:
        transport.KEEPALIVE_SECONDS = keepalive
    if silence:
        agent.PING_SECONDS = 1.0
        before, after = b"MAX_SILENCE_SECONDS = 300.0", b"MAX_SILENCE_SECONDS = %f" % silence
        packed = bootstrap._packed

        def impatient(names: tuple[str, ...]) -> bytes:
            modules = zlib.decompress(packed(names))
            assert before in modules
            return zlib.compress(modules.replace(before, after))

        bootstrap._packed = impatient  # type: ignore[assignment]
