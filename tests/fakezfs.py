"""A `zfs` for tests without ZFS: datasets in a file, streams that are checked. Never the only test of a behaviour.

`command` is what to run, with the arguments of zfs behind; STATE is a file. It knows the command lines of
`zfsync_ssh.zfs` and complains in the words of OpenZFS 2.3. Every command line is appended to STATE.log.

Tests run it thousands of times: it imports only what starts at once.

Environment: ``FAKEZFS_SLOW`` seconds to wait for each 64 KiB received; ``FAKEZFS_FULL`` bytes after which the pool is
full; ``FAKEZFS_RECORDS``: streams begin with a record as those of OpenZFS do.

``State.hang`` lets every send or receive stand still at some byte, and every list, create or destroy before it begins,
until it is told otherwise or its parent has ended.
"""

from __future__ import annotations

import fcntl
import marshal
import os
import struct
import sys
import time
import zlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAGIC = b"FAKEZFS1"


def guid_of(*parts: object) -> int:
    """A GUID that is the same for the same parts."""
    text = repr(parts).encode()
    return (zlib.crc32(text) << 24) + (zlib.crc32(text[::-1]) >> 8) + 1


def command(path: str) -> tuple[str, ...]:
    """What runs the `zfs` of the machine whose state is in the file ``path``."""
    start = f"import sys; sys.path.insert(0, {os.path.dirname(__file__)!r}); import fakezfs; fakezfs.main()"
    return (sys.executable, "-I", "-S", "-c", start, path)


