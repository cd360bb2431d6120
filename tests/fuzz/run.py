"""A long run of the fuzz targets under atheris, which goes by coverage.

    pip install atheris
    python -m tests.fuzz.run CORPUS -max_total_time=1800 -timeout=20 -rss_limit_mb=512 -print_final_stats=1

CORPUS is a directory that keeps what was found to be worth keeping; the options are libFuzzer's. The first byte of an
input chooses the target. It ends with an input that crashes, hangs, or takes too much memory, and writes that down.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris  # type: ignore[import-not-found, import-untyped, unused-ignore]

with atheris.instrument_imports(include=["zfsync_ssh"]):
    from tests.fuzz.seeds import SEEDS
    from tests.fuzz.targets import TARGETS


def one_input(data: bytes) -> None:
    """Feed one input to the target that it names."""
    if data:
        TARGETS[data[0] % len(TARGETS)](data[1:])


def main() -> None:
    """Put what is known to be worth it into the corpus, and go."""
    corpus = Path(sys.argv[1])
    corpus.mkdir(parents=True, exist_ok=True)
    for number, (target, data) in enumerate(SEEDS):
        (corpus / f"seed-{number}").write_bytes(bytes([TARGETS.index(target)]) + data)
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
