"""The end of a machine: what it leaves is taken away, and with the last one of a run the run itself.

Called by the keeper of the machine, and by whoever finds a machine that has lost its keeper.
"""

from __future__ import annotations

import shutil
import signal

from .backend import backend_named
from .errors import LabError
from .network import Network
from .rundir import RunDirectory, runs


def release(run: RunDirectory, name: str) -> None:
    """Remove a machine whose program has ended. Under the lab's lock."""
    config = run.config(name)
    backend = backend_named(config.backend)
    backend.clean(run, config)
    if backend.port_kind:
        Network.of(run).remove_port(config.index)
    run.forget(name)
    if not run.machines():
        Network.of(run).remove()


def sweep() -> None:
    """Remove the machines of all runs whose keeper was killed. Under the lab's lock."""
    for run in runs():
        for name in run.machines():
            state = run.state(name)
            if state and state.keeper.alive:
                continue
            if state and state.guest:
                state.guest.send(signal.SIGKILL)
                state.guest.wait(timeout=5)
            try:
                release(run, name)
            except LabError:
                continue  # another checkout's run, in a form this one does not know: not ours to end
        if not run.machines():
            Network.of(run).remove()
            shutil.rmtree(run.path, ignore_errors=True)