class Opened:
    """The state as a dict, exclusively; changes are kept, whole or not at all."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> dict[str, Any]:
        self._lock = open(self._path + ".lock", "a")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        with open(self._path, "rb") as file:
            self._before = file.read()
        state: dict[str, Any] = marshal.loads(self._before)
        self._state = state
        return state

    def __exit__(self, kind: object, *_: object) -> None:
        # Version 2 knows no references: the same state is the same bytes.
        if kind is None and marshal.dumps(self._state, 2) != self._before:
            before = marshal.loads(self._before)["datasets"]
            for name, dataset in self._state["datasets"].items():
                if dataset["snapshots"] != before.get(name, {"snapshots": []})["snapshots"]:
                    # Long ago, or it would not be remembered; and each in a second of its own.
                    dataset["changed"] = max(int(time.time()) - 3600, dataset["changed"] + 1)
            with open(self._path + ".new", "wb") as file:
                file.write(marshal.dumps(self._state, 2))
            os.replace(self._path + ".new", self._path)
        self._lock.close()


class State:
    """The datasets of one fake machine."""

    def __init__(self, path: str) -> None:
        self.path = path
        if not os.path.exists(path):
            with open(path, "wb") as file:
                file.write(marshal.dumps({"txg": 1, "datasets": {}}, 2))

    def open(self) -> Opened:
        """A block in which the state is a dict."""
        return Opened(self.path)

    # -- what tests do to it --

    def create(self, name: str, kind: str = "filesystem", **properties: str) -> None:
        """Make a dataset and, as -p would, its parents."""
        with self.open() as state:
            parts = name.split("/")
            for depth in range(1, len(parts) + 1):
                above = "/".join(parts[:depth])
                if above not in state["datasets"]:
                    add(state, above, kind if depth == len(parts) else "filesystem", {})
            state["datasets"][name]["properties"].update(properties)

    def snapshot(self, name: str, written: int = 1000, guid: int = 0) -> None:
        """Take ``dataset@snapshot`` with so many new bytes."""
        dataset, _, short = name.partition("@")
        with self.open() as state:
            state["txg"] += 1
            state["datasets"][dataset]["snapshots"].append(
                [short, guid or guid_of(name, state["txg"], self.path), state["txg"], written]
            )

    def deny(self, *properties: str) -> None:
        """Let these properties be set by nobody, as for an account without root."""
        with self.open() as state:
            state["denied"] = list(properties)

    def created(self, times: dict[str, int]) -> None:
        """Say when snapshots were taken, in seconds since 1970."""
        with self.open() as state:
            state.setdefault("creation", {}).update(times)

    def hang(self, **after: int) -> None:
        """From now on, every ``send`` or ``receive`` stands still after so many bytes of a snapshot, or none does.

        So does every ``list``, ``create`` or ``destroy``, whatever the number, before it does anything.
        """
        with self.open() as state:
            state["hang"] = after

    @property
    def stood_still(self) -> bool:
        """Whether anything has ever come to where it was to stand still."""
        return os.path.exists(self.path + ".still")

    def destroy(self, name: str) -> None:
        """Take away a snapshot or a dataset with all below it."""
        dataset, _, short = name.partition("@")
        with self.open() as state:
            if short:
                snapshots = state["datasets"][dataset]["snapshots"]
                snapshots[:] = [snapshot for snapshot in snapshots if snapshot[0] != short]
            else:
                for other in [n for n in state["datasets"] if n == name or n.startswith(name + "/")]:
                    del state["datasets"][other]

    def guids(self, root: str) -> dict[str, list[tuple[str, int]]]:
        """The snapshots of every dataset below ``root``, by child."""
        with self.open() as state:
            return {
                name[len(root) :]: [(snapshot[0], snapshot[1]) for snapshot in dataset["snapshots"]]
                for name, dataset in sorted(state["datasets"].items())
                if name == root or name.startswith(root + "/")
            }

    def property(self, name: str, key: str) -> str | None:
        """A property of a dataset, or None."""
        with self.open() as state:
            value = state["datasets"][name]["properties"].get(key)
            return None if value is None else str(value)

    def commands(self) -> list[list[str]]:
        """The command lines so far."""
        if not os.path.exists(self.path + ".log"):
            return []
        with open(self.path + ".log") as file:
            return [line.rstrip("\n").split("\0") for line in file]


def add(state: dict[str, Any], name: str, kind: str, properties: dict[str, str]) -> dict[str, Any]:
    """Put a dataset into the state."""
    state["txg"] += 1
    dataset: dict[str, Any] = {
        "kind": kind, "guid": guid_of(name, state["txg"]), "properties": dict(properties), "snapshots": [],
        "bookmarks": [], "token": "", "modified": False, "changed": 0,
    }  # fmt: skip
    state["datasets"][name] = dataset
    return dataset


def stand_still(state_file: State) -> None:
    """Do nothing, as long as that is wanted and the parent lives, and end: a test leaves nobody behind."""
    parent, wanted = os.getppid(), True
    open(state_file.path + ".still", "a").close()
    while wanted and os.getppid() == parent:
        time.sleep(0.05)
        with state_file.open() as state:
            wanted = bool(state["hang"])
    sys.exit(1)


def stand_first(state_file: State, verb: str) -> None:
    """Likewise, as long as that is wanted of this verb, but go on then."""
    parent = os.getppid()
    while True:
        with state_file.open() as state:
            if verb not in state.get("hang", {}):
                return
        if os.getppid() != parent:
            sys.exit(1)
        time.sleep(0.05)


def fail(message: str) -> None:
    """End as `zfs` does."""
    sys.stderr.write(message + "\n")
    sys.exit(1)


def options(arguments: list[str], with_value: str) -> tuple[dict[str, str], list[tuple[str, str]], list[str]]:
    """Flags, the -o pairs, and operands."""
    flags: dict[str, str] = {}
    pairs: list[tuple[str, str]] = []
    rest = list(arguments)
    while rest and rest[0].startswith("-"):
        flag = rest.pop(0)
        for at, letter in enumerate(flag[1:], 1):
            if letter in with_value:
                value = flag[at + 1 :] or rest.pop(0)
                if letter == "o" and "=" in value:
                    key, _, set_to = value.partition("=")
                    pairs.append((key, set_to))
                flags[letter] = value
                break
            flags[letter] = ""
    return flags, pairs, rest


def do_list(path: str, arguments: list[str]) -> None:
    flags, _, names = options(arguments, "otd")
    columns = flags["o"].split(",")
    kinds = flags.get("t", "filesystem").split(",")
    status = 0
    with State(path).open() as state:
        datasets, holds, created = state["datasets"], state.get("holds", {}), state.get("creation", {})
        clones = clones_of(datasets) if "clones" in columns else {}
        if f"list -t {flags.get('t')}" in state.get("refuse", ()):
            sys.stderr.write("cannot iterate filesystems: I/O error\n")  # and it ends with 0, like the real one
            return
        unknown = {*state.get("unknown", ()), *(() if state.get("changes", True) else ("snapshots_changed",))}
    for column in columns:
        if column in unknown:
            sys.stderr.write(f"bad property list: invalid property '{column}'\n")
            sys.exit(2)
    for root in names:
        if "@" in root or "#" in root:
            mark, kind = ("@", "snapshot") if "@" in root else ("#", "bookmark")
            dataset, _, short = root.partition(mark)
            found = [s for s in datasets.get(dataset, {kind + "s": []})[kind + "s"] if s[0] == short]
            if found:
                extra = {"userrefs": len(holds.get(root, [])), "creation": created.get(root, found[0][2])}
                extra["referenced"] = sum(s[3] for s in datasets[dataset][kind + "s"] if s[2] <= found[0][2])
                row(columns, root, kind, found[0], extra)
            else:
                sys.stderr.write(f"cannot open '{root}': dataset does not exist\n")
                status = 1
            continue
        if root not in datasets:
            sys.stderr.write(f"cannot open '{root}': dataset does not exist\n")
            status = 1
            continue
        depth = int(flags.get("d", "1000" if "r" in flags else "0"))
        if "snapshot" in kinds:
            depth = 1000 if "r" in flags else 0  # a snapshot is one level below its dataset
        level = root.count("/")
        below = [n for n in datasets if n == root or (n.startswith(root + "/") and n.count("/") - level <= depth)]
        for name in sorted(below, key=lambda name: name.split("/")):
            dataset = datasets[name]
            if dataset["kind"] in kinds:
                values = {key: value for key, (value, _) in properties_of(datasets, name).items()}
                row(columns, name, dataset["kind"], ["", dataset["guid"], 0, 0], {**dataset, "properties": values})
            for kind, mark in (("snapshot", "@"), ("bookmark", "#")):
                if kind in kinds and flags.get("d") != "0":
                    for entry in dataset[kind + "s"]:
                        full = name + mark + entry[0]
                        extra = {"userrefs": len(holds.get(full, [])), "creation": created.get(full, entry[2])}
                        extra["clones"] = ",".join(clones.get(full, [])) or "-"
                        row(columns, full, kind, entry, extra)
    sys.exit(status)


def clones_of(datasets: dict[str, Any]) -> dict[str, list[str]]:
    """The clones of each snapshot that has any."""
    found: dict[str, list[str]] = {}
    for name, dataset in datasets.items():
        if dataset["properties"].get("origin"):
            found.setdefault(dataset["properties"]["origin"], []).append(name)
    return found


INHERITED = ("zfsync:placeholder", "readonly")
"""Of all that is inherited, what tests need."""


def properties_of(datasets: dict[str, Any], name: str) -> dict[str, tuple[str, str]]:
    """The properties of a dataset, each with its source."""
    parts = name.split("/")
    found = {}
    for above in ("/".join(parts[:count]) for count in range(1, len(parts))):
        for key, value in datasets[above]["properties"].items():
            if key in INHERITED:
                found[key] = (value, f"inherited from {above}")
    return {**found, **{key: (value, "local") for key, value in datasets[name]["properties"].items()}}


def row(columns: list[str], name: str, kind: str, entry: list[Any], dataset: dict[str, Any]) -> None:
    values = {
        "name": name, "type": kind, "guid": entry[1], "createtxg": entry[2], "used": 0,
        "written": dataset.get("written", entry[3]),
        "receive_resume_token": dataset.get("token") or "-", "encryption": "off",
        "userrefs": dataset.get("userrefs", 0), "creation": dataset.get("creation", "-"),
        "referenced": dataset.get("referenced", "-"), "clones": dataset.get("clones", "-"),
        "available": 1 << 40, "compression": "off", "mounted": "no",
        "snapshots_changed": dataset["changed"] if dataset.get("changed") else "-",
    }  # fmt: skip
    values.update(dataset.get("properties", {}))
    print("\t".join(str(values.get(column, "-")) for column in columns))


def do_send(path: str, arguments: list[str]) -> None:
    flags, _, names = options(arguments, "iIt")
    state_file = State(path)
    with state_file.open() as state:
        datasets = state["datasets"]
        hangs = state.get("hang", {}).get("send")
    offset, resuming = 0, "t" in flags
    if resuming:
        token = read_token(flags["t"])
        name, to = str(token["toname"]).split("@")
        base, offset = token.get("fromguid", 0), token.get("bytes", 0)
        flags = {"i": ""}
    else:
        name, _, to = names[0].partition("@")
        base = 0
    if name not in datasets:
        fail(f"cannot open '{name}': dataset does not exist")
    snapshots = datasets[name]["snapshots"]
    position = next((i for i, s in enumerate(snapshots) if s[0] == to), None)
    if position is None:
        fail(f"cannot open '{name}@{to}': dataset does not exist")
        return
    first = position
    mark = flags.get("I") or flags.get("i")
    if mark:
        kind = "bookmarks" if mark[0] == "#" else "snapshots"
        known = next((s for s in datasets[name][kind] if s[0] == mark[1:]), None)
        if known is None:
            fail(f"cannot send '{name}@{to}': incremental source ({mark}) does not exist")
            return
        base = known[1]
        if "I" in flags:
            first = next(i for i, s in enumerate(snapshots) if s[2] > known[2])
    out = sys.stdout.buffer
    records = bool(os.environ.get("FAKEZFS_RECORDS"))
    if records and "I" in flags:
        out.write(begin_record(datasets[name]["kind"], 0, 0, package=True))
    for index in range(first, position + 1):
        short, guid, txg, written = snapshots[index]
        head = {"name": name, "kind": datasets[name]["kind"], "to": [short, guid, txg, written], "base": base,
                "offset": offset, "length": written - offset, "resuming": resuming}  # fmt: skip
        line = marshal.dumps(head, 2)
        if records:
            out.write(begin_record(datasets[name]["kind"], guid, base, resuming=resuming))
        out.write(MAGIC + b"%08d" % len(line) + line)
        out.write(content(guid, written)[offset:hangs])
        if hangs is not None:
            out.flush()
            stand_still(state_file)
        base = guid
    out.flush()


def begin_record(kind: str, to: int, base: int, *, package: bool = False, resuming: bool = False) -> bytes:
    """The first record of a stream of OpenZFS: dmu_replay_record_t, sys/zfs_ioctl.h."""
    version = (2 if package else 1) | (1 << 22 if resuming else 0)
    objects = 3 if kind == "volume" else 2
    return struct.pack("<IIQQQIIQQ256s", 0, 0, 0x2F5BACBAC, version, 0, objects, 0, to, base, b"src/tree@x")


def content(guid: int, length: int) -> bytes:
    """What a snapshot with this GUID holds: the same bytes wherever it is."""
    block = b"%032d" % guid
    return (block * (length // len(block) + 1))[:length]


def do_receive(path: str, arguments: list[str]) -> None:
    flags, pairs, names = options(arguments, "ox")
    target = names[0]
    state_file = State(path)
    if "A" in flags:
        with state_file.open() as state:
            dataset = state["datasets"][target]
            dataset["token"] = ""
            if not dataset["snapshots"] and not dataset["properties"].get("zfsync:placeholder"):
                del state["datasets"][target]
        return
    with state_file.open() as state:
        hangs = state.get("hang", {}).get("receive")
        unknown = state.get("unknown", ())
    for name in (*dict(pairs), *arguments):  # a name that -x is followed by, too
        if name in unknown:
            fail(f"cannot receive: invalid property '{name}'")
    stdin = sys.stdin.buffer
    count = 0
    while True:
        magic = stdin.read(len(MAGIC) + 8)
        while magic.startswith(bytes(4)):  # a record of OpenZFS
            stdin.read(312 - len(magic))
            magic = stdin.read(len(MAGIC) + 8)
        if not magic:
            break
        if not magic.startswith(MAGIC):
            fail("cannot receive: invalid stream (bad magic number)")
        head = marshal.loads(stdin.read(int(magic[len(MAGIC) :])))
        check(state_file, target, head, flags, dict(pairs).get("origin", ""))
        missing = head["length"]
        hash_of = zlib.crc32(b"")
        while missing:
            if hangs is not None and head["length"] - missing >= hangs:
                stand_still(state_file)
            data = stdin.read(min(missing, 64 << 10))
            if os.environ.get("FAKEZFS_FULL") and head["length"] - missing > int(os.environ["FAKEZFS_FULL"]):
                keep_partial(state_file, target, head, head["offset"] + head["length"] - missing, pairs)
                fail(f"cannot receive {kind_of(head)} stream: out of space")
            if not data:
                keep_partial(state_file, target, head, head["offset"] + head["length"] - missing, pairs)
                fail(
                    f"cannot receive {kind_of(head)} stream: checksum mismatch or incomplete stream.\n"
                    f"Partially received snapshot is saved.\nA resuming stream can be generated"
                )
            hash_of = zlib.crc32(data, hash_of)
            missing -= len(data)
            time.sleep(float(os.environ.get("FAKEZFS_SLOW", "0")))
        short, guid, _, written = head["to"]
        if hash_of != zlib.crc32(content(guid, written)[head["offset"] :]):
            fail(f"cannot receive {kind_of(head)} stream: checksum mismatch")
        with state_file.open() as state:
            dataset = state["datasets"].get(target) or add(state, target, head["kind"], {})
            denied = state.get("denied", ())
            for key in (key for key, _ in pairs if key in denied):
                sys.stderr.write(f"cannot receive {key} property on {target}: permission denied\n")
            dataset["properties"].update(pair for pair in pairs if pair[0] not in denied)
            dataset["token"] = ""
            state["txg"] += 1
            dataset["snapshots"].append([short, guid, state["txg"], written])
        count += 1
    if not count:
        fail("cannot receive: failed to read from stream")


def kind_of(head: dict[str, Any]) -> str:
    return "incremental" if head["base"] else "new filesystem"


def check(state_file: State, target: str, head: dict[str, Any], flags: dict[str, str], origin: str) -> None:
    """Complain as `zfs receive` would before it reads the data."""
    with state_file.open() as state:
        datasets = state["datasets"]
    parent = target.rpartition("/")[0]
    if parent and parent not in datasets:
        fail(f"cannot open '{parent}': dataset does not exist\ncannot receive new filesystem stream: unable to restore")
    dataset = datasets.get(target)
    if head.get("resuming"):  # perhaps from the first byte on
        return
    if dataset and dataset["token"]:
        fail(f'cannot receive: destination {target} contains partially-complete state from "zfs receive -s".')
    if not head["base"]:
        if dataset and "F" not in flags:
            fail(
                f"cannot receive new filesystem stream: destination '{target}' exists\nmust specify -F to overwrite it"
            )
        return
    if not dataset and origin:
        with state_file.open() as state:
            if snapshot_of(state, origin)[1] != head["base"]:
                fail("cannot receive: local origin for clone does not match")
        return
    if not dataset:
        fail(f"cannot receive incremental stream: destination '{target}' does not exist")
        return
    if dataset["modified"]:
        fail(f"cannot receive incremental stream: destination {target} has been modified\nsince most recent snapshot")
    if not dataset["snapshots"] or dataset["snapshots"][-1][1] != head["base"]:
        fail(f"cannot receive incremental stream: most recent snapshot of {target} does not\nmatch incremental source")


def keep_partial(
    state_file: State, target: str, head: dict[str, Any], received: int, pairs: list[tuple[str, str]]
) -> None:
    with state_file.open() as state:
        dataset = state["datasets"].get(target) or add(state, target, head["kind"], {})
        dataset["properties"].update(pairs)
        values = {"toguid": head["to"][1], "toname": f"{head['name']}@{head['to'][0]}", "bytes": received}
        if head["base"]:
            values["fromguid"] = head["base"]
        dataset["token"] = make_token(values)


def make_token(values: dict[str, int | str]) -> str:
    """A resume token of ZFS's own layout."""
    body = b"\x00\x01\x00\x00" + (0).to_bytes(4, "little") + (1).to_bytes(4, "little")
    for name, value in values.items():
        key = name.encode() + b"\0"
        key += b"\0" * (-len(key) % 8)
        if isinstance(value, int):
            kind, data = 8, value.to_bytes(8, "little")
        else:
            text = value.encode() + b"\0"
            kind, data = 9, text + b"\0" * (-len(text) % 8)
        size = 16 + len(key) + len(data)
        body += size.to_bytes(4, "little") + (len(name) + 1).to_bytes(2, "little") + b"\0\0"
        body += (1).to_bytes(4, "little") + kind.to_bytes(4, "little") + key + data
    body += b"\0" * 4
    return f"1-{zlib.crc32(body):x}-{len(body):x}-{zlib.compress(body).hex()}"


