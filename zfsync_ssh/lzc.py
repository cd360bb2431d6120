"""Single streams through libzfs_core, OpenZFS's own library, without a process of `zfs` for each.

A process costs more than a small stream does (docs/libzfs.md). The library is called by ctypes: nothing has to be
installed beside OpenZFS itself, and an agent has it where the python of the far end has no binding. What the kernel
does is the same; a call runs in a thread, with a pipe at its other end, as a process would.

Only small streams: a call that waits for its pipe ends when this process is stopped (Ctrl-Z), as a process would not;
and of a large one nobody notices what two processes cost.

Only Linux's libzfs_core.so.3 (OpenZFS 2.0 and later), whose functions have had the same arguments ever since. All else
is left to the command: several snapshots in one stream, what resumes, what replaces a placeholder or makes a clone.

Also shipped to the far end: standard library only, Python >= 3.8.
"""

from __future__ import annotations

import _thread
import errno
import os
import signal
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, List, Optional, Sequence, Union

from .head import HEAD_BYTES, BadHead, Head, parse_head
from .process import PIPE_BYTES, Completed, Receiver, enlarge_pipe

if TYPE_CHECKING:
    from .zfs import Reception, Stream

VARIABLE = "ZFSYNC_LIBZFS"
"""The environment variable that, being ``off``, forces the `zfs` command."""
SYSTEM = "Linux"
_SONAME = "libzfs_core.so.3"
_INTERRUPT = signal.SIGUSR1
"""Ends a call that waits for its pipe, as a signal ends a process; nothing else uses it here."""
_READ_BYTES = 128 << 10

_FLAGS = {"e": 1 << 0, "L": 1 << 1, "c": 1 << 2}  # enum lzc_send_flags
_RAW_FLAGS = sum(_FLAGS.values()) | 1 << 3  # as -w does
_UNIQUE_NAMES = 1  # NV_UNIQUE_NAME
_VALUES = {"canmount": {"off": 0, "on": 1, "noauto": 2}, "readonly": {"off": 0, "on": 1}}
"""The kernel's numbers for those native properties that the library may set. User properties are text."""

_SAID = {
    errno.ENOENT: "dataset does not exist",
    errno.EEXIST: "destination already exists",
    errno.EPERM: "permission denied",
    errno.EACCES: "the encryption key is not loaded, or does not match",
    errno.ENOSPC: "out of space",
    errno.EDQUOT: "space quota exceeded",
    errno.ENODEV: "most recent snapshot does not match incremental source",
    errno.ETXTBSY: "destination has been modified since most recent snapshot",
    errno.ENOTSUP: "pool must be upgraded to receive this stream",
    errno.EBUSY: "destination is in use, or contains partially-complete state",
    52: "checksum mismatch or incomplete stream",  # ECKSUM; errno has it on Linux alone, as EBADE
    errno.EXDEV: "not an earlier snapshot from the same fs",
    errno.EINVAL: "invalid stream, or one that this kernel does not know",
    errno.ENAMETOOLONG: "name is too long",
    errno.EAGAIN: "pool I/O is currently suspended",
    errno.EINTR: "it was interrupted",
    1033: "parent is not a filesystem",  # ZFS_ERR_WRONG_PARENT
    1034: "IV set guid missing",  # ZFS_ERR_FROM_IVSET_GUID_MISSING, sys/fs/zfs.h
    1035: "IV set guid mismatch",
    1036: "spill block flag missing for raw send",
    1037: "stream has unsupported feature",  # ZFS_ERR_UNKNOWN_SEND_STREAM_FEATURE
    1040: "incomplete stream",  # ZFS_ERR_STREAM_TRUNCATED
    1041: "incremental send stream requires -L (--large-block), to match previous receive",
    1047: "destination contains partially-complete state",  # ZFS_ERR_RESUME_EXISTS
    1048: "encryption suite that this kernel does not know",  # ZFS_ERR_CRYPTO_NOTSUP
    1051: "source has large microzaps, need -L (--large-block) or -w (--raw)",
}
"""What the kernel's numbers mean, in the words of `zfs`: `zfsync_ssh.complaint` knows those."""

_libraries: List[Optional[Library]] = []


def wanted(command: Sequence[str]) -> bool:
    """Whether a library may do the work of ``command``: it can do no more than this process may, so not with sudo."""
    return tuple(command) == ("zfs",) and os.environ.get(VARIABLE) != "off"


def load(command: Sequence[str]) -> Optional[Library]:
    """The library, where it may do the work of ``command``, is there, and finds its kernel; None otherwise."""
    if not wanted(command):
        return None
    if not _libraries:
        _libraries.append(_open())
    return _libraries[0]


