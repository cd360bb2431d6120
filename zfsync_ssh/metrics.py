"""The state of jobs for Prometheus: a file for the textfile collector of its node exporter.

The format is left to prometheus_client, which is imported only here: it has no dependencies, and costs 0.1 s.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import UsageError
from .status import TargetStatus

if TYPE_CHECKING:
    from prometheus_client.core import Metric


def render(targets: Sequence[TargetStatus]) -> bytes:
    """The metrics of these, as text. Moments are seconds since 1970, so that their age can be asked for."""
    from prometheus_client import generate_latest
    from prometheus_client.registry import Collector

    class _Metrics(Collector):
        def collect(self) -> Iterable[Metric]:
            return _metrics(targets)

    return generate_latest(_Metrics())


def write(path: Path, data: bytes) -> None:
    """Put ``data`` into ``path`` as a whole or not at all, for everyone to read."""
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            try:
                file.write(data)
                file.flush()
                # Unlike all else that is written: node_exporter, which reads it, runs as an account of its own.
                os.fchmod(file.fileno(), 0o644)
                Path(file.name).replace(path)
            except BaseException:
                with contextlib.suppress(OSError):
                    Path(file.name).unlink()
                raise
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}.") from error


def _metrics(targets: Sequence[TargetStatus]) -> Iterable[Metric]:
    from prometheus_client.core import GaugeMetricFamily

    def gauge(name: str, text: str, rows: Iterable[tuple[tuple[str, ...], float]], *more: str) -> Metric:
        # Not "job": that label is the scrape's own, and would be renamed.
        family = GaugeMetricFamily(f"zfsync_{name}", text, labels=("zfsync_job", "target", *more))
        for labels, value in rows:
            family.add_metric(labels, float(value))
        return family

    runs = [((target.job, target.target), target) for target in targets]
    ran = [(key, target.last) for key, target in runs if target.last]
    well = [(key, target.last_success.timestamp()) for key, target in runs if target.last_success]
    yield gauge("last_run_timestamp_seconds", "End of the last run.", ((key, run.ended) for key, run in ran))
    yield gauge("last_success_timestamp_seconds", "End of the last run that was well.", well)
    yield gauge("last_run_exit_code", "Exit code of the last run, 0 when all was well.",
                ((key, run.exit_code) for key, run in ran))  # fmt: skip
    yield gauge("last_run_bytes", "What the last run sent.", ((key, run.bytes) for key, run in ran))
    yield gauge("failed_runs", "Runs that failed since one was well.", ((key, target.failures) for key, target in runs))
    datasets = [((*key, row.dataset), row) for key, target in runs for row in target.datasets]
    good = [(key, row.good_until.timestamp()) for key, row in datasets if row.good_until]
    yield gauge("dataset_good_until_timestamp_seconds", "The target has all that the source had then.", good, "dataset")
    yield gauge("dataset_behind_snapshots", "Snapshots that the target is to get and lacks.",
                ((key, row.behind) for key, row in datasets if row.behind is not None), "dataset")  # fmt: skip
    yield gauge("dataset_failed", "Whether the last run failed for it.",
                ((key, bool(row.failure)) for key, row in datasets), "dataset")  # fmt: skip
    yield gauge("dataset_partial", "Whether a receive was cut off that can be resumed.",
                ((key, row.partial) for key, row in datasets), "dataset")  # fmt: skip
