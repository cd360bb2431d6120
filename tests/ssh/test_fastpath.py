"""The shorter way through asyncssh, against a real sshd: key exchanges, nonces, forgeries, when it is not taken."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable
from typing import Any

import asyncssh
import asyncssh.crypto.cipher as stock_cipher
import pytest
from asyncssh.connection import SSHClientConnection
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.ssh.site import Site, Sshd
from zfsync_ssh import fastpath, transport
from zfsync_ssh.fastpath import FastConnection, Gcm
from zfsync_ssh.transport import SshConnection, SshOptions

MIB = 1 << 20


@pytest.fixture
def options(site: Site, monkeypatch: pytest.MonkeyPatch) -> Callable[[Sshd], SshOptions]:
    """How to connect to a sshd of the site."""
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    monkeypatch.setenv("HOME", site.environment["HOME"])

    def to(sshd: Sshd) -> SshOptions:
        return SshOptions("127.0.0.1", None, sshd.port, site.keys.user, site.directory / "ssh_config")

    return to


def fast(connection: SshConnection) -> SSHClientConnection:
    """The asyncssh connection inside."""
    return connection._connection


async def echo(connection: SshConnection, length: int = 6 * MIB) -> None:
    """Send bytes in pieces of all sizes through `cat`, and check that the same come back."""
    chance = random.Random(length)
    data = chance.randbytes(length)
    channel = await connection.open_channel("cat", receives=True)

    async def send() -> None:
        at = 0
        while at < length:
            size = chance.choice((1, 5, 15, 16, 17, 4000, 32768, 32769, 131072, 400_000))
            channel.write(memoryview(bytearray(data[at : at + size])))
            at += size
            await channel.drain()

    sending = asyncio.create_task(send())
    back = bytearray()
    while len(back) < length and (piece := await channel.read()):
        back += piece
    await sending
    assert back == data
    channel.close()
    await channel.wait_ended()


# ---- it is taken, and keeps the rules --------------------------------------------------------------------------------


class Recorded:
    """An AESGCM that remembers which nonces each key was used with, to encrypt."""

    used: dict[bytes, list[int]]
    short: set[bytes]
    """Keys that were used on the shorter way."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._aead = AESGCM(key)
        self.decrypt = self._aead.decrypt

    def encrypt(self, nonce: bytes, data: bytes, associated: bytes) -> bytes:
        self._note(nonce)
        return self._aead.encrypt(nonce, data, associated)

    def encrypt_into(self, nonce: bytes, data: bytes, associated: bytes, buffer: memoryview) -> int:
        self._note(nonce)
        self.short.add(self._key)
        return self._aead.encrypt_into(nonce, data, associated, buffer)

    def _note(self, nonce: bytes) -> None:
        self.used.setdefault(self._key + nonce[:4], []).append(int.from_bytes(nonce[4:], "big"))


@pytest.mark.parametrize("by", ["client", "sshd", "both"])
async def test_a_key_never_meets_a_nonce_twice_across_key_exchanges(
    by: str, site: Site, options: Callable[[Sshd], SshOptions], monkeypatch: pytest.MonkeyPatch
) -> None:
    Recorded.used, Recorded.short = {}, set()
    monkeypatch.setattr(fastpath, "AESGCM", Recorded)
    monkeypatch.setattr(stock_cipher, "AESGCM", Recorded)
    if by != "sshd":
        monkeypatch.setattr(transport, "REKEY_BYTES", MIB)
    sshd = site.sshd(**({"RekeyLimit": "1M"} if by != "client" else {}))
    connection = await transport.connect(options(sshd))
    assert isinstance(fast(connection), FastConnection)
    for _ in range(4):  # what is written during a key exchange goes asyncssh's way: begin anew after each
        await asyncio.gather(*(echo(connection, MIB + number) for number in range(2)))
    await connection.close()
    assert len(Recorded.used) > 4  # 8 MiB went, and each key has a limit of one
    assert len(Recorded.short) >= 3
    for numbers in Recorded.used.values():
        first = numbers[0]
        assert numbers == [(first + at) % (1 << 64) for at in range(len(numbers))]


def test_the_counter_of_nonces_begins_again_behind_its_largest_value() -> None:
    cipher = Gcm(asyncssh.encryption.GCMEncryption.new("aes128-gcm", bytes(16), b"abcd" + b"\xff" * 8))
    assert [cipher._nonce() for _ in range(2)] == [b"abcd" + b"\xff" * 8, b"abcd" + bytes(8)]


async def test_what_it_sends_is_what_asyncssh_would(monkeypatch: pytest.MonkeyPatch) -> None:
    key, iv = os.urandom(16), os.urandom(12)
    stock = asyncssh.encryption.GCMEncryption.new("aes128-gcm", key, iv)
    ours = Gcm(asyncssh.encryption.GCMEncryption.new("aes128-gcm", key, iv))
    for length in (16, 32768, 48):
        plain, header = os.urandom(length), length.to_bytes(4, "big")
        sealed = bytearray(length + 16)
        ours.seal(plain, header, memoryview(sealed))
        assert b"".join(stock.encrypt_packet(0, header, plain)) == header + sealed


async def test_a_forged_packet_ends_the_connection_and_is_not_delivered(
    sshd: Sshd, options: Callable[[Sshd], SshOptions]
) -> None:
    connection = await transport.connect(options(sshd))
    channel = await connection.open_channel("cat /dev/zero", receives=True)
    assert set(await channel.read()) == {0}
    asked, received = [], fast(connection).data_received

    def forge(data: bytes, datatype: Any = None) -> None:
        asked.append(len(data))
        middle = len(data) // 2
        received(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :] if len(asked) == 3 else data)

    vars(fast(connection))["data_received"] = forge
    seen = set()
    while piece := await channel.read():
        seen |= set(piece)
    assert seen == {0}
    await channel.wait_ended()
    assert len(asked) >= 3
    assert connection.lost
    await connection.close()


async def test_a_channel_without_room_in_its_window_does_not_hold_up_another(
    sshd: Sshd, options: Callable[[Sshd], SshOptions]
) -> None:
    connection = await transport.connect(options(sshd))
    stuck = await connection.open_channel("sleep 60")
    while not stuck._full:
        stuck.write(bytes(128 << 10))
        await asyncio.sleep(0)
    await echo(connection)
    assert stuck.paused
    await connection.close()


# ---- it is not taken -------------------------------------------------------------------------------------------------


async def test_another_version_of_asyncssh_is_left_alone(
    sshd: Sshd, options: Callable[[Sshd], SshOptions], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asyncssh, "__version__", "2.99.0")
    connection = await transport.connect(options(sshd))
    assert type(fast(connection)) is SSHClientConnection
    await echo(connection)
    await connection.close()


async def test_the_environment_can_turn_it_off(
    sshd: Sshd, options: Callable[[Sshd], SshOptions], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZFSYNC_FASTPATH", "off")
    connection = await transport.connect(options(sshd))
    assert type(fast(connection)) is SSHClientConnection
    await echo(connection)
    await connection.close()


@pytest.mark.parametrize("cipher", ["chacha20-poly1305@openssh.com", "aes128-ctr"])
async def test_another_cipher_goes_asyncsshs_own_way(
    cipher: str, site: Site, options: Callable[[Sshd], SshOptions]
) -> None:
    connection = await transport.connect(options(site.sshd(Ciphers=cipher)))
    assert connection.cipher == cipher
    await echo(connection)
    assert not isinstance(fast(connection)._send_encryption, Gcm)
    await connection.close()
