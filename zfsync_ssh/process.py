"""Runs commands, blocking: to their end, for their output as it comes, or with a stream as their input.

Also shipped to the far end: standard library only, Python >= 3.8; `subprocess` is imported when a command is run.
"""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING, Dict, Generator, Iterable, Iterator, List, NamedTuple, Sequence

if TYPE_CHECKING:
    import subprocess
    from typing import Optional

MAX_STDERR_BYTES = 64 << 10
PIPE_BYTES = 1 << 20
"""Size asked for the pipes that carry a stream; the default of 64 KiB halves the speed."""
_F_SETPIPE_SZ = 1031  # fcntl.F_SETPIPE_SZ came with Python 3.10


def environment() -> Dict[str, str]:
    """The environment for `zfs`: messages in English, and the directories that sshd's PATH often lacks."""
    path = os.environ.get("PATH") or os.defpath
    extra = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
    return dict(os.environ, LC_ALL="C", LANGUAGE="C", PATH=path + ":" + extra)


class Completed(NamedTuple):
    """How a command ended. ``status`` is its exit status, negative for a signal, 127 when there is no such program."""

    status: int
    stdout: str
    stderr: str

    @property
    def lines(self) -> List[str]:
        """What it printed, line by line. `str.splitlines` would cut at more, which the value of a property may have."""
        *lines, rest = self.stdout.split("\n")
        return [*lines, rest] if rest else lines

    @property
    def rows(self) -> List[List[str]]:
        """Likewise, each cut at its tabs."""
        return [line.split("\t") for line in self.lines]


def run(argv: Sequence[str]) -> Completed:
    """Run a command to its end and keep what it prints. It never asks and never reads."""
    import subprocess

    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, env=environment())
    except OSError as error:
        return Completed(127, "", not_runnable(argv, error))
    return Completed(done.returncode, _text(done.stdout), _text(done.stderr))


def run_all(commands: Iterable[Sequence[str]], at_once: int) -> Generator[Completed, None, None]:
    """Run commands to their ends, ``at_once`` at the same time; how each ended, in order, without its stdout."""
    import subprocess

    running: List[_Child] = []
    try:
        for argv in commands:
            if len(running) >= at_once:
                yield running.pop(0).wait()
            running.append(_Child(argv, subprocess.DEVNULL, subprocess.DEVNULL))
        while running:
            yield running.pop(0).wait()
    finally:
        for child in running:
            child.kill()


def not_runnable(argv: Sequence[str], error: OSError) -> str:
    """The sentence for a program that could not be started."""
    return "cannot run '%s': %s" % (argv[0], error.strerror)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


class Outputs:
    """One command or several at once, whose outputs are read one after the other, in chunks. A context manager.

    After the last chunk, ``stderr`` is what they all said and ``status`` the highest of their exit statuses. With
    ``through``, the argument list of a filter, each is read through that; ``filtered`` is then how the last one ended.
    """

    READ_BYTES = 128 << 10

    def __init__(self, commands: Sequence[Sequence[str]], pipe_bytes: int = 0, through: Sequence[str] = ()) -> None:
        self.status = 0
        self.stderr = ""
        self.filtered: Optional[Completed] = None
        self._commands = commands
        self._pipe_bytes = pipe_bytes
        self._through = through
        self._children: List[_Child] = []
        self._outlets: List[_Child] = []
        """Where the output of each comes out: the child itself, or the filter behind it."""

    def __enter__(self) -> Outputs:
        import subprocess

        for argv in self._commands:
            outlet = child = _Child(argv, subprocess.DEVNULL, subprocess.PIPE, self._pipe_bytes)
            self._children.append(child)
            if self._through:
                outlet = child.piped_into(self._through, subprocess.PIPE, self._pipe_bytes)
            self._outlets.append(outlet)
        return self

    def __iter__(self) -> Iterator[bytes]:
        for child, outlet in zip(self._children, self._outlets):
            output = outlet.process.stdout if outlet.process else None
            while output:
                chunk = os.read(output.fileno(), self.READ_BYTES)
                if not chunk:
                    break
                yield chunk
            if outlet is not child:
                self.filtered = outlet.wait()
            done = child.wait()
            self.status = max(self.status, abs(done.status))
            self.stderr = "\n".join(filter(None, (self.stderr, done.stderr.rstrip("\n"))))

    def kill(self) -> None:
        """End the commands now, from whatever thread; who reads their output sees its end."""
        for child in self._children:
            child.signal()

    def __exit__(self, *_: object) -> None:
        for child in (*self._children, *self._outlets):
            child.kill()


