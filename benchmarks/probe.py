#!/usr/bin/env python3
"""Runs on each machine of a benchmark, for as long as it goes on: runs commands there and reads what they have cost.

One JSON object a line: a question on stdin, its answer on stdout. Standard library only. No process is started to
answer, but the command that is asked for, and nothing is sampled while a time is taken, but where that is asked for.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

TICKS = os.sysconf("SC_CLK_TCK")
SAMPLE_SECONDS = 0.05


def read() -> dict[str, float]:
    """CPU seconds that this machine has been busy for, and processes and threads it has started, since its boot."""
    lines = dict(line.partition(" ")[::2] for line in Path("/proc/stat").read_text().splitlines())
    user, nice, system, _, _, irq, softirq = map(int, lines["cpu"].split()[:7])
    return {"cpu": (user + nice + system + irq + softirq) / TICKS, "processes": int(lines["processes"])}


def pids() -> set[str]:
    """The processes that there are."""
    return {path.name for path in Path("/proc").iterdir() if path.name.isdigit()}


def memory(but: set[str]) -> tuple[int, int]:
    """KiB of memory of the processes' own, all together, and the largest resident set, of those not in ``but``."""
    own = largest = 0
    for pid in pids() - but:
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            continue
        values = dict(line.partition(":")[::2] for line in status.splitlines())
        own += int(values.get("RssAnon", "0").split()[0])
        largest = max(largest, int(values.get("VmRSS", "0").split()[0]))
    return own, largest


class Sampler:
    """Watches the memory of whatever is started from now on."""

    def __init__(self) -> None:
        self._but = pids()
        self._ended = threading.Event()
        self._series: list[tuple[float, int, int]] = []
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        begun = time.monotonic()
        while not self._ended.wait(SAMPLE_SECONDS):
            self._series.append((time.monotonic() - begun, *memory(self._but)))

    def end(self) -> dict[str, Any]:
        """The highest of both, and how they went."""
        self._ended.set()
        self._thread.join()
        thinned = self._series[:: max(1, len(self._series) // 100)]
        return {
            "own": max((own for _, own, _ in self._series), default=0),
            "largest": max((largest for _, _, largest in self._series), default=0),
            "series": [[round(when, 2), own, largest] for when, own, largest in thinned],
        }


def run(argv: list[str], until: str, timeout: float) -> dict[str, Any]:
    """Run a command: how long it took, its status, its last words; and when it first printed ``until``."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    seen = 0.0
    with subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    ) as process:
        assert process.stdout is not None
        timer = threading.Timer(timeout, lambda: os.killpg(process.pid, 9))
        timer.start()
        tail = b""
        for line in process.stdout:
            if until and not seen and until.encode() in line:
                seen = time.monotonic() - begun
            tail = (tail + line)[-2000:]
        status = process.wait()
        timer.cancel()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    seconds = time.monotonic() - begun
    return {"seconds": seconds, "status": status, "until": seen, "used": used, "tail": tail.decode("utf-8", "replace")}


def main() -> None:
    """Answer until the end of input."""
    sampler: Sampler | None = None
    for line in sys.stdin:
        question = json.loads(line)
        answer: dict[str, Any] = {}
        if question["do"] == "read":
            answer = read()
        elif question["do"] == "run":
            answer = run(question["argv"], question.get("until", ""), question["timeout"])
        elif question["do"] == "sample":
            sampler = Sampler()
        elif question["do"] == "sampled" and sampler is not None:
            answer, sampler = sampler.end(), None
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
