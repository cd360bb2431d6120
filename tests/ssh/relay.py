"""A TCP relay that stands between zfsync and sshd, and can cut the connection or let it fall silent."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
from collections.abc import Iterator

READ_BYTES = 64 << 10
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER with no time to linger: closing sends a reset."""


class Relay:
    """Passes each connection to its ``port``, any that is free by default, on to ``target``, a port of ``host``.

    With ``silent_after`` it passes nothing on any more after so many bytes to ``target``, and closes nothing.
    """

    def __init__(self, target: int, silent_after: int | None = None, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self._target = (host, target)
        self._silent_after = silent_after
        self._server = socket.create_server(("127.0.0.1", port))
        self.port: int = self._server.getsockname()[1]
        self.sent = 0
        """Bytes that went to sshd so far."""
        self._wake, self._woken = socket.socketpair()
        self._end = ""
        self._thread = threading.Thread(target=self._serve, name="relay", daemon=True)
        self._thread.start()

    def cut(self) -> None:
        """Reset all connections, and take no more."""
        self._finish("reset")

    def close(self) -> None:
        """Close all."""
        self._finish("close")

    def _finish(self, how: str) -> None:
        if not self._end:
            self._end = how
            self._wake.send(b".")
        self._thread.join()

    def _serve(self) -> None:
        peers: dict[socket.socket, socket.socket] = {}
        upward: set[socket.socket] = set()
        while not self._end:
            silent = self._silent_after is not None and self.sent >= self._silent_after
            waiting = [self._woken] if silent else [self._woken, self._server, *peers]
            for ready in select.select(waiting, [], [])[0]:
                if ready is self._woken:
                    ready.recv(1)
                elif ready is self._server:
                    near = self._server.accept()[0]
                    far = socket.create_connection(self._target)
                    peers[near], peers[far] = far, near
                    upward.add(near)
                elif ready in peers and not self._pass_on(ready, peers[ready], ready in upward):
                    for end in (ready, peers.pop(ready)):
                        peers.pop(end, None)
                        end.close()
        for end in (*peers, self._server, self._wake, self._woken):
            if self._end == "reset" and end in peers:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            end.close()

    def _pass_on(self, ready: socket.socket, peer: socket.socket, upward: bool) -> bool:
        """Pass on what has come; False at the connection's end."""
        try:
            data = ready.recv(READ_BYTES)
            peer.sendall(data)
        except OSError:
            return False
        self.sent += len(data) * upward
        return bool(data)


@contextlib.contextmanager
def relay_to(port: int, silent_after: int | None = None) -> Iterator[Relay]:
    """A relay to ``port`` that ends with the block."""
    relay = Relay(port, silent_after)
    try:
        yield relay
    finally:
        relay.close()
