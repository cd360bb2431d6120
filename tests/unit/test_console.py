"""What a run looks like: plain lines, JSON, the live display; and the thread that they live in."""

from __future__ import annotations

import dataclasses
import io
import json
import re
import threading
from typing import Any, get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from zfsync_ssh import console
from zfsync_ssh.console import MAX_WAITING_EVENTS, choose, threaded
from zfsync_ssh.console.live import MAX_TABLE_ROWS, LiveConsole, Rate
from zfsync_ssh.console.ndjson import NdjsonConsole
from zfsync_ssh.console.plain import PlainConsole
from zfsync_ssh.console.text import WORDS, duration, line, size, summary
from zfsync_ssh.events import (
    Cleaned,
    Connected,
    Ended,
    Event,
    Finished,
    Notice,
    Opened,
    Outcome,
    Planned,
    Progress,
    SendEnded,
    SendStarted,
    Started,
    Status,
)

SENT = Outcome("src/a", "dst/a", Status.SENT, "@1 -> @2", "why", bytes=2048, estimate=2000, seconds=1.25)
FAILED = Outcome("src/b", "dst/b", Status.FAILED, "full -> @2", "new", "no-space", "there:dst/b is full.")
FRESH = Outcome("src/c", "dst/c", Status.UP_TO_DATE, why="up to date")
PLANNED = Outcome("src/d", "dst/d", Status.PLANNED, "full -> @1", "new at the target", estimate=3 << 20)

RUN: tuple[Event, ...] = (
    Started("src", "there:dst", False),
    Connected("there", "3.8.1", "aes128-gcm@openssh.com"),
    Notice("only for the curious", verbose=True),
    Notice("for everyone"),
    Planned(3, 2, 4096),
    Opened(2, 2),
    SendStarted(0, "src/a", "@1 -> @2", 2000, False),
    Progress(0, 1024),
    SendEnded(0, "src/a"),
    Finished(SENT),
    Finished(FAILED),
    Finished(FRESH),
    Cleaned(2),
    Ended({Status.SENT: 1, Status.UP_TO_DATE: 1, Status.FAILED: 1}, 2048, 75.2, 3),
)


def values(hint: Any) -> st.SearchStrategy[Any]:
    """Values that fit the annotation of an event's field."""
    simple: dict[Any, st.SearchStrategy[Any]] = {
        str: st.text(max_size=20),
        int: st.integers(0, 2**64),
        float: st.floats(0, 1e7),
        bool: st.booleans(),
        Status: st.sampled_from(Status),
        dict[Status, int]: st.dictionaries(st.sampled_from(Status), st.integers(0, 9)),
    }
    return simple[hint] if hint in simple else built(hint)


def built(kind: type) -> st.SearchStrategy[Any]:
    return st.builds(kind, **{name: values(hint) for name, hint in get_type_hints(kind).items()})


events = st.one_of([built(kind) for kind in get_args(Event)])


# ---- numbers and lines -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"), (1, "1 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536, "1.5 KiB"), (10 << 20, "10.0 MiB"),
        (3 << 30, "3.0 GiB"), (5 << 40, "5.0 TiB"), (7 << 50, "7.0 PiB"), (1 << 64, "16384.0 PiB"), (0.4, "0 B"),
    ],
)  # fmt: skip
def test_a_size_has_the_largest_unit_that_fits(count: float, text: str) -> None:
    assert size(count) == text


@given(st.integers(0, 1 << 60))
def test_a_size_is_right_to_one_decimal(count: int) -> None:
    number, unit = size(count).split()
    factor = 1024 ** ["B", "KiB", "MiB", "GiB", "TiB", "PiB"].index(unit)
    assert abs(float(number) * factor - count) <= 0.0501 * factor


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0 s"), (8.34, "8.3 s"), (59.9, "59.9 s"), (60, "1:00"), (75.2, "1:15"), (3599, "59:59"), (3600, "1:00:00"),
     (3661, "1:01:01"), (360_000, "100:00:00")],
)  # fmt: skip
def test_a_duration_has_as_many_parts_as_it_needs(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("outcome", "text"),
    [
        (SENT, "src/a -> dst/a: sent @1 -> @2, 2.0 KiB in 1.2 s"),
        (FAILED, "src/b -> dst/b: FAILED: there:dst/b is full."),
        (FRESH, "src/c -> dst/c: up to date"),
        (PLANNED, "src/d -> dst/d: would send full -> @1, about 3.0 MiB (new at the target)"),
        (Outcome("s", "t", Status.NO_SNAPSHOTS), "s -> t: without a snapshot"),
        (Outcome("s", "t", Status.RENAMED), "s -> t: renamed into place"),
    ],
)
def test_an_outcome_is_one_line(outcome: Outcome, text: str) -> None:
    assert line(outcome) == text


