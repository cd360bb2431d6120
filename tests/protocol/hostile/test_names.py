"""Names of what is outside, operations that are none, and properties that are not harmless."""

from __future__ import annotations

import pytest

from tests.fakezfs import begin_record, make_token
from tests.protocol.hostile.conftest import EVIL_CHILDREN, EVIL_NAMES, OTHERS, ROOT, VERBS, Serve, changing, sync
from tests.protocol.test_agent import SNAPSHOTS, fake_stream
from zfsync_ssh.decision import REFUSED
from zfsync_ssh.messages import (
    Answer,
    Apply,
    CleanBuffer,
    Data,
    Digest,
    End,
    Inventory,
    Listed,
    Lock,
    More,
    Operation,
    Query,
    Result,
    Results,
    Send,
    Stream,
)


@pytest.mark.parametrize("name", EVIL_NAMES)
def test_no_root_but_its_own_or_one_below_it(serve: Serve, name: str) -> None:
    hostile = serve()
    for buffer in ("", f"{name}.zfsyncbuffer", f"{ROOT}.zfsyncbuffer"):
        answer = hostile.begin(name, buffer)
        assert not answer.ok
        assert answer.code == "refused"
    assert all("refused Begin" in line for line in hostile.log)
    assert len(hostile.log) == 3
    assert hostile.receiver.commands() == []


@pytest.mark.parametrize("buffer", [*OTHERS, ROOT, f"{ROOT}/x", "dst/backups/web2.zfsyncbuffer", "-r"])
def test_no_buffer_but_its_own(serve: Serve, buffer: str) -> None:
    answer = serve().begin(ROOT, buffer)
    assert (answer.ok, answer.code) == (False, "refused")


def test_the_command_that_a_client_gives_is_not_run(serve: Serve) -> None:
    hostile = serve()
    assert hostile.begin().ok
    answer = hostile.ask(Inventory())
    assert isinstance(answer, Listed)
    assert answer.ok
    assert [command[0] for command in hostile.receiver.commands()] == ["list", "list"]


@pytest.mark.parametrize("verb", VERBS)
def test_no_operation_names_what_is_outside(serve: Serve, verb: str) -> None:
    hostile = serve()
    hostile.begin()
    mark, *arguments = VERBS[verb]
    tried = []
    for name in EVIL_NAMES:
        tried.append(Operation(verb, name + mark, tuple(one.format(name) for one in arguments)))
        for at, one in enumerate(arguments):  # what is its own, to where it has no business
            if "{}" in one:
                changed = [*arguments[:at], one, *arguments[at + 1 :]]
                values = tuple(two.format(name if i == at else f"{ROOT}/y") for i, two in enumerate(changed))
                tried.append(Operation(verb, f"{ROOT}/x{mark}", values))
    answer = hostile.ask(Apply(tuple(tried)))
    assert isinstance(answer, Results)
    for operation, result in zip(tried, answer.results, strict=True):
        assert (result.ok, result.code) == (False, "refused"), operation
        assert result.message
    assert changing(hostile.receiver) == []
    assert f"refused '{verb}'" in hostile.log[-1]


@pytest.mark.parametrize(
    "operation",
    [
        Operation("set", f"{ROOT}/x", ("mountpoint=/etc",)),
        Operation("", ROOT),
        Operation("-r", ROOT),
        Operation("destroy", f"{ROOT}/x", ("-r",)),
        Operation("destroy", ROOT, ("7",)),
        Operation("destroy", f"{ROOT}/x"),
        Operation("destroy", f"{ROOT}.zfsyncbuffer", ("7",)),
        Operation("rename", ROOT, (f"{ROOT}/x/y", "filesystem")),
        Operation("rename", f"{ROOT}/x", (f"{ROOT}/y", "-p")),
        Operation("aside", ROOT, (f"{ROOT}.zfsync-aside-20260101-000000", "filesystem")),
        Operation("hold", f"{ROOT}@1", ("-r",)),
        Operation("hold", f"{ROOT}@1", ("keep",)),
        Operation("release", f"{ROOT}@1", ("somebody-elses",)),
        Operation("snapshot", f"{ROOT}@1,2"),
        Operation("snapshot", f"{ROOT}@"),
        Operation("snapshot", f"{ROOT}@a@b"),
        Operation("snapshot", f"{ROOT}/x"),
        Operation("snapshot", f"{ROOT}/x@9", ("com.example:x=1",)),
        Operation("destroy-snapshot", f"{ROOT}@1,2"),
        Operation("destroy-snapshot", f"{ROOT}@1%4"),
        Operation("destroy-snapshot", f"{ROOT}/x"),
        Operation("rollback", f"{ROOT}/x", ("7",)),
        Operation("rollback", f"{ROOT}/x@1", ("x",)),
        Operation("mark", f"{ROOT}/x", ("x y",)),
        Operation("buffer", f"{ROOT}/x"),
    ],
)
def test_operations_that_are_none_are_refused(serve: Serve, operation: Operation) -> None:
    hostile = serve()
    hostile.begin()
    answer = hostile.ask(Apply((operation,)))
    assert isinstance(answer, Results)
    assert answer.results[0].code == "refused"
    assert changing(hostile.receiver) == []