def read_token(text: str) -> dict[str, Any]:
    """The values of a token that `make_token` made."""
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    from zfsync_ssh.resume import BadToken, parse_token

    try:
        token = parse_token(text)
    except BadToken:
        sys.stderr.write("cannot resume send: resume token is corrupt\n")
        sys.exit(255)
    return {"toname": token.to_name, "fromguid": token.from_guid, "bytes": token.received}


def do_create(path: str, arguments: list[str]) -> None:
    _, pairs, names = options(arguments, "o")
    name = names[0]
    with State(path).open() as state:
        if name in state["datasets"]:
            fail(f"cannot create '{name}': dataset already exists")
        parent = name.rpartition("/")[0]
        if parent not in state["datasets"]:
            fail(f"cannot create '{name}': parent does not exist")
        if set(dict(pairs)) & set(state.get("denied", ())):
            fail(f"cannot create '{name}': permission denied")
        if parent in state.get("keyless", ()) and dict(pairs).get("encryption") != "off":
            fail(f"cannot create '{name}': encryption root's key is not loaded or provided")
        add(state, name, "filesystem", dict(pairs))


def do_rename(path: str, arguments: list[str]) -> None:
    _, _, (source, destination) = options(arguments, "")
    with State(path).open() as state:
        datasets = state["datasets"]
        if "rename" in state.get("refuse", ()):
            fail(f"cannot rename '{source}': pool I/O is currently suspended")
        if source not in datasets:
            fail(f"cannot open '{source}': dataset does not exist")
        if destination in datasets:
            fail(f"cannot rename '{source}': dataset already exists")
        if destination.rpartition("/")[0] not in datasets:
            fail(f"cannot create '{destination}': parent does not exist")
        for name in [other for other in datasets if other == source or other.startswith(source + "/")]:
            datasets[destination + name[len(source) :]] = datasets.pop(name)


