"""A relay from a port of this machine to another machine's sshd, which resets all connections when it gets SIGTERM.

cut.py PORT HOST
"""

import signal
import sys

from relay import Relay  # type: ignore[import-not-found]  # beside this file, on the machine

if __name__ == "__main__":
    relay = Relay(22, host=sys.argv[2], port=int(sys.argv[1]))
    signal.sigwait({signal.SIGTERM})
    relay.cut()
