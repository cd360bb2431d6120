"""``python3 -m zfsync_ssh`` is the command ``zfsync``."""

import sys

from .cli import main

sys.exit(main())