@pytest.mark.parametrize(
    ("ended", "text"),
    [
        (Ended({}, 0, 1, 0), "nothing to do"),
        (Ended({}, 0, 1, 5), "failed"),
        (Ended({Status.UP_TO_DATE: 3}, 0, 1, 0), "3 up to date; 1.0 s"),
        (
            Ended({Status.FAILED: 1, Status.SENT: 2, Status.PLANNED: 0}, 2048, 75, 3),
            "2 sent, 1 failed; 2.0 KiB in 1:15",
        ),
    ],
)
def test_a_run_is_summed_up_on_one_line(ended: Ended, text: str) -> None:
    assert summary(ended) == text


def test_every_status_has_its_word() -> None:
    assert set(WORDS) == set(Status)


# ---- plain lines -----------------------------------------------------------------------------------------------------


def plain(*shown: Event, quiet: bool = False, verbose: bool = False) -> tuple[list[str], list[str]]:
    """What is written to stdout and to stderr."""
    out, err = io.StringIO(), io.StringIO()
    display = PlainConsole(out, err, quiet=quiet, verbose=verbose)
    for event in shown:
        display(event)
    return out.getvalue().splitlines(), err.getvalue().splitlines()


def test_plain_lines_tell_each_dataset_and_the_end() -> None:
    out, err = plain(*RUN)
    assert out == [
        "src -> there:dst",
        "src/a -> dst/a: sent @1 -> @2, 2.0 KiB in 1.2 s",
        "src/c -> dst/c: up to date",
        "1 sent, 1 up to date, 1 failed; 2.0 KiB in 1:15",
    ]
    assert err == ["for everyone", "src/b -> dst/b: FAILED: there:dst/b is full."]


def test_verbose_lines_tell_more() -> None:
    out, err = plain(*RUN, verbose=True)
    told = {
        "connected to there (python 3.8.1, aes128-gcm@openssh.com)",
        "2 channels",
        "2 datasets renamed out of the buffer",
    }
    assert told <= set(out)
    assert "only for the curious" in err


def test_quiet_lines_tell_only_failures() -> None:
    assert plain(*RUN, quiet=True) == ([], ["src/b -> dst/b: FAILED: there:dst/b is full."])
    assert plain(*RUN[:-4], quiet=True) == ([], [])


def test_a_dry_run_says_so() -> None:
    assert plain(Started("src", "there:dst", True))[0] == ["src -> there:dst (dry run)"]


def test_a_run_that_an_error_ended_has_no_summary() -> None:
    assert plain(Ended({}, 0, 1.0, 5)) == ([], [])
    assert plain(Ended({}, 0, 1.0, 0)) == (["nothing to do"], [])


@given(st.lists(events, max_size=5), st.booleans(), st.booleans())
def test_plain_lines_have_no_control_characters_whatever_is_in_names(
    shown: list[Event], quiet: bool, verbose: bool
) -> None:
    out, err = io.StringIO(newline=""), io.StringIO(newline="")
    display = PlainConsole(out, err, quiet=quiet, verbose=verbose)
    for event in shown:
        display(event)
    for text in (out.getvalue(), err.getvalue()):
        assert text.replace("\n", "").isprintable()
        assert text.count("\n") <= len(shown)


def test_an_escape_sequence_is_made_harmless() -> None:
    hostile = dataclasses.replace(FAILED, message="\x1b]0;you\x07 are\r\nhacked\u202e\ud800")
    assert plain(Finished(hostile))[1] == ["src/b -> dst/b: FAILED:  ]0;you  are  hacked  "]


