"""A shorter way through asyncssh for stream data under AES-GCM: fewer copies, objects and system calls a packet.

The only module that touches asyncssh's private parts. What goes over the wire is what asyncssh would send, but for the
MSG_IGNORE packet that it puts before each packet of data, which is of use to CBC ciphers alone. All that is not stream
data, key exchanges above all, is left to asyncssh, and so is everything with any other cipher, any version of asyncssh
that was not tested, and with ZFSYNC_FASTPATH=off in the environment.

The rule of GCM is that a key never meets the same nonce twice. `Gcm` takes the place of asyncssh's cipher object, key,
nonce and all, as soon as it is seen, and for every packet of either kind: there is one counter, and whoever takes a
number from it moves it on first.
"""

from __future__ import annotations

import asyncio
import os
import struct
import time
from collections.abc import Coroutine
from typing import Any, TypeVar, cast

import asyncssh
from asyncssh.channel import SSHClientChannel
from asyncssh.connection import SSHClientConnection
from asyncssh.encryption import Encryption, GCMEncryption
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

TESTED_VERSIONS = ("2.24.1",)
PING_SECONDS = 0.001
"""Between two: a busy host answers late now and then."""
TAG_BYTES = 16
_BLOCK_BYTES = 16
_MIN_PADDING_BYTES = 4
_CHANNEL_DATA = 94
"""SSH_MSG_CHANNEL_DATA, RFC 4254, section 5.2."""
_HEAD = struct.Struct(">BBII")
"""Of a packet of data: the length of the padding, the type, the channel, the length of the data."""
_LENGTH = struct.Struct(">I")
_MAX_WRITE_BYTES = 128 << 10
"""Of data that is handed to the socket at once. More is slower: such a buffer no longer fits into the processor's."""


_T = TypeVar("_T")


def tune(connection: asyncssh.SSHClientConnection) -> bool:
    """Let ``connection``, which is authenticated, and its channels take the shorter way; whether they will."""
    usable = asyncssh.__version__ in TESTED_VERSIONS and os.environ.get("ZFSYNC_FASTPATH") != "off"
    if not usable or type(connection) is not SSHClientConnection or not hasattr(AESGCM, "encrypt_into"):
        return False
    connection.__class__ = FastConnection  # asyncssh.connect cannot be told of another class
    return True


def tune_channel(channel: asyncssh.SSHClientChannel[bytes]) -> None:
    """Let ``channel`` take the shorter way if its connection does."""
    if isinstance(channel.get_connection(), FastConnection):
        channel.__class__ = FastChannel


async def with_round_trip(
    connection: asyncssh.SSHClientConnection, meanwhile: Coroutine[Any, Any, _T]
) -> tuple[_T, float]:
    """What ``meanwhile`` returns, and the least seconds that an answer of sshd took until then."""
    task = asyncio.ensure_future(meanwhile)
    least = 1.0
    try:
        while True:
            start = time.monotonic()
            await connection._make_global_request(b"keepalive@openssh.com")
            least = min(least, time.monotonic() - start)
            if task.done():
                return await task, least
            await asyncio.sleep(PING_SECONDS)
    finally:
        task.cancel()


def widen(channel: asyncssh.SSHClientChannel[bytes], window: int) -> None:
    """Let the receive window be so many bytes from the next time on that it is opened again."""
    channel._init_recv_window = window


class Gcm(Encryption):
    """AES-GCM for one direction until the next key exchange, in the place of asyncssh's ``stock`` object for it."""

    def __init__(self, stock: GCMEncryption) -> None:
        cipher = stock._cipher
        self._aead = AESGCM(cipher._key)
        self._fixed = cipher._iv[:4]
        self._invocations = int.from_bytes(cipher._iv[4:], "big")
        self.verified: bytes | None = None
        """The next packet, when it has been decrypted already."""

    def _nonce(self) -> bytes:
        """The next one, RFC 5647, section 7.1: never the same again."""
        number = self._invocations
        self._invocations = (number + 1) & 0xFFFFFFFFFFFFFFFF
        return self._fixed + number.to_bytes(8, "big")

    def seal(self, plain: bytes, header: bytes, into: memoryview) -> None:
        """Encrypt a packet and sign it together with its ``header``."""
        self._aead.encrypt_into(self._nonce(), plain, header, into)

    def open(self, sealed: memoryview, header: memoryview) -> bytes:
        """Verify a packet and its ``header``, and decrypt it; `InvalidTag`."""
        return self._aead.decrypt(self._nonce(), sealed, header)

    # asyncssh calls these, for what does not take the shorter way
    def encrypt_packet(self, seq: int, header: bytes, packet: bytes) -> tuple[bytes, bytes]:
        """See `Encryption`."""
        sealed = self._aead.encrypt(self._nonce(), packet, header)
        return header + sealed[:-TAG_BYTES], sealed[-TAG_BYTES:]

    def decrypt_header(self, seq: int, first_block: bytes, header_len: int) -> tuple[bytes, bytes]:
        """See `Encryption`."""
        return first_block, first_block[:header_len]

    def decrypt_packet(self, seq: int, first: bytes, rest: bytes, header_len: int, mac: bytes) -> bytes | None:
        """See `Encryption`."""
        if self.verified is not None:
            plain, self.verified = self.verified, None
            return plain
        try:
            return self._aead.decrypt(self._nonce(), first[header_len:] + rest + mac, first[:header_len])
        except InvalidTag:
            return None