@pytest.mark.parametrize("name", EVIL_NAMES)
def test_nothing_is_received_outside(serve: Serve, name: str) -> None:
    hostile = serve()
    hostile.begin()
    stream = begin_record("filesystem", 11, 0) + fake_stream(SNAPSHOTS[0])
    child = name if name in EVIL_CHILDREN else "x"
    for asked in (
        sync("/n", name or "x"),
        sync(child),
        sync(child, name),
        sync("/n", origin=f"{name}@1", origin_guid=5),
    ):
        answer = hostile.ask(asked)
        assert isinstance(answer, Answer)
        assert answer.decision.kind == REFUSED
        # and a stream that was sent before the answer was read
        hostile.say(Stream(asked.child, 0, 11), Data(stream), End(len(stream)))
        result = hostile.hear()
        assert isinstance(result, Result)
        assert not result.ok
    assert changing(hostile.receiver) == []


@pytest.mark.parametrize(
    "setting",
    [
        "canmount=on", "mountpoint=/etc", "readonly=off", "sharenfs=on", "sharesmb=on", "quota=none", "setuid=on",
        "devices=on", "exec=on", "reservation=1T", "zfsync:placeholder=x", "zfsync:path=dst/x", "com.example:x=1",
        "-F", "zfsync:stream=a b", "encryption=off", "keylocation=file:///etc/shadow", "readonly", "",
    ],
)  # fmt: skip
def test_no_property_is_set_that_is_not_harmless(serve: Serve, setting: str) -> None:
    hostile = serve()
    hostile.begin()
    answer = hostile.ask(sync(properties=(setting,)))
    assert isinstance(answer, Answer)
    assert answer.decision.kind == REFUSED


def test_what_is_excluded_is_a_property_and_not_one_that_protects(serve: Serve) -> None:
    hostile = serve()
    hostile.begin()
    for name in ("-F", "", "readonly", "a b", "encryption"):
        answer = hostile.ask(sync(excluded=(name,)))
        assert isinstance(answer, Answer)
        assert answer.decision.kind == REFUSED
    answer = hostile.ask(sync(properties=("compression=off", "canmount=noauto"), excluded=("atime",)))
    assert isinstance(answer, Answer)
    assert answer.decision.kind == "NEW"


@pytest.mark.parametrize("name", EVIL_NAMES)
def test_nothing_outside_is_sent_or_told(serve: Serve, name: str) -> None:
    hostile = serve()
    hostile.begin(ROOT, "")
    encodable = name.encode("ascii", "replace").decode()
    evil_token = make_token({"toname": f"{encodable}@1", "toguid": 7, "bytes": 5})
    child = name if name in EVIL_CHILDREN else "x"
    for question in (
        Send(child, "1"),
        Send("/x", f"{name}@1"),
        Send("/x", "1", f"{name or 'x'}@1"),
        Send("/x", "1", f"@{name}@1"),
        Send("", "", token=evil_token),
        Digest(child, "1", 1),
        Digest("/x", f"../{name}", 1),
    ):
        answer = hostile.ask(question)
        assert isinstance(answer, Result)
        assert answer.code == "refused", question
    for kind in ("written", "own-properties", "holds", "iv-sets", "hold-counts", "nonsense"):
        answer = hostile.ask(Query(kind, (child,)))
        assert isinstance(answer, Listed)
        assert answer.code == "refused"
    sent = [" ".join(command) for command in hostile.receiver.commands()]
    assert not [line for line in sent if "web2" in line or "other" in line]


def test_a_token_sends_nothing_but_the_snapshot_that_it_names(serve: Serve) -> None:
    hostile = serve()
    hostile.begin(ROOT, "")
    theirs = hostile.receiver.guids("dst/backups/web2")[""][0][1]
    mine = hostile.receiver.guids(ROOT)[""][0][1]
    for token in (
        make_token({"toname": f"{ROOT}@1", "toguid": theirs, "bytes": 1}),  # zfs would look for the GUID in the pool
        make_token({"toname": f"{ROOT}@nowhere", "toguid": theirs, "bytes": 1}),
        "1-0-0-",
        "-n",
        "x" * 1000,
    ):
        answer = hostile.ask(Send("", "1", token=token))
        assert isinstance(answer, Result)
        assert answer.code == "refused"
    assert not [command for command in hostile.receiver.commands() if command[0] == "send"]
    answer = hostile.ask(Send("", "1", token=make_token({"toname": f"{ROOT}@1", "toguid": mine, "bytes": 1})))
    assert isinstance(answer, Result)
    assert answer.ok


def test_other_questions_have_nothing_in_them_that_reaches_zfs(serve: Serve) -> None:
    hostile = serve()
    hostile.begin(ROOT, "")
    for holds in ("name", "all", "-r", "zfsync:holds.x,mountpoint", "zfsync:holds.abc -r"):
        answer = hostile.ask(Inventory(holds=holds))
        assert isinstance(answer, Listed)
        assert answer.code == "refused"
    for owner in ("../../etc/passwd", "", "a\0b", "x" * 1000):
        result = hostile.ask(Lock(owner))
        assert isinstance(result, Result)
        assert result.code == "refused"
    assert isinstance(hostile.ask(More(5)), Listed)
    hostile.begin()
    results = hostile.ask(CleanBuffer(("/../web2",)))
    assert isinstance(results, Results)
    assert results.results[0].code == "refused"