def do_inherit(path: str, arguments: list[str]) -> None:
    with State(path).open() as state:
        if "inherit" in state.get("refuse", ()):
            fail(f"cannot inherit {arguments[0]} for '{arguments[1]}': pool I/O is currently suspended")
        for name in arguments[1:]:
            state["datasets"][name]["properties"].pop(arguments[0], None)


def snapshot_of(state: dict[str, Any], name: str) -> list[Any]:
    """The entry of a snapshot; the end when it is not there."""
    dataset, _, short = name.partition("@")
    snapshots = state["datasets"].get(dataset, {"snapshots": []})["snapshots"]
    found: list[Any] | None = next((entry for entry in snapshots if entry[0] == short), None)
    if found is None:
        fail(f"cannot open '{name}': dataset does not exist")
    assert found is not None
    return found


def below(state: dict[str, Any], flags: dict[str, str], names: list[str]) -> list[str]:
    """``names``, and with -r the snapshots of the same name below each, of those that are there."""
    if "r" not in flags:
        return names
    found = []
    for name in names:
        dataset, _, short = name.partition("@")
        for other, values in state["datasets"].items():
            if (other + "/").startswith(dataset + "/") and any(entry[0] == short for entry in values["snapshots"]):
                found.append(f"{other}@{short}")
    return found


