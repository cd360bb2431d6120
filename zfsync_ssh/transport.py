"""The SSH connection and its channels, on asyncssh: options, errors made plain, flow control.

Nothing else but `ssh_keys` and `fastpath` knows asyncssh, and it is imported when a connection is made: the import
takes longer than the rest of zfsync's start. The figures behind the tuning are in docs/performance-transport.md.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import os
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from .channel import Channel, ChannelRefused
from .errors import ConnectError, HostKeyError, LoginError, UsageError
from .ssh_keys import HostKeys, host_keys, plain

if TYPE_CHECKING:
    import asyncssh

CONNECT_SECONDS = 30.0
CLOSE_SECONDS = 5.0
KEEPALIVE_SECONDS = 15.0
KEEPALIVE_COUNT = 4
"""A connection over which nothing comes for a minute, keepalive answers included, is gone."""
REKEY_BYTES = 1 << 35
"""asyncssh's default of 1 GiB costs two round trips of standstill each; AES-GCM is good for far more than this."""
MAX_PACKET_BYTES = 32 << 10
"""Larger SSH packets are slower."""
UNSENT_BYTES = 256 << 10
"""What the kernel may keep of what cannot be sent yet: enough to go on with, and no long queue to wait in."""
WRITE_BUFFER_BYTES = 512 << 10
WINDOW_BYTES = 2 << 20
MAX_RECEIVE_WINDOW_BYTES = 32 << 20
"""The receive window of a channel: its throughput is at most this per round trip."""
RECEIVE_BYTES_PER_SECOND = 320 << 20
"""What the window makes room for. More than is needed costs dear: sshd fills it, and then copies all that waits there
for every packet that comes to it."""
_CIPHERS = (
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
    "aes256-ctr",
    "aes192-ctr",
    "aes128-ctr",
)
"""AES-GCM first: half the CPU of asyncssh's own first choice. A Ciphers line in the user's ssh_config wins."""


@dataclass(frozen=True, slots=True)
class SshOptions:
    """Where to, and as whom. What is None comes from ssh_config, or is OpenSSH's default.

    ``own_key`` says that ``identity`` is all that is offered: no ssh-agent's key. A host that is in the file ``pins``,
    zfsync's own known_hosts, is trusted by what is there alone.
    """

    host: str
    user: str | None = None
    port: int | None = None
    identity: Path | None = None
    config: Path | None = None
    own_key: bool = False
    pins: Path | None = None


