"""The layers of the package: a module imports only from rows above its own. And what the shipped modules may use."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from zfsync_ssh.bootstrap import INSTALLER, MODULES

PACKAGE = Path(__file__).parents[2] / "zfsync_ssh"

ROWS = (
    ("", "errors", "events", "concurrency", "units"),  # "" is the package itself, for its version
    ("state", "dataset", "resume", "holds", "throttle", "entry", "toml_lines", "config_example", "watchdog"),
    ("location", "buffer", "decision", "schedule", "history", "authorized", "floor", "head"),
    (
        "ssh_lines",
        "messages",
        "selection",
        "blame",
        "verification",
        "crontab",
        "systemd",
        "systemctl",
        "retention",
        "item",
        "wrapping",
    ),
    ("protocol", "zfs", "comparison", "bookmarks", "losing", "status", "config_values", "jobsteps", "keys", "ssh_keys"),
    ("policy", "prune", "divergence", "metrics", "allowed", "complaint", "recall"),
    ("listing", "process", "lock", "libzfs", "steps", "align", "properties", "contents", "joblog", "delegation"),
    ("lzc", "filters", "origins", "dispatch", "remembered", "room", "unencrypted"),
    ("driver", "settle"),
    ("tree", "conversation", "plan", "telling"),
    ("heartbeat",),
    ("operations", "receiving", "compression", "preflight", "planfile", "access", "bounds"),
    ("reading", "transfer", "verbs", "streamhead", "claims", "about", "rekey"),
    ("config",),
    ("hooks",),
    ("cron",),
    ("remote_agent", "channel", "fastpath", "advice", "ledger"),
    ("bootstrap", "transport", "confinement"),
    ("agent", "serve"),
    ("endpoint", "sending"),
    ("source", "lane"),
    ("workers", "keeping", "verify", "remote_source"),
    ("preparation",),
    ("aftermath", "thinning"),
    ("orchestrator", "jobs", "reach"),
    ("zfssteps", "survey", "keysetup"),
    ("console.text",),
    ("checks",),
    ("doctor",),
    ("console.live", "console.ndjson", "console.plain", "console.standing"),
    ("console",),
    ("cli.wiring",),
    ("cli.options",),
    (
        "cli.replicate",
        "cli.compare",
        "cli.cleanbuffer",
        "cli.holds",
        "cli.verify",
        "cli.config",
        "cli.serve",
        "cli.prune",
    ),
    ("cli.status", "cli.key", "cli.doctor"),
    ("cli.cron_run",),
    ("cli.cron",),
    ("cli",),
    ("__main__",),
)
ROW_OF = {module: number for number, row in enumerate(ROWS) for module in row}


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


SOURCES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports(module: str) -> set[str]:
    """The modules of the package that ``module`` imports, at its top or anywhere in it."""
    package = module.split(".")[:-1] if SOURCES[module].stem != "__init__" else module.split(".") if module else []
    found = set()
    for node in ast.walk(ast.parse(SOURCES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            assert not any(alias.name.split(".")[0] == "zfsync_ssh" for alias in node.names), "imports are relative"
        elif isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1] + (node.module.split(".") if node.module else [])
            inner = {".".join([*base, alias.name]) for alias in node.names} & SOURCES.keys()
            found |= inner
            if len(inner) < len(node.names):
                found.add(".".join(base))
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None
            assert node.module.split(".")[0] != "zfsync_ssh", "imports are relative"
    return found


def test_every_module_has_its_row() -> None:
    assert set(ROW_OF) == set(SOURCES)
    assert len(ROW_OF) == sum(map(len, ROWS))


@pytest.mark.parametrize("module", [module for module in SOURCES if module])
def test_a_module_imports_only_from_rows_above_its_own(module: str) -> None:
    for imported in imports(module):
        assert ROW_OF[imported] < ROW_OF[module], f"{module} imports {imported}"


def test_the_test_sees_imports() -> None:
    assert imports("remote_agent") >= {"", "zfs", "buffer", "messages"}
    assert imports("console.live") == {"events", "console.text"}
    assert imports("cli.wiring") >= {"errors", "console", "location"}
    assert imports("console") >= {"events", "console.live"}


# ---- what is shipped -------------------------------------------------------------------------------------------------


SHIPPED = ("", *MODULES, *INSTALLER)


@pytest.mark.parametrize("module", INSTALLER)
def test_a_module_of_the_installer_imports_none_of_the_agent(module: str) -> None:
    assert imports(module) <= {*INSTALLER[: INSTALLER.index(module)]}


@pytest.mark.parametrize("module", MODULES)
def test_a_shipped_module_imports_only_what_was_shipped_before_it(module: str) -> None:
    before = {"", *MODULES[: MODULES.index(module)]}
    assert imports(module) <= before


@pytest.mark.parametrize("module", SHIPPED)
def test_a_shipped_module_needs_only_the_standard_library(module: str) -> None:
    for node in ast.walk(ast.parse(SOURCES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            assert {alias.name.split(".")[0] for alias in node.names} <= sys.stdlib_module_names
        elif isinstance(node, ast.ImportFrom) and not node.level:
            assert (node.module or "").split(".")[0] in sys.stdlib_module_names


@pytest.mark.parametrize("module", SHIPPED)
def test_a_shipped_module_is_python_3_8(module: str) -> None:
    ast.parse(SOURCES[module].read_text(encoding="utf-8"), feature_version=(3, 8))


def test_the_shipped_modules_use_nothing_that_came_after_python_3_8() -> None:
    files = [str(SOURCES[module]) for module in SHIPPED]
    vermin = [sys.executable, "-c", "from vermin.main import main; main()"]  # it has no __main__
    command = [*vermin, "-t=3.8-", "--eval-annotations", "--no-tips", "--processes=1", *files]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Minimum required versions:" in done.stdout


def test_every_shipped_module_says_that_it_is() -> None:
    for module in (*MODULES, *INSTALLER):
        docstring = ast.get_docstring(ast.parse(SOURCES[module].read_text(encoding="utf-8"))) or ""
        assert "Also shipped to the far end" in docstring, module
