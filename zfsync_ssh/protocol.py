"""The wire: frames, and the order in which messages may come. With `zfsync_ssh.messages`, the only definition of it.

Without I/O, and the same code for both sides. A frame is ``>BI`` (type, length of payload) and the payload. Control
messages have one JSON object as payload, at most `MAX_CONTROL_BYTES`; `Data` and `Output` have bytes, at most
`MAX_DATA_BYTES`. A length is checked as soon as its header is there, before anything of that size is kept.

The agent speaks first, with `Hello`; a client sends its `Begin` without waiting for that, and everything else after it.
The client asks and the agent answers, strictly in order::

    Begin       -> Result                    the target, its buffer, how to run zfs
    Lock        -> Result                    one run per target at a time
    Inventory   -> Output* Listed            what is there
    Query       -> Output* Listed            more about some of it
    Apply       -> Results+                  small operations, one result each
    Sync        -> Answer                    where the stream for a child has to begin
    Stream Data* (End | Abort) -> Result     one step of it
    CleanBuffer -> Results+                  empty the buffer
    Send        -> Output* Result            a stream, from a source
    Digest      -> Result                    a snapshot whose contents are to be digested
    More        -> Output* Listed            the next entries of it
    Close       -> Bye
    Ping        -> Pong                      at any time after Hello, also amid Data; so is its answer

Before any answer there may be any number of `Beat`, which say that the agent is there.

The client need not wait for an answer before it asks again: it may send `Sync`, the `Stream` for the decision it
expects, and the next `Sync`, so that no round trip is paid per dataset. A `Stream` that does not fit the decision is
read to its end and answered with a `Result` that says so. An agent may answer a `Stream` before its `End`, when it has
failed already; the client then cuts it short with `Abort`. `Failure` is the agent's last word when it cannot go on.

`Connection` turns messages into bytes and bytes into messages and refuses, with `LocalProtocolError` or
`RemoteProtocolError`, whatever is out of order.

Also shipped to the far end: standard library only, Python >= 3.8.
"""

from __future__ import annotations

import json
import struct
from collections import deque
from typing import Any, Deque, Dict, List, Optional, Tuple, Type, Union, get_args, get_origin, get_type_hints

from .errors import LocalProtocolError, RemoteProtocolError
from .messages import (
    Abort,
    Answer,
    Apply,
    Beat,
    Begin,
    Bye,
    CleanBuffer,
    Close,
    Data,
    Digest,
    End,
    Failure,
    Hello,
    Inventory,
    Listed,
    Lock,
    Message,
    More,
    Output,
    Ping,
    Pong,
    Query,
    Result,
    Results,
    Send,
    Stream,
    Sync,
)

MAX_CONTROL_BYTES = 1 << 20
MAX_DATA_BYTES = 256 << 10
HEADER = struct.Struct(">BI")
_LENGTH = struct.Struct(">I")

MAX_IN_FLIGHT = 64
"""Questions that may be unanswered at a time: bounds what either side has to remember."""

_CLIENT_TYPES: Dict[int, Type[Any]] = {
    1: Begin, 2: Lock, 3: Inventory, 4: Apply, 5: Sync, 6: Stream, 7: Data, 8: End, 9: Abort, 10: CleanBuffer,
    11: Ping, 12: Close, 13: Query, 14: Send, 15: Digest, 16: More,
}  # fmt: skip
_AGENT_TYPES: Dict[int, Type[Any]] = {
    65: Hello, 66: Output, 67: Listed, 68: Result, 69: Results, 70: Answer, 71: Pong, 72: Bye, 73: Failure,
    74: Beat,
}  # fmt: skip
BEFORE_HELLO = (Begin, Lock, Inventory)
"""What a client may ask with the agent itself, which is then on its way. All else could depend on what it is."""
_NUMBERS = {kind: number for types in (_CLIENT_TYPES, _AGENT_TYPES) for number, kind in types.items()}
_BYTES = (Data, Output)

# What the agent owes for each question.
_ANSWERS: Dict[Type[Any], Type[Any]] = {
    Begin: Result, Lock: Result, Inventory: Listed, Apply: Results, Sync: Answer, Stream: Result,
    CleanBuffer: Results, Close: Bye, Query: Listed, Send: Result,
    Digest: Result, More: Listed,
}  # fmt: skip


# ---- frames ----------------------------------------------------------------------------------------------------------


def encode(message: Message) -> bytes:
    """The frame of ``message``; `LocalProtocolError` when it is larger than the other side would take."""
    if isinstance(message, _BYTES):
        payload, limit = message.payload, MAX_DATA_BYTES
    else:
        payload, limit = json.dumps(message._asdict(), separators=(",", ":")).encode("utf-8"), MAX_CONTROL_BYTES
    if len(payload) > limit:
        raise LocalProtocolError(
            "a %s of %d bytes is larger than the protocol allows (%d)" % (type(message).__name__, len(payload), limit)
        )
    return HEADER.pack(_NUMBERS[type(message)], len(payload)) + payload


