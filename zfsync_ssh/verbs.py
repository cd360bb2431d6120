"""Which operations a client of a confined receiver may ask for, and what each of them may name. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable

from .bounds import Confinement, Refused, begun, check_writes, marked, reached, told
from .buffer import default_buffer
from .dataset import FILESYSTEM, MAX_NAME_CHARS, VOLUME
from .holds import parse_tag
from .messages import Operation
from .tree import Tree

_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")

READING_VERBS = frozenset({"alive"})
ADDING_VERBS = READING_VERBS | {"ancestor", "placeholder", "buffer", "drop", "vacate", "snapshot"}
"""What an append-only client may do. A partial receive that is dropped is its own, and was never a snapshot; nor was
anything in an empty placeholder."""

MOVING_VERBS = frozenset({"rename", "park", "aside", "destroy", "drop", "vacate"})
"""After these a dataset may not be where it was: dropping a partial receive destroys one that has no snapshot yet."""

_SHAPES = {
    "hold": ("snapshot", "tag"),
    "release": ("snapshot", "tag"),
    "announce": ("dataset", "tag"),
    "forget": ("dataset", "tag"),
    "let-go": ("dataset", "tag"),
    "alive": ("dataset", "run"),
    "bookmark": ("bookmark", "snapshot"),
    "unbookmark": ("bookmark",),
    "snapshot": ("snapshot",),
    "destroy-snapshot": ("snapshot",),
    "ancestor": ("dataset",),
    "placeholder": ("dataset",),
    "buffer": ("dataset",),
    "drop": ("dataset",),
    "vacate": ("moved",),
    "rename": ("moved", "dataset", "kind"),
    "park": ("moved", "dataset", "kind", "dataset"),
    "aside": ("moved", "dataset", "kind"),
    "rollback": ("snapshot", "newest"),
    "hollow": ("dataset", "newest"),
    "destroy": ("moved", "newest"),
    "promote": ("dataset",),
    "mark": ("dataset", "time"),
    "unmark": ("dataset",),
    "inherit-key": ("dataset",),
}
"""What each verb of `zfsync_ssh.operations` takes; one that is not here is refused."""


def check_operation(operation: Operation, bounds: Confinement, tree: Tree | None) -> None:
    """Refuse an operation that is not known to be harmless, or that names what is out of reach."""
    verb, name, arguments = operation
    shape = _SHAPES.get(verb)
    if shape is None or len(shape) != 1 + len(arguments):
        raise Refused(f"{told(verb)} is nothing that a confined receiver does")
    if verb not in READING_VERBS:
        check_writes(bounds)
    if bounds.append_only and verb not in ADDING_VERBS:
        raise Refused(f"this key may only add to what is there (zfsync serve --append-only): no {verb}")
    for kind, text in zip(shape, (name, *arguments), strict=True):
        _SHAPE_CHECKS[kind](text, bounds)
    if verb == "buffer" and name != begun(tree).buffer:
        raise Refused(f"{told(name)} is not the buffer")


def _moved(name: str, bounds: Confinement) -> None:
    if reached(name, bounds) in (bounds.root, default_buffer(bounds.root)):
        raise Refused(f"{name} itself stays where it is: it is the root that this key is confined to")


def _tag(text: str, _: Confinement) -> None:
    if parse_tag(text) is None or len(text) > MAX_NAME_CHARS:
        raise Refused(f"{told(text)} is not a tag of zfsync's own holds")


def _kind(text: str, _: Confinement) -> None:
    if text not in (FILESYSTEM, VOLUME):
        raise Refused(f"{told(text)} is no type of dataset")


def _run(text: str, _: Confinement) -> None:
    if not (text.isascii() and text.isalnum() and len(text) <= MAX_NAME_CHARS):
        raise Refused(f"{told(text)} is not the name of a run")


def _time(text: str, _: Confinement) -> None:
    if not _TIME.fullmatch(text):
        raise Refused(f"{told(text)} is no time")


def _newest(text: str, _: Confinement) -> None:
    if text and not (text.isascii() and text.isdigit()):
        raise Refused(f"{told(text)} is no GUID")


_SHAPE_CHECKS: dict[str, Callable[[str, Confinement], object]] = {
    "dataset": reached,
    "moved": _moved,
    "snapshot": lambda text, bounds: marked(text, "@", bounds),
    "bookmark": lambda text, bounds: marked(text, "#", bounds),
    "tag": _tag,
    "kind": _kind,
    "run": _run,
    "time": _time,
    "newest": _newest,
}
