"""Tables in Markdown and plots in SVG of what was measured.

    benchmarks/run report FILE ... [--plots DIRECTORY]

Of several files the later ones win, case by case. The tables go to stdout: docs/performance.md has them.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

from .rounds import Result

HEADINGS = (
    ("unchanged", "Nothing changed"),
    ("changed", "One small incremental in each dataset"),
    ("first", "First push of a deep tree of small datasets"),
    ("inventory", "Very many snapshots, until the plan is made"),
    ("first-byte", "Start to first byte"),
    ("push-large", "One large dataset, pushed"),
    ("pull-large", "One large dataset, pulled"),
    ("several-large", "Eight large datasets"),
    ("parent", "A large dataset with three below it"),
)
UNITS = {"datasets": "datasets", "snapshots": "snapshots", "MiB": "MiB", "rtt_ms": "ms round trip"}


def figure(value: float) -> str:
    """To three places at most."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def read(files: Iterable[Path]) -> list[Result]:
    """The results of all files; a later one replaces an earlier one of the same case and values."""
    found: dict[str, Result] = {}
    for file in files:
        for written in json.loads(file.read_text())["results"]:
            result = Result.from_json(written)
            found[f"{result.case} {result.values}"] = result
    return list(found.values())


def where(result: Result) -> str:
    """What tells a result from others of its case."""
    parts = [f"{value} {UNITS[key]}" for key, value in result.values.items() if value or key != "rtt_ms"]
    return ", ".join([*parts, f"load {min(result.load):.0f}-{max(result.load):.0f}"])


def tables(results: Sequence[Result]) -> Iterable[str]:
    """A table for each case."""
    for case, heading in HEADINGS:
        chosen = [result for result in results if result.case == case and result.samples]
        if not chosen:
            continue
        yield f"\n### {heading}\n"
        yield (
            "| | | rounds | median s (least - most) | times zfsync's | CPU s here, there | processes here, there "
            "| zfs here, there | own memory MiB here, there |"
        )
        yield "|---|---|---:|---:|---:|---:|---:|---:|---:|"
        for result in chosen:
            yield from rows(result)


def rows(result: Result) -> Iterable[str]:
    """A row for each contestant."""
    first = where(result)
    for name, samples in result.samples.items():
        seconds = [sample.until or sample.seconds for sample in samples]
        spread = f" ({figure(min(seconds))} - {figure(max(seconds))})" if len(seconds) > 1 else ""
        ratio = "" if name == "zfsync" else ratio_of(result, name)
        needs = result.needs.get(name)
        cells = [
            first, result.titles[name], str(len(samples)), figure(statistics.median(seconds)) + spread, ratio,
            pair(result.median(name, "cpu_here"), result.median(name, "cpu_there")),
            pair(result.median(name, "processes_here"), result.median(name, "processes_there")),
            f"{needs.zfs_here}, {needs.zfs_there}" if needs else "",
            pair(needs.own_here / 1024, needs.own_there / 1024) if needs else "",
        ]  # fmt: skip
        yield "| " + " | ".join(cells) + " |"
        first = ""


def ratio_of(result: Result, name: str) -> str:
    """The median of the ratios, round by round, to zfsync."""
    mine = [sample.until or sample.seconds for sample in result.samples.get("zfsync", ())]
    theirs = [sample.until or sample.seconds for sample in result.samples[name]]
    ratios = [one / other for one, other in zip(theirs, mine, strict=False)]
    if not ratios:
        return ""
    spread = f" ({figure(min(ratios))} - {figure(max(ratios))})" if len(ratios) > 1 else ""
    return figure(statistics.median(ratios)) + spread


def pair(here: float, there: float) -> str:
    """Of both ends."""
    return f"{figure(here)}, {figure(there)}"


# ---- plots -----------------------------------------------------------------------------------------------------------


def plot(results: Sequence[Result], directory: Path) -> None:
    """Time against the number of datasets; throughput against the round-trip time, by number of channels."""
    directory.mkdir(parents=True, exist_ok=True)
    for case in ("unchanged", "changed", "first"):
        chosen = [one for one in results if one.case == case and not one.values.get("rtt_ms")]
        lines: dict[str, list[tuple[float, float]]] = {}
        for result in chosen:
            for name in result.samples:
                lines.setdefault(result.titles[name], []).append((result.values["datasets"], result.median(name)))
        if any(len(points) > 1 for points in lines.values()):
            draw(lines, directory / f"{case}.svg", title=chosen[0].about, x="datasets", y="seconds", logarithmic=True)
    lines = {}
    for result in results:
        if result.case == "several-large":
            for name in result.samples:
                speed = result.values["MiB"] / result.median(name)
                lines.setdefault(result.titles[name], []).append((result.values["rtt_ms"], speed))
    if lines:
        file = directory / "long-line.svg"
        draw(lines, file, title="eight large datasets", x="round trip, ms", y="MiB/s", logarithmic=False)


def draw(
    lines: dict[str, list[tuple[float, float]]], file: Path, *, title: str, x: str, y: str, logarithmic: bool
) -> None:
    """A line for each name, through its points, into ``file``."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "zfsync", "svg.fonttype": "none", "font.size": 9})

    picture = Figure(figsize=(6, 3.6), layout="constrained")
    axes = picture.add_subplot()
    for name, points in lines.items():
        axes.plot(*zip(*sorted(points), strict=True), marker="o", markersize=4, label=name.replace("`", ""))
    if logarithmic:
        axes.set_xscale("log")
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.set(title=title, xlabel=x, ylabel=y)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    picture.savefig(file, metadata={"Date": None})


def main() -> None:
    """See the top."""
    parser = argparse.ArgumentParser(prog="benchmarks/run report", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--plots", type=Path, metavar="DIRECTORY", help="write the plots there as well")
    options = parser.parse_args()
    results = read(options.files)
    for line in tables(results):
        print(line)
    if options.plots:
        plot(results, options.plots)


if __name__ == "__main__":
    main()
