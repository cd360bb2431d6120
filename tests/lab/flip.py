"""A pipe that flips one bit: the python of an agent, as ``--remote-python``, for tests.lab.test_flipped_bits.

It runs the real python with all its arguments, and passes its own input on to that. The bit at the byte that the file
/root/flip-at names, counted from behind the agent's code, is flipped; how many bytes there were is written to
/root/flip-counts at the end.
"""

from __future__ import annotations

import os
import subprocess
import sys


def read_line(fd: int) -> bytes:
    """A line, byte by byte."""
    line = b""
    while not line.endswith(b"\n"):
        line += os.read(fd, 1)
    return line


def main() -> int:
    """Run the python, and feed it."""
    if sys.argv[1:2] != ["-I"]:
        return 127
    child = subprocess.Popen(["/usr/bin/python3", *sys.argv[1:]], stdin=subprocess.PIPE)
    assert child.stdin is not None
    with open("/root/flip-at") as file:
        at = int(file.read())
    header = read_line(0)
    left = int(header.split()[1])
    count = -left
    os.write(child.stdin.fileno(), header)
    try:
        while data := os.read(0, min(left, 65536) if left > 0 else 65536):
            left -= len(data)
            if count >= 0 and count <= at < count + len(data):
                flipped = bytearray(data)
                flipped[at - count] ^= 1 << at % 8
                data = bytes(flipped)
            count += len(data)
            view = memoryview(data)
            while view:
                view = view[os.write(child.stdin.fileno(), view) :]
    except BrokenPipeError:
        pass
    child.stdin.close()
    with open("/root/flip-counts", "a") as file:
        file.write(f"{count}\n")
    return child.wait()


if __name__ == "__main__":
    sys.exit(main())
