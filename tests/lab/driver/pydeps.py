"""The product's Python dependencies: which they are, and the stage that fetches them for a machine's Python."""

from __future__ import annotations

import tomllib
from pathlib import Path

from .backend import LAB_DIRECTORY
from .cache import Stage

DEFAULT_REQUIREMENTS = ("asyncssh", "rich")


def requirements(checkout: Path) -> tuple[str, ...]:
    """`[project] dependencies` of the checkout, sorted."""
    try:
        project = tomllib.loads((checkout / "pyproject.toml").read_text()).get("project", {})
    except FileNotFoundError:
        return DEFAULT_REQUIREMENTS
    return tuple(sorted(project.get("dependencies", DEFAULT_REQUIREMENTS)))


def pydeps_stage(checkout: Path, *, version: str, image: Stage | None) -> Stage:
    """`version`: the machine's Python, as in 3.13. `image`: the stage whose Python compiles the files."""
    return Stage(
        name="pydeps",
        script=LAB_DIRECTORY / "build-pydeps",
        inputs=(LAB_DIRECTORY / "recipes.sh",),
        needs_mb=200,
        usually="20 seconds",
        environment={"VERSION": version, "REQUIREMENTS": "\n".join(requirements(checkout))},
        after=(image,) if image else (),
    )
