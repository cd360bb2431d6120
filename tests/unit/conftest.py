"""One hypothesis profile for all unit tests: no deadlines, and the same examples on every run of the CI."""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("unit", deadline=None, max_examples=50, derandomize=bool(os.environ.get("CI")))
settings.load_profile("unit")
