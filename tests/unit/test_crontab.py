"""Our lines in a crontab: the text, a `crontab` made for the test, and the real one where there is one."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zfsync_ssh.crontab import Crontab, Entry, entries, entry_for, with_entry, without_entry
from zfsync_ssh.errors import UsageError
from zfsync_ssh.schedule import parse_schedule

EVERY = parse_schedule("every 15m")
WEB = entry_for("web", EVERY, ["/opt/zfsync/bin/zfsync", "cron", "run", "web"])
LINE = "*/15 * * * * /opt/zfsync/bin/zfsync cron run web # zfsync:web\n"

OTHERS = """\
# m h  dom mon dow   command
MAILTO=ann
  \t
@every_minute  /usr/local/bin/x
*/5  *\t*   * *\t/bin/y   a  b # zfsync of old
~ 3 * * * /bin/z
#*/15 * * * * /opt/zfsync/bin/zfsync cron run off # zfsync:off
not a line at all # zfsync:x
"""

others = st.lists(
    st.sampled_from(
        [
            *OTHERS.splitlines(),
            "",
            "# zfsync:web",
            "0 0 * * * /bin/a # zfsync:db",
            "é \udce9",
            "a\u2028* * * * * x # zfsync:web",
        ]
    ),
    max_size=8,
)


def test_a_line_says_when_and_what_and_whose_it_is() -> None:
    assert f"{WEB}\n" == LINE
    assert entries(LINE) == (WEB,)
    odd = entry_for("a", EVERY, ["/x y", "100%", "it's", "#", "# zfsync:b"])
    assert str(odd).count("\\%") == 1
    assert entries(str(odd)) == (odd,)


def test_a_command_that_is_not_on_one_line_is_refused() -> None:
    with pytest.raises(UsageError, match="cannot be on one line of a crontab"):
        entry_for("web", EVERY, ["a\nb"])


def test_lines_of_others_are_not_ours() -> None:
    assert entries(OTHERS) == ()


def test_a_job_that_is_there_keeps_its_place() -> None:
    text = f"{OTHERS}{LINE}0 0 * * * last\n"
    daily = entry_for("web", parse_schedule("daily"), ["/bin/zfsync"])
    assert with_entry(text, daily) == f"{OTHERS}0 0 * * * /bin/zfsync # zfsync:web\n0 0 * * * last\n"
    assert with_entry(LINE + text, WEB).count("zfsync:web") == 1


def test_a_last_line_without_an_end_gets_one() -> None:
    assert with_entry("0 0 * * * x", WEB) == f"0 0 * * * x\n{LINE}"


def test_the_name_of_a_job_that_begins_with_anothers_is_another_job() -> None:
    text = with_entry(LINE, Entry("web.2", "* * * * *", "x"))
    assert without_entry(text, "web") == "* * * * * x # zfsync:web.2\n"


@given(others, others)
def test_whatever_else_is_there_stays_byte_for_byte(before: list[str], after: list[str]) -> None:
    text = "".join(f"{line}\n" for line in before)
    rest = "".join(f"{line}\n" for line in after)
    installed = with_entry(text, WEB)
    assert installed == text + LINE
    assert without_entry(installed + rest, "web") == text + rest
    assert with_entry(installed + rest, WEB) == installed + rest
    assert [entry.job for entry in entries(installed + rest)].count("web") == 1


# ---- a crontab made for the test -------------------------------------------------------------------------------------

FAKE = """#!/bin/sh
set -eu
case $1 in
  -l) if [ -e "$0.tab" ]; then cat "$0.tab"; else echo "no crontab for me" >&2; exit 1; fi;;
  -) cat > "$0.new"; ! grep -q refused "$0.new" || { echo 'bad minute; errors in crontab file.' >&2; exit 1; }
     mv "$0.new" "$0.tab";;
