"""The ends of a run that a location and the way there come to. Nothing is connected to yet."""

from __future__ import annotations

import os
import socket
import sys
from datetime import UTC, datetime

from . import bootstrap, keys
from .buffer import check_buffer, default_buffer
from .channel import LocalOpener
from .dataset import Host, check_name
from .endpoint import ChannelOpener, Endpoint
from .errors import UsageError
from .location import Location, Way
from .policy import Policy
from .remembered import Remembered
from .remote_source import AgentSource
from .source import LocalSource, Source
from .state import state_directory
from .transport import SshOpener, SshOptions


def source_at(way: Way, place: Location, *, limited: bool = False) -> Source:
    """The end that sends, here or on another host; ``limited`` says that its streams have a limited rate."""
    if not place.host:
        return LocalSource(place.dataset)
    return AgentSource(endpoint_at(way, place, "", receives=not limited))


def endpoint_at(way: Way, place: Location, buffer: str, *, receives: bool = False) -> Endpoint:
    """The end of a run that is behind agents; a source has no ``buffer``.

    ``receives`` says that much will come from there, as fast as it can: a large window is good for that alone.
    """
    if way.identity is not None and not way.identity.is_file():
        raise UsageError(f"There is no key {way.identity}.")
    zfs = ("sudo", "-n", "zfs") if way.sudo and place.host else ("zfs",)
    opener: ChannelOpener
    if place.host:
        ssh = ssh_options(way, place)
        pythons = (way.remote_python,) if way.remote_python else bootstrap.PYTHONS
        opener = SshOpener(ssh, bootstrap.command(pythons), receives=receives)
    else:
        opener = LocalOpener(bootstrap.command((sys.executable, *bootstrap.PYTHONS)))
    return Endpoint(opener, Host(place.host), place.dataset, buffer, zfs)


def ssh_options(way: Way, place: Location) -> SshOptions:
    """The way to another host, with the key of the job whose way it is."""
    own = keys.own_key(way.job) if way.identity is None else None
    return SshOptions(
        place.host,
        place.user,
        way.port,
        own or way.identity,
        way.ssh_config,
        own_key=own is not None,
        pins=keys.known_hosts(),
    )


def buffer_of(target: str, buffer: str | None) -> str:
    """The buffer of the dataset ``target``, which the user may have named, checked."""
    buffer = check_name(buffer or default_buffer(target))
    problem = check_buffer(target, buffer)
    if problem:
        raise UsageError(f"{buffer} cannot be the buffer: {problem}.")
    return buffer


def remembered(source: Location, target: Location, policy: Policy) -> tuple[Remembered, Remembered] | None:
    """What earlier runs have listed of these two, where the plan may be made of it."""
    if not policy.may_recall:
        return None
    directory = state_directory() / "remembered"
    return Remembered(directory, source.shown), Remembered(directory, target.shown)


def owner() -> str:
    """Who holds a lock, for those who find it taken."""
    since = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return f"zfsync on {socket.gethostname()}, pid {os.getpid()}, since {since}"
