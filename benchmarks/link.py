#!/usr/bin/env python3
"""A line between two hosts, in user space: passes TCP connections on, late, and no faster than it is told.

    benchmarks/link.py PORT [--to HOST] [--at ADDRESS] [--rtt MILLISECONDS] [--rate BYTES_PER_SECOND]

Prints the port that it listens on, at ADDRESS, and serves until its stdin ends. Half of the delay is on either way; on
their way bytes wait in memory here, and behind a limited rate a queue of a few milliseconds, as before a real line.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import queue
import socket
import sys
import threading
import time

READ_BYTES = 128 << 10
QUEUE_SECONDS = 0.02
"""How much waits before a line of limited rate."""
UNLIMITED_BYTES = 128 << 20


def carry(near: socket.socket, far: socket.socket, delay: float, rate: float) -> None:
    """Pass on what comes from ``near`` until its end, which is passed on too."""
    most = int(rate * (delay + QUEUE_SECONDS)) if rate else UNLIMITED_BYTES
    on_the_way: queue.Queue[tuple[float, bytes]] = queue.Queue(max(2, most // READ_BYTES))
    threading.Thread(target=deliver, args=(on_the_way, far, rate), daemon=True).start()
    data = b"."
    while data:
        try:
            data = near.recv(READ_BYTES)
        except OSError:
            data = b""
        on_the_way.put((time.monotonic() + delay, data))


def deliver(on_the_way: queue.Queue[tuple[float, bytes]], far: socket.socket, rate: float) -> None:
    """Hand each piece over when it is due and the line is free again."""
    free = 0.0
    while True:
        due, data = on_the_way.get()
        free = max(free, due)
        time.sleep(max(0.0, free - time.monotonic()))
        if rate:
            free += len(data) / rate
        with contextlib.suppress(OSError):
            if data:
                far.sendall(data)
            else:
                far.shutdown(socket.SHUT_WR)
        if not data:
            return


def serve(server: socket.socket, to: tuple[str, int], delay: float, rate: float) -> None:
    """Pass on every connection."""
    while True:
        near = server.accept()[0]
        far = socket.create_connection(to)
        for end in (near, far):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for ends in ((near, far), (far, near)):
            threading.Thread(target=carry, args=(*ends, delay, rate), daemon=True).start()


def main() -> None:
    """See the top."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("port", type=int)
    parser.add_argument("--to", default="127.0.0.1")
    parser.add_argument("--at", default="127.0.0.1")
    parser.add_argument("--rtt", type=float, default=0)
    parser.add_argument("--rate", type=float, default=0)
    options = parser.parse_args()
    server = socket.socket()
    if options.rate:  # the kernel's own queue must be no longer than the line's; accepted sockets inherit this
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, int(options.rate * QUEUE_SECONDS))
    server.bind((options.at, 0))
    server.listen()
    arguments = (server, (options.to, options.port), options.rtt / 2000, options.rate)
    threading.Thread(target=serve, args=arguments, daemon=True).start()
    print(server.getsockname()[1], flush=True)
    while os.read(sys.stdin.fileno(), 1):
        pass


if __name__ == "__main__":
    main()