def decode(types: Dict[int, Type[Any]], number: int, payload: bytes) -> Message:
    """The message in a frame; `RemoteProtocolError` for a payload that is not of its shape."""
    kind = types[number]
    if kind in _BYTES:
        return kind(payload)  # type: ignore[no-any-return]
    try:
        value = json.loads(payload.decode("utf-8"))
        if not isinstance(value, dict):
            raise TypeError("expected an object")
        return _record(kind, value)  # type: ignore[no-any-return]
    except (ValueError, TypeError, RecursionError) as error:
        raise RemoteProtocolError("received a %s that cannot be read: %s" % (kind.__name__, error)) from error


_HINTS: Dict[Type[Any], Dict[str, Any]] = {}


def _record(kind: Type[Any], values: Dict[str, Any]) -> Any:
    """A record of ``kind`` out of ``values``, each of which is checked against its annotation."""
    hints = _HINTS.get(kind)
    if hints is None:
        hints = _HINTS[kind] = get_type_hints(kind)
    unknown = values.keys() - hints.keys()
    if unknown:
        raise TypeError("unknown field %s" % sorted(unknown)[0])
    return kind(**{name: _checked(hints[name], value, name) for name, value in values.items()})


def _checked(hint: Any, value: Any, name: str) -> Any:
    if hint in (bool, int, str):
        if type(value) is not hint:
            raise TypeError("%s is not %s" % (name, hint.__name__))
        if hint is int and not 0 <= value < 1 << 64:
            raise TypeError("%s is not an unsigned 64-bit number" % name)
        return value
    parts = get_args(hint)
    if get_origin(hint) is Union:  # Optional[X]
        return None if value is None else _checked(parts[0], value, name)
    if not isinstance(value, list):
        raise TypeError("%s is not a list" % name)
    if parts:  # Tuple[X, ...]
        return tuple(_checked(parts[0], item, name) for item in value)
    # A record inside a message is an array of its fields, in order.
    if len(value) > len(hint._fields):
        raise TypeError("%s has too many fields" % name)
    return _record(hint, dict(zip(hint._fields, value)))


# ---- state -----------------------------------------------------------------------------------------------------------


