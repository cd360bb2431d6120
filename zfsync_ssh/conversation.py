"""The agent's half of a conversation: messages in and out of two file descriptors, blocking.

Also shipped to the far end: standard library only, Python >= 3.8.
"""

from __future__ import annotations

import _thread
import os
import select
from typing import List, Union

from .messages import MAX_OPERATIONS, Message, Output, Ping, Pong, Result, Results
from .process import Receiver, write_all
from .protocol import Connection

READ_BYTES = 256 << 10
MAX_SILENCE_SECONDS = 300.0
"""A client says something at least every `zfsync_ssh.agent.PING_SECONDS`; one that is silent for so long has gone."""


class Gone(Exception):
    """The client has closed its end, or is silent for too long."""


class Silent(Gone):
    """The latter."""


class Conversation:
    """Messages from ``reader`` and to ``writer``, two file descriptors, in the order that the protocol allows."""

    def __init__(self, reader: int, writer: int) -> None:
        self._reader = reader
        self._writer = writer
        self._connection = Connection(agent=True)
        self._splice = getattr(os, "splice", None)
        """Python 3.10 has it, on Linux."""
        self._sending = _thread.allocate_lock()
        """A `zfsync_ssh.heartbeat` speaks from a thread of its own."""
        self._input = select.poll()
        self._input.register(reader, 0)

    @property
    def streaming(self) -> bool:
        """Whether a Stream is open: its End or Abort has not come yet."""
        return self._connection.streaming

    def send(self, message: Message) -> None:
        """Send one message, whole."""
        with self._sending:
            write_all(self._writer, self._connection.send(message))

    def hung_up(self) -> bool:
        """Whether the client has closed its end, even if there is something of it left to read."""
        return bool(self._input.poll(0))

    def send_output(self, payload: bytes) -> None:
        """Send an `Output` without copying it once more."""
        with self._sending:
            header = self._connection.send_header(Output, len(payload))
            sent = os.writev(self._writer, [header, payload])
            if sent < len(header) + len(payload):
                write_all(self._writer, (header + payload)[sent:])

    def send_results(self, results: List[Result]) -> None:
        """Send a result each, in as many messages as it takes."""
        while len(results) > MAX_OPERATIONS:
            self.send(Results(tuple(results[:MAX_OPERATIONS]), True))
            results = results[MAX_OPERATIONS:]
        self.send(Results(tuple(results)))

    def next(self) -> Message:
        """The next message that is not a Ping; those are answered here. `Gone` at the end of input."""
        while True:
            message = self._connection.next_message()
            if isinstance(message, Ping):
                self.send(Pong(message.number))
            elif message is not None:
                return message
            else:
                self._connection.receive(self._read(READ_BYTES))

    def next_into(self, receiver: Receiver) -> Union[int, Message]:
        """As `next`; but the payload of a Data goes to ``receiver``, and how long it was is the answer.

        -1 when the receiver has ended; the payload has been read nevertheless.
        """
        while True:
            taken = self._connection.take_data()
            if taken is not None:
                come, missing = taken
                return len(come) + missing if self._pass_on(come, missing, receiver) else -1
            message = self._connection.next_message()
            if isinstance(message, Ping):
                self.send(Pong(message.number))
            elif message is not None:
                return message
            else:  # no more than the header: what has been read cannot go from pipe to pipe any more
                self._connection.receive(self._read(self._connection.missing or READ_BYTES))

    def _pass_on(self, come: bytes, missing: int, receiver: Receiver) -> bool:
        """Write ``come`` and then so many bytes of the input, which go from pipe to pipe where that can be.

        Whether the receiver has taken all.
        """
        takes = receiver.write(come)
        while missing:
            if self._splice is None or not takes:
                data = self._read(min(missing, READ_BYTES))
                missing -= len(data)
                takes = takes and receiver.write(data)
                continue
            self._wait()
            try:
                moved = self._splice(self._reader, receiver.inlet, missing)
            except BrokenPipeError:
                takes = False
            except OSError:  # not for such descriptors, or not in such a container
                self._splice = None
            else:
                if not moved:
                    raise Gone
                missing -= moved
        return takes

    def _read(self, limit: int) -> bytes:
        """Some bytes of the input, at least one. `Gone` at its end."""
        self._wait()
        data = os.read(self._reader, limit)
        if not data:
            raise Gone
        return data

    def _wait(self) -> None:
        if not select.select([self._reader], [], [], MAX_SILENCE_SECONDS)[0]:
            raise Silent

    def skip_stream(self) -> None:
        """Read what is left of the open Stream, if one is."""
        while self.streaming:
            self.next()