def do_hold(path: str, arguments: list[str]) -> None:
    flags, _, (tag, *names) = options(arguments, "")
    with State(path).open() as state:
        for name in below(state, flags, names):
            snapshot_of(state, name)
            holds = state.setdefault("holds", {}).setdefault(name, [])
            if tag in holds:
                fail(f"cannot hold snapshot '{name}': tag already exists on this dataset")
            holds.append(tag)


def do_release(path: str, arguments: list[str]) -> None:
    flags, _, (tag, *names) = options(arguments, "")
    with State(path).open() as state:
        for name in below(state, flags, names):
            holds = state.get("holds", {}).get(name, [])
            if tag not in holds:
                fail(f"cannot release hold from snapshot '{name}': no such tag on this dataset")
            holds.remove(tag)


def do_holds(path: str, arguments: list[str]) -> None:
    _, _, names = options(arguments, "")
    with State(path).open() as state:
        for name in names:
            for tag in state.get("holds", {}).get(name, []):
                print(f"{name}\t{tag}\t1700000000")


def do_bookmark(path: str, arguments: list[str]) -> None:
    source, mark = arguments
    dataset, _, short = mark.partition("#")
    with State(path).open() as state:
        _, guid, txg, written = snapshot_of(state, source)
        marks = state["datasets"][dataset]["bookmarks"]
        if any(entry[0] == short for entry in marks):
            fail(f"cannot create bookmark '{mark}': bookmark exists")
        marks.append([short, guid, txg, written])


