"""Streams without a process: which, and how a call runs beside who feeds it. The library is played; the lab has one."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import signal
import struct
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from zfsync_ssh import complaint, lzc
from zfsync_ssh.head import HEAD_BYTES, BadHead, parse_head
from zfsync_ssh.process import PIPE_BYTES, Completed
from zfsync_ssh.sending import LocalSending, start_sending
from zfsync_ssh.zfs import Reception, Stream

RESUMING, RAW = 1 << 20, 1 << 24
STEP = Stream("src/a", "2", "@1", flags="Lec", single=True, small=True)
LIBC = ctypes.CDLL(None, use_errno=True)


def head(*, package: bool = False, features: int = 0, to: int = 2, base: int = 1, order: str = "<") -> bytes:
    """A stream's first record."""
    version = features << 2 | (2 if package else 1)
    record = (0, 0, 0x2F5BACBAC, version, 0, 2, 0, to, base, b"src/a@two")
    return struct.pack(order + "IIQQQIIQQ256s", *record)


class Played:
    """Stands for libzfs_core, opened: its functions are python's, which may get attributes as ctypes' do."""

    def __init__(self, send: Callable[..., int] | None = None, receive: Callable[..., int] | None = None) -> None:
        self.lists: list[dict[str, Any]] = []
        self.refuses: dict[str, int] = {}
        """Properties that cannot be set, and the error's number."""
        functions: dict[str, Callable[..., Any]] = {
            "lzc_send": send or self.nothing,
            "lzc_receive_with_cmdprops": receive or self.nothing,
            "libzfs_core_init": self.nothing,
            "nvlist_alloc": self.alloc,
            "nvlist_add_string": self.add,
            "nvlist_add_uint64": self.add,
            "nvlist_free": self.nothing,
            "nvlist_next_nvpair": self.following,
            "nvpair_name": lambda pair: list(self.refuses)[pair - 1].encode(),
            "nvpair_value_int32": self.value,
        }
        for name, function in functions.items():
            setattr(self, name, (lambda call: lambda *arguments: call(*arguments))(function))

    @staticmethod
    def nothing(*_: object) -> int:
        return 0

    def alloc(self, made: Any, flags: int, _: int) -> int:
        self.lists.append({})
        made._obj.value = len(self.lists)
        return 0

    def add(self, to: Any, name: bytes, value: int | bytes) -> int:
        self.lists[to.value - 1][name.decode()] = value
        return 0

    def following(self, _: object, pair: int | None) -> int | None:
        return (pair or 0) + 1 if (pair or 0) < len(self.refuses) else None

    def value(self, pair: int, into: Any) -> int:
        into._obj.value = list(self.refuses.values())[pair - 1]
        return 0


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Any], None]]:
    """Puts something in the library's place, or an error at opening it."""
    monkeypatch.delenv(lzc.VARIABLE, raising=False)
    monkeypatch.setattr(lzc, "_libraries", [])
    before = signal.getsignal(signal.SIGUSR1)

    def install(library: Any) -> None:
        def opened(name: str) -> Any:
            assert name == "libzfs_core.so.3"
            if isinstance(library, Exception):
                raise library
            return library

        monkeypatch.setattr(ctypes, "CDLL", opened)

    yield install
    signal.signal(signal.SIGUSR1, before)


@pytest.fixture
def interruptible() -> Iterator[None]:
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    yield
    signal.signal(signal.SIGUSR1, before)


# ---- the choice ------------------------------------------------------------------------------------------------------


def test_the_library_is_opened_once(installed: Any) -> None:
    installed(Played())
    library = lzc.load(("zfs",))
    assert library is not None
    installed(OSError("gone"))
    assert lzc.load(("zfs",)) is library


@pytest.mark.parametrize("command", [("sudo", "-n", "zfs"), ("/sbin/zfs",), ()])
def test_it_does_not_stand_in_for_another_command(installed: Any, command: tuple[str, ...]) -> None:
    installed(Played())
    assert lzc.load(command) is None


