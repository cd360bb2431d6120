"""Programs that compress a stream on its way: which there are, how they are called, and what their failure is called.

A filter is named on the wire, by one of the names here; its command line never comes from there.

Also shipped to the far end: standard library only, Python >= 3.8.
"""

from __future__ import annotations

import os
from typing import Dict, NamedTuple, Tuple

from .errors import RemoteProtocolError
from .process import Completed, environment

_SIGPIPE = 13  # signal.SIGPIPE, everywhere; its module takes longer to import than this one


class Filter(NamedTuple):
    """The command lines of one program, from stdin to stdout: at the source, and at the target."""

    compress: Tuple[str, ...]
    decompress: Tuple[str, ...]


FILTERS: Dict[str, Filter] = {
    "zstd": Filter(("zstd", "-q", "-c", "-1", "-T1"), ("zstd", "-dcq")),
    "lz4": Filter(("lz4", "-q", "-c", "-1"), ("lz4", "-dcq")),
}
"""By the program's name, the better first."""


def named(name: str) -> Filter:
    """The filter of a name that came over the wire; for the empty one, a filter without commands."""
    if not name:
        return Filter((), ())
    if name not in FILTERS:
        raise RemoteProtocolError("received the name of an unknown filter, %r" % name)
    return FILTERS[name]


def installed() -> Tuple[str, ...]:
    """The filters whose programs are here. Looked for as a shell would, without starting anything."""
    directories = environment()["PATH"].split(":")
    return tuple(
        name for name in FILTERS if any(os.access(os.path.join(path, name), os.X_OK) for path in directories if path)
    )


def complaint(done: Completed, program: str) -> str:
    """Why a filter failed, as the end of a sentence; empty when it did not."""
    if done.status == 0:
        return ""
    said = done.stderr.strip().splitlines()
    if done.status < 0:
        how = "killed by signal %d" % -done.status
    else:
        how = said[-1].strip() if said else "status %d" % done.status
    return "%s, which the stream goes through, failed: %s" % (program, how)


def gave_way(done: Completed) -> bool:
    """Whether a filter ended only because what reads from it had ended before."""
    return done.status == -_SIGPIPE or (done.status > 0 and "Broken pipe" in done.stderr)