class Receiver:
    """A command that is fed a stream. A context manager: leaving it closes the stream and waits for the command.

    Closing, not killing: `zfs receive -s` keeps what has arrived when its input ends. With ``through``, the argument
    list of a filter, the stream goes through that first; ``filtered`` is then how it ended.
    """

    def __init__(self, argv: Sequence[str], pipe_bytes: int, through: Sequence[str] = ()) -> None:
        self.filtered: Optional[Completed] = None
        self._argv = argv
        self._pipe_bytes = pipe_bytes
        self._through = through

    def __enter__(self) -> Receiver:
        import subprocess

        if self._through:
            self._inlet = _Child(self._through, subprocess.PIPE, subprocess.PIPE, self._pipe_bytes)
            self._child = self._inlet.piped_into(self._argv, subprocess.DEVNULL)
        else:
            self._inlet = self._child = _Child(self._argv, subprocess.PIPE, subprocess.DEVNULL, self._pipe_bytes)
        return self

    def write(self, data: bytes) -> bool:
        """Write all of ``data``; False when what reads it has ended."""
        if self.inlet < 0:
            return False
        try:
            write_all(self.inlet, data)
        except BrokenPipeError:
            return False
        return True

    @property
    def inlet(self) -> int:
        """The pipe that takes the stream; -1 when the command could not be started."""
        return self._inlet.process.stdin.fileno() if self._inlet.process and self._inlet.process.stdin else -1

    def kill(self) -> None:
        """End the command now, from whatever thread; who writes to it is told that it has ended."""
        self._child.signal()

    def finish(self) -> Completed:
        """Close the stream, and wait for the end of the command."""
        if self._inlet.process and self._inlet.process.stdin:
            self._inlet.process.stdin.close()
        if self._inlet is not self._child:
            self.filtered = self._inlet.wait()
        return self._child.wait()

    def __exit__(self, *_: object) -> None:
        self.finish()


class _Child:
    """A process whose stderr goes to a file: read when it has ended, it can never block it.

    ``pipe_bytes`` is the size of the pipes to it and from it.
    """

    def __init__(self, argv: Sequence[str], stdin: int, stdout: int, pipe_bytes: int = 0) -> None:
        import subprocess

        self.process: Optional[subprocess.Popen[bytes]] = None
        self._done: Optional[Completed] = None
        self._stderr = _scratch_file()
        try:
            self.process = subprocess.Popen(
                argv, stdin=stdin, stdout=stdout, stderr=self._stderr, env=environment(), bufsize=0
            )
        except OSError as error:
            os.close(self._stderr)
            self._done = Completed(127, "", not_runnable(argv, error))
            return
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe and pipe_bytes:
                enlarge_pipe(pipe.fileno(), pipe_bytes)

    def piped_into(self, argv: Sequence[str], stdout: int, pipe_bytes: int = 0) -> _Child:
        """Start a command that reads what this one writes."""
        import subprocess

        output = self.process.stdout if self.process else None
        other = _Child(argv, output.fileno() if output else subprocess.DEVNULL, stdout, pipe_bytes)
        if output:
            output.close()  # the other's alone now: when that ends, this one's next write fails
        return other

    def wait(self) -> Completed:
        """Wait for its end."""
        if self._done is None:
            assert self.process is not None
            status = self.process.wait()
            if self.process.stdout:
                self.process.stdout.close()
            self._done = Completed(status, "", _text(os.pread(self._stderr, MAX_STDERR_BYTES, 0)))
            os.close(self._stderr)
        return self._done

    def kill(self) -> None:
        """End it if it still runs."""
        if self._done is None and self.process is not None:
            if self.process.stdout:
                self.process.stdout.close()  # enough for one that may not be killed
            self.signal()
            self.wait()

    def signal(self) -> None:
        """Kill it, without waiting for its end."""
        try:
            if self.process is not None:
                self.process.kill()
        except PermissionError:  # sudo's, which is root's
            pass


def _scratch_file() -> int:
    """The descriptor of a file without a name."""
    try:
        return os.memfd_create("zfsync-stderr")
    except (AttributeError, OSError):  # no memfd on this system
        import tempfile

        fd, path = tempfile.mkstemp(prefix="zfsync-")
        os.unlink(path)
        return fd


def write_all(fd: int, data: bytes) -> None:
    """Write all of ``data``."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def enlarge_pipe(fd: int, size: int) -> None:
    """Ask for a larger pipe. Linux only, and never more than a wish."""
    try:
        fcntl.fcntl(fd, _F_SETPIPE_SZ, size)
    except OSError:
        pass
