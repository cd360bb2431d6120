"""Legal names of ZFS, for hypothesis."""

from __future__ import annotations

import string

from hypothesis import strategies as st

COMPONENT_CHARS = string.ascii_letters + string.digits + "_.: -"

components = st.text(COMPONENT_CHARS, min_size=1, max_size=8).filter(lambda part: part not in (".", ".."))
"""One part of a name between slashes."""

pools = st.builds(str.__add__, st.sampled_from(string.ascii_letters), st.text(COMPONENT_CHARS, max_size=5))

children = st.lists(components, min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts))
"""Children other than the root."""

names = st.builds(str.__add__, pools, st.just("") | children)
"""Full names of datasets."""
