#!/usr/bin/env python3
"""Asks the driver that zfsync chooses on this machine to do things: reads lines ``[OPERATION, ARGUMENTS]`` of JSON, and
answers each with a line. The first line that it prints is the name of the driver's class.

`send` and `receive` are given a file's path where the driver wants a descriptor.
"""

import json
import os
import sys

from zfsync_ssh import driver
from zfsync_ssh.zfs import Stream


def operate(chosen: driver.Driver, operation: str, arguments: list) -> object:  # type: ignore[type-arg]
    if operation not in ("send", "receive"):
        return getattr(chosen, operation)(*arguments)
    first, path, *rest = arguments
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        return getattr(chosen, operation)(Stream(*first) if operation == "send" else first, fd, *rest)
    finally:
        os.close(fd)


def main() -> None:
    chosen = driver.choose(("zfs",))
    print(json.dumps(type(chosen).__name__), flush=True)
    for line in sys.stdin:
        print(json.dumps(operate(chosen, *json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
