"""Which Python the agents of the tests run on: that of the tests, or another one, as tests/matrix/run wants it."""

from __future__ import annotations

import os
import subprocess
import sys

VARIABLE = "ZFSYNC_TEST_AGENT_PYTHON"

PYTHON = os.environ.get(VARIABLE, sys.executable)
"""What runs agents."""
IS_ANOTHER = VARIABLE in os.environ
"""Whether agents are not to run in the tests' own process either."""


def version() -> str:
    """The version of `PYTHON`, as an agent's hello has it."""
    show = [PYTHON, "-c", "import sys; print(sys.version.split()[0])"]
    return subprocess.run(show, capture_output=True, text=True, check=True).stdout.strip()
