"""Holds at the source, from before the plan is trusted until the end of the run: the shell around `holds`."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Sequence

from .advice import to_grant
from .dataset import Inventory
from .delegation import Use
from .errors import ZfsyncError
from .events import Notice, Observer
from .holds import property_of, tag_of
from .messages import Operation, Result
from .source import Source


class Holds:
    """The holds of one run to ``target``, ``host:dataset``."""

    def __init__(self, source: Source, target: str, observe: Observer) -> None:
        self._source = source
        self._observe = observe
        self._target = target
        self._run = secrets.token_hex(6)
        self._tag = str(tag_of(target, self._run))
        self._held: dict[str, None] = {}
        self.property = property_of(target)
        """Of the source's root: what tells of holds that an earlier run has left."""
        self.wanted = True

    async def tidy(self, source: Inventory) -> None:
        """Let go of what an earlier run to the same target has left; the target's lock tells that it has ended."""
        root = source.datasets.get("")
        if root is not None and root.holds:
            (result,) = await self._source.apply([Operation("let-go", root.name, (root.holds,))])
            left = "" if result.ok else f", but not let go: {result.message}"
            self._observe(Notice(f"Holds of a run that was cut off were found at {root.name}{left}.", result.ok))

    async def hold(self, snapshots: Sequence[str]) -> None:
        """Hold ``snapshots``, full names, as well. One that has gone is no matter here: it will not be found."""
        new = [name for name in dict.fromkeys(snapshots) if name not in self._held]
        if not new or not self.wanted:
            return
        root = self._source.root
        if not self._held:
            locked = await self._source.lock(self._run)
            if not locked.ok:  # what is held would look like what a run left behind
                self._complain(locked)
                return
        operations = [] if self._held else [Operation("announce", root, (self._tag,))]
        operations += [Operation("hold", name, (self._tag,)) for name in new]
        self._held.update(dict.fromkeys(new))  # before they are: whatever happens meanwhile, they are given back
        results = await self._source.apply(operations)
        refused = next((result for result in results if not result.ok and result.code != "missing"), None)
        if refused is not None:
            self._complain(refused)

    def _complain(self, refused: Result) -> None:
        self.wanted = False
        advice = to_grant(refused.code, self._source.root, Use.HOLD)
        advice += "; " * bool(advice)
        self._observe(
            Notice(
                f"{self._source.host.at(self._source.root)} lets nothing be held ({refused.message}), so a snapshot "
                f"that is destroyed meanwhile fails its dataset: {advice}--no-hold goes without."
            )
        )

    async def release(self) -> None:
        """Give all of them back. Never fails: what cannot be given back now is by the next run, and says so."""
        if not self._held:
            return
        operations = [Operation("release", name, (self._tag,)) for name in self._held]
        self._held.clear()
        with contextlib.suppress(ZfsyncError):
            results = await self._source.apply(operations)
            kept = next((result for result in results if not result.ok and result.code != "missing"), None)
            if kept is None:
                # What is missing may have been renamed: it is held still, under another name.
                verb = "forget" if all(result.ok for result in results) else "let-go"
                await self._source.apply([Operation(verb, self._source.root, (self._tag,))])
            else:
                where = self._source.host.at(kept.name)
                self._observe(
                    Notice(f"{where} stays held ({kept.message}): the next run to {self._target} tries again.")
                )