# ---- JSON ------------------------------------------------------------------------------------------------------------


def ndjson(*shown: Event) -> list[dict[str, Any]]:
    out = io.StringIO(newline="")
    display = NdjsonConsole(out)
    for event in shown:
        display(event)
    text = out.getvalue()
    assert text.isascii()
    assert text.endswith("\n")
    return [json.loads(entry) for entry in text[:-1].split("\n")]


def test_each_event_is_one_object_with_its_name_and_its_fields() -> None:
    names = [record["event"] for record in ndjson(*RUN)]
    assert names == [
        "started", "connected", "notice", "notice", "planned", "opened", "send-started", "progress", "send-ended",
        "finished", "finished", "finished", "cleaned", "ended",
    ]  # fmt: skip
    started, finished, ended = ndjson(RUN[0], Finished(SENT), RUN[-1])
    assert started.pop("time") > 0
    assert started == {"event": "started", "source": "src", "target": "there:dst", "dry_run": False}
    assert finished["outcome"] == dataclasses.asdict(SENT)
    assert finished["outcome"]["status"] == "sent"
    assert ended["counts"] == {"sent": 1, "up-to-date": 1, "failed": 1}


@given(st.lists(events, min_size=1, max_size=5))
def test_any_event_is_one_line_of_json(shown: list[Event]) -> None:
    records = ndjson(*shown)
    assert len(records) == len(shown)
    for record, event in zip(records, shown, strict=True):
        assert record.pop("event").replace("-", "") == type(event).__name__.lower()
        assert isinstance(record.pop("time"), float)
        assert record == dataclasses.asdict(event)


# ---- the live display ------------------------------------------------------------------------------------------------


class Screen:
    """A live display on a terminal of 100 columns that is recorded."""

    def __init__(self, verbose: bool = False) -> None:
        self.file = io.StringIO()
        self._console = Console(
            file=self.file,
            force_terminal=True,
            width=100,
            height=50,
            record=True,
            highlight=False,
            legacy_windows=False,
        )
        self._show = LiveConsole(verbose=verbose, console=self._console)

    def after(self, *shown: Event) -> str:
        """What appears in the course of these events, without control codes."""
        self._console.export_text(clear=True)
        for event in shown:
            self._show(event)
        return self._console.export_text(clear=True)

    def end(self) -> str:
        """What the end of the run shows. It also ends the thread that refreshes."""
        return self.after(Ended({Status.SENT: 1}, 2048, 2.0, 0))


STARTED = Started("src", "there:dst", False)
TITLE = "src -> there:dst"


def picture(*shown: Event) -> list[str]:
    """The moving part after a run began with these events: the total, and a line per channel, single-spaced.

    An error ends the run, whereupon the moving part is drawn for the last time and nothing else is shown.
    """
    screen = Screen()
    screen.after(STARTED, *shown)
    drawn = screen.after(Ended({}, 0, 0.0, 1))
    return [words(text).strip() for text in (TITLE + drawn.rpartition(TITLE)[2]).splitlines() if text.strip()]


def words(text: str) -> str:
    """With single spaces, as columns are of any width."""
    return re.sub(r"[ \n]+", " ", text)


def test_the_live_display_shows_what_is_being_waited_for() -> None:
    assert picture() == [f"{TITLE} connecting"]
    assert picture(Connected("there", "3.8", "")) == [f"{TITLE} listing"]
    assert picture(Planned(3, 0, 0)) == [f"{TITLE} nothing to send"]


def test_the_live_display_of_a_comparison_counts_what_was_read() -> None:
    reading = SendStarted(0, "src/a", "@1", 0, False)
    equal = Finished(Outcome("src/b", "dst/b", Status.EQUAL))
    title, lane, total = picture(Planned(2, 2, 0), Opened(1, 1, "reading"), reading, Progress(0, 2048), equal)
    assert title == f"{TITLE} reading"
    assert "src/a" in lane
    assert "2.0 KiB" in lane
    assert "1 of 2 datasets" in total


SENDING = (Planned(3, 2, 1 << 20), Opened(2, 2), SendStarted(1, "src/a", "@1 -> @2", 4096, True), Progress(1, 1024))


