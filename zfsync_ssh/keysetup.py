"""What `zfsync key setup` does: trusts a host's key, makes the job's own, and ties it to one tree at the far end."""

from __future__ import annotations

import asyncio
import json
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from . import bootstrap, keys
from .agent import skip_noise
from .channel import Channel
from .config import Job
from .dataset import Host, child_of
from .errors import AgentError, ConnectError, HostKeyError, UsageError
from .location import Location, Way
from .reach import endpoint_at
from .ssh_keys import HostKeys, new_key, public_key
from .ssh_lines import fingerprint, kind_of
from .transport import HOST_KEY_KINDS, SshOpener, SshOptions, fetch_host_key, known_keys

ANSWER_SECONDS = 60.0


def ends_at(job: Job, place: Location) -> tuple[Location, ...]:
    """The ends of ``job`` that a key confined to ``place`` reaches; `UsageError` when it has others at that host."""
    ends = (job.source, *job.targets)
    there = tuple(end for end in ends if (end.user, end.host) == (place.user, place.host))
    if not there:
        known = ", ".join(end.shown for end in ends)
        raise UsageError(f"Job {job.name} has nothing to do with {place.shown}: it goes between {known}.")
    for end in there:
        if child_of(place.dataset, end.dataset) is None:
            raise UsageError(
                f"Job {job.name} goes to {end.shown}, which is not in {place.dataset}: name that dataset, or one above "
                f"all that the job reaches there, for a key is tied to one tree of a host."
            )
    return there


# ---- the host's key --------------------------------------------------------------------------------------------------


class Trust(Enum):
    """Why a host's key is trusted."""

    PINNED = "it is pinned already"
    KNOWN = "your known_hosts has it"
    EXPECTED = "it has the fingerprint that you gave"
    UNKNOWN = ""


@dataclass(frozen=True, slots=True)
class Shown:
    """The key that a host shows, and why it can be trusted."""

    host: str
    entry: str
    """The host, as known_hosts names it."""
    key: str
    trust: Trust

    @property
    def kind(self) -> str:
        """Its type, such as ED25519."""
        return kind_of(self.key)

    def __str__(self) -> str:
        return f"{self.kind} {fingerprint(self.key)}"


def judge(host: str, shown: str, known: HostKeys, expected: str) -> Trust:
    """Why the key that ``host`` shows can be trusted; `HostKeyError` when it must not be.

    ``expected`` is the fingerprint that the user knows by another way, or empty.
    """
    what = f"{kind_of(shown)} {fingerprint(shown)}"
    if expected and fingerprint(shown) != expected:
        raise HostKeyError(f"{host} shows the host key {what}, and not {expected}: do not trust it.")
    if known.pinned:
        if shown in known.pinned:
            return Trust.PINNED
        was = " or ".join(f"{kind_of(key)} {fingerprint(key)}" for key in known.pinned)
        raise HostKeyError(
            f"The host key of {host} has changed: {was} is pinned in {keys.known_hosts()}, and it shows {what}; find "
            f"out why, and if that is right, remove its line there first."
        )
    if shown in known.known:
        return Trust.KNOWN
    if expected:
        return Trust.EXPECTED
    if known.known:
        raise HostKeyError(
            f"{host} shows the host key {what}, and your known_hosts has another one for it: find out why; if that is "
            f"right, give it as --host-key."
        )
    return Trust.UNKNOWN


async def look_at_host(options: SshOptions, expected: str) -> Shown:
    """Fetch the host's key, of a type that is known for it if there is one; nobody logs in."""
    known = known_keys(options)
    kinds = tuple(dict.fromkeys(key.split()[0] for key in known.pinned or known.known))
    shown = await fetch_host_key(options, (*kinds, *HOST_KEY_KINDS))
    if expected and not known.pinned:
        for kind in HOST_KEY_KINDS:  # the fingerprint may be that of another key of the host
            if fingerprint(shown) == expected:
                break
            if kind != shown.split()[0]:
                shown = await _of_kind(options, kind) or shown
    return Shown(options.host, known.entry, shown, judge(options.host, shown, known, expected))


async def _of_kind(options: SshOptions, kind: str) -> str:
    try:
        return await fetch_host_key(options, (kind,))
    except ConnectError:  # it has none
        return ""


# ---- the job's key ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class JobKey:
    """The key of a job: its file, and its public half, type and base64."""

    path: Path
    public: str
    comment: str
    made: bool
    """Only now; otherwise it was there."""


def job_key(job: str) -> JobKey:
    """The key of a job, made if it has none."""
    comment = f"zfsync-{job}@{socket.gethostname()}"
    path = keys.key_of(job)
    if path.exists():
        return JobKey(path, public_key(path), comment, made=False)
    private, public = new_key(comment)
    return JobKey(keys.store_key(job, private, f"{public} {comment}"), public, comment, made=True)


# ---- the far end -----------------------------------------------------------------------------------------------------


class Account:
    """The account at the far end, by the user's own access to it: `zfsync_ssh.authorized` runs there."""

    def __init__(self, channel: Channel, host: Host) -> None:
        self._channel = channel
        self._host = host
        self._heard = b""

    @classmethod
    @asynccontextmanager
    async def opened(cls, options: SshOptions, python: str | None) -> AsyncIterator[Account]:
        """Log in, and start it."""
        opener = SshOpener(options, bootstrap.command((python,) if python else bootstrap.PYTHONS))
        account = cls(await opener.open(), Host(options.host))
        try:
            nonce = secrets.token_hex(16)
            account._channel.write(bootstrap.payload(nonce, bootstrap.INSTALLER))
            async with account._in_time():
                account._heard = await skip_noise(account._channel, bootstrap.Greeting(nonce), account._host)
            yield account
        finally:
            account._channel.close()
            await opener.close()

    async def find_zfsync(self, path: str | None) -> tuple[str, str]:
        """The path of zfsync there, and its version; empty when there is none. ``path`` is where it has to be."""
        found = await self._ask({"do": "find", "path": path or ""})
        return found["path"], found["version"]

    async def install(self, line: str, key: str) -> dict[str, str]:
        """Put ``line`` into authorized_keys: the ``file``, what it ``did`` (added, replaced, kept), ``old`` lines."""
        return await self._ask({"do": "install", "line": line, "key": key.split()[1]})

    async def _ask(self, question: dict[str, str]) -> dict[str, str]:
        self._channel.write(json.dumps(question).encode("ascii") + b"\n")
        async with self._in_time():
            while b"\n" not in self._heard:
                data = await self._channel.read()
                if not data:
                    raise AgentError(f"{self._host} did not answer: {self._channel.stderr.strip()[-200:]!r}.")
                self._heard += data
        line, _, self._heard = self._heard.partition(b"\n")
        try:
            answer = {str(name): str(value) for name, value in json.loads(line).items()}
        except (ValueError, AttributeError) as error:
            raise AgentError(f"{self._host} answered {line[:80]!r}: your own access to it is no shell.") from error
        if "problem" in answer:
            raise AgentError(f"The key was not installed at {self._host}, {answer['problem']}.")
        return answer

    @asynccontextmanager
    async def _in_time(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                yield
        except TimeoutError:
            raise AgentError(f"{self._host} did not answer within {ANSWER_SECONDS:.0f} seconds.") from None


async def confined(way: Way, place: Location) -> bool:
    """Log in with the key of the job whose way it is, and begin at ``place``; whether a confined receiver answers."""
    endpoint = endpoint_at(way, place, "")
    try:
        client, _ = await endpoint.open()
        return client.confined
    finally:
        await endpoint.close()
