#!/usr/bin/env python3
"""A client that was taken over: attacks a confined receiver over the ordinary ssh, with streams of real ZFS.

Prints a JSON object: what was tried -> ``refused: WHY``, or what came of it. The fake zfs cannot tell what these would
do; without the confinement, several of them work.
"""

import json
import subprocess
import sys
import zlib

with open("/usr/local/bin/zfsync" if len(sys.argv) < 3 else sys.argv[2]) as wrapper:
    checkout = wrapper.read().partition("PYTHONPATH=")[2].partition(":")[0]
sys.path.insert(0, checkout)

from zfsync_ssh.bootstrap import Greeting
from zfsync_ssh.dataset import Snapshot
from zfsync_ssh.decision import ABSENT, TargetState
from zfsync_ssh.messages import (
    PROTOCOL,
    Answer,
    Apply,
    Begin,
    Data,
    End,
    Message,
    Operation,
    Output,
    Result,
    Results,
    Send,
    Stream,
    Sync,
)
from zfsync_ssh.protocol import Connection

FACTS = json.loads(sys.argv[1])
ROOT, NEIGHBOUR, SOURCE = FACTS["root"], FACTS["neighbour"], FACTS["source"]


class Client:
    """One session of the confined key."""

    def __init__(self) -> None:
        process = subprocess.Popen(
            ["ssh", "-o", "IdentitiesOnly=yes", "-i", FACTS["key"], FACTS["host"], "touch /root/pwned"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        self.stdin, self.stdout = process.stdin, process.stdout
        code = zlib.compress(b"import os\nos.system('touch /root/pwned')")
        self.stdin.write(b"zfsync-agent %d abc\n" % len(code) + code)
        self.connection = Connection(agent=False)
        greeting = Greeting("abc")
        while True:
            rest = greeting.feed(self.stdout.read(65536))
            if rest is not None:
                break
        self.connection.receive(rest)
        self.hear()

    def hear(self) -> Message:
        while True:
            message = self.connection.next_message()
            if message is None:
                data = self.stdout.read(65536)
                if not data:
                    raise SystemExit("the receiver hung up")
                self.connection.receive(data)
            elif not isinstance(message, Output):
                return message

    def say(self, *messages: Message) -> None:
        for message in messages:
            self.stdin.write(self.connection.send(message))

    def ask(self, message: Message) -> Message:
        self.say(message)
        return self.hear()

    def begin(self, root: str = ROOT, buffer: str | None = None) -> Message:
        return self.ask(Begin(PROTOCOL, root, root + ".zfsyncbuffer" if buffer is None else buffer, ("zfs",)))

    def receive(
        self,
        child: str,
        stream: bytes,
        snapshots: tuple[Snapshot, ...],
        base: int = 0,
        known: TargetState = ABSENT,
        kind: str = "filesystem",
    ) -> str:
        answer = self.ask(Sync(child, kind, ROOT + child, snapshots, (), known))
        self.say(Stream(child, base, snapshots[-1].guid))
        for at in range(0, len(stream), 100000):
            self.say(Data(stream[at : at + 100000]))
        self.say(End(len(stream)))
        assert isinstance(answer, Answer)
        return outcome(self.hear())


def outcome(answer: Message) -> str:
    result = answer.results[0] if isinstance(answer, Results) else answer
    assert isinstance(result, Result)
    return f"refused: {result.message}" if result.code == "refused" else repr(result)


def sent(*arguments: str) -> bytes:
    return subprocess.run(["zfs", "send", *arguments], capture_output=True, check=True).stdout


def snapshot(name: str) -> Snapshot:
    out = subprocess.run(["zfs", "list", "-Hpo", "guid,createtxg", SOURCE + "@" + name], capture_output=True, text=True)
    guid, txg = out.stdout.split()
    return Snapshot(name, int(guid), int(txg))


def main() -> None:
    one, two = snapshot("1"), snapshot("2")
    answers = {}
    client = Client()
    answers["the neighbour as root"] = outcome(client.begin(NEIGHBOUR))
    answers["what is above as root"] = outcome(client.begin(FACTS["above"]))
    answers["the neighbour as buffer"] = outcome(client.begin(ROOT, NEIGHBOUR))
    answers["a prefix as root"] = outcome(client.begin(ROOT + "2"))
    client.begin()
    answers["a replication stream"] = client.receive("/r", sent("-R", SOURCE + "@2"), (two,))
    answers["a stream with properties"] = client.receive("/p", sent("-p", SOURCE + "@1"), (one,))
    answers["a stream with properties, as of a volume"] = client.receive(
        "/p", sent("-p", SOURCE + "@1"), (one,), kind="volume"
    )
    answers["a filesystem as of a volume"] = client.receive("/v", sent(SOURCE + "@1"), (one,), kind="volume")
    incremental = sent("-i", "@1", SOURCE + "@2")
    known = TargetState(True, False, one.guid)
    answers["an increment to the neighbour's copy, by its GUID"] = client.receive(
        "/copy", incremental, (one, two), one.guid, known
    )
    answers["likewise, announced as full"] = client.receive("/copy2", incremental, (two,))
    answers["an option as a name"] = outcome(client.ask(Apply((Operation("destroy", "-r " + ROOT, ("7",)),))))
    answers["the neighbour destroyed"] = outcome(
        client.ask(Apply((Operation("destroy", NEIGHBOUR + "/copy", ("7",)),)))
    )
    answers["the neighbour's snapshot"] = outcome(client.ask(Apply((Operation("destroy-snapshot", NEIGHBOUR + "@1"),))))
    answers["renamed out"] = outcome(
        client.ask(Apply((Operation("rename", ROOT + "/dst", (NEIGHBOUR + "/dst", "filesystem")),)))
    )
    client.begin(ROOT, "")
    answers["the neighbour read"] = outcome(client.ask(Send("/../web2/copy", "1")))
    answers["the neighbour as base"] = outcome(client.ask(Send("", "1", NEIGHBOUR + "/copy@1")))
    print(json.dumps(answers))


main()