def test_the_live_display_shows_channels_bytes_and_the_total() -> None:
    title, idle, busy, total = picture(*SENDING)
    assert title == f"{TITLE} sending"
    assert total.startswith("total 0 of 2 datasets")
    assert "1.0 KiB of 1.0 MiB" in total
    assert idle == "1"
    assert busy.startswith("2 src/a (buffered) @1 -> @2")
    assert "1.0 KiB of 4.0 KiB" in busy


def test_a_channel_is_idle_again_when_it_has_sent_all() -> None:
    _, *channels, total = picture(*SENDING, SendEnded(1, "src/a"), Finished(SENT))
    assert total.startswith("total 1 of 2 datasets")
    assert "2.0 KiB of 1.0 MiB" in total
    assert channels == ["1", "2"]


def test_an_estimate_that_was_wrong_is_put_right_when_its_dataset_is_done() -> None:
    done = Finished(dataclasses.replace(SENT, bytes=100 << 10, estimate=600 << 10))
    assert "100.0 KiB of 524.0 KiB" in picture(*SENDING, SendEnded(1, "src/a"), done)[-1]
    assert "100.0 KiB of 524.0 KiB" in picture(*SENDING, SendEnded(1, "src/a"), done, done)[-1]


def test_more_bytes_than_were_estimated_are_shown_as_they_are() -> None:
    _, _, busy, _ = picture(*SENDING[:-1], Progress(1, 5 << 10))
    assert "5.0 KiB of 5.0 KiB" in busy


def test_a_channel_begins_each_dataset_afresh() -> None:
    _, _, busy, _ = picture(*SENDING, SendEnded(1, "src/a"), SendStarted(1, "src/b", "full -> @1", 2048, False))
    assert busy.startswith("2 src/b full -> @1")
    assert "0 B of 2.0 KiB" in busy


def test_a_rate_is_that_of_the_last_seconds() -> None:
    rate = Rate(10.0)
    assert rate.per_second == 0
    rate.update(0, 10.0)  # no time has passed
    assert rate.per_second == 0
    for second in range(1, 8):
        rate.update(500 * second, 10.0 + second)
        assert rate.per_second == pytest.approx(500)
    for second in range(8, 20):
        rate.update(3500, 10.0 + second)
    assert rate.per_second == 0


def test_failures_are_shown_when_they_come() -> None:
    screen = Screen()
    screen.after(STARTED)
    assert "src/b: there:dst/b is full." in screen.after(Finished(FAILED))
    screen.end()


def test_the_closing_table_shows_what_was_done_failures_first() -> None:
    screen = Screen()
    screen.after(*RUN[:-1])
    shown = screen.after(RUN[-1])
    table = shown[shown.rindex("dataset ") :]
    rows = [words(row).strip() for row in table.splitlines()]
    assert rows == [
        "dataset result snapshots size time",
        "src/b failed full -> @2 0 B",
        "src/a sent @1 -> @2 2.0 KiB 1.2 s",
        "src -> there:dst: 1 sent, 1 up to date, 1 failed; 2.0 KiB in 1:15",
    ]


def test_a_dry_run_shows_what_and_why() -> None:
    screen = Screen()
    screen.after(Started("src", "there:dst", True), Finished(PLANNED))
    shown = words(screen.after(Ended({Status.PLANNED: 1}, 0, 1.0, 0)))
    assert "dataset to send snapshots size why" in shown
    assert "src/d to send full -> @1 3.0 MiB new at the target" in shown


def test_a_long_table_says_what_it_leaves_out() -> None:
    screen = Screen()
    screen.after(STARTED)
    names = [f"src/{number:03}" for number in range(MAX_TABLE_ROWS + 5)]
    screen.after(*[Finished(dataclasses.replace(SENT, source=name)) for name in names])
    shown = screen.end()
    assert [name in shown for name in names] == [True] * MAX_TABLE_ROWS + [False] * 5
    assert "... and 5 more" in shown


