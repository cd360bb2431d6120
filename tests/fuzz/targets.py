"""What reads bytes of others, as functions of bytes: each returns, or raises the error that it declares, and no other.

`tests.fuzz.run` feeds them under atheris, tests/unit/test_fuzz.py with what hypothesis makes up.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from zfsync_ssh import complaint
from zfsync_ssh.bootstrap import Greeting
from zfsync_ssh.config import parse as parse_config
from zfsync_ssh.config_values import ConfigError
from zfsync_ssh.dataset import Snapshot
from zfsync_ssh.entry import decode_line
from zfsync_ssh.errors import AgentError, RemoteProtocolError, UsageError
from zfsync_ssh.head import BadHead, parse_head
from zfsync_ssh.holds import parse_tag
from zfsync_ssh.listing import InventoryParser, Lines, listing_problem, missing, parse_numbers, parse_sizes
from zfsync_ssh.location import parse_location
from zfsync_ssh.messages import PROTOCOL, Apply, Data, Hello, Inventory, Ping, Send, Stream, Sync
from zfsync_ssh.preflight import parse_features
from zfsync_ssh.properties import parse_listing
from zfsync_ssh.protocol import HEADER, Connection, encode
from zfsync_ssh.resume import BadToken, parse_token
from zfsync_ssh.serve import NotAClient, skip_payload
from zfsync_ssh.verification import Verification
from zfsync_ssh.wrapping import wrapped_key

HELLO = Hello(PROTOCOL, "0.1", "3.8.0", "there", 7)
SYNC = Sync("/a", "filesystem", "p/t/a", (Snapshot("1", 11, 12),))
STREAM = Stream("/a", 0, 11)
PIPE_BYTES = 32 << 10


def hear(connection: Connection, data: bytes) -> None:
    """Take bytes, whole and in two pieces, to the end of input."""
    with contextlib.suppress(RemoteProtocolError):
        for piece in (data[: len(data) // 2], data[len(data) // 2 :], b""):
            connection.receive(piece)
            while connection.next_message() is not None:
                pass


def framed(data: bytes) -> bytes:
    """``data`` as frames: of each line, the first byte is a type and the rest a payload."""
    return b"".join(HEADER.pack(line[0] % 80, len(line) - 1) + line[1:] for line in data.split(b"\n") if line)


def agent_hears(data: bytes) -> None:
    """What a client may say: before a Stream, and amid one."""
    for said in (data, framed(data)):
        for before in (b"", encode(STREAM) + encode(Data(b"x"))):
            connection = Connection(agent=True)
            connection.send(HELLO)
            hear(connection, before + said)


def client_hears(data: bytes) -> None:
    """What an agent may say: at the start, and with questions of every kind unanswered."""
    for said in (data, framed(data)):
        hear(Connection(agent=False), said)
        connection = Connection(agent=False)
        hear_hello(connection)
        for question in (Ping(1), Inventory(), SYNC, Apply(()), Send("/a", "@1"), STREAM):
            connection.send(question)
        hear(connection, said)


def hear_hello(connection: Connection) -> None:
    """The hello, which comes first."""
    connection.receive(encode(HELLO))
    assert connection.next_message() == HELLO


def greeting(data: bytes) -> None:
    """What a login shell says before the agent."""
    heard = Greeting("abc")
    with contextlib.suppress(AgentError):
        for at in range(0, len(data), 7):
            heard.feed(data[at : at + 7])


def header(data: bytes) -> None:
    """What a client of `zfsync serve` says first."""
    reader, writer = os.pipe()
    os.write(writer, data[:PIPE_BYTES])
    os.close(writer)
    try:
        skip_payload(reader)
    except NotAClient:
        pass
    finally:
        os.close(reader)


def listing(data: bytes) -> None:
    """The output of `zfs list`."""
    for options in ({}, {"holds": True}, {"creation": True}):
        parser, lines = InventoryParser("p/a", "p/b", **options), Lines()
        with contextlib.suppress(ValueError):
            for piece in (data[: len(data) // 2], data[len(data) // 2 :]):
                for line in lines.feed(piece):
                    parser.feed(line)
            inventory = parser.finish()
            for dataset in (*inventory.datasets.values(), *inventory.buffered.values()):
                assert all(0 <= snapshot.guid < 1 << 64 for snapshot in dataset.snapshots)
                assert all(0 <= bookmark.guid < 1 << 64 for bookmark in dataset.bookmarks)


def other_output(data: bytes) -> None:
    """All else that zfs and zpool print."""
    text = data.decode("utf-8", "replace")
    parse_numbers(text.splitlines())
    parse_sizes(text.splitlines())
    parse_listing(text.splitlines())
    parse_features(text.splitlines())
    parse_tag(text)
    complaint.classify(text)
    assert complaint.reason(text)
    complaint.blamed(("p/a@1", "p/a@2", "p/a#1"), text)
    missing(text)
    listing_problem(1, text)
    listing_problem(0, text)


def token(data: bytes) -> None:
    """A resume token, and the nvlist in one."""
    import zlib

    for text in (data.decode("latin-1"), f"1-0-{len(data):x}-{zlib.compress(data, 1).hex()}"):
        with contextlib.suppress(BadToken):
            assert 0 <= parse_token(text).to_guid < 1 << 64


def stream(data: bytes) -> None:
    """The first record of a stream, and the wrapped key behind that of a raw one."""
    with contextlib.suppress(BadHead):
        assert parse_head(data).payload >= 0
        wrapped_key(data)


def entries(data: bytes) -> None:
    """Entries of a snapshot's contents, at one end and the other."""
    verification = Verification(("here", "there"))
    with contextlib.suppress(ValueError):
        for number, line in enumerate(data.decode("utf-8").split("\n")):
            verification.feed(number % 2, [decode_line(line)])


def words(data: bytes) -> None:
    """What a user writes: a configuration, and a place."""
    text = data.decode("utf-8", "replace")
    with contextlib.suppress(ConfigError):
        parse_config(text, Path("zfsync.toml"))
    with contextlib.suppress(UsageError):
        parse_location(text)


TARGETS: tuple[Callable[[bytes], None], ...] = (
    agent_hears, client_hears, greeting, header, listing, other_output, token, stream, entries, words,
)  # fmt: skip