class Connection:
    """One end of a channel: what may be said now, and what has been heard.

    ``agent`` tells which end. Usage, as in h11: ``outgoing = connection.send(message)``; ``connection.receive(bytes)``,
    with ``b""`` at the end of input; then take messages with ``next_message()`` until it returns None.
    """

    def __init__(self, agent: bool) -> None:
        self._agent = agent
        self._types = _CLIENT_TYPES if agent else _AGENT_TYPES
        self._buffer = bytearray()
        self._ended = False
        self._greeted = False
        self._closing = False
        self._streaming = False
        """The client's last word was Stream or Data: only Data, End, Abort and Ping may follow."""
        self._asked: Deque[Type[Any]] = deque()
        """The questions that are not answered yet, in order."""
        self._pings: List[int] = []

    # -- sending --

    def send(self, message: Message) -> bytes:
        """The bytes of ``message``; `LocalProtocolError` when it may not be said now."""
        frame = encode(message)
        try:
            if self._agent:
                self._from_agent(message)
            else:
                self._from_client(message)
        except _OutOfOrder as error:
            raise LocalProtocolError("tried to send %s" % error) from None
        return frame

    def send_header(self, kind: Type[Any], length: int) -> bytes:
        """The header of a `Data` or `Output`; its payload has to follow before anything else, so many bytes.

        For payloads that need not be copied once more to stand behind their header.
        """
        if not 0 <= length <= MAX_DATA_BYTES:
            raise LocalProtocolError("a %s of %d bytes is larger than the protocol allows" % (kind.__name__, length))
        return self.send(kind(b""))[:1] + _LENGTH.pack(length)

    @property
    def unanswered(self) -> int:
        """How many questions wait for their answer, pings not counted."""
        return len(self._asked)

    @property
    def pings(self) -> int:
        """How many pings wait for their answer."""
        return len(self._pings)

    @property
    def streaming(self) -> bool:
        """Whether a Stream is open: sent or received, and not yet ended by End or Abort."""
        return self._streaming

    # -- receiving --

    def receive(self, data: bytes) -> None:
        """Take in bytes, or ``b""`` for the end of input."""
        if not data:
            self._ended = True
        self._buffer += data

    def next_message(self) -> Optional[Message]:
        """The next whole message, or None when more input is needed.

        `RemoteProtocolError` for one that is too long, unreadable or out of order, and for an end of input within one.
        """
        if len(self._buffer) < HEADER.size:
            if self._ended and self._buffer:
                raise RemoteProtocolError("the input ended amid a frame")
            return None
        number, length = HEADER.unpack_from(self._buffer)
        kind = self._types.get(number)
        if kind is None:
            raise RemoteProtocolError("received a frame of unknown type %d" % number)
        if length > (MAX_DATA_BYTES if kind in _BYTES else MAX_CONTROL_BYTES):
            raise RemoteProtocolError("received a %s of %d bytes, which is too long" % (kind.__name__, length))
        end = HEADER.size + length
        if len(self._buffer) < end:
            if self._ended:
                raise RemoteProtocolError("the input ended amid a %s" % kind.__name__)
            return None
        message = decode(self._types, number, bytes(memoryview(self._buffer)[HEADER.size : end]))
        del self._buffer[:end]
        try:
            if self._agent:
                self._from_client(message)
            else:
                self._from_agent(message)
        except _OutOfOrder as error:
            raise RemoteProtocolError("received %s" % error) from None
        return message

    @property
    def missing(self) -> int:
        """How many bytes of the next frame's header are still to come; 0 for one that is there."""
        return max(0, HEADER.size - len(self._buffer))

    def take_data(self) -> Optional[Tuple[bytes, int]]:
        """When a `Data` comes next: what has come of its payload, and how much of it is still to come.

        It counts as received then. The caller takes what is to come from the input, before `receive` is given more.
        """
        if self.missing or not self._streaming:
            return None
        number, length = HEADER.unpack_from(self._buffer)
        if self._types.get(number) is not Data or length > MAX_DATA_BYTES:
            return None
        end = HEADER.size + length
        come = bytes(memoryview(self._buffer)[HEADER.size : end])
        del self._buffer[:end]
        return come, length - len(come)

    # -- the order of messages, the same at both ends --

    def _from_client(self, message: Message) -> None:
        if self._closing:
            raise _OutOfOrder(message, "after Close")
        if not self._greeted and not self._agent and not isinstance(message, BEFORE_HELLO):
            raise _OutOfOrder(message, "before Hello")
        if isinstance(message, Ping):
            if len(self._pings) >= MAX_IN_FLIGHT:
                raise _OutOfOrder(message, "with %d pings unanswered" % len(self._pings))
            self._pings.append(message.number)
            return
        if isinstance(message, (Data, End, Abort)):
            if not self._streaming:
                raise _OutOfOrder(message, "outside a Stream")
            if not isinstance(message, Data):
                self._streaming = False
            return
        if self._streaming:
            raise _OutOfOrder(message, "amid a Stream")
        if type(message) not in _ANSWERS:
            raise _OutOfOrder(message, "from a client")
        if len(self._asked) >= MAX_IN_FLIGHT:
            raise _OutOfOrder(message, "with %d questions unanswered" % len(self._asked))
        self._asked.append(type(message))
        self._streaming = isinstance(message, Stream)
        self._closing = isinstance(message, Close)

    def _from_agent(self, message: Message) -> None:
        if isinstance(message, Failure):
            return
        if isinstance(message, Hello):
            if self._greeted:
                raise _OutOfOrder(message, "twice")
            self._greeted = True
            return
        if not self._greeted:
            raise _OutOfOrder(message, "before Hello")
        if isinstance(message, Pong):
            if message.number not in self._pings:
                raise _OutOfOrder(message, "without its Ping")
            self._pings.remove(message.number)
            return
        question = self._asked[0] if self._asked else None
        if isinstance(message, Beat):
            if question is None:
                raise _OutOfOrder(message, "with nothing to do")
            return
        if isinstance(message, Output):
            if question not in (Inventory, Query, Send, More):
                raise _OutOfOrder(message, "outside an Inventory, Query, Send or More")
            return
        expected = _ANSWERS[question] if question else None
        if type(message) is not expected:
            wanted = expected.__name__ if expected else "nothing"
            raise _OutOfOrder(message, "when %s was to come" % wanted)
        # Amid a Stream nothing is asked behind it: it is the last question.
        if (
            question is Stream
            and isinstance(message, Result)
            and message.ok
            and self._streaming
            and len(self._asked) == 1
        ):
            raise _OutOfOrder(message, "that a Stream has arrived, before its End")
        if not (isinstance(message, Results) and message.more):
            self._asked.popleft()


class _OutOfOrder(Exception):
    """A message at a point where it may not be."""

    def __init__(self, message: Message, where: str) -> None:
        super().__init__("%s %s" % (type(message).__name__, where))
