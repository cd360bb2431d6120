#!/usr/bin/env python3
"""The fake `zfs` of the tests, but for `send` and `receive`: those are a source and a sink of bytes, as fast as can be.

    benchmarks/streamzfs.py STATE ARGUMENTS...

Each process appends a line to STATE.times: its verb, its CPU seconds, the bytes of its stream and when the first and
the last of them passed, as CLOCK_MONOTONIC, which is the same for all processes, tells it.
"""

from __future__ import annotations

import json
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from tests import fakezfs

BLOCK_BYTES = 128 << 10
"""ZFS writes and reads a stream by records, whose data is a block of this size by default."""


class Passed:
    """Bytes of the stream that have passed, and when."""

    bytes = 0
    first = 0.0
    last = 0.0

    def count(self, length: int) -> None:
        """So many more."""
        self.last = time.monotonic()
        self.first = self.first or self.last
        self.bytes += length


def send(state: str, arguments: list[str], passed: Passed) -> None:
    """Write a head like the fake's, and as many bytes as the snapshot has."""
    dataset, _, short = arguments[-1].partition("@")
    with fakezfs.State(state).open() as known:
        entry = next(one for one in known["datasets"][dataset]["snapshots"] if one[0] == short)
    line = json.dumps({"to": entry, "length": entry[3]}).encode()
    os.write(1, b"%08d" % len(line) + line)
    block = memoryview(os.urandom(BLOCK_BYTES))
    left = entry[3]
    while left:
        written = os.write(1, block[:left])
        passed.count(written)
        left -= written


def receive(state: str, arguments: list[str], passed: Passed) -> None:
    """Read a stream of `send` to its end."""
    head = json.loads(exactly(int(exactly(8))))
    block = bytearray(BLOCK_BYTES)
    left = head["length"]
    while left:
        count = os.readv(0, [block])
        if not count:
            fakezfs.fail("cannot receive: the stream ended early")
        passed.count(count)
        left -= count
    while os.read(0, 1):
        fakezfs.fail("cannot receive: the stream is too long")
    with fakezfs.State(state).open() as known:
        dataset = fakezfs.add(known, arguments[-1], "filesystem", {})
        dataset["snapshots"].append(head["to"])


def exactly(count: int) -> bytes:
    """So many bytes of stdin."""
    data = b""
    while len(data) < count:
        data += os.read(0, count - len(data))
    return data


def main() -> None:
    """See the top."""
    state, verb, *arguments = sys.argv[1:]
    passed = Passed()
    try:
        if verb == "send":
            send(state, arguments, passed)
        elif verb == "receive" and "-A" not in arguments:
            receive(state, arguments, passed)
        else:
            fakezfs.main()
    finally:
        spent = os.times()
        line = {"verb": verb, "cpu": spent.user + spent.system, **vars(passed)}
        with open(state + ".times", "a") as log:
            log.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
