"""The agent's half of a conversation: messages in and out of two file descriptors, blocking.

Also shipped to the far end: standard library only, Python >= 3.8.
"""

from __future__ import annotations

import _thread
import os
import select
from typing import List

from .messages import MAX_OPERATIONS, Message, Ping, Pong, Result, Results
from .protocol import Connection

READ_BYTES = 256 << 10
MAX_SILENCE_SECONDS = 300.0
"""A client says something at least every `zfsync_ssh.agent.PING_SECONDS`; one that is silent for so long has gone."""


class Gone(Exception):
    """The client has closed its end, or is silent for too long."""


class Conversation:
    """Messages from ``reader`` and to ``writer``, two file descriptors, in the order that the protocol allows."""

    def __init__(self, reader: int, writer: int) -> None:
        self._reader = reader
        self._writer = writer
        self._connection = Connection(agent=True)
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
            view = memoryview(self._connection.send(message))
            while view:
                view = view[os.write(self._writer, view) :]

    def hung_up(self) -> bool:
        """Whether the client has closed its end, even if there is something of it left to read."""
        return bool(self._input.poll(0))

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
                if not select.select([self._reader], [], [], MAX_SILENCE_SECONDS)[0]:
                    raise Gone
                data = os.read(self._reader, READ_BYTES)
                if not data:
                    raise Gone
                self._connection.receive(data)

    def skip_stream(self) -> None:
        """Read what is left of the open Stream, if one is."""
        while self.streaming:
            self.next()