def test_the_user_may_force_the_command(installed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(Played())
    monkeypatch.setenv(lzc.VARIABLE, "off")
    assert lzc.load(("zfs",)) is None


def test_one_that_is_not_there_or_lacks_something_or_finds_no_kernel_is_left_alone(
    installed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, dumb = Played(), Played()
    del old.nvpair_value_int32  # type: ignore[attr-defined]
    dumb.libzfs_core_init = lambda: errno.ENOENT  # type: ignore[attr-defined]
    for library in (OSError("no such file"), old, dumb):
        monkeypatch.setattr(lzc, "_libraries", [])
        installed(library)
        assert lzc.load(("zfs",)) is None


@pytest.mark.parametrize(
    ("stream", "can"),
    [
        (Stream("a", "1"), True),
        (Stream("a", "2", "@1", single=True), True),
        (Stream("a", "2", "#1", single=True, raw=True), True),
        (Stream("a", "2", "@1"), False),
        (Stream("a", "2", token="1-2"), False),
        (Stream("a", "1", filter="zstd"), False),
    ],
)
def test_it_sends_what_is_one_snapshot_from_its_beginning_and_small(stream: Stream, can: bool) -> None:
    assert lzc.sends(stream._replace(small=True)) is can
    assert not lzc.sends(stream)


@pytest.mark.parametrize(
    ("data", "how", "can"),
    [
        (head(), Reception(), True),
        (head(base=0), Reception((("canmount", "noauto"), ("readonly", "on"), ("zfsync:x", "y"))), True),
        (head(features=RAW), Reception(), True),
        (head(order=">"), Reception(), True),
        (head(features=RAW, base=0), Reception(), False),
        (head(features=RESUMING), Reception(), False),
        (head(package=True), Reception(), False),
        (head(), Reception(force=True), False),
        (head(), Reception(origin="p/a@1"), False),
        (head(), Reception((("compression", "zstd"),)), False),
        (head(), Reception((("canmount", "perhaps"),)), False),
        (head()[:-1], Reception(), False),
        (bytes(HEAD_BYTES), Reception(), False),
    ],
)
def test_it_receives_single_streams_with_properties_it_can_set(data: bytes, how: Reception, can: bool) -> None:
    assert (lzc.receives(data, how) is not None) is can


def test_the_head_says_what_the_stream_is() -> None:
    for order in "<>":
        read = parse_head(head(order=order, features=RAW, to=7, base=5) + b"more")
        assert (read.to, read.base, read.snapshot, read.raw, read.resuming, read.package) == (
            7,
            5,
            "two",
            True,
            False,
            False,
        )
    with pytest.raises(BadHead, match="before it has begun"):
        parse_head(head()[:100])
    with pytest.raises(BadHead, match="no stream of ZFS"):
        parse_head(bytes(HEAD_BYTES))


# ---- sending ---------------------------------------------------------------------------------------------------------


def test_a_stream_is_asked_for_and_read_in_chunks() -> None:
    asked: list[tuple[object, ...]] = []

    def send(name: bytes, base: bytes | None, fd: int, flags: int) -> int:
        asked.append((name, base, flags))
        os.write(fd, b"stream")
        return 0

    library = lzc.Library(Played(send=send))
    for stream in (STEP, Stream("src/a", "1", raw=True), Stream("src/a", "1", "src/o@x", single=True, flags="L")):
        with lzc.LibraryOutput(library, stream) as output:
            assert b"".join(output) == b"stream"
        assert (output.status, output.stderr) == (0, "")
    assert asked == [(b"src/a@2", b"src/a@1", 7), (b"src/a@1", None, 15), (b"src/a@1", b"src/o@x", 2)]


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ENOENT, "missing"),
        (errno.EPERM, "permission"),
        (errno.EAGAIN, "pool"),
        (1037, "newer"),
        (1099, "failed"),
        (errno.EIO, "failed"),
    ],
)
def test_why_it_was_not_sent_is_said_as_the_command_says_it(number: int, code: str) -> None:
    with lzc.LibraryOutput(lzc.Library(Played(send=lambda *_: number)), STEP) as output:
        assert list(output) == []
    assert output.status == 1
    assert output.stderr.startswith("cannot send 'src/a@2': ")
    assert complaint.classify(output.stderr) == code


def endless(_: bytes, __: bytes | None, fd: int, ___: int) -> int:
    """Sends until nobody reads any more, or a signal comes: as the kernel does, and not as python's own write."""
    data = bytes(4096)
    while LIBC.write(fd, data, len(data)) >= 0:
        pass
    return ctypes.get_errno()


@pytest.mark.usefixtures("interruptible")
def test_a_stream_that_nobody_reads_any_more_ends() -> None:
    with lzc.LibraryOutput(lzc.Library(Played(send=endless)), STEP) as output:
        assert next(iter(output))
    with lzc.LibraryOutput(lzc.Library(Played(send=endless)), STEP) as output:
        chunks = iter(output)
        next(chunks)
        for _ in chunks:
            output.kill()  # again, for the signal may come while the call does not wait
    assert output.stderr == "cannot send 'src/a@2': it was interrupted"


# ---- receiving -------------------------------------------------------------------------------------------------------


PLAIN = Reception()


