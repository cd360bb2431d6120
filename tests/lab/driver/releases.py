"""Guests with another OpenZFS than the uml backend's, each a backend of its own: `uml-2.1`, `uml-2.3`, `uml-2.4`.

What they are made of has stages of its own, so that building the default knows nothing of them. Machines of several of
these can be in one run: `Lab.up` takes the backend of each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .cache import Stage
from .guest import GUEST_PYTHON, RECIPES, UML, rootfs_stage
from .pydeps import pydeps_stage
from .uml import UmlBackend, kernel_stage


@dataclass(frozen=True)
class Release:
    """What a release is made of: what the recipes of kernel and root file system are told; None: the default's."""

    kernel: Mapping[str, str] | None
    rootfs: Mapping[str, str] | None
    python: str = GUEST_PYTHON
    seccomp: bool = True


RELEASES = {
    "uml-2.1": Release(
        kernel={"SUITES": "bookworm", "KSRC": "linux-source-6.1"},  # OpenZFS 2.1.11 takes Linux 6.2 at most
        rootfs={"SUITE": "bookworm"},
        python="3.11",
        seccomp=False,  # it came with Linux 6.16
    ),
    "uml-2.3": Release(kernel={"SUITES": "trixie trixie-backports", "KSRC": "linux-source-7.2"}, rootfs=None),
    "uml-2.4": Release(kernel=None, rootfs={"SUITE": "trixie", "BACKPORTS": "yes"}),
}


class OtherRelease(UmlBackend):
    """A uml guest of one of the releases."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._release = RELEASES[name]
        self.mode = ("seccomp=on",) if self._release.seccomp else ()

    def kernel(self) -> Stage:
        if self._release.kernel is None:
            return kernel_stage()
        return Stage(
            name="uml-other-kernel",
            script=UML / "build-other-kernel",
            inputs=(UML / "build-kernel", UML / "kernel.config", RECIPES),
            needs_mb=7000,
            usually="8 to 13 minutes",
            environment=self._release.kernel,
        )

    def rootfs(self) -> Stage:
        if self._release.rootfs is None:
            return rootfs_stage()
        return Stage(
            name="uml-other-rootfs",
            script=UML / "build-other-rootfs",
            inputs=(UML / "build-rootfs", UML / "guest-pre", UML / "guest-init", UML / "zvol-links", RECIPES),
            needs_mb=1000,
            usually="1 to 3 minutes",
            environment=self._release.rootfs,
            after=(rootfs_stage(),),
        )

    def pydeps(self, checkout: Path) -> Stage:
        return pydeps_stage(checkout, version=self._release.python, image=self.rootfs())
