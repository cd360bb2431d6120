#!/usr/bin/env python3
"""Asks the driver that zfsync chooses on this machine to do things: reads lines ``[OPERATION, ARGUMENTS]`` of JSON, and
answers each with a line. The first line that it prints is the name of the driver's class.

`send` and `receive` are of streams, through the library that `zfsync_ssh.lzc` opens: from a file, and into one.
"""

import json
import sys

from zfsync_ssh import complaint, driver, lzc
from zfsync_ssh.zfs import Reception, Stream


def operate(chosen: driver.Driver, operation: str, arguments: list) -> object:  # type: ignore[type-arg]
    if operation == "send":
        return send(*arguments)
    return receive(*arguments) if operation == "receive" else getattr(chosen, operation)(*arguments)


def send(words: list, path: str) -> object:  # type: ignore[type-arg]
    library, stream = lzc.load(("zfs",)), Stream(*words)._replace(small=True)
    assert library is not None
    assert lzc.sends(stream)
    with lzc.LibraryOutput(library, stream) as output, open(path, "wb") as file:
        file.writelines(output)
    return complaint.meaning(output.stderr) if output.status else None


def receive(target: str, path: str, properties: list, kill: bool = False) -> object:  # type: ignore[type-arg]
    """With ``kill`` the call is ended when it waits for more than the file holds."""
    library, how = lzc.load(("zfs",)), Reception(tuple(map(tuple, properties)))
    with open(path, "rb") as file:
        data = file.read()
    head = lzc.receives(data, how)
    if library is None or head is None:
        return "left to the command"
    with lzc.LibraryReceiver(library, target, data, head, how) as receiver:
        receiver.write(data)
        while kill and receiver.write(b""):
            receiver.kill()
            kill = receiver._call._done is None
        done = receiver.finish()
    return complaint.meaning(done.stderr) if done.status else None


def main() -> None:
    chosen = driver.choose(("zfs",))
    print(json.dumps(type(chosen).__name__), flush=True)
    for line in sys.stdin:
        print(json.dumps(operate(chosen, *json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
