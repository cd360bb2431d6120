"""Inputs that are as they should be, to begin with."""

from __future__ import annotations

from collections.abc import Callable

from tests.fakezfs import make_token
from tests.fuzz import targets
from tests.unit.test_wrapping import KEY, head, native, xdr
from zfsync_ssh.bootstrap import payload
from zfsync_ssh.config_example import example
from zfsync_ssh.decision import INCREMENTAL, Decision
from zfsync_ssh.entry import Entry, encode_line, offset_path
from zfsync_ssh.messages import (
    PROTOCOL,
    Abort,
    Answer,
    Beat,
    Begin,
    Bye,
    Close,
    Data,
    End,
    Failure,
    Listed,
    Lock,
    Message,
    Output,
    Pong,
    Query,
    Result,
    Results,
)
from zfsync_ssh.protocol import encode
from zfsync_ssh.remote_agent import ready_line

CLIENT: tuple[Message, ...] = (
    Begin(PROTOCOL, "p/t", "p/t.zfsyncbuffer", ("sudo", "-n", "zfs"), 10), Lock("me"), targets.SYNC, targets.STREAM,
    Data(b"x" * 50), End(50), Query("holds", ("/a@1",)), targets.STREAM, Abort("no"), Close(),
)  # fmt: skip
AGENT: tuple[Message, ...] = (
    Pong(1), Output(b"rows"), Listed(True), Answer("/a", Decision(INCREMENTAL, 11), "p/t/a"),
    Results((Result(False, "busy", "it is", "p/t"),)), Output(b"x"), Beat(1), Result(True), Result(False, "cut"), Bye(),
    Failure("protocol", "no"),
)  # fmt: skip
DATASET = "p/a\t7\t3\tfilesystem\t100\t-\t-\toff\tlz4\t-\t-\t-\t50\t99\t-\t-\t-\t-\t-\n"
LISTING = DATASET + DATASET.replace("p/a", "p/a/b c:d") + "p/a@1\t11\t5\np/a/b c:d@1\t12\t5\np/a#1\t11\t5\n"
REFUSALS = (
    "cannot receive incremental stream: most recent snapshot of p/a does not\nmatch incremental source",
    "cannot open 'p/a': dataset does not exist",
    "cannot destroy snapshot p/a@1: it's being held. Run 'zfs holds -r p/a@1' to see holders.",
    "cannot receive: checksum mismatch or incomplete stream.\nPartially received snapshot is saved.\nA resuming stream",
    "p/a@1\t5\np/a@2\t-\nfeature@encryption\tenabled\np/a\tcompression\tlz4",
    "zfsync:there:p/a:7f3a",
)
ENTRIES = (
    Entry("", "directory", 0o755), Entry("", "directory", 0o755), Entry("a", "file", size=5, digest="00"),
    Entry("a", "file", size=5, digest="01"), Entry(offset_path(0), "range", size=131072, digest="ff"),
)  # fmt: skip

SEEDS: tuple[tuple[Callable[[bytes], None], bytes], ...] = (
    (targets.agent_hears, b"".join(map(encode, CLIENT))),
    (targets.client_hears, b"".join(map(encode, AGENT))),
    *((targets.agent_hears, encode(message)) for message in CLIENT),
    *((targets.client_hears, encode(message)) for message in AGENT),
    (targets.greeting, b"Welcome\n" + ready_line("abc") + b"x"),
    (targets.header, payload("abc")[:4000]),
    (targets.header, b"zfsync-agent 4 abc\nxxxx"),
    (targets.listing, LISTING.encode()),
    *((targets.other_output, text.encode()) for text in REFUSALS),
    (targets.token, make_token({"toguid": 5, "toname": "p/a@1", "fromguid": 4, "bytes": 100}).encode()),
    (targets.stream, head(native({"crypt_keydata": KEY}))),
    (targets.stream, head(xdr({"crypt_keydata": KEY}), ">")),
    (targets.entries, "\n".join(map(encode_line, ENTRIES)).encode()),
    (targets.words, example().encode()),
    (targets.words, b"backup@[::1]:pool/data"),
    (targets.words, b'[job.web]\nsource = "tank/a"\ntarget = "b:pool/a"\nkeep = "daily=3"\nschedule = "every 15m"\n'),
)
