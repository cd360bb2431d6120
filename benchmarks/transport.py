#!/usr/bin/env python3
"""Measures how zfsync moves streams, beside `zfs send | ssh | zfs receive`, without ZFS in the way.

    benchmarks/transport [--rounds N] [--megabytes N] [--json FILE] [--plot FILE] [CASE ...]

An OpenSSH sshd of its own on 127.0.0.1, `benchmarks/streamzfs.py` in place of zfs at both ends, `benchmarks/link.py`
between them where a delay or a limited rate is wanted; and the real `zfsync` and `ssh`, with the same cipher. Rates are
those that the sink sees from its first byte to its last. CPU seconds are user and system of all processes of an end but
zfs. The contestants run in turn, after a round that is not counted; figures are medians, ratios are those of pairs.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import link, report, streamzfs
from tests.fakezfs import State
from tests.lab.driver.process import adopt_orphans, children_of
from tests.ssh.processes import children, eventually
from tests.ssh.site import Keys, Site, prepare_machine
from zfsync_ssh import bootstrap
from zfsync_ssh.agent import AgentClient
from zfsync_ssh.buffer import SUFFIX
from zfsync_ssh.dataset import Host
from zfsync_ssh.endpoint import Endpoint
from zfsync_ssh.errors import AgentError, LocalProtocolError
from zfsync_ssh.events import Event, Opened
from zfsync_ssh.messages import Apply, Hello
from zfsync_ssh.orchestrator import Options, Replication
from zfsync_ssh.policy import Policy
from zfsync_ssh.source import LocalSource
from zfsync_ssh.transport import SshOpener, SshOptions

CIPHER = "aes128-gcm@openssh.com"
HOST = "127.0.0.1"
CHANNELS = 8
RTTS = (0, 20, 100)
CONTROL_RATE = 40_000_000
SMALL_BYTES = 64 << 10
MIB = 1 << 20
LONG_GIB = 10


@dataclass(frozen=True)
class Run:
    """What one run took. ``rate`` is in MB/s; ``near_cpu`` and ``far_cpu`` are seconds, for each 10^9 bytes if many."""

    rate: float
    near_cpu: float
    far_cpu: float
    first_byte: float
    """Seconds from the start until the sink, or if there is none the end of the run, has come."""


class Bench:
    """Two machines that are this one, and what runs between them."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.sshd = site.sshd()
        self.ends = {"near": site.sender, "far": site.receiver}
        site.environment.pop("PYTHONDONTWRITEBYTECODE")
        os.environ.update(site.environment)
        for name, state in self.ends.items():
            command = [sys.executable, "-I", "-S", streamzfs.__file__, state.path]
            site.script(f"{name}/zfs", f'exec {shlex.join(command)} "$@"')

    def prepare(self, megabytes: int) -> None:
        """Let both machines have the sources, and neither a target; forget what was timed."""
        for state in self.ends.values():
            for path in (state.path, state.path + ".times"):
                Path(path).unlink(missing_ok=True)
            new = State(state.path)
            new.create(self.site.pool)
            for name, size in (("src/big", megabytes * MIB), ("src/small", SMALL_BYTES)):
                new.create(name)
                new.snapshot(f"{name}@1", size)
            new.create("src/many")
            for number in range(CHANNELS):
                new.create(f"src/many/d{number}")
                new.snapshot(f"src/many/d{number}@1", megabytes * MIB // CHANNELS)

    def times(self, end: str) -> list[dict[str, Any]]:
        """What the zfs of an end has written down."""
        path = Path(self.ends[end].path + ".times")
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    @property
    def _far_cpu(self) -> float:
        """Of all that sshd has started so far and waited for, which is all that has ended."""
        eventually("sshd has nothing to do", lambda: not children(self.sshd.pid))
        fields = Path(f"/proc/{self.sshd.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")

    def run(self, argv: list[str], megabytes: int, watch: Callable[[int], None] = lambda pid: None) -> Run:
        """Run a command that moves a stream, or none; ``watch`` is called with its pid."""
        self.prepare(megabytes)
        others = children_of(os.getpid())
        before, start = self._far_cpu, time.monotonic()
        with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
            watch(process.pid)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        taken = time.monotonic() - start
        # An agent of this machine outlives the shell that has started it, and so is nobody's but ours.
        left = [os.wait4(pid, 0)[2] for pid in children_of(os.getpid()) if pid not in others]
        near = sum(one.ru_utime + one.ru_stime for one in (usage, *left))
        if process.returncode:
            raise SystemExit(f"{shlex.join(argv)} ended with status {process.returncode}\n{self.sshd.log}")
        far = self._far_cpu - before
        near_zfs, far_zfs = self.times("near"), self.times("far")
        sinks = [line for line in near_zfs + far_zfs if line["verb"] == "receive" and line.get("bytes")]
        length = sum(line["bytes"] for line in sinks)
        gigabytes = length / 1e9 if length > MIB else 1
        first = min((line["first"] for line in sinks), default=start + taken)
        last = max((line["last"] for line in sinks), default=start + taken)
        return Run(
            1000 * gigabytes / (last - first) if length > MIB else 0,
            (near - sum(line["cpu"] for line in near_zfs)) / gigabytes,
            (far - sum(line["cpu"] for line in far_zfs)) / gigabytes,
            first - start,
        )

    # -- the contestants --

    def options(self, port: int) -> SshOptions:
        """The way to the far end by a port: sshd's, or a link's."""
        return SshOptions(HOST, None, port, self.site.keys.user, self.site.directory / "ssh_config")

    def zfsync(self, verb: str, source: str, port: int, *more: str) -> list[str]:
        """The real command."""
        local, far = f"{self.site.pool}/copy", f"{HOST}:"
        ends = [source, far + local] if verb == "push" else [far + source, local]
        way = ["--port", str(port), "--identity", str(self.site.keys.user)]
        way += ["--ssh-config", str(self.site.directory / "ssh_config")]
        return [sys.executable, "-m", "zfsync_ssh", verb, *ends, *way, "--quiet", "--no-bookmark", *more]

    def ssh(self, port: int, command: str, *more: str) -> str:
        """The stock client, as a line of shell."""
        known = f"UserKnownHostsFile={os.environ['HOME']}/.ssh/known_hosts"
        options = ["-F", "none", "-o", known, "-i", str(self.site.keys.user), "-p", str(port), *more]
        return shlex.join(["ssh", *options, HOST, command])

    def pipe(self, verb: str, source: str, port: int, cipher: str = CIPHER) -> list[str]:
        """`zfs send | ssh | zfs receive`."""
        send, receive = f"zfs send {source}@1", f"zfs receive {self.site.pool}/copy"
        options = ("-c", cipher) if cipher else ()
        if verb == "push":
            line = f"{send} | {self.ssh(port, receive, *options)}"
        else:
            line = f"{self.ssh(port, send, *options)} | {receive}"
        return ["sh", "-c", line]

    @contextlib.contextmanager
    def link(self, rtt: int = 0, rate: int = 0) -> Iterator[int]:
        """The port of a line to sshd; sshd's own for one without a delay and a limit."""
        if not rtt and not rate:
            yield self.sshd.port
            return
        argv = [sys.executable, link.__file__, str(self.sshd.port), "--rtt", str(rtt), "--rate", str(rate)]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            self.site.trust(self.site.keys.host, port)
            yield port


# ---- cases -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """What came out: the figures of each contestant, round by round, or figures of one run."""

    title: str
    rounds: dict[str, list[Run]]
    figures: dict[str, float]


def compare(title: str, rounds: int, contestants: dict[str, Callable[[], Run]]) -> Case:
    """Run the contestants in turn."""
    runs: dict[str, list[Run]] = {name: [] for name in contestants}
    for number in range(rounds + 1):
        for name, contestant in contestants.items():
            run = contestant()
            if number:
                runs[name].append(run)
                print(title, name, run, file=sys.stderr)
    return Case(title, runs, {})


def one_stream(bench: Bench, verb: str, rounds: int, megabytes: int) -> Case:
    """A large stream, beside the plain pipe with the same cipher, and with the one that ssh itself would choose."""
    port = bench.sshd.port
    return compare(
        f"one stream of {megabytes} MiB, {verb}",
        rounds,
        {
            "zfsync": lambda: bench.run(bench.zfsync(verb, "src/big", port), megabytes),
            "plain pipe": lambda: bench.run(bench.pipe(verb, "src/big", port), megabytes),
            "plain pipe, ssh's own cipher": lambda: bench.run(bench.pipe(verb, "src/big", port, ""), megabytes),
        },
    )


def far_away(bench: Bench, verb: str, rtt: int, channels: int, rounds: int) -> Case:
    """Streams over a line with a delay. The plain pipe sends less, and so takes about as long."""
    source = "src/many" if channels > 1 else "src/big"
    with bench.link(rtt) as port:
        argv = bench.zfsync(verb, source, port, "--channels", str(channels))
        return compare(
            f"{channels} streams at {rtt} ms, {verb}" if channels > 1 else f"one stream at {rtt} ms, {verb}",
            rounds,
            {
                "zfsync": lambda: bench.run(argv, 64 * channels if verb == "push" else 256),
                "plain pipe": lambda: bench.run(bench.pipe(verb, "src/big", port), 48),
            },
        )


def several(bench: Bench, rtt: int, rounds: int) -> Case:
    """Eight streams over a line with a delay or without, over 8, 4 and 1 channels, beside one plain pipe."""
    megabytes = 512 if rtt else 2048
    with bench.link(rtt) as port:

        def over(channels: int) -> Callable[[], Run]:
            argv = bench.zfsync("push", "src/many", port, "--channels", str(channels))
            return lambda: bench.run(argv, megabytes if channels > 1 or not rtt else megabytes // 4)

        contestants = {f"zfsync, {channels} channels": over(channels) for channels in (8, 4, 1)}
        pipe = bench.pipe("push", "src/big", port)
        contestants["plain pipe"] = lambda: bench.run(pipe, megabytes // 8 if rtt else megabytes // 2)
        return compare(f"8 streams at {rtt} ms", rounds, contestants)


def first_byte(bench: Bench, rtt: int, rounds: int) -> Case:
    """From the start of the command to the first byte of a stream, beside `ssh host true` and one listing."""
    with bench.link(rtt) as port:
        listing = ["zfs", "list", "-Hp", "-d0", "-t", "filesystem", "-o", "name", "src/small"]
        return compare(
            f"start to first byte at {rtt} ms",
            rounds,
            {
                "zfsync": lambda: bench.run(bench.zfsync("push", "src/small", port), 1),
                "ssh host true": lambda: bench.run(["sh", "-c", bench.ssh(port, "true")], 1),
                "zfs list": lambda: bench.run(listing, 1),
            },
        )


def control_round_trip(bench: Bench, rounds: int) -> Case:
    """How long the control agent's answer takes while all channels stream over a line of limited rate."""
    taken: list[float] = []
    with bench.link(rate=CONTROL_RATE) as port:
        for _ in range(rounds):
            bench.prepare(200)
            taken += asyncio.run(_ask_while_streaming(bench, port))
    taken.sort()
    figures = {"median": statistics.median(taken), "95 %": taken[len(taken) * 95 // 100], "most": taken[-1]}
    return Case(
        f"control round trip, {CHANNELS} busy channels at {CONTROL_RATE // 10**6} MB/s, ms ({len(taken)} asked)",
        {},
        {name: 1000 * value for name, value in figures.items()},
    )


async def _ask_while_streaming(bench: Bench, port: int) -> list[float]:
    root = f"{bench.site.pool}/copy"
    target = Remembering(SshOpener(bench.options(port), bootstrap.command()), Host(HOST), root, root + SUFFIX, ("zfs",))
    streaming = asyncio.Event()

    def observe(event: Event) -> None:
        if isinstance(event, Opened):
            streaming.set()

    options = Options(channels=CHANNELS, policy=Policy(bookmark=False))
    run = asyncio.create_task(Replication(LocalSource("src/many"), target, options, observe).run())
    taken = []
    await streaming.wait()
    await asyncio.sleep(1)
    with contextlib.suppress(LocalProtocolError, AgentError):  # the run has said goodbye to it
        while not run.done():
            start = time.monotonic()
            await target.opened[0].results(Apply(()))
            taken.append(time.monotonic() - start)
            await asyncio.sleep(0.05)
    if await run:
        raise SystemExit("the run beside which the control agent was asked has failed")
    return taken


class Remembering(Endpoint):
    """Knows its agents, the first of which is the control agent."""

    opened: list[AgentClient]

    async def begin(self) -> tuple[AgentClient, Coroutine[Any, Any, Hello]]:
        """See `Endpoint`."""
        client, hello = await super().begin()
        self.opened = [*getattr(self, "opened", ()), client]
        return client, hello


def memory(bench: Bench, gigabytes: int) -> Case:
    """Resident memory of zfsync and its agents over a long stream."""
    samples: list[tuple[float, float]] = []

    def watch(pid: int) -> None:
        threading.Thread(target=sample, args=(pid,), daemon=True).start()

    def sample(pid: int) -> None:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            while True:
                agents = [resident(agent.pid) for agent in bench.site.agents]
                samples.append((resident(pid), max(agents, default=0)))
                time.sleep(0.5)

    run = bench.run(bench.zfsync("push", "src/big", bench.sshd.port), gigabytes << 10, watch)
    figures = {f"MB/s over {gigabytes} GiB": run.rate}
    for percent in (20, 50, 90):
        for name, value in zip(("zfsync", "agent"), samples[len(samples) * percent // 100], strict=True):
            figures[f"{name} at {percent} %"] = value
    figures |= {"zfsync, most": max(near for near, _ in samples), "agent, most": max(far for _, far in samples)}
    return Case("resident memory, MiB", {}, figures)


def resident(pid: int) -> float:
    """MiB of a process that are in memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / MIB


def cases(bench: Bench, rounds: int, megabytes: int) -> dict[str, Callable[[], Case]]:
    """All of them, by name."""
    return {
        "push": lambda: one_stream(bench, "push", rounds, megabytes),
        "pull": lambda: one_stream(bench, "pull", rounds, megabytes),
        "push-far": lambda: far_away(bench, "push", 100, CHANNELS, rounds),
        "pull-far": lambda: far_away(bench, "pull", 100, 1, rounds),
        **{f"several-{rtt}": lambda rtt=rtt: several(bench, rtt, rounds) for rtt in RTTS},  # type: ignore[misc]
        "control": lambda: control_round_trip(bench, rounds),
        **{f"first-byte-{rtt}": lambda rtt=rtt: first_byte(bench, rtt, rounds) for rtt in RTTS},  # type: ignore[misc]
        "memory": lambda: memory(bench, LONG_GIB),
    }


# ---- tables ----------------------------------------------------------------------------------------------------------


def table(case: Case) -> str:
    """Of one case, in Markdown."""
    lines = [f"\n**{case.title}**\n"]
    if case.figures:
        lines += ["| | |", "|---|---:|", *(f"| {name} | {value:.3g} |" for name, value in case.figures.items())]
        return "\n".join(lines)
    lines += ["| | MB/s | zfsync/this, by pairs | CPU s/GB here | there | s to first byte |", "|---|" + "---:|" * 5]
    ours = next(iter(case.rounds.values()))
    for name, runs in case.rounds.items():
        rates = [run.rate for run in runs]
        if all(rates):
            ratio = [one.rate / other.rate for one, other in zip(ours, runs, strict=True)]
        else:  # nothing was sent: compare how long it took
            ratio = [one.first_byte / other.first_byte for one, other in zip(ours, runs, strict=True)]
        cells = [
            f"{statistics.median(rates):.0f}",
            f"{statistics.median(ratio):.2f} ({min(ratio):.2f} ... {max(ratio):.2f})",
            *(
                f"{statistics.median(values):.2f}"
                for values in zip(*((r.near_cpu, r.far_cpu) for r in runs), strict=True)
            ),
            f"{statistics.median(run.first_byte for run in runs):.3f}",
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def plot(cases: Sequence[Case], file: Path) -> None:
    """Throughput of eight streams against the round-trip time, by number of channels."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for case, rtt in zip(cases, RTTS, strict=True):
        for name, runs in case.rounds.items():
            lines.setdefault(name, []).append((rtt, statistics.median(run.rate for run in runs)))
    report.draw(lines, file, title="eight streams", x="round trip, ms", y="MB/s", logarithmic=False)


def conditions() -> dict[str, str]:
    """Under which it was measured."""
    ssh = subprocess.run(["ssh", "-V"], capture_output=True, text=True, check=True).stderr.strip()
    model = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "")
    return {
        "date": time.strftime("%Y-%m-%d"),
        "system": f"Linux {platform.release()}",
        "processors": f"{os.cpu_count()} x {model.partition(':')[2].strip()}",
        "python": platform.python_version(),
        "asyncssh": version("asyncssh"),
        "cryptography": version("cryptography"),
        "ssh": ssh,
    }


def make_keys(directory: Path) -> Keys:
    """A key for the host and one for the user."""
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", directory / name], check=True)
    return Keys(directory / "host", directory / "user", directory / "none")


def main() -> None:
    """See the top."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", nargs="*")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--megabytes", type=int, default=2048)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path, help="write the throughput of the cases several-... there, as SVG")
    options = parser.parse_args()
    prepare_machine()
    adopt_orphans()
    results: dict[str, Case] = {}
    with tempfile.TemporaryDirectory(prefix="zfsync-transport-") as name:
        directory = Path(name)
        bench = Bench(Site.make(directory, make_keys(directory), f"bench{os.getpid()}"))
        try:
            known = cases(bench, options.rounds, options.megabytes)
            print(", ".join(conditions().values()), f"medians of {options.rounds} rounds", sep=", ")
            for chosen in options.case or known:
                results[chosen] = known[chosen]()
                print(table(results[chosen]), flush=True)
        finally:
            with contextlib.redirect_stdout(sys.stderr if sys.exc_info()[0] else open(os.devnull, "w")):
                bench.site.end()
    if options.json:
        options.json.write_text(json.dumps([conditions(), *map(asdict, results.values())], indent=1) + "\n")
    if options.plot:
        plot([results[f"several-{rtt}"] for rtt in RTTS], options.plot)


if __name__ == "__main__":
    main()