def do_snapshot(path: str, arguments: list[str]) -> None:
    """All or none, in one transaction group."""
    _, _, names = options(arguments, "o")
    with State(path).open() as state:
        state["txg"] += 1
        for name in names:
            dataset, _, short = name.partition("@")
            if dataset not in state["datasets"]:
                fail(f"cannot open '{dataset}': dataset does not exist")
            snapshots = state["datasets"][dataset]["snapshots"]
            if any(entry[0] == short for entry in snapshots):
                fail(f"cannot create snapshot '{name}': dataset already exists")
            snapshots.append([short, guid_of(name, state["txg"], path), state["txg"], 1000])
            state.setdefault("creation", {})[name] = int(time.time())


def do_set(path: str, arguments: list[str]) -> None:
    pairs = [argument for argument in arguments if "=" in argument]
    with State(path).open() as state:
        for name in arguments[len(pairs) :]:
            if name not in state["datasets"]:
                fail(f"cannot open '{name}': dataset does not exist")
            state["datasets"][name]["properties"].update(pair.split("=", 1) for pair in pairs)


def do_get(path: str, arguments: list[str]) -> None:
    """Of `zfs get` what asks for all own properties, or for some and their sources; of `zpool get`, nothing."""
    flags, _, (keys, *names) = options(arguments, "ost")
    with State(path).open() as state:
        datasets = state["datasets"]
    if flags["o"] == "name,property,value":
        for name in names:
            for key, value in datasets[name]["properties"].items():
                print(f"{name}\t{key}\t{value}")
    elif flags["o"] == "property":  # all that it has itself
        print("\n".join(datasets[names[0]]["properties"]))
    elif flags["o"] == "name,value":  # -s local: what has the property itself
        for name in [name for name in datasets if name == names[0] or name.startswith(names[0] + "/")]:
            if keys in datasets[name]["properties"]:
                print(f"{name}\t{datasets[name]['properties'][keys]}")
    elif flags["o"] == "property,value,source":
        there = properties_of(datasets, names[0])
        for key in keys.split(","):
            print("\t".join((key, *there.get(key, ("no" if key == "mounted" else "-", "-")))))


