"""A job as its events tell it: it starts, and it ends, however that is."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection, Iterator

from .errors import EXIT_INTERRUPTED, EXIT_OK, DatasetError, ZfsyncError
from .events import Ended, Observer, Outcome, Started


class Told:
    """A job under way. ``code`` is its exit code; until it has come to its end, that of an error nobody expected."""

    def __init__(self) -> None:
        self.code = ZfsyncError.exit_code

    def ends(self, *, well: bool) -> None:
        """It has come to its end: all is well, or some dataset is not."""
        self.code = EXIT_OK if well else DatasetError.exit_code


@contextlib.contextmanager
def told(
    observe: Observer, ends: tuple[str, str], outcomes: Callable[[], Collection[Outcome]], *, dry_run: bool = False
) -> Iterator[Told]:
    """Tell the start of a job between two ``ends``, and its end with the ``outcomes`` of then."""
    started = time.monotonic()
    observe(Started(*ends, dry_run))
    job, message = Told(), ""
    try:
        yield job
    except ZfsyncError as error:
        job.code, message = error.exit_code, str(error)
        raise
    except asyncio.CancelledError:
        job.code = EXIT_INTERRUPTED
        raise
    finally:
        observe(Ended.of(outcomes(), time.monotonic() - started, job.code, message))
