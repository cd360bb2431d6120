"""Commands of this machine: run to their end, read as they go, fed with a stream."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from zfsync_ssh.process import Completed, Outputs, Receiver, environment, run, run_all

PIPE_BYTES = 64 << 10


def python(program: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-I", "-S", "-c", "import sys, os\n" + program, *arguments)


def sh(program: str) -> tuple[str, ...]:
    return ("/bin/sh", "-c", program)


def test_a_command_is_run_to_its_end() -> None:
    assert run(sh("echo out; echo err >&2; exit 3")) == Completed(3, "out\n", "err\n")


def test_a_command_that_is_not_there_has_status_127_and_says_so() -> None:
    done = run(("/no/such/zfs", "list"))
    assert done == Completed(127, "", "cannot run '/no/such/zfs': No such file or directory")


def test_a_command_that_was_killed_has_a_negative_status() -> None:
    assert run(sh("kill -9 $$")).status == -9


def test_what_is_no_text_can_be_read_all_the_same() -> None:
    assert run(sh(r"printf '\377x'")).stdout == "\ufffdx"


def test_a_command_reads_nothing_and_so_never_asks() -> None:
    assert run(("cat",)) == Completed(0, "", "")


def test_messages_are_in_english_and_sbin_is_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGUAGE", "de")
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("PATH", "/opt/mine")
    made = environment()
    assert (made["LC_ALL"], made["LANGUAGE"]) == ("C", "C")
    assert made["PATH"].split(":")[0] == "/opt/mine"
    assert {"/usr/sbin", "/usr/local/sbin"} <= set(made["PATH"].split(":"))
    monkeypatch.delenv("PATH")
    assert "/usr/sbin" in environment()["PATH"].split(":")


# ---- several ---------------------------------------------------------------------------------------------------------


def test_commands_end_in_the_order_in_which_they_were_given() -> None:
    commands = [sh("sleep 0.1; echo slow >&2; exit 3"), sh("echo out; echo fast >&2"), ("/no/such/zfs",)]
    slow, fast, absent = run_all(commands, at_once=3)
    assert (slow, fast) == (Completed(3, "", "slow\n"), Completed(0, "", "fast\n"))
    assert absent.status == 127


@pytest.mark.parametrize("at_once", [1, 3, 9])
def test_no_more_commands_than_wished_run_at_the_same_time(at_once: int, tmp_path: Path) -> None:
    script = f"cd '{tmp_path}'; mkdir $$; ls | wc -l >&2; sleep 0.05; rmdir $$"
    seen = [int(done.stderr) for done in run_all([sh(script)] * 9, at_once)]
    assert len(seen) == 9
    assert max(seen) <= at_once


def test_leaving_several_commands_early_leaves_no_process(tmp_path: Path) -> None:
    script = f"echo $$ > '{tmp_path}/pid.part'; mv '{tmp_path}/pid.part' '{tmp_path}/pid'; exec tail -f /dev/null"
    wait = f"until [ -e '{tmp_path}/pid' ]; do sleep 0.01; done"
    running = run_all([sh(wait), sh(script)], at_once=2)
    next(running)
    running.close()
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


# ---- listings --------------------------------------------------------------------------------------------------------


def test_listings_are_read_one_after_the_other() -> None:
    # The second writes more than a pipe holds.
    with Outputs([sh("echo a"), python("sys.stdout.write('b' * 300_000)")]) as listing:
        assert b"".join(listing) == b"a\n" + b"b" * 300_000
    assert (listing.status, listing.stderr) == (0, "")


def test_a_listing_tells_the_worst_status_and_all_complaints() -> None:
    with Outputs([sh("echo one >&2; exit 1"), sh("echo two >&2; exit 5"), ("/no/such/zfs",)]) as listing:
        assert b"".join(listing) == b""
    assert listing.status == 127
    assert listing.stderr == "one\ntwo\ncannot run '/no/such/zfs': No such file or directory"


def test_complaints_of_any_length_do_not_block_a_listing() -> None:
    with Outputs([python("sys.stderr.write('x' * 300_000); print('done')")]) as listing:
        assert b"".join(listing) == b"done\n"
    assert set(listing.stderr) == {"x"}
    assert len(listing.stderr) == 64 << 10


def test_a_listing_that_is_left_early_leaves_no_process() -> None:
    with Outputs([sh("echo $$; exec tail -f /dev/null")]) as listing:
        pid = int(next(iter(listing)))
        os.kill(pid, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_one_that_may_not_be_killed_ends_when_nobody_reads_what_it_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: object) -> None:
        raise PermissionError(1, "Operation not permitted")  # sudo's children are root's

    monkeypatch.setattr(subprocess.Popen, "kill", refused)
    with Outputs([sh("exec cat /dev/zero")]) as listing:
        assert next(iter(listing))
        listing.kill()
        process = listing._children[0].process
    assert process is not None
    assert process.returncode == -signal.SIGPIPE


# ---- receivers -------------------------------------------------------------------------------------------------------


def test_a_receiver_gets_the_whole_stream() -> None:
    with Receiver(python("sys.stderr.write(str(len(sys.stdin.buffer.read())))"), PIPE_BYTES) as receiver:
        assert receiver.write(b"x" * 300_000)
        assert receiver.write(b"y")
        assert receiver.finish() == Completed(0, "", "300001")
        assert receiver.finish() == Completed(0, "", "300001")  # asking again does no harm


def test_a_receiver_that_has_ended_takes_no_more() -> None:
    with Receiver(sh("echo full >&2; exit 1"), PIPE_BYTES) as receiver:
        while receiver.write(b"x" * 100_000):
            pass
        assert receiver.finish() == Completed(1, "", "full\n")


def test_a_receiver_that_is_not_there_takes_nothing() -> None:
    with Receiver(("/no/such/zfs",), PIPE_BYTES) as receiver:
        assert not receiver.write(b"x")
        assert receiver.finish().status == 127


def test_leaving_a_receiver_ends_its_stream_and_waits(tmp_path: Path) -> None:
    with Receiver(sh(f"wc -c > '{tmp_path}/count'"), PIPE_BYTES) as receiver:
        receiver.write(b"12345")
    assert (tmp_path / "count").read_text().strip() == "5"


# ---- filters ---------------------------------------------------------------------------------------------------------

UPPER = python("[os.write(1, data.upper()) for data in iter(lambda: os.read(0, 65536), b'')]")


def test_an_output_is_read_through_a_filter() -> None:
    with Outputs([python("sys.stdout.write('b' * 300_000)")], PIPE_BYTES, UPPER) as listing:
        assert b"".join(listing) == b"B" * 300_000
    assert (listing.status, listing.stderr) == (0, "")
    assert listing.filtered == Completed(0, "", "")


def test_a_filter_that_fails_ends_the_command_before_it_too() -> None:
    with Outputs([sh("exec cat /dev/zero")], PIPE_BYTES, sh("echo broken >&2; exit 3")) as listing:
        assert b"".join(listing) == b""
    assert listing.filtered == Completed(3, "", "broken\n")
    assert listing.status == 13  # SIGPIPE


def test_a_filter_that_is_not_there_is_said() -> None:
    with Outputs([sh("exec cat /dev/zero")], PIPE_BYTES, ("/no/such/filter",)) as listing:
        assert b"".join(listing) == b""
    assert listing.filtered is not None
    assert listing.filtered.status == 127


def test_leaving_early_ends_the_filter_as_well() -> None:
    with Outputs([sh("exec cat /dev/zero")], PIPE_BYTES, UPPER) as listing:
        children = [child.process for child in (*listing._children, *listing._outlets)]
        assert next(iter(listing))
    # Ended, by the signal or, when it saw the end of its input before that, by itself.
    assert all(process is not None and process.returncode is not None for process in children)


def test_a_stream_reaches_its_receiver_through_a_filter(tmp_path: Path) -> None:
    with Receiver(sh(f"cat > '{tmp_path}/got'"), PIPE_BYTES, UPPER) as receiver:
        assert receiver.write(b"a" * 300_000)
        assert receiver.finish().status == 0
    assert receiver.filtered == Completed(0, "", "")
    assert (tmp_path / "got").read_bytes() == b"A" * 300_000


def test_a_receiver_that_fails_behind_a_filter_is_told_apart_from_it() -> None:
    with Receiver(sh("echo full >&2; exit 1"), PIPE_BYTES, UPPER) as receiver:
        while receiver.write(b"a" * PIPE_BYTES):
            pass
        assert receiver.finish() == Completed(1, "", "full\n")
    assert receiver.filtered is not None
    assert receiver.filtered.status != 0


def test_a_filter_that_fails_in_front_of_a_receiver_ends_its_input(tmp_path: Path) -> None:
    with Receiver(sh(f"wc -c > '{tmp_path}/count'"), PIPE_BYTES, sh("head -c 10; exit 1")) as receiver:
        while receiver.write(b"a" * PIPE_BYTES):
            pass
        assert receiver.finish().status == 0
    assert receiver.filtered == Completed(1, "", "")
    assert (tmp_path / "count").read_text().strip() == "10"


def test_a_receiver_without_its_filter_reads_nothing(tmp_path: Path) -> None:
    with Receiver(sh(f"wc -c > '{tmp_path}/count'"), PIPE_BYTES, ("/no/such/filter",)) as receiver:
        assert not receiver.write(b"a")
        receiver.finish()
    assert receiver.filtered is not None
    assert receiver.filtered.status == 127
    assert (tmp_path / "count").read_text().strip() == "0"
