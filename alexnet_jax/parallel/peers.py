"""The processes of a run watch each other, so that all end soon after one is lost, saying which.

Before jax's runtime starts, every process connects to process 0 and tells who it is. From then on
both ends of each connection speak once a second. A process that ends without a farewell, or is
silent, is lost: process 0 tells the others, and each says so and ends with EXIT_PEER_LOST.

jax's runtime sees a lost process too, but aborts (134, or 139 where its port is taken) instead of
raising an error when nobody came, when one is silent and when process 0 is lost; and where one
failed it blames another. Verified with jaxlib 0.10.2.
"""

import contextlib
import dataclasses
import json
import os
import selectors
import socket
import sys
import threading
import time
from collections.abc import Callable

from alexnet_jax.runtime.errors import EXIT_PEER_LOST, UserError

HEARTBEAT_SECONDS = 1.0
FAREWELL_SECONDS = 5.0  # at most, until the others have closed their ends too
# Long enough for imports from a slow disk, which hold Python's lock.
SILENCE_SECONDS = 60.0


class PeerLost(Exception):
    """Another process of the run did not come, ended or is silent; the text says which."""


@dataclasses.dataclass
class _Peer:
    """The other end of a connection: who it is and when it last spoke."""

    connection: socket.socket
    rank: int = -1
    where: str = ""
    heard: float = dataclasses.field(default_factory=time.monotonic)
    received: bytes = b""
    done: bool = False