class SshChannel(Channel):
    """One session of a connection; also the asyncssh session object, whose callbacks it takes as they are."""

    def __init__(self) -> None:
        super().__init__()
        self._chan: asyncssh.SSHClientChannel[bytes] | None = None
        self._status: int | None = None
        self._full = False
        self._congested = False

    def write(self, data: bytes | memoryview) -> None:
        if self._chan is not None and not self._chan.is_closing():
            self._chan.write(cast(bytes, data))  # asyncssh copies it

    def congest(self, congested: bool) -> None:
        """The connection that all channels share takes no more now, or does again."""
        if not self._ended.is_set():
            self._congested = congested
            self._pause_or_resume()

    def _pause_or_resume(self) -> None:
        if self._full or self._congested:
            super().pause_writing()
        elif self.paused:
            super().resume_writing()

    def close(self) -> None:
        if self._chan is not None:
            self._chan.abort()  # close() would wait for the other side to take what is still to be sent

    # asyncssh calls these
    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        from . import fastpath

        fastpath.tune_channel(chan)
        self._chan = chan
        chan.set_write_buffer_limits(high=WRITE_BUFFER_BYTES, low=WRITE_BUFFER_BYTES // 4)

    def session_started(self) -> None:
        pass

    def data_received(self, data: bytes, datatype: int | None) -> None:
        if datatype is None:
            self.input_received(data)
        else:
            self.stderr_received(data)

    def pause_writing(self) -> None:
        self._full = True
        self._pause_or_resume()

    def resume_writing(self) -> None:
        self._full = False
        self._pause_or_resume()

    def eof_received(self) -> bool:
        return False

    def exit_status_received(self, status: int) -> None:
        self._status = status

    def exit_signal_received(self, signal: str, core_dumped: bool, msg: str, lang: str) -> None:
        self.stderr_received(f"\nkilled by signal {signal}".encode())

    def xon_xoff_requested(self, client_can_do: bool) -> None:
        pass

    def connection_lost(self, exc: Exception | None) -> None:
        self._congested = False
        self.ended(self._status)

    def _pause_input(self) -> None:
        if self._chan is not None:
            self._chan.pause_reading()

    def _resume_input(self) -> None:
        if self._chan is not None and not self._chan.is_closing():
            self._chan.resume_reading()


class SshConnection:
    """One authenticated connection; `connect` makes it."""

    def __init__(self, connection: asyncssh.SSHClientConnection, host: str) -> None:
        self._connection = connection
        self._host = host
        self._congested = False
        self._channels: collections.deque[SshChannel] = collections.deque()
        # asyncio tells asyncssh's connection when its socket takes no more, and that does nothing about it: megabytes
        # would pile up, and what control agents are asked would wait behind them.
        vars(connection).update(pause_writing=self._pause_writing, resume_writing=self._resume_writing)
        link = connection.get_extra_info("socket")
        if link is not None and hasattr(socket, "TCP_NOTSENT_LOWAT"):
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)

    @property
    def cipher(self) -> str:
        """The cipher that was agreed upon."""
        return str(self._connection.get_extra_info("send_cipher", ""))

    @property
    def lost(self) -> bool:
        """Whether the connection has gone."""
        return self._connection.is_closed()

    async def open_channel(self, command: str, *, receives: bool = False) -> SshChannel:
        """Run ``command`` in a new session; `ChannelRefused`, or `ConnectError` when the connection has gone.

        ``receives`` says that much will come over it.
        """
        import asyncssh

        from . import fastpath

        tuned = isinstance(self._connection, fastpath.FastConnection)
        window = MAX_RECEIVE_WINDOW_BYTES if receives and not tuned else WINDOW_BYTES
        seconds = 0.0
        try:
            # An SshChannel has every callback of SSHClientSession; asyncssh asks for no more than that.
            opening = self._connection.create_session(
                cast(Any, SshChannel), command, encoding=None, window=window, max_pktsize=MAX_PACKET_BYTES
            )
            if receives and tuned:
                (chan, session), seconds = await fastpath.with_round_trip(self._connection, opening)
            else:
                chan, session = await opening
        except asyncssh.ChannelOpenError as error:
            if self.lost:
                raise ConnectError(f"The connection to {self._host} was lost.") from error
            raise ChannelRefused(
                f"sshd on {self._host} opens no session ({error.reason}): MaxSessions in its sshd_config may allow "
                f"none, or its log says why."
            ) from error
        except (asyncssh.Error, OSError) as error:
            raise ConnectError(f"The connection to {self._host} was lost: {error}.") from error
        channel = cast(SshChannel, session)
        if seconds:
            best = int(RECEIVE_BYTES_PER_SECOND * seconds)
            fastpath.widen(chan, min(max(best, WINDOW_BYTES), MAX_RECEIVE_WINDOW_BYTES))
        self._channels.append(channel)
        channel.congest(self._congested)
        return channel

    def _pause_writing(self) -> None:
        self._congested = True
        for channel in self._channels:
            channel.congest(True)

    def _resume_writing(self) -> None:
        """Let the channels go on, another one first each time: it may fill the socket again by itself."""
        self._congested = False
        self._channels.rotate(-1)
        for channel in tuple(self._channels):
            channel.congest(self._congested)

    async def close(self) -> None:
        """Disconnect. Never fails."""
        self._connection.close()
        try:
            await asyncio.wait_for(self._connection.wait_closed(), CLOSE_SECONDS)
        except TimeoutError:
            self._connection.abort()


class SshOpener:
    """Opens channels to ``command`` over one connection, which is made when the first is asked for.

    ``receives`` says that much will come from there: the channels get a receive window as large as the way is long.
    """

    def __init__(self, options: SshOptions, command: str, *, receives: bool = False) -> None:
        self._options = options
        self._command = command
        self._receives = receives
        self._connection: SshConnection | None = None
        self._connecting = asyncio.Lock()

    @property
    def lost(self) -> bool:
        """Whether the connection was made and has gone."""
        return self._connection is not None and self._connection.lost

    @property
    def cipher(self) -> str:
        """The connection's cipher."""
        return self._connection.cipher if self._connection else ""

    async def open(self) -> Channel:
        """A new session; `ChannelRefused` when sshd has no more, `ConnectError` when it cannot be reached."""
        async with self._connecting:
            if self._connection is None:
                self._connection = await connect(self._options)
        return await self._connection.open_channel(self._command, receives=self._receives)

    async def close(self) -> None:
        """Disconnect. Never fails."""
        if self._connection is not None:
            await self._connection.close()


async def connect(options: SshOptions) -> SshConnection:
    """Connect, check the host's key and log in; `ConnectError` says in one sentence what went wrong and what to do."""
    import asyncssh

    from . import fastpath

    with _told(options):
        connection = await asyncssh.connect(options.host, **_arguments(options))
    fastpath.tune(connection)
    return SshConnection(connection, options.host)


