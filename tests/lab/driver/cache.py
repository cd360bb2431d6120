"""The build cache: stages kept under a key made of their inputs, outside the checkout.

`CACHE/STAGE-KEY/` is a finished stage. It is made in a temporary directory beside it and renamed at the end, under a
lock, so that it is there whole or not at all, and two builds do not collide. What a stage is made of is not known here.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .errors import BuildFailed, NotBuilt, Unusable
from .process import die_with_parent

MIN_FREE_VARIABLE = "ZFSYNC_LAB_MIN_FREE_MB"
REASON_MARK = "lab: "
MIB = 2**20
# What mmdebstrap mounts (this machine's /dev!) must never be seen where the rest of a stopped build is removed; and
# all processes of a recipe end with its first one, as that does with this process.
OWN_NAMESPACES = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")


@dataclass(frozen=True)
class Stage:
    """One step of a build: `script` fills $OUT. `needs_mb`: disk it takes while it builds, `usually`: how long."""

    name: str
    script: Path
    inputs: tuple[Path, ...]
    needs_mb: int
    usually: str
    environment: Mapping[str, str] = field(default_factory=dict)
    after: tuple[Stage, ...] = ()

    @property
    def key(self) -> str:
        digest = hashlib.sha256(self.name.encode())
        for path in (self.script, *self.inputs):
            digest.update(f"\0{path.name}\0".encode() + path.read_bytes())
        for name, value in sorted(self.environment.items()):
            digest.update(f"\0{name}={value}".encode())
        for stage in self.after:
            digest.update(f"\0{stage.key}".encode())
        return digest.hexdigest()[:12]

    @property
    def directory(self) -> Path:
        return cache_directory() / f"{self.name}-{self.key}"

    def is_built(self) -> bool:
        return self.directory.is_dir()

    @property
    def note(self) -> str:
        """One line about what was built: versions, and what was taken instead of what."""
        with contextlib.suppress(OSError):
            return (self.directory / "note").read_text().strip()
        return ""

    def require(self) -> Path:
        if not self.is_built():
            raise NotBuilt(f"the lab's {self.name} is not built for this checkout: run tests/lab/lab build")
        return self.directory


def cache_directory() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "zfsync-lab"


def build(stage: Stage, *, lab: Path, say: Callable[[str], None]) -> Path:
    """Build a stage unless it is there; its directory. `lab`: where the recipes are. `say` gets progress lines."""
    if stage.is_built():
        say(f"{stage.name}: there already, {stage.note or stage.directory}")
        return stage.directory
    for earlier in stage.after:
        if not earlier.is_built():
            build(earlier, lab=lab, say=say)
    cache = cache_directory()
    (cache / "log").mkdir(parents=True, exist_ok=True)
    with _stage_lock(stage, say):
        if stage.is_built():  # another build made it while this one waited
            return stage.directory
        for left in cache.glob(f"{stage.name}-*.tmp"):
            _remove_unmounted(left)
        check_disk(cache, stage.needs_mb, purpose=f"building {stage.name}")
        say(f"{stage.name}: building, usually {stage.usually}")
        started = time.monotonic()
        _run_recipe(stage, lab)
        seconds = time.monotonic() - started
        (stage.directory / "seconds").write_text(f"{seconds:.0f}\n")
    say(f"{stage.name}: built in {seconds:.0f} s, {stage.note}")
    return stage.directory


def check_disk(directory: Path, needs_mb: int, *, purpose: str) -> None:
    """Raise when there is too little room; the variable asks for more than `needs_mb`, for tests of this sentence."""
    needed = max(needs_mb, int(os.environ.get(MIN_FREE_VARIABLE) or 0))
    free = shutil.disk_usage(directory).free // MIB
    if free < needed:
        raise Unusable(
            f"{purpose} needs {needed} MB of disk under {directory}, and {free} MB are free: "
            "free some, or set XDG_CACHE_HOME to a bigger disk"
        )


def prune(keep: Collection[Path]) -> tuple[str, ...]:
    """Remove all stages but those in `keep` and those that a running machine holds; the names removed."""
    removed = []
    for path in sorted(cache_directory().glob("*-*")):
        if path in keep or path.suffix == ".tmp" or not path.is_dir():
            continue
        with in_use(path, exclusive=True) as free:
            if free:
                shutil.rmtree(path)
                removed.append(path.name)
    return tuple(removed)


@contextlib.contextmanager
def in_use(directory: Path, *, exclusive: bool = False) -> Iterator[bool]:
    """Hold a stage: shared by who uses it, exclusive by who removes it. Yields whether the hold was got."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    else:
        yield True
    finally:
        os.close(fd)


def _run_recipe(stage: Stage, lab: Path) -> None:
    cache = cache_directory()
    temporary = cache / f"{stage.directory.name}.tmp"
    log = cache / "log" / f"{stage.directory.name}.log"
    out, work = temporary / "out", temporary / "work"
    out.mkdir(parents=True)
    work.mkdir()
    environment = {**os.environ, **stage.environment}
    environment |= {"OUT": str(out), "WORK": str(work), "LAB": str(lab), "PYTHON": sys.executable}
    environment["AFTER"] = ":".join(str(earlier.directory) for earlier in stage.after)
    with log.open("wb") as output:
        recipe = subprocess.Popen(
            [*OWN_NAMESPACES, "bash", str(stage.script)],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
        try:
            returncode = recipe.wait()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(recipe.pid, signal.SIGKILL)
    if returncode != 0:
        _remove_unmounted(temporary)
        raise BuildFailed(f"{stage.name}: {_reason(log)} (log: {log})")
    out.rename(stage.directory)
    shutil.rmtree(temporary)


def _remove_unmounted(directory: Path) -> None:
    """Remove the rest of a build, never through a mount: that would empty what is mounted."""
    mounted = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    below = [target for target in mounted if target.startswith(f"{directory}/")]
    if below:
        raise Unusable(f"{below[0]} is still mounted by a build that was stopped: umount it and build again")
    shutil.rmtree(directory)


def _reason(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()
    for line in reversed(lines):
        if line.startswith(REASON_MARK):
            return line.removeprefix(REASON_MARK)
    return f"the recipe stopped after: {lines[-1]}" if lines else "the recipe stopped at once"


@contextlib.contextmanager
def _stage_lock(stage: Stage, say: Callable[[str], None]) -> Iterator[None]:
    with (cache_directory() / f".lock-{stage.name}").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"{stage.name}: waiting for another build of it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