class Peers:
    """This process's connections to its peers: to all of them in process 0, else to process 0.

    Made when all have come. `on_loss` is called with a sentence, in a thread of its own, when one
    is lost; by default it prints the sentence and ends this process.

    UserError where the port is taken or two processes do not agree on who they are, PeerLost
    where some have not come after `join_seconds`.
    """

    def __init__(
        self,
        host: str,
        port: int,
        rank: int,
        count: int,
        join_seconds: float,
        on_loss: Callable[[str], None] | None = None,
        silence_seconds: float = SILENCE_SECONDS,
    ):
        self._rank, self._count = rank, count
        self._on_loss = on_loss or _end_process
        self._silence_seconds = silence_seconds
        self._peers: dict[int, _Peer] = {}
        self._closing = threading.Event()
        deadline = time.monotonic() + join_seconds
        if rank == 0:
            self._receive_all(port, deadline, join_seconds)
        else:
            self._join(host, port, deadline, join_seconds)
        self._thread = threading.Thread(target=self._watch, name="peers", daemon=True)
        self._thread.start()

    def failed(self, reason: str) -> None:
        """Tell the others that this process fails and why, before it ends."""
        self._closing.set()
        self._thread.join(2 * HEARTBEAT_SECONDS)
        self._tell({"failed": reason})
        self._close()

    def close(self) -> None:
        """Say farewell: from now on nobody misses anybody."""
        self._closing.set()
        self._thread.join(2 * HEARTBEAT_SECONDS)
        self._tell({"done": True})
        self._close()

    # How the processes meet.

    def _receive_all(self, port: int, deadline: float, join_seconds: float) -> None:
        with listening(port) as listener:
            while len(self._peers) < self._count - 1:
                listener.settimeout(max(0.01, deadline - time.monotonic()))
                try:
                    self._greet(listener.accept()[0])
                except TimeoutError:
                    raise self._give_up(self._missing(join_seconds)) from None
        self._tell({"start": True})

    def _give_up(self, error: Exception) -> Exception:
        """Tell those who have come why there will be no run."""
        self._tell({"failed": str(error)})
        self._close()
        return error

    def _greet(self, connection: socket.socket) -> None:
        """Take one peer in, or tell it why not."""
        peer = _Peer(connection)
        try:
            connection.settimeout(5)
            hello = _read_line(peer)
            rank, where = int(hello["rank"]), f"{hello['host']}, process id {hello['pid']}"
            count = int(hello["count"])
        except (OSError, ValueError, KeyError, TypeError):  # not one of us, such as a port scan
            connection.close()
            return
        refusal = ""
        if count != self._count:
            refusal = f"it was told of {count} processes, process 0 of {self._count}"
        elif rank in self._peers or not 0 < rank < self._count:
            there = self._peers[rank].where if rank in self._peers else socket.gethostname()
            refusal = f"there is another process {rank} already ({there})"
        if refusal:
            _send(connection, {"refused": refusal})
            connection.close()
            error = UserError(
                f"The process on {where} can't join as process {rank}: {refusal}. "
                "Each needs the same --processes and its own --process."
            )
            raise self._give_up(error)
        peer.rank, peer.where = rank, where
        self._peers[rank] = peer

    def _missing(self, join_seconds: float) -> PeerLost:
        missing = [rank for rank in range(1, self._count) if rank not in self._peers]
        named = ", ".join(map(str, missing[:8])) + ", ..." * (len(missing) > 8)
        return PeerLost(
            f"{len(missing)} of {self._count} processes did not come within {join_seconds:g} s: "
            f"{named}. See what they printed, or wait longer with --join_seconds."
        )

    def _join(self, host: str, port: int, deadline: float, join_seconds: float) -> None:
        hello = {"rank": self._rank, "count": self._count, "pid": os.getpid()}
        while True:
            try:
                connection = socket.create_connection((host, port), timeout=5)
                break
            except OSError as error:
                if time.monotonic() > deadline:
                    raise PeerLost(
                        f"Process 0 did not answer at {host}:{port} within {join_seconds:g} s "
                        f"({error}). See what it printed, check the address, or wait longer with "
                        "--join_seconds."
                    ) from error
                time.sleep(0.2)
        peer = _Peer(connection, 0, host)
        try:
            _send(connection, hello | {"host": socket.gethostname()})
            connection.settimeout(2 * join_seconds + 5)  # process 0 may have started later
            answer = _read_line(peer)
        except (OSError, ValueError) as error:
            raise PeerLost(
                f"Process 0 at {host}:{port} did not say that all processes have come ({error}). "
                "See what it printed."
            ) from error
        if "start" not in answer:
            connection.close()
        if "refused" in answer:
            raise UserError(
                f"Process 0 at {host}:{port} refused this process: {answer['refused']}."
            )
        if "failed" in answer:
            raise PeerLost(answer["failed"])
        self._peers[0] = peer

    # How they watch.

    def _watch(self) -> None:
        with selectors.DefaultSelector() as selector:
            for peer in self._peers.values():
                peer.connection.setblocking(False)
                peer.heard = time.monotonic()
                selector.register(peer.connection, selectors.EVENT_READ, peer)
            spoken = 0.0
            while not self._closing.is_set():
                ready = selector.select(HEARTBEAT_SECONDS / 2)
                now = time.monotonic()
                for key, _ in ready:
                    if not self._listen(key.data):
                        selector.unregister(key.fileobj)
                if now - spoken > HEARTBEAT_SECONDS:
                    if now - spoken > 5 * HEARTBEAT_SECONDS:  # it was this process that slept
                        for peer in self._peers.values():
                            peer.heard = now
                    self._tell({})
                    spoken = now
                for peer in self._peers.values():
                    if not peer.done and now - peer.heard > self._silence_seconds:
                        self._lose(peer, f"it has been silent for {self._silence_seconds:g} s")

    def _listen(self, peer: _Peer) -> bool:
        """Hear what a peer says; False when it will say no more."""
        try:
            data = peer.connection.recv(4096)
        except BlockingIOError:
            return True
        except OSError as error:
            data, reason = b"", f"its connection broke ({error.strerror})"
        else:
            reason = "it ended"
        if not data:
            if not peer.done:
                self._lose(peer, reason)
            return False
        peer.heard = time.monotonic()
        *lines, peer.received = (peer.received + data).split(b"\n")
        for line in lines:
            message = json.loads(line)
            if "lost" in message:
                self._end(message["lost"])
            elif "failed" in message:
                self._lose(peer, f"it failed: {message['failed']}")
            elif "done" in message:
                peer.done = True
                with contextlib.suppress(OSError):
                    peer.connection.shutdown(socket.SHUT_WR)  # it waits for this
        return True

    def _lose(self, peer: _Peer, reason: str) -> None:
        peer.done = True
        where = f" ({peer.where})" if peer.where else ""
        sentence = f"Process {peer.rank} of {self._count}{where} was lost: {reason}."
        self._tell({"lost": sentence})
        self._end(sentence)

    def _end(self, sentence: str) -> None:
        if not self._closing.is_set():
            self._closing.set()
            self._close()
            self._on_loss(sentence)

    def _tell(self, message: dict) -> None:
        for peer in self._peers.values():
            if not peer.done:
                with contextlib.suppress(OSError):  # whoever is gone is noticed in listening
                    _send(peer.connection, message)

    def _close(self) -> None:
        """Close all connections once what was said has arrived.

        A connection that is closed over unread words is reset, and its last words may be lost; so
        all that the others still say is read until they close too.
        """
        deadline = time.monotonic() + FAREWELL_SECONDS
        staying = [peer.connection for peer in self._peers.values() if not peer.done]
        for connection in staying:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_WR)
        for connection in staying:
            with contextlib.suppress(OSError):
                connection.settimeout(max(0.01, deadline - time.monotonic()))
                while time.monotonic() < deadline and connection.recv(4096):
                    pass
        for peer in self._peers.values():
            peer.connection.close()


def listening(port: int) -> socket.socket:
    """A socket that listens on a port of this host; UserError if it is taken."""
    try:
        both = socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if both else socket.AF_INET
        return socket.create_server(("", port), family=family, backlog=128, dualstack_ipv6=both)
    except OSError as error:
        raise UserError(
            f"Port {port} of this host can't be used ({error.strerror}): choose another one in "
            "--coordinator, of which the next is needed too, or end what runs there."
        ) from error


def _send(connection: socket.socket, message: dict) -> None:
    connection.sendall(json.dumps(message).encode() + b"\n")


def _read_line(peer: _Peer) -> dict:
    """The first message of a peer; what follows is kept."""
    while b"\n" not in peer.received:
        data = peer.connection.recv(4096)
        if not data:
            raise OSError("the connection was closed")
        peer.received += data
        if len(peer.received) > 65536:
            raise ValueError("no message")
    line, peer.received = peer.received.split(b"\n", 1)
    message = json.loads(line)
    if not isinstance(message, dict):
        raise ValueError("no message")
    return message


def _end_process(sentence: str) -> None:
    """Say it and end at once: the main thread may wait for the lost process for ever."""
    sys.stdout.flush()
    print(
        f"error: {sentence} This process ends too; the same command goes on from the last "
        "checkpoint.",
        file=sys.stderr,
        flush=True,
    )
    os._exit(EXIT_PEER_LOST)