def _open() -> Optional[Library]:
    if os.uname()[0] != SYSTEM:  # errno and sizes are others
        return None
    import ctypes

    try:
        opened = ctypes.CDLL(_SONAME)
        library = Library(opened)
        signal.signal(_INTERRUPT, lambda *_: None)  # in the main thread only
    except (OSError, AttributeError, ValueError):
        return None
    return library if opened.libzfs_core_init() == 0 else None


def sends(stream: Stream) -> bool:
    """Whether the library is to send ``stream``: one snapshot, from its beginning, and small."""
    return stream.small and (stream.single or not stream.base) and not stream.token and not stream.filter


def receives(data: bytes, how: Reception) -> Optional[Head]:
    """The head of a stream that begins with ``data``, if the library can receive it so.

    What a stream would have to bring along to be excluded, it brings in a package only.
    """
    try:
        head = parse_head(data)
    except BadHead:
        return None
    fits = not (head.package or head.resuming or how.force or how.origin or (head.raw and not head.base))
    return head if fits and head.snapshot and all(_value(*pair) is not None for pair in how.properties) else None


def _value(name: str, value: str) -> Union[int, bytes, None]:
    return value.encode() if ":" in name else _VALUES.get(name, {}).get(value)


class Library:
    """The functions that are called, of which several may be under way at once; AttributeError when it lacks one."""

    def __init__(self, opened: Any) -> None:
        import ctypes

        self._lib = opened
        self._ctypes = ctypes
        pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
        opened.lzc_send.argtypes = (text, text, number, number)
        # Snapshot, two lists of properties, a key and its length, origin; force, resumable, raw, descriptor; the head,
        # one that is not used, where to tell bytes and flags, another that is not used, and the errors.
        given = (text, pointer, pointer, pointer, ctypes.c_uint, text)
        how = (number, number, number, number)
        told = (text, number, pointer, pointer, pointer, pointer)
        opened.lzc_receive_with_cmdprops.argtypes = (*given, *how, *told)
        opened.nvlist_alloc.argtypes = (pointer, ctypes.c_uint, ctypes.c_int)
        opened.nvlist_free.argtypes = (pointer,)
        opened.nvlist_free.restype = None
        opened.nvlist_add_string.argtypes = (pointer, text, text)
        opened.nvlist_add_uint64.argtypes = (pointer, text, ctypes.c_uint64)
        opened.nvlist_next_nvpair.argtypes = (pointer, pointer)
        opened.nvlist_next_nvpair.restype = pointer
        opened.nvpair_name.argtypes = (pointer,)
        opened.nvpair_name.restype = text
        opened.nvpair_value_int32.argtypes = (pointer, pointer)

    def send(self, stream: Stream, fd: int) -> Completed:
        """Write ``stream``, one that `sends` takes, to the pipe ``fd``."""
        name = "%s@%s" % (stream.dataset, stream.to)
        base = stream.dataset + stream.base if stream.base[:1] in ("@", "#") else stream.base
        flags = _RAW_FLAGS if stream.raw else sum(_FLAGS[flag] for flag in stream.flags)
        number = self._lib.lzc_send(name.encode(), base.encode() or None, fd, flags)
        return _ended(number, "cannot send '%s'" % name)

    def receive(self, snapshot: str, head: bytes, raw: bool, how: Reception, fd: int) -> Completed:
        """Receive what follows ``head``, from the pipe ``fd``, as ``snapshot``: resumable, and mounting nothing."""
        ctypes, lib = self._ctypes, self._lib
        errors, length, flags = ctypes.c_void_p(), ctypes.c_uint64(), ctypes.c_uint64()
        values = {name: _value(name, value) for name, value in how.properties}
        properties = self._nvlist(values) if values else None
        try:
            given = (snapshot.encode(), None, properties, None, 0, None)
            told = (head, -1, ctypes.byref(length), ctypes.byref(flags), None, ctypes.byref(errors))
            number = lib.lzc_receive_with_cmdprops(*given, False, True, raw, fd, *told)
            lacking = self._numbers(errors) if errors else {}
        finally:
            for made in (properties, errors):
                if made:
                    lib.nvlist_free(made)
        done = _ended(number, "cannot receive '%s'" % snapshot)
        unset = ["cannot receive %s property on %s: %s" % (name, snapshot, _said(lacking[name])) for name in lacking]
        return done._replace(stderr="\n".join([*unset, done.stderr]))

    def _nvlist(self, values: Dict[str, Union[int, bytes, None]]) -> Any:
        made = self._ctypes.c_void_p()
        if self._lib.nvlist_alloc(self._ctypes.byref(made), _UNIQUE_NAMES, 0):
            raise MemoryError
        for name, value in values.items():
            add = self._lib.nvlist_add_string if isinstance(value, bytes) else self._lib.nvlist_add_uint64
            add(made, name.encode(), value)
        return made

    def _numbers(self, listed: Any) -> Dict[str, int]:
        """The numbers in a list; what else is in it is left out."""
        found: Dict[str, int] = {}
        pair = self._lib.nvlist_next_nvpair(listed, None)
        while pair:
            value = self._ctypes.c_int32()
            if self._lib.nvpair_value_int32(pair, self._ctypes.byref(value)) == 0:
                found[self._lib.nvpair_name(pair).decode("utf-8", "replace")] = value.value
            pair = self._lib.nvlist_next_nvpair(listed, pair)
        return found


