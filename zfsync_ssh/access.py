"""How an agent reaches the contents of a snapshot: by a mount that nobody else sees, or a clone that goes with it.

Nothing stays behind, however the agent ends. A filesystem's snapshot is mounted in a mount namespace of the agent's
own, held by the descriptor of its root and at once unmounted lazily: the mount goes with the descriptor, and so with
the process. Until then, where there are no such namespaces (FreeBSD), and for a volume, whose snapshot shows up as a
device only as a clone of it, a `_Cleaner` waits for the agent's end. (The alternative, ``snapdev=visible``, would make
a device of every snapshot the volume has, and would have to be set back.)

Also shipped to the far end: standard library only, Python >= 3.8.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, NamedTuple, Optional, Sequence, Union

from . import complaint, zfs
from .contents import Filesystem, Volume
from .dataset import VOLUME, pool_of
from .process import environment, run

if TYPE_CHECKING:
    import subprocess

    from .tree import Tree

DEVICE_SECONDS = 20.0
"""How long the device of a new clone may take to appear."""
_NAME = "zfsync-verify-"
_CLONE_NEWNS, _MS_REC, _MS_SLAVE = 0x20000, 1 << 14, 1 << 19  # <linux/sched.h>, <linux/mount.h>
_RANGE = "/sys/class/block/%s/ext_range"
_BLKZNAME = 0x8100127D  # _IOR(0x12, 125, char[256]): the name of the volume behind a device (OpenZFS, sys/fs/zfs.h)


class Refused(Exception):
    """The snapshot cannot be read. The message is the end of a sentence, ``code`` the machine's word."""

    def __init__(self, message: str, code: str = "failed") -> None:
        super().__init__(message)
        self.code = code


class Opened:
    """A snapshot whose ``contents`` can be read, until it is closed."""

    def __init__(self, contents: Union[Filesystem, Volume], fd: int, cleaner: Optional[_Cleaner] = None) -> None:
        self.contents = contents
        self._fd = fd
        self._cleaner = cleaner

    def close(self) -> None:
        """Leave no trace."""
        os.close(self._fd)
        if self._cleaner is not None:
            self._cleaner.close()


def open_snapshot(tree: Tree, dataset: str, snapshot: str, guid: int) -> Opened:
    """Reach the contents of a snapshot, which has to have the GUID ``guid``; `Refused` when that cannot be."""
    name = "%s@%s" % (dataset, snapshot)
    listed = tree.zfs(zfs.list_readable(dataset, name))
    if listed.status:
        raise Refused(complaint.reason(listed.stderr), complaint.classify(listed.stderr))
    lines = [line.split("\t", len(_Row._fields) - 1) for line in listed.stdout.rstrip("\n").split("\n")]
    if [len(line) for line in lines] != 2 * [len(_Row._fields)]:
        raise Refused("its mount point has a line break, or ZFS said something else")
    above, itself = (_Row(*line) for line in lines)
    if itself.guid != str(guid):
        raise Refused("%s is not the snapshot any more that it was when it was listed" % name, "stale")
    if above.keystatus == "unavailable":
        raise Refused("its key is not loaded there: 'zfs load-key' it first", "key")
    if above.kind == VOLUME:
        return _open_volume(tree, name)
    return _open_filesystem(name, above)


class _Row(NamedTuple):
    """A line of `zfsync_ssh.zfs.list_readable`."""

    name: str
    kind: str
    guid: str
    keystatus: str
    acltype: str
    mounted: str
    mountpoint: str


# ---- filesystems -----------------------------------------------------------------------------------------------------


def _open_filesystem(name: str, above: _Row) -> Opened:
    acls = above.acltype in ("posix", "posixacl")  # as it was called before OpenZFS 2.0
    private = _own_namespace()
    where = _free_name()
    unmount = "umount -l" if private else "umount"
    # Before there is a directory, or it would stay when this process is killed meanwhile.
    cleaner = _Cleaner(("sh", "-c", unmount + ' "$1"; rmdir "$1"; [ ! -e "$1" ]', "sh", where))
    try:
        os.mkdir(where, 0o700)
        # xattr: they are compared even where the dataset has them off.
        options = "ro,nosuid,nodev,noexec,xattr" if private else "ro,nosuid,noexec"
        done = run(("mount", "-t", "zfs", "-o", options, name, where))
        fd = _below_mountpoint(name, above, complaint.reason(done.stderr)) if done.status else _open_directory(where)
    except BaseException:
        cleaner.close()
        raise
    if private:
        cleaner.close()
    return Opened(Filesystem(fd, acls), fd, None if private else cleaner)


def _below_mountpoint(name: str, above: _Row, why: str) -> int:
    """The snapshot's root in the ``.zfs`` of its filesystem, where that is mounted: to mount takes more rights."""
    if above.mounted == "yes" and above.mountpoint.startswith("/"):
        try:
            return _open_directory("%s/.zfs/snapshot/%s" % (above.mountpoint, name.partition("@")[2]))
        except OSError:
            pass
    if os.geteuid():
        raise Refused("its snapshot cannot be mounted there by a user who is not root: log in as root", "permission")
    raise Refused("its snapshot cannot be mounted there: %s" % why, complaint.classify(why))


def _open_directory(path: str) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY)


