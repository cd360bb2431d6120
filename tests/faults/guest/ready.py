"""Has all of zfsync loaded and waits: for each line in its FIFO, a run of it is forked. To load it each time would take
longer than all else that a cell does.

A line is JSON: ``name`` (of the files the run writes: NAME.pid, NAME.out, NAME.err and, at its end, NAME.ended with the
exit code), ``words`` (the command line), ``label`` and ``nth`` (see tracing.py; no label: nothing is traced),
``keepalive`` and ``silence``.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import asyncssh  # noqa: F401  # zfsync loads it when it connects
import tracing  # type: ignore[import-not-found]  # beside this file, on the machine

from zfsync_ssh import reach  # noqa: F401
from zfsync_ssh.cli import main

FIFO = Path("/run/faults-ready")
FORBIDDEN = Path("/usr/lib/python3/dist-packages/zfsync-faults.pth")
"""There when OpenZFS's library is not to be used; other pythons read it when they start."""
KILLED = 128


def serve() -> None:
    """Fork runs, for ever."""
    os.mkfifo(FIFO)
    FIFO.with_suffix(".pid").write_text(f"{os.getpid()}\n")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        for line in FIFO.read_text().splitlines():
            if not os.fork():
                watch(json.loads(line))
                os._exit(0)


def watch(order: dict[str, Any]) -> None:
    """Start the run, and write down how it ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    os.chdir(tracing.HERE)
    name = order["name"]
    run = os.fork()
    if not run:
        os._exit(be_zfsync(order, name))
    code = os.waitstatus_to_exitcode(os.waitpid(run, 0)[1])
    Path(f"{name}.new").write_text(f"{code if code >= 0 else KILLED - code}\n")
    Path(f"{name}.new").rename(f"{name}.ended")


def be_zfsync(order: dict[str, Any], name: str) -> int:
    """Be a run of zfsync from here on; its exit code."""
    Path(f"{name}.pid").write_text(f"{os.getpid()}\n")
    for fd, end in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{name}.{end}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), fd)
    sys.argv = ["zfsync"]
    if FORBIDDEN.exists():
        os.environ["ZFSYNC_LIBZFS"] = "off"
    try:
        if order["label"]:
            tracing.be_impatient(order["keepalive"], order["silence"])
            tracing.instrument(tracing.Tracer(order["label"], order["nth"]))
        return main(order["words"])
    except SystemExit as end:
        return int(end.code or 0)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


if __name__ == "__main__":
    serve()