@contextlib.contextmanager
def _told(options: SshOptions) -> Iterator[None]:
    """Make a `ConnectError` of what may go wrong when a connection is made."""
    import asyncssh

    host = options.host
    try:
        yield
    except asyncssh.HostKeyNotVerifiable as error:
        raise HostKeyError(_host_key_problem(options, str(error.reason))) from error
    except asyncssh.PermissionDenied as error:
        raise LoginError(_login_problem(options)) from error
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
        raise LoginError(f"The key {options.identity or 'in ssh_config'} cannot be used: {error}.") from error
    except asyncssh.ConfigParseError as error:
        raise UsageError(f"The SSH configuration cannot be read: {error}.") from error
    except socket.gaierror as error:
        raise ConnectError(f"There is no host {host}: {error.strerror}; check the name, or ~/.ssh/config.") from error
    except TimeoutError as error:
        raise ConnectError(f"{host} did not answer within {CONNECT_SECONDS:.0f} seconds.") from error
    except asyncssh.Error as error:
        raise ConnectError(f"The SSH connection to {host} failed: {error.reason or error}.") from error
    except (OSError, ValueError) as error:
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        raise ConnectError(f"{host} cannot be reached: {reason}.") from error


def _arguments(options: SshOptions) -> dict[str, Any]:
    """What asyncssh is told: the user's choices, and ours where neither they nor ssh_config say otherwise."""
    import asyncssh

    arguments: dict[str, Any] = {
        "compression_algs": None,
        "agent_forwarding": False,
        "x11_forwarding": False,
        "password_auth": False,
        "kbdint_auth": False,
        "connect_timeout": CONNECT_SECONDS,
        "login_timeout": CONNECT_SECONDS,
        "keepalive_interval": KEEPALIVE_SECONDS,
        "keepalive_count_max": KEEPALIVE_COUNT,
        "rekey_bytes": REKEY_BYTES,
        "config": _config_files(options),
    }
    for name, value in (("username", options.user), ("port", options.port)):
        if value is not None:
            arguments[name] = value
    if options.identity is not None:
        arguments["client_keys"] = [str(options.identity)]
    if options.own_key:
        arguments["agent_path"] = None
    configured = asyncssh.SSHClientConnectionOptions(host=options.host, **arguments)
    if configured.encryption_algs == asyncssh.SSHClientConnectionOptions(config=None).encryption_algs:
        arguments["encryption_algs"] = _CIPHERS
    arguments["known_hosts"] = host_keys(configured, options.pins).argument
    return arguments


def _config_files(options: SshOptions) -> list[str]:
    if options.config is not None:
        if not options.config.is_file():
            raise UsageError(f"There is no SSH configuration {options.config}.")
        return [str(options.config)]
    files = (Path("~/.ssh/config").expanduser(), Path("/etc/ssh/ssh_config"))
    return [str(path) for path in files if path.is_file() and os.access(path, os.R_OK)]


def _host_key_problem(options: SshOptions, reason: str) -> str:
    host = options.host
    if "revoked" in reason.lower():
        return f"The host key of {host} is marked as revoked in known_hosts: do not connect to it."
    if known_keys(options).pinned:
        return (
            f"The host key of {host} is not the one that is pinned in {options.pins}: find out why it has changed; "
            f"when that is right, remove its line there, and run 'zfsync key setup' again."
        )
    ssh = f"ssh -p {options.port} {host}" if options.port else f"ssh {host}"
    return (
        f"The host key of {host} is not the one in known_hosts, or none is there for it: if you have not connected "
        f"before, run '{ssh}' once and check the fingerprint; if you have, find out why the key has changed."
    )


def _login_problem(options: SshOptions) -> str:
    who = f"{options.user}@{options.host}" if options.user else options.host
    if options.own_key:
        return (
            f"{who} refused the job's key {options.identity}: put its line into the account's authorized_keys there, "
            f"which 'zfsync key setup' prints, or does with --install."
        )
    return (
        f"{who} refused every key that was offered: put the public key into the account's authorized_keys there, "
        f"load the private key into ssh-agent, or name it with --identity."
    )


# ---- the host's key, before it is trusted ----------------------------------------------------------------------------

HOST_KEY_KINDS = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa")


def known_keys(options: SshOptions) -> HostKeys:
    """What is known of the host's key; nothing is connected to."""
    import asyncssh

    with _told(options):
        arguments = _arguments(options)
        return host_keys(asyncssh.SSHClientConnectionOptions(host=options.host, **arguments), options.pins)


async def fetch_host_key(options: SshOptions, kinds: Sequence[str] = HOST_KEY_KINDS) -> str:
    """The key that the host shows, of the first of ``kinds`` that it has. Nobody has checked it."""
    import asyncssh

    names = [name for kind in kinds for name in (("rsa-sha2-512", "rsa-sha2-256") if kind == "ssh-rsa" else (kind,))]
    with _told(options):
        async with asyncio.timeout(CONNECT_SECONDS):
            key = await asyncssh.get_server_host_key(
                options.host,
                () if options.port is None else options.port,
                config=_config_files(options),
                server_host_key_algs=names,
            )
    if key is None:
        raise ConnectError(f"{options.host} shows no host key.")
    return plain(key)
