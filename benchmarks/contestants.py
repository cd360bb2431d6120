"""Who takes part, and by what command line. Pure.

Each brings ``tank/X`` up to date at ``receiver:pool/X``, with its own defaults but where these would be no comparison:
none takes snapshots of its own, and bzfs gets as many threads as zfsync has channels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be brought up to date: ``base`` is the newest snapshot that is there already, if one is."""

    source: str
    target: str
    last: str
    base: str = ""
    channels: int = 4


@dataclass(frozen=True, slots=True)
class Contestant:
    """``script`` is what it runs at the sender, for bash."""

    name: str
    script: Callable[[Job], str]
    title: str
    before: str = ""
    """Comes before each run, and is not measured."""


def zfsync(job: Job) -> str:
    """zfsync as it is."""
    return f"zfsync push --channels {job.channels} {job.source} receiver:{job.target}"


def listing_all(job: Job) -> str:
    """zfsync that lists what it remembers all the same, as in a first run."""
    return zfsync(job) + " --list-all"


PATH = "$(grep -o 'PYTHONPATH=[^ ]*' $(command -v zfsync) | cut -d= -f2)"
"""Where the lab has put zfsync and what it needs."""


def waiting(job: Job) -> str:
    """zfsync whose children always wait until their parents have arrived, instead of in the buffer."""
    return zfsync(job) + " --buffer-behind 1000T"


def buffering(job: Job) -> str:
    """zfsync whose children never wait for their parents."""
    return zfsync(job) + " --buffer-behind 0"


def syncoid(job: Job) -> str:
    """syncoid, which would else take a snapshot of each dataset first."""
    return f"syncoid --recursive --no-sync-snap {job.source} root@receiver:{job.target}"


def bzfs(job: Job, *options: str) -> str:
    """bzfs, with as many threads as zfsync has channels."""
    words = ("--recursive", f"--threads={job.channels}", *options)
    return f"PYTHONPATH=/opt/bzfs python3 -m bzfs_main.bzfs {job.source} root@receiver:{job.target} {' '.join(words)}"


def bzfs_cached(job: Job) -> str:
    """bzfs that remembers when it saw a dataset's snapshots change."""
    return bzfs(job, "--cache-snapshots")


def pipe(job: Job) -> str:
    """What everybody begins with."""
    base = f"-I @{job.base} " if job.base else ""
    return f"zfs send -R {base}{job.source}@{job.last} | ssh receiver zfs receive -u {job.target}"


def limit(job: Job) -> str:
    """No contestant but what nobody can do without: all snapshots of both sides listed, side by side."""
    listing = "zfs list -Hprt snapshot,bookmark -o name,guid,createtxg"
    return f"{listing} {job.source} >/dev/null & ssh receiver {listing} {job.target} | cat >/dev/null; wait $!"


ZFSYNC = Contestant("zfsync", zfsync, "zfsync")
LISTING_ALL = Contestant("listing-all", listing_all, "zfsync, all listed")
WAITING = Contestant("waiting", waiting, "zfsync without its buffer")
BUFFERING = Contestant("buffering", buffering, "zfsync, all through the buffer")
SYNCOID = Contestant("syncoid", syncoid, "syncoid")
NO_CONNECTION = "! pkill -f '^ssh: .*mux.$' || sleep 0.5"
"""bzfs leaves its connection to the next run, if that comes within 90 seconds: from cron it does not."""
BZFS = Contestant("bzfs", bzfs, "bzfs", NO_CONNECTION)
BZFS_CACHED = Contestant("bzfs-cached", bzfs_cached, "bzfs, warm cache", NO_CONNECTION)
BZFS_CONNECTED = Contestant("bzfs-connected", bzfs_cached, "bzfs, warm cache, connection left")
PIPE = Contestant("pipe", pipe, "`-R` pipe")
LIMIT = Contestant("limit", limit, "two listings")
