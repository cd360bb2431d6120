"""What zfsync says while it works, and that nothing about it holds up or harms a transfer."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import struct
import termios
import threading
from collections.abc import Callable, Iterator

import pytest

from tests.ssh.processes import eventually
from tests.ssh.site import AT_ONCE, ENDS_SECONDS, Run, Site, Sshd

Zfsync = Callable[[list[str]], Run]

LARGE = 2 << 20


def test_without_a_terminal_there_are_plain_lines(site: Site, sshd: Sshd) -> None:
    site.tree("a")
    run = site.push(sshd.port, "--verbose")
    assert (run.status, run.err) == (0, "")
    for line in run.out.splitlines():
        assert line.isprintable()
        assert line.isascii()
    assert run.out.startswith(f"src/tree -> 127.0.0.1:{site.root}\n")
    assert re.search(r"^src/tree/a -> 127\.0\.0\.1:\S+/tree/a: sent full -> @1, 9\d\.\d KiB in ", run.out, re.MULTILINE)
    assert re.search(r"^2 sent; .* in ", run.out.splitlines()[-1])


def test_json_lines_tell_the_whole_story(site: Site, sshd: Sshd) -> None:
    site.tree("a")
    run = site.push(sshd.port, "--json", *AT_ONCE)
    assert (run.status, run.err) == (0, "")
    names = [event["event"] for event in run.events]
    assert names[0] == "started"
    assert names[-1] == "ended"
    assert names.index("started") < names.index("connected") < names.index("planned") < names.index("opened")
    assert {"send-started", "send-ended", "finished", "cleaned"} <= set(names)
    assert {name: outcome["status"] for name, outcome in run.outcomes.items()} == {"tree": "sent", "tree/a": "sent"}
    assert run.events[-1]["exit_code"] == 0
    assert run.events[-1]["counts"] == {"sent": 2}


def test_json_lines_end_with_the_exit_code_of_a_run_that_failed(site: Site, zfsync: Zfsync) -> None:
    sshd = site.sshd()
    run = zfsync(["cleanbuffer", *site.arguments(sshd.port, "--json", "--remote-python", "/nonexistent/python3")[2:]])
    assert run.status == 6
    assert run.sentence.endswith("--remote-python.")
    assert run.events[-1]["event"] == "ended"
    assert run.events[-1]["exit_code"] == 6


def test_quiet_says_nothing_when_all_is_well(site: Site, zfsync: Zfsync) -> None:
    sshd = site.sshd(MaxSessions="1")
    site.tree("a")
    for _ in range(2):
        assert zfsync(site.arguments(sshd.port, "--quiet")) == Run(0, "", "")
    assert site.arrived


def test_quiet_tells_what_failed(site: Site, sshd: Sshd, zfsync: Zfsync) -> None:
    site.tree("a")
    site.script("far/zfs", f"FAKEZFS_FULL=0 {site.zfs_there}")
    run = zfsync(site.arguments(sshd.port, "--quiet"))
    assert (run.status, run.out) == (3, "")
    [failed] = run.err.splitlines()
    assert failed.startswith("src/tree/a -> ")
    assert "FAILED" in failed
    assert "out of space" in failed


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_a_reader_that_goes_away_does_not_break_the_transfer(more: list[str], site: Site, sshd: Sshd) -> None:
    site.tree("a")
    run = site.start(site.arguments(sshd.port, *more))
    assert run.stdout is not None
    assert "src/tree" in run.stdout.readline()
    run.stdout.close()
    assert run.stderr is not None
    assert "Traceback" not in run.stderr.read()
    assert run.wait(ENDS_SECONDS) == 0
    assert site.arrived


def test_a_reader_that_does_not_read_does_not_hold_up_the_transfer(site: Site, sshd: Sshd) -> None:
    site.tree("a")
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, b"." * 4096)
    os.set_blocking(writer, True)
    run = site.start(site.arguments(sshd.port), stdout=writer)
    os.close(writer)
    eventually("the tree has arrived", lambda: site.arrived)
    with open(reader, "rb") as rest:
        rest.read()
    assert run.wait(ENDS_SECONDS) == 0


class Terminal:
    """A pseudo-terminal with zfsync as the job in its foreground."""

    def __init__(self, site: Site, arguments: list[str]) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        self._slave = slave
        self._before = termios.tcgetattr(slave)
        self._heard = bytearray()
        self._run = site.start(
            arguments, stdin=slave, stdout=slave, stderr=slave, start_new_session=True, preexec_fn=_take_terminal
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            while data := os.read(self._master, 4096):
                self._heard += data

    @property
    def screen(self) -> str:
        """All that was written to it so far, control characters included."""
        return self._heard.decode("utf-8", "replace")

    def press(self, key: bytes) -> None:
        """As if it had been typed."""
        os.write(self._master, key)

    def wait(self) -> int:
        """Wait for the end; the exit status. Checks that the terminal is as it was, with its cursor."""
        status = self._run.wait(ENDS_SECONDS)
        assert termios.tcgetattr(self._slave) == self._before
        os.close(self._slave)  # the last one: the reader comes to its end
        self._reader.join(ENDS_SECONDS)
        assert self.screen.rfind("\x1b[?25h") > self.screen.rfind("\x1b[?25l") >= 0
        assert "\x1b[?1049h" not in self.screen
        return status

    def close(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self._slave)
        os.close(self._master)


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@pytest.fixture
def terminal(site: Site) -> Iterator[Callable[..., Terminal]]:
    """Runs zfsync on a terminal of its own."""
    opened = []

    def run(arguments: list[str]) -> Terminal:
        opened.append(Terminal(site, arguments))
        return opened[-1]

    yield run
    for one in opened:
        one.close()


def test_a_terminal_shows_what_is_going_on(site: Site, sshd: Sshd, terminal: Callable[..., Terminal]) -> None:
    site.tree("a", size=LARGE)
    site.be_slow(0.01)
    shown = terminal(site.arguments(sshd.port, "--verbose"))
    assert shown.wait() == 0
    assert "aes128-gcm@openssh.com" in shown.screen
    assert "src/tree/a" in shown.screen
    assert "2 sent" in shown.screen.splitlines()[-1]
    assert "Traceback" not in shown.screen


def test_a_failure_leaves_the_terminal_sane(site: Site, sshd: Sshd, terminal: Callable[..., Terminal]) -> None:
    site.tree("a")
    shown = terminal(site.arguments(sshd.port, "--remote-python", "/nonexistent/python3"))
    assert shown.wait() == 6
    assert shown.screen.splitlines()[-1].endswith("install one, or name it with --remote-python.")
    assert "Traceback" not in shown.screen


def test_control_c_leaves_the_terminal_sane(site: Site, sshd: Sshd, terminal: Callable[..., Terminal]) -> None:
    site.tree("a", size=4 * LARGE)
    site.be_slow(0.015)
    shown = terminal(site.arguments(sshd.port))
    eventually("there is something to see", lambda: "of 2 datasets" in shown.screen and site.receives("a"))
    shown.press(b"\x03")
    assert shown.wait() == 130
    assert "zfsync: interrupted: the next run goes on where this one stopped." in shown.screen
    assert "Traceback" not in shown.screen
    site.nothing_is_left()


def test_a_terminal_and_quiet_means_silence(site: Site, sshd: Sshd) -> None:
    site.tree()
    master, slave = pty.openpty()
    run = site.start(site.arguments(sshd.port, "--quiet"), stdout=slave, stderr=slave)
    os.close(slave)
    assert run.wait(ENDS_SECONDS) == 0
    with contextlib.suppress(OSError):  # EIO: nobody else has it open, and nothing was written
        assert os.read(master, 100) == b""
    os.close(master)