def _adopted(cipher: Encryption | None) -> Encryption | None:
    """A `Gcm` in the place of asyncssh's own; any other cipher as it is."""
    return Gcm(cipher) if type(cipher) is GCMEncryption else cipher


class FastConnection(SSHClientConnection):
    """Sends and receives packets of stream data itself, and leaves all else to asyncssh."""

    def send_data(self, channel: int, data: memoryview, packet_bytes: int) -> int:
        """Send as much of ``data`` as can go the short way now, in packets of so much at most; how much that was."""
        cipher = self._send_encryption = _adopted(self._send_encryption)
        if not isinstance(cipher, Gcm) or self._compressor or not (self._kex_complete and self._auth_complete):
            return 0
        if self._rekey_bytes_sent >= self._rekey_bytes or (
            self._rekey_seconds and time.monotonic() >= self._rekey_time
        ):
            return 0  # asyncssh sends the next packet, and begins a key exchange before that
        for at in range(0, len(data), _MAX_WRITE_BYTES):
            self._send_packets(cipher, channel, data[at : at + _MAX_WRITE_BYTES], packet_bytes)
        return len(data)

    def _send_packets(self, cipher: Gcm, channel: int, data: memoryview, packet_bytes: int) -> None:
        most = packet_bytes + 4 + _HEAD.size + _MIN_PADDING_BYTES + _BLOCK_BYTES + TAG_BYTES
        packets = memoryview(bytearray(most * -(-len(data) // packet_bytes)))
        end = 0
        for at in range(0, len(data), packet_bytes):
            piece = data[at : at + packet_bytes]
            padding = -(_HEAD.size + len(piece)) % _BLOCK_BYTES
            if padding < _MIN_PADDING_BYTES:
                padding += _BLOCK_BYTES
            plain = b"".join((_HEAD.pack(padding, _CHANNEL_DATA, channel, len(piece)), piece, os.urandom(padding)))
            header = _LENGTH.pack(len(plain))
            start, end = end, end + 4 + len(plain) + TAG_BYTES
            packets[start : start + 4] = header
            cipher.seal(plain, header, packets[start + 4 : end])
            self._send_seq = (self._send_seq + 1) & 0xFFFFFFFF
            self._rekey_bytes_sent += len(plain)
        self._send(cast(bytes, packets[:end]))  # transports take any buffer

    def _recv_pkthdr(self) -> bool:
        """Take the packets of stream data that have come; asyncssh takes the one after them, once it is whole."""
        cipher = self._recv_encryption = _adopted(self._recv_encryption)
        if isinstance(cipher, Gcm) and self._auth_complete and not self._decompressor and not self._take_data(cipher):
            return False
        return super()._recv_pkthdr()

    def _take_data(self, cipher: Gcm) -> bool:
        """Whether a packet of another kind comes next, and is whole."""
        received = self._inpbuf
        view = memoryview(received)
        at = 0
        try:
            while len(received) - at >= 4:
                (length,) = _LENGTH.unpack_from(received, at)
                end = at + 4 + length + TAG_BYTES
                if length > self._max_recv_pktlen:
                    return True  # asyncssh complains of that
                if end > len(received):
                    return False
                try:
                    plain = cipher.open(view[at + 4 : end], view[at : at + 4])
                except InvalidTag:
                    raise asyncssh.MACError("MAC verification failed") from None
                if not self._deliver(plain):
                    cipher.verified = plain
                    return True
                at = end
            return False
        finally:
            self._inpbuf = received[at:]

    def _deliver(self, plain: bytes) -> bool:
        """Hand the data of a packet to its channel; False if it is no packet of data, or has anything wrong with it."""
        if len(plain) < _HEAD.size:
            return False
        padding, kind, number, length = _HEAD.unpack_from(plain)
        channel = self._channels.get(number) if kind == _CHANNEL_DATA else None
        if channel is None or channel._recv_state != "open" or not 0 < length <= channel._recv_window:
            return False
        if _HEAD.size + length + padding != len(plain):
            return False
        self._recv_seq = (self._recv_seq + 1) & 0xFFFFFFFF
        channel._accept_data(plain[_HEAD.size : _HEAD.size + length])
        return True


class FastChannel(SSHClientChannel[bytes]):
    """Gives its data to a `FastConnection` as long as the window has room, and asyncssh the rest to keep."""

    def write(self, data: bytes, datatype: int | None = None) -> None:
        """See `SSHClientChannel`."""
        if datatype is None and self._send_state == "open" and not self._send_buf:
            sent = self._send_now(memoryview(data))
            if sent == len(data):
                return
            data = data[sent:] if sent else data
        super().write(data, datatype)

    def _flush_send_buf(self) -> None:
        """See `SSHClientChannel`: the window has more room, or there is more to send."""
        while self._send_buf and self._send_window and self._send_buf[0][1] is None:
            waiting = self._send_buf[0][0]
            with memoryview(waiting) as view:
                sent = self._send_now(view)
            if not sent:
                break
            self._send_buf_len -= sent
            del waiting[:sent]
            if not waiting:
                del self._send_buf[0]
        super()._flush_send_buf()

    def _send_now(self, data: memoryview) -> int:
        """Send what the window has room for; how much that was."""
        if not isinstance(self._conn, FastConnection) or self._send_chan is None:
            return 0
        with data[: self._send_window] as view:
            sent = self._conn.send_data(self._send_chan, view, self._send_pktsize)
        self._send_window -= sent
        return sent
