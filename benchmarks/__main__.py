"""The command line of the benchmark: which cases, how often, and where the results go.

`benchmarks/run` calls it. Everything is measured on two machines of the lab (tests/lab), which are brought up for it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from . import cases, large
from .contestants import BUFFERING, BZFS, BZFS_CACHED, BZFS_CONNECTED, LISTING_ALL, PIPE, SYNCOID, WAITING, ZFSYNC
from .rig import Rig, open_rig
from .rounds import Result, say

ALL = (SYNCOID, BZFS, BZFS_CACHED, BZFS_CONNECTED)
CACHED = (BZFS_CACHED, BZFS_CONNECTED)
"""Where something has changed, what is remembered is no help."""
RESULTS = Path(__file__).parent / "results"
SLOW = ("syncoid", "bzfs")
"""Peers that take minutes for some hundred datasets."""


def _cases(options: argparse.Namespace) -> dict[str, Callable[[Rig], Iterable[Result]]]:
    rounds: int = options.rounds
    peers = (ZFSYNC, *(peer for peer in ALL if peer.name not in options.without))

    def few(size: int) -> dict[str, int]:
        return dict.fromkeys(SLOW, options.slow_rounds) if size >= options.slow_from else {}

    def contestants(size: int) -> tuple[Any, ...]:
        return tuple(one for one in peers if one not in ALL or size <= options.peers_up_to)

    return {
        "unchanged": lambda rig: (
            cases.unchanged(rig, n, (*contestants(n), LISTING_ALL), rounds, few(n)) for n in options.datasets
        ),
        "changed": lambda rig: (
            cases.changed(rig, n, (*(c for c in contestants(n) if c not in CACHED), PIPE), rounds, few(n))
            for n in options.datasets
        ),
        "first": lambda rig: (
            cases.first(
                rig, n, (*(c for c in contestants(n) if c not in CACHED), WAITING, BUFFERING, PIPE), rounds, few(n)
            )
            for n in options.datasets
        ),
        "delayed": lambda rig: (
            case(rig, n, who, rounds, {}, options.rtt[-1])
            for case, who in ((cases.changed, (ZFSYNC, PIPE)), (cases.first, (ZFSYNC, WAITING, BUFFERING, PIPE)))
            for n in options.datasets
        ),
        "inventory": lambda rig: (cases.inventory(rig, rounds, *size) for size in cases.MANY),
        "first-byte": lambda rig: [cases.first_byte(rig, rounds)],
        "large": lambda rig: large.one_large(rig, options.mebibytes, rounds),
        "several": lambda rig: large.several_large(
            rig, options.mebibytes // 8, rounds, tuple(options.rtt), tuple(options.channels)
        ),
        "parent": lambda rig: [large.large_parent(rig, options.mebibytes // 8, rounds, options.rtt[-1])],
        "memory": lambda rig: [large.long_stream(rig, options.long_mebibytes)],
    }


def main() -> None:
    """See `benchmarks/run --help`."""
    parser = argparse.ArgumentParser(prog="benchmarks/run", description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE", help="which; all of them by default")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--datasets", type=int, nargs="+", default=[10, 50, 200], metavar="N")
    parser.add_argument(
        "--peers-up-to", type=int, default=200, metavar="N", help="datasets that the slow ones take part with"
    )
    parser.add_argument(
        "--slow-from", type=int, default=100, metavar="N", help="datasets from which on they have fewer rounds"
    )
    parser.add_argument("--slow-rounds", type=int, default=1, metavar="N", help="how many; they have no warm-up")
    parser.add_argument("--without", nargs="*", default=[], metavar="PEER")
    parser.add_argument("--rtt", type=int, nargs="+", default=[0, 20, 100], metavar="MS")
    parser.add_argument("--channels", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--mebibytes", type=int, default=256, help="of large datasets")
    parser.add_argument("--long-mebibytes", type=int, default=4096, help="of the stream whose memory is watched")
    parser.add_argument("--out", type=Path, help="where to write the results (a dated file in benchmarks/results)")
    options = parser.parse_args()
    known = _cases(options)
    chosen = options.cases or list(known)
    if unknown := [name for name in chosen if name not in known]:
        parser.error(f"there is no case {unknown[0]}: {', '.join(known)}")
    out = options.out or RESULTS / time.strftime("%Y-%m-%d.json")
    with open_rig() as rig:
        document: dict[str, Any] = {"about": about(rig), "rounds": options.rounds, "results": []}
        for name in chosen:
            for result in known[name](rig):
                document["results"].append(result.as_json())
                out.write_text(json.dumps(document, indent=1) + "\n")  # each, so that nothing is lost
                say(f"written to {out}")


def about(rig: Rig) -> dict[str, str]:
    """Date, machine and versions."""
    model = next(
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    )
    return {
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "lab": rig.lab.backend_name,
        "machine": f"{os.cpu_count()} processors ({model}), Linux {platform.release().partition('-')[0]}",
        "guest": rig.sender.sh("uname -sr").stdout.strip(),
        "zfs": " ".join(rig.sender.run(["zfs", "version"]).stdout.split()),
        "python": rig.sender.run(["python3", "--version"]).stdout.split()[1],
        "zfsync": rig.sender.run(["zfsync", "--version"]).stdout.split()[1],
        "syncoid": rig.sender.sh("syncoid --version | grep -om1 'version.*'").stdout.strip(),
        "bzfs": rig.sender.sh("PYTHONPATH=/opt/bzfs python3 -m bzfs_main.bzfs --version").stdout.strip(),
        "ssh": rig.sender.sh("ssh -V 2>&1").stdout.strip(),
    }


if __name__ == "__main__":
    main()
