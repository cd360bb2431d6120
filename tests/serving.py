"""A confined receiver whose zfs is the fake one: ``python3 -m tests.serving SPEC``, SPEC being JSON.

Its keys are ``zfs`` (a command), ``log`` (a file) and those of `Confinement`.
"""

from __future__ import annotations

import json
import sys

from zfsync_ssh.bounds import Confinement
from zfsync_ssh.floor import parse_floor
from zfsync_ssh.remote_agent import move_stdio
from zfsync_ssh.serve import talk


def main() -> int:
    spec = json.loads(sys.argv[1])
    command, log = tuple(spec.pop("zfs")), spec.pop("log")

    def tell(text: str) -> None:
        with open(log, "a") as file:
            file.write(text + "\n")

    spec["keep_at_least"] = parse_floor(str(spec.get("keep_at_least", 0)))
    reader, writer = move_stdio()
    return talk(reader, writer, Confinement(**spec), command, tell)


if __name__ == "__main__":
    sys.exit(main())
