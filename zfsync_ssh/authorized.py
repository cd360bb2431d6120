"""The far end of `zfsync key setup --install`: finds zfsync there, and puts a client's key into authorized_keys.

It is sent there as the agent is, and runs as the user whose own access brought it. Each question is a line of JSON on
stdin, with an answer on stdout: ``find`` and ``install``. What is written is written whole or not at all, and by one
at a time.

Also shipped to the far end: standard library only, Python >= 3.8.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
import subprocess
import sys
from typing import Dict, Iterator, List, Tuple

MAX_LINE_BYTES = 64 << 10
VERSION_SECONDS = 30

_PLACES = ("/usr/local/bin", "/usr/bin", "/opt/zfsync/bin", "~/.local/bin", "~/bin")
"""Where zfsync may be besides the PATH: sshd's is often shorter than a login shell's."""

Answer = Dict[str, str]


def with_line(text: str, line: str, key: str) -> Tuple[str, List[str]]:
    """``text`` with ``line`` in the place of those of the same ``key``, else at its end; and those that it replaces.

    ``key`` is the key's base64, which no options or comment contain.
    """
    lines: List[str] = []
    old: List[str] = []
    for one in text.split("\n"):
        if one.lstrip().startswith("#") or key not in one.split():
            lines.append(one)
            continue
        if not old:
            lines.append(line)
        old.append(one)
    if not old:
        if lines[-1]:
            lines.append("")  # the file did not end with a newline
        lines[-1:] = [line, ""]
    return "\n".join(lines), old


def install(line: str, key: str, home: str) -> Answer:
    """Put ``line`` into the user's authorized_keys. What it replaced is in the answer."""
    directory = os.path.join(home, ".ssh")
    if not os.path.isdir(directory):
        with contextlib.suppress(FileExistsError):  # another was quicker; what else it may be, open tells
            os.mkdir(directory, 0o700)
            os.chmod(directory, 0o700)
    with _alone(directory):
        return _put(directory, line, key)


@contextlib.contextmanager
def _alone(directory: str) -> Iterator[None]:
    """Wait for others who are at it, and have them wait: what two read before either writes is lost by one of them."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):  # NFS locks no directory
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _put(directory: str, line: str, key: str) -> Answer:
    path = os.path.realpath(os.path.join(directory, "authorized_keys"))  # where a link leads, there it stays
    mode, text = 0o600, ""
    if os.path.exists(path):
        mode = stat.S_IMODE(os.stat(path).st_mode)
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
            text = file.read()
    new, old = with_line(text, line, key)
    if new != text:
        scratch = "%s.zfsync-%d" % (path, os.getpid())
        fd = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(fd, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
                os.fchmod(fd, mode)
                file.write(new)
                file.flush()
                os.fsync(fd)
            os.rename(scratch, path)
        except BaseException:
            os.unlink(scratch)
            raise
    return {"file": path, "did": "kept" if new == text else "replaced" if old else "added", "old": "\n".join(old)}


def find(path: str, home: str) -> Answer:
    """The full path of zfsync and its version; ``path`` is where to look, or empty. Empty when there is none."""
    directories = os.environ.get("PATH", "").split(os.pathsep)
    directories += [place.replace("~", home) for place in _PLACES]
    for candidate in [path] if path else [os.path.join(one, "zfsync") for one in directories if one.startswith("/")]:
        if os.path.isfile(candidate) and os.access(candidate, os.X_OK):
            try:
                done = subprocess.run(
                    [candidate, "--version"],
                    stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=VERSION_SECONDS,
                )  # fmt: skip
            except (OSError, subprocess.TimeoutExpired):
                continue
            said = done.stdout.decode("utf-8", "replace").split()
            if done.returncode == 0 and len(said) == 2 and said[0] == "zfsync":
                return {"path": candidate, "version": said[1]}
    return {"path": "", "version": ""}


def answer(question: Answer, home: str) -> Answer:
    """The answer to one question; a ``problem`` when it cannot be done."""
    try:
        if question["do"] == "find":
            return find(question["path"], home)
        return install(question["line"], question["key"], home)
    except OSError as error:
        return {"problem": "%s: %s" % (error.filename or home, error.strerror)}


def main(nonce: str) -> int:
    """Answer until the end of input, after the line that tells the client where the noise ends."""
    _say("\nzfsync-agent-ready %s\n" % nonce)
    home = os.path.expanduser("~")
    while True:
        line = sys.stdin.buffer.readline(MAX_LINE_BYTES)
        if not line:
            return 0
        _say(json.dumps(answer(json.loads(line.decode("utf-8")), home)) + "\n")


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
