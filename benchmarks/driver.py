#!/usr/bin/env python3
"""Measures the small operations of ZFS through both drivers of zfsync: the command `zfs`, and libzfs_core.

    benchmarks/driver.py POOL [--rounds N] [--names N ...]

As root, on a machine where OpenZFS's own Python binding is installed; zfsync_ssh must be importable. It makes
POOL/zfsync-benchmark, destroys it at the end, and prints tables in Markdown. All figures are medians of the rounds of
one run, the drivers in turn. `benchmarks/driver` runs it on a machine of the lab.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from zfsync_ssh import driver, libzfs, lzc, zfs
from zfsync_ssh.process import PIPE_BYTES, Outputs, Receiver

TAG = "zfsync-benchmark"
PROCESS_ROUNDS = 15  # of what takes but one process

Step = Callable[[driver.Driver], object]


def sh(*argv: str) -> str:
    """What a command prints."""
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def milliseconds(step: Callable[..., object], *arguments: object) -> float:
    """How long a step takes, which must answer with nothing, or no failures."""
    start = time.perf_counter()
    failed = step(*arguments)
    taken = 1000 * (time.perf_counter() - start)
    if failed:
        raise SystemExit(f"failed: {failed}")
    return taken


def figure(times: list[float]) -> str:
    """The median, to three places at most."""
    median = statistics.median(times)
    return f"{median:.0f}" if median >= 20 else f"{median:.1f}" if median >= 1 else f"{median:.2f}"


def row(*cells: object) -> None:
    """A row of a table."""
    print("|", " | ".join(map(str, cells)), "|", flush=True)


def header(*titles: str) -> None:
    """The head of a table."""
    print()
    row(*titles)
    print("|---" + "|---:" * (len(titles) - 1) + "|")


# ---- operations on many names ----------------------------------------------------------------------------------------


class Operation(NamedTuple):
    """What is timed, and what has to be done before it, untimed."""

    title: str
    step: Step
    before: Callable[[], object] = lambda: None


def operations(root: str, count: int, fast: driver.Driver) -> Iterator[Operation]:
    """The operations on ``count`` names, in an order in which each finds what it needs and nothing is left."""
    datasets = [f"{root}/d{number:03}" for number in range(count)]
    apart = [f"{dataset}@a" for dataset in datasets]
    tree = [f"{dataset}@a" for dataset in (root, *datasets[1:])]
    marks = [(f"{dataset}#a", f"{dataset}@a") for dataset in datasets]
    of_one = [f"{root}@m{number}" for number in range(count)]

    def rename(chosen: driver.Driver, old: str, new: str) -> list[object]:
        return list(filter(None, (chosen.rename(name + old, name + new, "filesystem") for name in datasets)))

    yield Operation("`snapshot`", lambda chosen: chosen.snapshot(apart))
    yield Operation("`exists`, each", lambda chosen: [name for name in apart if not chosen.exists(name)])
    if count > 1:
        yield Operation("`hold`, of a tree", lambda chosen: chosen.hold(tree, TAG), lambda: fast.snapshot(tree[:1]))
        yield Operation("`release`, of a tree", lambda chosen: chosen.release(tree, TAG))
    yield Operation("`hold`, no tree", lambda chosen: chosen.hold(apart, TAG))
    yield Operation("`release`, no tree", lambda chosen: chosen.release(apart, TAG))
    yield Operation("`bookmark`", lambda chosen: chosen.bookmark(marks))
    yield Operation("`bookmark`, all there", lambda chosen: chosen.bookmark(marks))
    yield Operation("`destroy_bookmarks`", lambda chosen: chosen.destroy_bookmarks([mark for mark, _ in marks]))
    yield Operation("`destroy_snapshots`, of as many datasets", lambda chosen: chosen.destroy_snapshots(apart))
    yield Operation(
        "`destroy_snapshots`, of one dataset",
        lambda chosen: chosen.destroy_snapshots(of_one),
        lambda: [fast.destroy_snapshots(tree[:1]), [fast.snapshot([name]) for name in of_one]],
    )
    yield Operation("`rename`, each", lambda chosen: rename(chosen, "", "-new"))
    rename(fast, "-new", "")


def measure_operations(root: str, counts: list[int], rounds: int, cli: driver.Driver, lib: driver.Driver) -> None:
    """All operations, for all numbers of names, through both drivers."""
    sh("zfs", "create", "-p", "-o", "canmount=off", root)
    for number in range(max(counts)):
        sh("zfs", "create", f"{root}/d{number:03}")
    times: dict[tuple[str, int, str], list[float]] = {}
    for count in counts:
        for _ in range(rounds):
            for name, chosen in (("cli", cli), ("lib", lib)):
                for operation in operations(root, count, lib):
                    operation.before()
                    taken = milliseconds(operation.step, chosen)
                    times.setdefault((operation.title, count, name), []).append(taken)
    header("ms", *(f"{name} {count}" for count in counts for name in ("zfs", "library")))
    for title in dict.fromkeys(title for title, count, _ in times if count == max(counts)):
        cells = [times.get((title, count, name)) for count in counts for name in ("cli", "lib")]
        row(title, *(figure(cell) if cell else "" for cell in cells))


# ---- processes, and what the binding costs ---------------------------------------------------------------------------


def measure_starts(pool: str) -> None:
    """What a process costs here, an import, and the compiling of our own modules."""
    python = (sys.executable, "-I", "-c")
    binding = "import libzfs_core; libzfs_core.lzc_exists(b'x')"
    starts = {
        "a process that does nothing, `/bin/true`": ("/bin/true",),
        "`zfs list -d0 POOL`": ("zfs", "list", "-d0", pool),
        "`python3 -I -c pass`": (*python, "pass"),
        "the same, with `import subprocess`": (*python, "import subprocess"),
        "the same, with the binding and its first call": (*python, binding),
    }
    header("ms", "median")
    for title, argv in starts.items():
        row(title, figure([milliseconds(start, argv) for _ in range(PROCESS_ROUNDS)]))
    for name in ("blame", "libzfs", "driver"):
        path = Path(driver.__file__).with_name(f"{name}.py")
        compiled = [milliseconds(compile_only, path.read_text()) for _ in range(PROCESS_ROUNDS)]
        row(f"compiling `{name}.py`, as an agent does", figure(compiled))


def start(argv: Sequence[str]) -> None:
    """Run a command to its end."""
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)


def compile_only(source: str) -> None:
    """Compile a module's source."""
    compile(source, "module", "exec")


