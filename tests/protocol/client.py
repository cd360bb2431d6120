"""A client of an agent, by hand: it says messages over a socket, and hears what comes."""

from __future__ import annotations

import socket

from zfsync_ssh.messages import Message
from zfsync_ssh.protocol import Connection


class Client:
    """What `Connection` allows to be said, to whatever is behind ``ours``."""

    def __init__(self, ours: socket.socket) -> None:
        self.socket = ours
        self.connection = Connection(agent=False)

    def say(self, *messages: Message) -> None:
        for message in messages:
            self.socket.sendall(self.connection.send(message))

    def hear(self) -> Message:
        while (message := self.connection.next_message()) is None:
            data = self.socket.recv(65536)
            assert data, "the agent hung up"
            self.connection.receive(data)
        return message

    def ask(self, message: Message) -> Message:
        self.say(message)
        return self.hear()
