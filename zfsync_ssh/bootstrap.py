"""Starts the agent at the far end, where nothing of zfsync is installed: the command, the payload, the wait for it.

The command is one line of ASCII that means the same to sh, bash, dash, csh, fish and the like: two single-quoted
strings without any quote, backslash-quote, ``$`` outside ``sh`` or ``!`` in them. It tries several pythons and runs the
first that is new enough. That one reads a header line and the payload, exactly, so that not a byte of the protocol
behind them is swallowed; the payload is the source of the ★ modules, which are imported out of it.

The agent then says a line with a nonce. All that came before it, a login shell's greeting, is noise.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from .errors import AgentError, UsageError
from .remote_agent import EXIT_SILENT, ready_line

MODULES = (
    "errors",
    "dataset",
    "holds",
    "resume",
    "buffer",
    "decision",
    "entry",
    "messages",
    "protocol",
    "blame",
    "zfs",
    "complaint",
    "recall",
    "listing",
    "process",
    "filters",
    "lock",
    "head",
    "lzc",
    "libzfs",
    "driver",
    "tree",
    "conversation",
    "heartbeat",
    "operations",
    "receiving",
    "contents",
    "access",
    "reading",
    "allowed",
    "about",
    "remote_agent",
)
"""The ★ modules that are the agent, each after those that it imports."""

INSTALLER = ("authorized",)
"""Those that `zfsync key setup --install` sends."""

PYTHONS = (
    "python3",
    "/usr/bin/python3",
    "/usr/local/bin/python3",
    *(f"python3.{minor}" for minor in range(14, 7, -1)),
    "python",
)

MAX_NOISE_BYTES = 64 << 10
EXIT_NO_PYTHON = 97
EXIT_NO_PAYLOAD = 98
_EXIT_TOO_OLD = 96

# Read one header line and the payload behind it, not a byte more. No quotes of any kind: it stands inside two.
_FIRST_STAGE = f"""\
import os,sys,zlib
if sys.version_info<(3,8):sys.exit({_EXIT_TOO_OLD})
def r(n):
 b=bytes()
 while len(b)<n:
  c=os.read(0,n-len(b))
  if not c:sys.exit({EXIT_NO_PAYLOAD})
  b+=c
 return b
h=bytes()
while not h.endswith(bytes([10])):h+=r(1)
h=h.split()
exec(zlib.decompress(r(int(h[1]))))
"""

# 2, 126, 127: not a python3 at all, or a shim that leads nowhere. Nothing has been read from stdin then.
_SHELL = (
    'for p do command -v "$p" >/dev/null 2>&1 || continue; "$p" -I -c "$0"; s=$?; '
    f"case $s in 2|{_EXIT_TOO_OLD}|126|127) ;; *) exit $s;; esac; done; exit {EXIT_NO_PYTHON}"
)

# Modules are compiled when they are imported: what an agent is not asked to do costs it nothing but the bytes.
_SECOND_STAGE = """
class Shipped:
    def find_spec(self, name, path=None, target=None):
        return type(sys.__spec__)(name, self, is_package="." not in name) if name in modules else None
    def create_module(self, spec):
        return None
    def exec_module(self, module):
        name = module.__name__
        exec(compile(modules[name], name.replace(".", "/") + ".py", "exec"), module.__dict__)
sys.meta_path.insert(0, Shipped())
from zfsync_ssh.%s import main
sys.exit(main(h[2].decode()))
"""


def command(pythons: Sequence[str] = PYTHONS) -> str:
    """The line that the far end's login shell is given; `UsageError` for a python that no shell could be told of."""
    for python in pythons:
        if (
            not python
            or python[0] == "-"
            or not python.isascii()
            or not python.isprintable()
            or set(python) & set("'\\!")
        ):
            raise UsageError(f"{python!r} cannot be the remote python: give a plain path, or a name on the PATH there.")
    code = _FIRST_STAGE.replace("\n", "\\n")
    quoted = " ".join(f"'{python}'" for python in pythons)
    return f"exec /bin/sh -c '{_SHELL}' 'exec(\"{code}\")' {quoted}"


@cache
def _packed(names: tuple[str, ...]) -> bytes:
    package = Path(__file__).parent
    modules = {"zfsync_ssh": (package / "__init__.py").read_text(encoding="utf-8")}
    modules |= {f"zfsync_ssh.{name}": (package / f"{name}.py").read_text(encoding="utf-8") for name in names}
    return zlib.compress(f"modules = {modules!r}\n{_SECOND_STAGE % names[-1]}".encode())


def payload(nonce: str, modules: tuple[str, ...] = MODULES) -> bytes:
    """What the python there reads first: a header line with the length of what follows, and that.

    The last of ``modules`` has what is run.
    """
    packed = _packed(modules)
    return b"zfsync-agent %d %s\n" % (len(packed), nonce.encode("ascii")) + packed


class Greeting:
    """Finds the agent's ready line in what a channel says first. Sans-I/O."""

    def __init__(self, nonce: str) -> None:
        self._line = ready_line(nonce)
        self._heard = bytearray()
        self.noise = ""
        """What came before the line."""

    def feed(self, data: bytes) -> bytes | None:
        """Take bytes; what follows the line once it is there, None before. `AgentError` when it does not come."""
        self._heard += data
        at = self._heard.find(self._line)
        if at < 0:
            self.noise = self._heard.decode("utf-8", "replace")
            if len(self._heard) > MAX_NOISE_BYTES:
                raise AgentError(
                    f"its login shell printed more than {MAX_NOISE_BYTES >> 10} KiB before the agent's hello"
                )
            return None
        self.noise = self._heard[:at].decode("utf-8", "replace").strip()
        return bytes(self._heard[at + len(self._line) :])


def explain_exit(status: int | None, stderr: str) -> str:
    """Why an agent that ended without its hello may have done so, as the end of a sentence."""
    said = stderr.strip().splitlines()
    last = f" ({said[-1].strip()})" if said else ""
    if status == EXIT_NO_PYTHON:
        return "it has no python3 of version 3.8 or newer: install one, or name it with --remote-python"
    if status == EXIT_NO_PAYLOAD:
        return f"the connection ended while the agent was being sent{last}"
    if status == EXIT_SILENT:
        return "it heard nothing from this machine for five minutes, which was asleep or cut off"
    if status in (126, 127):
        return f"its login shell cannot run /bin/sh{last}"
    if status is None:
        return f"the agent was killed or cut off{last}"
    return f"the agent ended with status {status}{last}"