def receiver(played: Played, how: Reception = PLAIN) -> lzc.LibraryReceiver:
    found = lzc.receives(head(), how)
    assert found is not None
    return lzc.LibraryReceiver(lzc.Library(played), "dst/a", head(), found, how)


def test_the_head_is_an_argument_and_the_rest_comes_through_the_pipe() -> None:
    asked: dict[str, Any] = {}

    def receive(name: bytes, received: object, given: Any, *more: Any) -> int:
        asked.update(name=name, received=received, given=played.lists[given.value - 1], more=more[:7], head=more[7])
        with os.fdopen(os.dup(more[6]), "rb") as pipe:
            asked["rest"] = pipe.read()
        return 0

    played = Played(receive=receive)
    how = Reception((("canmount", "noauto"), ("zfsync:path", "p/a b")), excluded=("mountpoint",))
    with receiver(played, how) as taking:
        assert taking.write(head()[:100])
        assert taking.write(head()[100:] + b"the ")
        assert taking.write(b"rest")
        assert taking.finish() == Completed(0, "", "")
    assert taking.inlet == -1
    assert not taking.write(b"more")
    assert asked["name"] == b"dst/a@two"
    assert asked["received"] is None
    assert asked["given"] == {"canmount": 2, "zfsync:path": b"p/a b"}
    assert asked["more"][:6] == (None, 0, None, False, True, False)
    assert (asked["head"], asked["rest"]) == (head(), b"the rest")


def test_what_it_ends_with_before_the_stream_does_is_told() -> None:
    with receiver(Played(receive=lambda *_: errno.ETXTBSY)) as taking:
        written = True
        while written:
            written = taking.write(bytes(PIPE_BYTES))
        done = taking.finish()
    assert done.status == 1
    assert complaint.meaning(done.stderr)[0] == "modified"


def test_properties_that_could_not_be_set_are_told_as_the_command_tells_them() -> None:
    def receive(*arguments: Any) -> int:
        arguments[-1]._obj.value = 77
        return 0

    played = Played(receive=receive)
    played.refuses = {"canmount": errno.EPERM}
    with receiver(played) as taking:
        done = taking.finish()
    assert done.status == 0
    assert complaint.unset(done.stderr) == {"canmount": "permission denied"}


@pytest.mark.usefixtures("interruptible")
def test_one_that_waits_for_more_can_be_ended() -> None:
    def receive(*arguments: Any) -> int:
        buffer = ctypes.create_string_buffer(10)
        return ctypes.get_errno() if LIBC.read(arguments[9], buffer, 10) < 0 else 0

    with receiver(Played(receive=receive)) as taking:
        while not taking._call._done:  # the signal may come before the call waits
            taking.kill()
        assert taking.finish().stderr == "cannot receive 'dst/a@two': it was interrupted"
        taking.kill()  # which is nothing any more


# ---- beside the event loop -------------------------------------------------------------------------------------------


async def pumped(sending: LocalSending) -> bytes:
    """What a sending says, to its end."""
    said = bytearray()
    channel = SimpleNamespace(paused=False, on_resume=None)
    client: Any = SimpleNamespace(channel=channel, tell_data=lambda frame: said.extend(frame[5:]))
    await sending.pump_into(client, None)
    return bytes(said)


@pytest.mark.usefixtures("interruptible")
async def test_the_client_sends_by_the_library(installed: Any) -> None:
    def send(_: bytes, __: bytes | None, fd: int, ___: int) -> int:
        os.write(fd, b"stream")
        return errno.EIO

    installed(Played(send=send))
    sending = await start_sending(("zfs",), STEP)
    assert (await pumped(sending)).endswith(b"stream")
    assert await sending.finish() == "cannot send 'src/a@2': Input/output error"


@pytest.mark.usefixtures("interruptible")
async def test_the_client_ends_a_call_that_it_no_longer_wants(installed: Any) -> None:
    installed(Played(send=endless))
    sending = await start_sending(("zfs",), STEP)
    await asyncio.wait_for(sending.kill(), 30)
    assert await sending.finish() in ("cannot send 'src/a@2': Broken pipe", "cannot send 'src/a@2': it was interrupted")


def test_a_call_that_gets_no_thread_ends_as_one_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> int:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("zfsync_ssh.lzc._thread.start_new_thread", none)
    reader, writer = os.pipe()
    ended: list[int] = []
    call = lzc.Call(lambda: Completed(0, "", ""), writer, lambda: ended.append(1))
    call.interrupt()
    assert call.wait() == Completed(1, "", "libzfs_core: can't start new thread")
    assert ended == [1]
    assert os.read(reader, 1) == b""
    os.close(reader)