def _said(number: int) -> str:
    return _SAID.get(number) or (os.strerror(number) if number < 1024 else "error %d of the kernel's zfs" % number)


def _ended(number: int, doing: str) -> Completed:
    """A call's result, as that of a command."""
    return Completed(1, "", "%s: %s" % (doing, _said(number))) if number else Completed(0, "", "")


class Call:
    """A call in a thread, which has ``fd``, its end of a pipe, until it returns. ``ended`` is then called there."""

    def __init__(self, function: Callable[[], Completed], fd: int, ended: Callable[[], object] = lambda: None) -> None:
        self._function = function
        self._fd = fd
        self._ended = ended
        self._done: Optional[Completed] = None
        self._guard = _thread.allocate_lock()
        self._running = _thread.allocate_lock()
        self._running.acquire()
        try:
            self._thread = _thread.start_new_thread(self._run, ())
        except RuntimeError as error:  # as many as there may be
            self._end(Completed(1, "", "libzfs_core: %s" % error))

    def _run(self) -> None:
        # What else comes, a Ctrl-C or a window's new size, is for the main thread: it would end the call.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - {_INTERRUPT})
        done = Completed(1, "", "libzfs_core stumbled")
        try:
            done = self._function()
        finally:
            self._end(done)

    def _end(self, done: Completed) -> None:
        with self._guard:
            self._done = done
        os.close(self._fd)
        self._running.release()
        self._ended()

    def wait(self) -> Completed:
        """Wait for its end."""
        with self._running:
            assert self._done is not None
            return self._done

    def interrupt(self) -> None:
        """End it, without waiting for that."""
        with self._guard:
            if self._done is None:
                signal.pthread_kill(self._thread, _INTERRUPT)


class LibraryReceiver(Receiver):
    """A `Receiver` that calls the library: ``head`` has been read of the stream already, and says what it is."""

    def __init__(self, library: Library, target: str, data: bytes, head: Head, how: Reception) -> None:
        super().__init__((), 0)
        snapshot, first = "%s@%s" % (target, head.snapshot), data[:HEAD_BYTES]
        self._receive: Callable[[int], Completed] = lambda fd: library.receive(snapshot, first, head.raw, how, fd)
        self._writer = -1
        self._skip = HEAD_BYTES

    def __enter__(self) -> LibraryReceiver:
        reader, self._writer = os.pipe()
        enlarge_pipe(reader, PIPE_BYTES)
        self._call = Call(lambda: self._receive(reader), reader)
        return self

    def write(self, data: bytes) -> bool:
        """See `Receiver`; what is written begins with the head, which the call has as an argument."""
        skip, self._skip = self._skip, max(0, self._skip - len(data))
        return super().write(data[skip:])

    @property
    def inlet(self) -> int:
        """See `Receiver`."""
        return self._writer

    def kill(self) -> None:
        """See `Receiver`."""
        self._call.interrupt()

    def finish(self) -> Completed:
        """See `Receiver`."""
        if self._writer >= 0:
            os.close(self._writer)
            self._writer = -1
        return self._call.wait()


class LibraryOutput:
    """What `zfsync_ssh.process.Outputs` is for a `zfs send`: its stream, in chunks, and how it ended."""

    def __init__(self, library: Library, stream: Stream) -> None:
        self.status = 0
        self.stderr = ""
        self.filtered: Optional[Completed] = None
        self._send: Callable[[int], Completed] = lambda fd: library.send(stream, fd)
        self._reader = -1

    def __enter__(self) -> LibraryOutput:
        self._reader, writer = os.pipe()
        enlarge_pipe(writer, PIPE_BYTES)
        self._call = Call(lambda: self._send(writer), writer)
        return self

    def __iter__(self) -> Iterator[bytes]:
        while True:
            chunk = os.read(self._reader, _READ_BYTES)
            if not chunk:
                break
            yield chunk
        self.status, _, self.stderr = self._call.wait()

    def kill(self) -> None:
        """See `Outputs`."""
        self._call.interrupt()

    def __exit__(self, *_: object) -> None:
        os.close(self._reader)
        self._call.interrupt()
        self._call.wait()