def _free_name() -> str:
    """The name of a directory to make and mount on, if it can be where nobody else writes."""
    import secrets
    from tempfile import gettempdir

    above = next((path for path in ("/run", "/var/run") if os.access(path, os.W_OK)), None) or gettempdir()
    return "%s/%s%s" % (above, _NAME, secrets.token_hex(8))


def _own_namespace() -> bool:
    """Give this process a mount namespace of its own, out of which no mount gets; False where there is no such thing.

    What others mount and unmount still gets in, so that nothing of theirs is kept busy.
    """
    try:
        import ctypes  # not in every Python: it needs libffi

        libc = ctypes.CDLL(None, use_errno=True)
        return not libc.unshare(_CLONE_NEWNS) and not libc.mount(None, b"/", None, _MS_REC | _MS_SLAVE, None)
    except (ImportError, AttributeError):
        return False


# ---- volumes ---------------------------------------------------------------------------------------------------------


def _open_volume(tree: Tree, name: str) -> Opened:
    import secrets

    # At the top of the pool, where it may be: there it is in no tree that somebody sends or snapshots at the moment.
    above = tree.scratch or pool_of(name)
    _destroy_leftovers(tree, above)
    clone = "%s/%s%s" % (above, _NAME, secrets.token_hex(8))
    cleaner = _Cleaner((*tree.command, *zfs.destroy_clone(clone)))
    try:
        made = tree.zfs(zfs.clone_to_read(name, clone, os.getpid()))
        if made.status:
            raise Refused(
                "its snapshot cannot be cloned there: %s" % complaint.reason(made.stderr),
                complaint.classify(made.stderr),
            )
        fd = _device(clone)
    except BaseException:
        cleaner.close()
        raise
    return Opened(Volume(fd), fd, cleaner)


def _destroy_leftovers(tree: Tree, above: str) -> None:
    """Destroy what a host that lost its power kept of our clones: each has its maker's process in a property."""
    for name, pid in tree.zfs(zfs.list_clones(above)).rows:
        if name.startswith("%s/%s" % (above, _NAME)) and pid.isdigit() and not _runs(int(pid)):
            tree.zfs(zfs.destroy_clone(name))


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


def _device(volume: str) -> int:
    """A descriptor of a volume's device, once there is one, and it is the one that stays.

    ZFS may make the device before it sees that ``volmode`` is set, and then makes another in its place. Until whoever
    has opened the first one closes it, that gives errors, and no volume of the pool is made or destroyed.
    """
    link = "/dev/zvol/" + volume
    until = time.monotonic() + DEVICE_SECONDS
    while True:
        late = time.monotonic() > until  # it is not replaced any more
        for path in (link, link.replace(" ", "+")):
            if os.path.exists(path) and (late or not _partitionable(path)):
                try:
                    return os.open(path, os.O_RDONLY)
                except PermissionError as error:
                    raise Refused("its device may not be read there: log in as root", "permission") from error
                except OSError:
                    pass  # a link that is older than its device
        fd = _unnamed_device(volume.encode("ascii"), late)
        if fd is not None:
            return fd
        if late:
            raise Refused("the device of its clone did not appear within %d seconds there" % DEVICE_SECONDS)
        time.sleep(0.05)


def _unnamed_device(volume: bytes, late: bool) -> Optional[int]:
    """The volume's device by asking each, the newest first: without udev there are no links in /dev/zvol."""
    from fcntl import ioctl
    from glob import glob

    for path in sorted(glob("/dev/zd*[0-9]"), key=_age):
        if _partitionable(path) and not late:
            continue  # somebody's volume, or the device that does not stay: neither is to be held open
        try:
            fd = os.open(path, os.O_RDONLY)
        except OSError:
            continue
        answer = bytearray(256)
        try:
            ioctl(fd, _BLKZNAME, answer)
        except OSError:
            pass
        if bytes(answer).rstrip(b"\0") == volume:
            return fd
        os.close(fd)
    return None


def _partitionable(path: str) -> bool:
    """Whether a device may have partitions, as Linux says: with ``volmode=dev`` it may not."""
    try:
        with open(_RANGE % os.path.basename(os.path.realpath(path)), encoding="ascii") as file:
            return int(file.read()) > 1
    except (OSError, ValueError):
        return False


def _age(path: str) -> float:
    try:
        return -os.stat(path).st_mtime
    except OSError:
        return 0.0


# ---- tidying up ------------------------------------------------------------------------------------------------------


class _Cleaner:
    """Runs a command when it is closed, or when this process ends in whatever way: a shell that waits for that.

    The command is tried for some seconds, because what was just closed may be busy for a moment.
    """

    _SCRIPT = """\
trap '' HUP INT TERM PIPE
cat
for pause in 0.1 0.2 0.5 1 1 2 5 5; do "$@" && exit; sleep $pause; done
"""

    def __init__(self, argv: Sequence[str]) -> None:
        import subprocess

        self._process: subprocess.Popen[bytes] = subprocess.Popen(
            ("/bin/sh", "-c", self._SCRIPT, "sh", *argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment(),
            start_new_session=True,  # out of reach of what is sent to the agent's group
        )

    def close(self) -> None:
        """Run the command, and wait for its end."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