def test_a_dataset_that_is_done_twice_is_one_dataset() -> None:
    screen = Screen()
    twice = (Finished(SENT), Finished(dataclasses.replace(SENT, status=Status.FAILED, message="it did not stay.")))
    assert "1 of 2 datasets" in picture(Planned(2, 2, 4096), Opened(1, 1), *twice)[-1]
    screen.after(STARTED, *twice)
    table = words(screen.end())
    assert "src/a failed" in table
    assert "src/a sent" not in table


def test_a_dataset_that_the_plan_refuses_is_not_one_of_those_to_send() -> None:
    refused, sent = Finished(FAILED), Finished(SENT)
    assert "1 of 1 datasets" in picture(Planned(2, 1, 4096), refused, Opened(1, 1), sent)[-1]
    assert "2 of 2 datasets" in picture(Planned(2, 2, 4096), Opened(1, 1), refused, sent)[-1]
    missing = Finished(Outcome("src/b", "dst/b", Status.DIFFERENT))  # which a comparison counts among all
    assert "2 of 2 datasets" in picture(Planned(2, 2, 0), missing, Opened(1, 1, "reading"), sent)[-1]


def test_a_run_that_an_error_ended_leaves_no_table() -> None:
    shown = {}
    for counts in ({}, {Status.FAILED: 1}):
        screen = Screen()
        screen.after(STARTED, Finished(FAILED))
        shown[len(counts)] = "result" in screen.after(Ended(counts, 0, 1.0, 5))
    assert shown == {0: False, 1: True}


def test_verbose_tells_more_on_the_screen() -> None:
    told, more = Screen().after(*RUN), Screen(verbose=True).after(*RUN)
    for text in ("connected to there (python 3.8.1", "only for the curious", "2 datasets renamed out of the buffer"):
        assert text in more
        assert text not in told


MARKUP = "[bold]x[/bold][/]"


def test_names_with_markup_are_shown_literally() -> None:
    sending = SendStarted(0, f"a/{MARKUP}", f"@{MARKUP}", 10, False)
    _, lane, _ = picture(Planned(2, 2, 10), Opened(1, 1), sending)
    assert f"a/{MARKUP}" in lane
    assert f"@{MARKUP}" in lane
    screen = Screen()
    assert f"note {MARKUP}" in screen.after(Started(f"s/{MARKUP}", f"h:t/{MARKUP}", False), Notice(f"note {MARKUP}"))
    failed = dataclasses.replace(FAILED, source=f"f/{MARKUP}", what=f"@{MARKUP}", message=f"why {MARKUP}")
    assert f"f/{MARKUP}: why {MARKUP}" in screen.after(Finished(failed))
    table = screen.end()
    table = table[table.rindex("dataset ") :]
    assert table.count(MARKUP) == 4  # the source and the snapshots of its row, and both ends of the run


HOSTILE = "a\x1b]0;you\x07\r\nb\x1b[2J"


def test_what_another_machine_says_cannot_steer_the_terminal() -> None:
    screen = Screen(verbose=True)
    failed = dataclasses.replace(FAILED, message=HOSTILE)
    shown: tuple[Event, ...] = (Notice(HOSTILE), Connected("there", HOSTILE, HOSTILE), Finished(failed))
    for event in (STARTED, *shown):
        screen.after(event)
    screen.end()
    written = screen.file.getvalue()
    assert "\x1b]" not in written
    assert "\x1b[2J" not in written
    assert "\x07" not in written


def test_the_moving_part_is_gone_at_the_end() -> None:
    screen = Screen()
    screen.after(*RUN)
    shown = screen.file.getvalue()
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") == 1  # the cursor is hidden, and back
    assert "datasets" not in shown[shown.index("\x1b[?25h") :]


LONG = "src/" + "x" * 90


@pytest.mark.parametrize(("encoding", "end"), [("utf-8", "x\u2026"), ("latin-1", "xx"), ("ascii", "xx")])
def test_what_is_cut_off_is_drawn_in_what_the_terminal_has(encoding: str, end: str) -> None:
    file = io.TextIOWrapper(io.BytesIO(), encoding, newline="")
    show = LiveConsole(console=Console(file=file, force_terminal=True, width=60, height=50, legacy_windows=False))
    for event in (STARTED, Opened(1, 1), SendStarted(0, LONG, f"@{LONG}", 10, False), Ended({}, 0, 0.0, 1)):
        show(event)
    file.seek(0)
    assert f"{end} " in re.sub(r"\x1b\[[0-9;]*m", "", file.read())


