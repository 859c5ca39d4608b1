"""The wire protocol between the processes of a run: a JSON object a line, over TCP.

Process 0 listens and the others connect to it. The messages are:

    {"rank", "count", "pid", "host"}   from a process that joins: who it is, of how many
    {"start": true}                    to all, when the last one has joined
    {"refused": reason}                to one that can't join
    {}                                 a heartbeat
    {"failed": reason}                 the sender ends with an error
    {"lost": sentence}                 the sender has lost another process
    {"done": true}                     the sender ends without an error
"""

import contextlib
import dataclasses
import json
import socket
import time
from collections.abc import Collection

from alexnet_jax.runtime.errors import UserError

CHUNK_BYTES = 4096
MAX_MESSAGE_BYTES = 65536
FAREWELL_SECONDS = 5.0  # at most, until the others have closed their ends too


@dataclasses.dataclass
class Peer:
    """The other end of a connection.

    `location` says where the process runs, `last_message` when it last sent one (time.monotonic),
    and `done` that nothing more is expected of it. `unread` is the start of the next message.
    """

    connection: socket.socket
    rank: int = -1
    location: str = ""
    last_message: float = dataclasses.field(default_factory=time.monotonic)
    unread: bytes = b""
    done: bool = False

    def send(self, message: dict) -> None:
        """Send one message; OSError if the connection is closed."""
        self.connection.sendall(json.dumps(message).encode() + b"\n")

    def receive(self) -> dict:
        """Wait for one message; OSError if the connection is closed, ValueError for any other."""
        while b"\n" not in self.unread:
            data = self.connection.recv(CHUNK_BYTES)
            if not data:
                raise OSError("the connection was closed")
            self.unread += data
            if len(self.unread) > MAX_MESSAGE_BYTES:
                raise ValueError("no message")
        line, self.unread = self.unread.split(b"\n", 1)
        message = json.loads(line)
        if not isinstance(message, dict):
            raise ValueError("no message")
        return message

    def received(self, data: bytes) -> list[dict]:
        """The messages that `data` completes; what follows them is kept for the next call."""
        self.last_message = time.monotonic()
        *lines, self.unread = (self.unread + data).split(b"\n")
        return [json.loads(line) for line in lines]


def send_to_all(peers: Collection[Peer], message: dict) -> None:
    """Send a message to all peers that are not done."""
    for peer in peers:
        if not peer.done:
            with contextlib.suppress(OSError):  # a lost peer is noticed when it is read from
                peer.send(message)


def close_all(peers: Collection[Peer]) -> None:
    """Close all connections once what was sent has arrived.

    Closing a connection with unread data resets it, and the last messages may be lost. So all that
    the others still send is read until they close too, for at most FAREWELL_SECONDS.
    """
    deadline = time.monotonic() + FAREWELL_SECONDS
    open_connections = [peer.connection for peer in peers if not peer.done]
    for connection in open_connections:
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
    for connection in open_connections:
        with contextlib.suppress(OSError):
            connection.settimeout(max(0.01, deadline - time.monotonic()))
            while time.monotonic() < deadline and connection.recv(CHUNK_BYTES):
                pass
    for peer in peers:
        peer.connection.close()


def listen(port: int) -> socket.socket:
    """A socket that listens on a port of this host; UserError if the port is taken."""
    try:
        both = socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if both else socket.AF_INET
        return socket.create_server(("", port), family=family, backlog=128, dualstack_ipv6=both)
    except OSError as error:
        raise UserError(
            f"Port {port} of this host can't be used ({error.strerror}): choose another one in "
            "--coordinator, of which the next is needed too, or end what runs there."
        ) from error