esac
"""


@pytest.fixture
def fake(tmp_path: Path) -> Path:
    """A `crontab` that keeps its table beside it."""
    path = tmp_path / "crontab"
    path.write_text(FAKE)
    path.chmod(0o755)
    return path


def test_a_job_is_installed_listed_replaced_and_removed(fake: Path) -> None:
    tab = Crontab([str(fake)])
    assert tab.entries() == ()
    assert not tab.install(WEB)
    assert tab.entries() == (WEB,)
    assert tab.install(entry_for("web", parse_schedule("daily"), ["x"]))
    assert [entry.when for entry in tab.entries()] == ["0 0 * * *"]
    assert tab.remove("web")
    assert not tab.remove("web")
    assert Path(f"{fake}.tab").read_text() == ""


def test_what_others_wrote_in_any_encoding_stays(fake: Path) -> None:
    table = Path(f"{fake}.tab")
    table.write_bytes(b"# caf\xe9\r\n0 0 * * *  x\n")
    tab = Crontab([str(fake)])
    tab.install(WEB)
    assert table.read_bytes() == b"# caf\xe9\r\n0 0 * * *  x\n" + LINE.encode()
    tab.remove("web")
    assert table.read_bytes() == b"# caf\xe9\r\n0 0 * * *  x\n"


def test_a_line_that_cron_refuses_changes_nothing(fake: Path) -> None:
    tab = Crontab([str(fake)])
    tab.install(WEB)
    with pytest.raises(UsageError, match=r"left as it is, .* written: bad minute; errors in crontab file\."):
        tab.install(entry_for("b", EVERY, ["refused"]))
    assert tab.entries() == (WEB,)


def test_a_crontab_that_cannot_be_read_is_not_taken_for_an_empty_one(fake: Path) -> None:
    fake.write_text("#!/bin/sh\necho 'you (me) are not allowed to use this program' >&2\nexit 1\n")
    with pytest.raises(UsageError, match=r"cannot be read: you \(me\) are not allowed to use this program\."):
        Crontab([str(fake)]).install(WEB)


def test_a_crontab_that_reads_otherwise_than_it_was_written_is_told(fake: Path) -> None:
    fake.write_text("#!/bin/sh\n[ $1 = - ] || echo '0 0 * * * x'\n")
    with pytest.raises(UsageError, match="another program changed it too"):
        Crontab([str(fake)]).install(WEB)


def test_without_cron_it_is_told_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"There is no .*/none here: install cron, or use a systemd timer\."):
        Crontab([str(tmp_path / "none")]).entries()


# ---- the real one ----------------------------------------------------------------------------------------------------


@pytest.fixture
def user() -> Iterator[str]:
    """A user who is there for one test alone."""
    if os.geteuid() != 0 or not shutil.which("crontab") or not shutil.which("useradd"):
        pytest.skip("needs root, crontab and useradd")
    name = f"zfsync-t{os.getpid()}"
    subprocess.run(["useradd", "--no-create-home", "--shell", "/usr/sbin/nologin", name], check=True)
    yield name
    subprocess.run(["crontab", "-u", name, "-r"], check=False, stderr=subprocess.DEVNULL)
    subprocess.run(["userdel", name], check=True)


def test_the_real_crontab_takes_our_lines_and_keeps_all_others(user: str) -> None:
    tab = Crontab(["crontab", "-u", user])
    assert tab.entries() == ()
    before = "# mine\nMAILTO=ann\n*/5  * * * *\t/bin/y   a  b\n@daily /bin/z\n"
    subprocess.run(["crontab", "-u", user, "-"], input=before, text=True, check=True)
    entry = entry_for("web", parse_schedule("7,37 1-5 * jan-feb mon-wed"), ["/opt/zf sync/bin/zfsync", "100%"])
    tab.install(entry)
    assert tab.entries() == (entry,)
    tab.remove("web")
    listed = subprocess.run(["crontab", "-u", user, "-l"], capture_output=True, text=True, check=True).stdout
    assert listed == before


def test_every_schedule_in_words_is_one_that_the_real_crontab_takes(user: str) -> None:
    tab = Crontab(["crontab", "-u", user])
    words = ["minutely", "hourly", "daily", "weekly", "monthly", "yearly", "every 20m", "every 8h", "*/7 0-6/2 1,2 * 0"]
    for number, text in enumerate(words):
        tab.install(entry_for(f"job{number}", parse_schedule(text), ["/bin/true"]))
    assert len(tab.entries()) == len(words)


def test_what_the_shell_of_cron_runs_is_what_was_meant(tmp_path: Path) -> None:
    out = tmp_path / "out put"
    entry = entry_for("web", EVERY, ["/bin/sh", "-c", 'printf "%s" "$1" > "$2"', "x", "it's 100% # no", str(out)])
    line = str(entry).removeprefix(f"{EVERY} ")
    subprocess.run(["/bin/sh", "-c", re.sub(r"\\%", "%", line)], check=True)  # cron takes the backslash away
    assert out.read_text() == "it's 100% # no"