def test_a_terminal_on_which_nothing_can_be_drawn_has_its_cursor_back() -> None:
    file = io.TextIOWrapper(io.BytesIO(), "ascii", newline="")
    show = LiveConsole(console=Console(file=file, force_terminal=True, width=60, height=50, legacy_windows=False))
    show(STARTED)
    with pytest.raises(UnicodeEncodeError):
        show(Notice("\u0142"))
    file.seek(0)
    written = file.read()
    assert written.count("\x1b[?25l") == written.count("\x1b[?25h") == 1


# ---- the choice ------------------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("terminal", "json_wanted", "quiet", "display"),
    [
        (False, False, False, PlainConsole), (False, False, True, PlainConsole), (False, True, False, NdjsonConsole),
        (True, False, False, LiveConsole), (True, False, True, PlainConsole), (True, True, False, NdjsonConsole),
    ],
)  # fmt: skip
def test_the_display_fits_the_output(
    terminal: bool, json_wanted: bool, quiet: bool, display: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout", Terminal() if terminal else io.StringIO())
    assert type(choose(json=json_wanted, quiet=quiet, verbose=False)) is display


def test_a_name_that_the_output_cannot_encode_is_shown_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr("sys.stdout", out)
    choose(json=False, quiet=False, verbose=False)(Started("src/\u0142", "there:dst", False))
    out.seek(0)
    assert out.read() == "src/\\u0142 -> there:dst\n"


# ---- the thread ------------------------------------------------------------------------------------------------------


def test_all_events_are_shown_in_order_by_another_thread_before_it_is_left() -> None:
    shown: list[Event] = []
    threads = set()

    def display(event: Event) -> None:
        shown.append(event)
        threads.add(threading.current_thread())

    with threaded(display) as observe:
        for event in RUN:
            observe(event)
    assert shown == list(RUN)
    assert threading.current_thread() not in threads
    assert not any(thread.is_alive() for thread in threads)


def test_a_display_that_fails_is_switched_off_and_disturbs_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[Event] = []

    def display(event: Event) -> None:
        asked.append(event)
        if isinstance(event, Planned):
            raise ZeroDivisionError("a defect")

    with threaded(display) as observe:
        for event in RUN:
            observe(event)
    assert asked == list(RUN[:5])
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "zfsync: the display failed and is off: ZeroDivisionError('a defect')\n"


def test_a_display_that_fails_does_not_touch_another() -> None:
    shown: list[Event] = []

    def failing(_: Event) -> None:
        raise BrokenPipeError

    with threaded(failing) as one, threaded(shown.append) as other:
        for event in RUN:
            one(event)
            other(event)
    assert shown == list(RUN)


def test_a_reader_that_has_gone_is_no_defect(capsys: pytest.CaptureFixture[str]) -> None:
    def display(_: Event) -> None:
        raise BrokenPipeError

    with threaded(display) as observe:
        observe(RUN[0])
        observe(RUN[-1])
    assert capsys.readouterr() == ("", "")


def test_an_error_of_the_run_is_not_swallowed_and_its_events_are_shown() -> None:
    shown: list[Event] = []

    def failing_run() -> None:
        with threaded(shown.append) as observe:
            observe(RUN[0])
            raise KeyError("of the run")

    with pytest.raises(KeyError, match="of the run"):
        failing_run()
    assert shown == [RUN[0]]


def test_a_stopped_terminal_loses_progress_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "MAX_WAITING_EVENTS", 10)
    assert MAX_WAITING_EVENTS > 1000
    goes_on = threading.Event()
    shown: list[Event] = []

    def stopped(event: Event) -> None:
        goes_on.wait(60)
        shown.append(event)

    with threaded(stopped) as observe:
        for number in range(100):
            observe(Progress(0, number))
            observe(Finished(SENT))
        goes_on.set()
    assert shown.count(Finished(SENT)) == 100
    progress = [event.bytes for event in shown if isinstance(event, Progress)]
    assert progress == list(range(len(progress)))
    assert 0 < len(progress) < 20
