"""The command line `tests/lab/lab`. The one module of the lab that prints."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from . import cache
from .backend import backend_named, choose, probe
from .errors import LabError, MachineGone
from .lab import CHECKOUT, Lab, open_lab
from .releases import RELEASES
from .rundir import RunDirectory, lab_lock, runs
from .teardown import sweep

RUN_VARIABLE = "ZFSYNC_LAB_RUN"
BACKENDS = ("uml", "host", "qemu", *RELEASES)

EXAMPLES = """\
examples:
  lab build                                   make what the machines need; what is there is kept
  lab up sender --disk 2G                     start a machine with one disk, /dev/ubda on the uml backend
  lab up receiver --disk 1G --disk 1G
  lab ssh sender 'zpool create tank /dev/ubda && zfs list'     one word: a shell script
  lab ssh sender zfs create 'tank/a b'        several words: an argv, word for word
  lab ssh sender                              a login shell
  lab install sender                          this checkout and its dependencies, and the command zfsync
  lab kill receiver && lab up receiver        a power failure: the disks keep what was written
  lab down --all                              end the run

environment:
  ZFSYNC_LAB=uml|qemu|host    force a backend          ZFSYNC_LAB_RUN=NAME   the default of --run
  ZFSYNC_LAB=uml-2.1|uml-2.3|uml-2.4                   uml guests with that OpenZFS, kernel's and tools
  XDG_CACHE_HOME              where builds are kept    ZFSYNC_LAB_MIRROR     a Debian mirror other than apt's

exit codes: 0, or 1 an error, 2 usage, 3 not built, 4 build failed, 5 this machine cannot, 6 no such machine,
7 machine off; lab ssh: the command's own.
"""


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="lab",
        description="Machines with a real OpenZFS, joined by a network of their own, for the tests of zfsync.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument(
        "--run", default=os.environ.get(RUN_VARIABLE) or "default", help="whose machines; runs share nothing"
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    build = commands.add_parser("build", help="make what the machines need")
    build.add_argument("--prune", action="store_true", help="then remove builds that this checkout does not use")
    up = commands.add_parser("up", help="start a machine, or switch on one that was killed")
    up.add_argument("name", help="sender, receiver, or another name of small letters and digits")
    up.add_argument("--disk", action="append", default=[], metavar="SIZE", help="add a sparse disk, as in 1G")
    up.add_argument("--memory", default="2G", metavar="SIZE", help="default 2G; taken as it is used")
    up.add_argument("--owner", type=int, metavar="PID", help="end the machine when this process ends")
    ssh = commands.add_parser("ssh", help="run a command on a machine, with a terminal when there is one")
    ssh.add_argument("name")
    ssh.add_argument("words", nargs=argparse.REMAINDER, metavar="CMD")
    put = commands.add_parser("put", help="copy a directory's contents, or a file, to a machine")
    put.add_argument("name")
    put.add_argument("src", type=Path)
    put.add_argument("dst")
    install = commands.add_parser("install", help="put this checkout and the command zfsync on a machine")
    install.add_argument("name")
    install.add_argument("--checkout", type=Path, default=CHECKOUT, help="another checkout")
    down = commands.add_parser("down", help="end a machine, and take its disks away")
    down.add_argument("name", nargs="?")
    down.add_argument("--all", action="store_true", help="all machines of the run")
    kill = commands.add_parser("kill", help="pull a machine's plug; its disks stay")
    kill.add_argument("name")
    commands.add_parser("list", help="the machines of all runs")
    commands.add_parser("probe", help="which backend this machine gets, and why")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    try:
        return _dispatch(options)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:  # the reader has had enough: `lab list | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE


def _dispatch(options: argparse.Namespace) -> int:
    match options.command:
        case "probe":
            return _probe()
        case "list":
            return _list()
    lab = open_lab(options.run)
    match options.command:
        case "build":
            return _build(lab, prune=options.prune)
        case "up":
            machine = lab.up(options.name, disks=options.disk, memory=options.memory, owner=options.owner)
            print(f"{machine.name} is up; disks: {' '.join(machine.disks) or 'none'}")
        case "ssh":
            return _ssh(lab, options.name, options.words)
        case "put":
            lab.machine(options.name).put(options.src, options.dst)
        case "install":
            lab.install(lab.machine(options.name), options.checkout, say=_say)
        case "down" if options.all:
            lab.close()
        case "down" if options.name:
            lab.machine(options.name).down()
        case "down":
            raise LabError("down wants a machine's name, or --all")
        case "kill":
            lab.machine(options.name).kill()
    return 0


def _build(lab: Lab, *, prune: bool) -> int:
    lab.build(_say)
    if prune:
        for removed in cache.prune(_stages_in_use()):
            _say(f"removed {removed}")
    return 0


def _stages_in_use() -> set[Path]:
    """What this checkout would use on any backend, and what the machines of all runs use."""
    backends = [backend_named(name) for name in BACKENDS]
    used = {stage.directory for backend in backends for stage in (*backend.stages(), backend.pydeps(CHECKOUT))}
    for run in runs():
        for name in run.machines():
            used |= {Path(stage) for stage in run.config(name).stages}
    return used


def _ssh(lab: Lab, name: str, words: list[str]) -> int:
    machine = lab.machine(name)
    if not machine.alive:
        raise MachineGone(f"{name} is off: tests/lab/lab up {name}")
    script = ["bash", "-c", words[0]] if len(words) == 1 else words
    argv = machine.argv(script, tty=sys.stdin.isatty() and sys.stdout.isatty())
    os.execvp(argv[0], argv)


def _probe() -> int:
    choice = probe()
    print(f"{choice.name}: {choice.why}")
    backend = choose(choice.name)
    for stage in (*backend.stages(), backend.pydeps(CHECKOUT)):
        print(f"  {stage.name}: {stage.note or stage.directory if stage.is_built() else 'not built'}")
    return 0


def _list() -> int:
    with lab_lock():
        sweep()
    for run in runs():
        for name in run.machines():
            print(_line(run, name))
    return 0


def _line(run: RunDirectory, name: str) -> str:
    config, state = run.config(name), run.state(name)
    phase = state.phase if state else "starting"
    pid = f" pid {state.guest.pid}" if state and state.guest else ""
    owner = f" owner {config.owner.pid}" if config.owner else ""
    disks = " ".join(backend_named(config.backend).disk_paths(config))
    return f"{run.name}/{name}: {config.backend} {phase}{pid} {config.address} {disks}{owner}".rstrip()


def _say(line: str) -> None:
    print(line, flush=True)