# ---- one small stream ------------------------------------------------------------------------------------------------


def measure_streams(root: str) -> None:
    """Send and receive of one small filesystem."""
    library = lzc.load(("zfs",))
    assert library is not None  # the binding has found it
    source = f"{root}/source"
    sh("zfs", "create", source)
    for name in "12":
        Path(f"/{source}/{name}").write_bytes(os.urandom(8 << 10))
        sh("zfs", "snapshot", f"{source}@{name}")
    steps = {
        "full": zfs.Stream(source, "1", flags=zfs.STREAM_FLAGS),
        "incremental": zfs.Stream(source, "2", "@1", single=True, flags=zfs.STREAM_FLAGS),
    }
    streams: dict[str, bytes] = {}
    header("ms, one step", "bytes", "`zfs send`", "library", "`zfs receive`", "library")
    times: dict[tuple[str, str, str], list[float]] = {}
    for number in range(PROCESS_ROUNDS):
        for kind in ("cli", "lib"):
            target, one = f"{root}/target-{kind}{number}", library if kind == "lib" else None
            for title, step in steps.items():
                begun = time.perf_counter()
                streams[title] = send(one, step)
                times.setdefault((title, kind, "send"), []).append(1000 * (time.perf_counter() - begun))
                taken = milliseconds(receive, one, f"{target}@{step.to}", streams[title])
                times.setdefault((title, kind, "receive"), []).append(taken)
            sh("zfs", "destroy", "-r", target)
    for title, stream in streams.items():
        cells = [figure(times[title, kind, what]) for what in ("send", "receive") for kind in ("cli", "lib")]
        row(title, len(stream), *cells)


def send(library: lzc.Library | None, step: zfs.Stream) -> bytes:
    """The stream, as an agent reads it."""
    sending = lzc.LibraryOutput(library, step) if library else Outputs([("zfs", *zfs.send(step))], PIPE_BYTES)
    with sending:
        return b"".join(sending)


def receive(library: lzc.Library | None, snapshot: str, stream: bytes) -> str:
    """As the agent does, with the properties of a root; what went wrong."""
    target, _, name = snapshot.partition("@")
    how = zfs.Reception((("readonly", "on"),) if name == "1" else ())
    receiver = Receiver(("zfs", *zfs.receive(target, how)), PIPE_BYTES)
    if library is not None:
        head = lzc.receives(stream, how)
        assert head is not None  # it is a plain stream
        receiver = lzc.LibraryReceiver(library, target, stream, head, how)
    with receiver:
        receiver.write(stream)
        return receiver.finish().stderr


def main() -> None:
    """See the top."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pool")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--names", type=int, nargs="+", default=[1, 20, 200])
    options = parser.parse_args()
    cli, lib = driver.CliDriver(("zfs",)), driver.choose(("zfs",))
    if not isinstance(lib, libzfs.LibDriver):
        raise SystemExit("OpenZFS's own Python binding is not usable here: install python3-pyzfs, and be root.")
    versions = sh("zfs", "version").split()
    print(time.strftime("%Y-%m-%d"), f"Linux {platform.release()}", *versions, f"Python {platform.python_version()}",
          f"{os.cpu_count()} processors", f"medians of {options.rounds} rounds", sep=", ")  # fmt: skip
    root = f"{options.pool}/zfsync-benchmark"
    try:
        measure_operations(root, options.names, options.rounds, cli, lib)
        measure_starts(options.pool)
        measure_streams(root)
    finally:
        subprocess.run(["zfs", "destroy", "-r", root], check=False)


if __name__ == "__main__":
    main()
