"""``python3 -m zfsync_ssh`` is the command ``zfsync``."""

import gc
import sys
from typing import NoReturn

YOUNG_OBJECTS = 100_000
"""How many there may be before the garbage collector looks at them. All that a start loads is some 70,000, of which
nothing is garbage: to look at them time and again, and at the end, takes a sixth of the start's CPU."""


def program() -> NoReturn:
    """The command, as a process of its own."""
    gc.set_threshold(YOUNG_OBJECTS)
    from .cli import main

    code = main()
    gc.freeze()  # the interpreter's end would look through all that there is
    sys.exit(code)


if __name__ == "__main__":
    program()