def do_promote(path: str, arguments: list[str]) -> None:
    (name,) = arguments
    with State(path).open() as state:
        if "promote" in state.get("refuse", ()):
            fail(f"cannot promote '{name}': pool I/O is currently suspended")
        clone = state["datasets"][name]
        origin = clone["properties"].pop("origin", "")
        if not origin:
            fail(f"cannot promote '{name}': not a cloned filesystem")
        entry = snapshot_of(state, origin)
        owner = state["datasets"][origin.partition("@")[0]]
        clone["snapshots"] = [one for one in owner["snapshots"] if one[2] <= entry[2]] + clone["snapshots"]
        owner["snapshots"] = [one for one in owner["snapshots"] if one[2] > entry[2]]


def do_rollback(path: str, arguments: list[str]) -> None:
    name = arguments[-1]
    with State(path).open() as state:
        entry = snapshot_of(state, name)
        dataset = state["datasets"][name.partition("@")[0]]
        dataset["snapshots"] = [other for other in dataset["snapshots"] if other[2] <= entry[2]]
        dataset["modified"] = False


def do_destroy(path: str, arguments: list[str]) -> None:
    name = arguments[-1]
    with State(path).open() as state:
        hangs = "destroy" in state.get("hang", {})
    if hangs:
        stand_still(State(path))
    if "@" in name or "#" in name:
        destroy_marks(path, name)
        return
    with State(path).open() as state:
        if state["datasets"].get(name, {}).get("snapshots"):
            fail(f"cannot destroy '{name}': filesystem has children")
        if any(other.startswith(name + "/") for other in state["datasets"]):
            fail(f"cannot destroy '{name}': filesystem has children")
        if "destroy" in state.get("refuse", ()):
            fail(f"cannot destroy '{name}': pool I/O is currently suspended")
        if state["datasets"].pop(name, None) is None:
            fail(f"cannot open '{name}': dataset does not exist")


def destroy_marks(path: str, name: str) -> None:
    kind = "snapshots" if "@" in name else "bookmarks"
    dataset, _, shorts = name.partition("@" if "@" in name else "#")
    with State(path).open() as state:
        there = state["datasets"].get(dataset, {kind: []})[kind]
        gone = [entry for entry in there if entry[0] in shorts.split(",")]
        if not gone:
            fail(f"cannot open '{name}': dataset does not exist")
        for entry in gone:
            if f"{dataset}@{entry[0]}" in state.get("refuse", ()):
                fail(f"cannot destroy snapshot {dataset}@{entry[0]}: permission denied")
            if state.get("holds", {}).get(f"{dataset}@{entry[0]}"):
                fail(f"cannot destroy snapshot {dataset}@{entry[0]}: it's being held. Run 'zfs holds -r {name}'.")
            if f"{dataset}@{entry[0]}" in clones_of(state["datasets"]):
                fail(f"cannot destroy '{dataset}@{entry[0]}': snapshot has dependent clones")
        there[:] = [entry for entry in there if entry not in gone]


def do_version(path: str, arguments: list[str]) -> None:
    print("zfs-2.3.1-1\nzfs-kmod-2.3.1-1")


def do_allow(path: str, arguments: list[str]) -> None:
    with State(path).open() as state:
        if arguments[0] not in state["datasets"]:
            fail(f"cannot open '{arguments[0]}': dataset does not exist")
        print(state.get("allow", ""), end="")


VERBS = {
    "version": do_version, "allow": do_allow,
    "list": do_list, "send": do_send, "receive": do_receive, "create": do_create, "rename": do_rename,
    "inherit": do_inherit, "destroy": do_destroy, "hold": do_hold, "release": do_release, "holds": do_holds,
    "bookmark": do_bookmark, "set": do_set, "get": do_get, "rollback": do_rollback, "promote": do_promote,
    "snapshot": do_snapshot,
}  # fmt: skip


def main() -> None:
    path, verb, *arguments = sys.argv[1:]
    with open(path + ".log", "a") as log:
        log.write("\0".join([verb, *arguments]) + "\n")
    if verb in ("list", "create"):
        stand_first(State(path), verb)
    VERBS[verb](path, arguments)
