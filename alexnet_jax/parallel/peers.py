"""The processes of a run watch each other, so that all end soon after one is lost, saying which.

Before jax's runtime starts, every process connects to process 0 and says who it is (rendezvous.py).
From then on both ends of each connection send a heartbeat once a second. A process that ends
without a farewell, or is silent, is lost: process 0 tells the others, and each process prints that
and ends with EXIT_PEER_LOST.

jax's runtime notices a lost process too, but aborts (134, or 139 where its port is taken) instead
of raising an error when a process did not join, is silent, or was process 0; and where one failed
it blames another. Verified with jaxlib 0.10.2.
"""

import contextlib
import os
import selectors
import socket
import sys
import threading
import time
from collections.abc import Callable

from alexnet_jax.parallel.messages import CHUNK_BYTES, Peer, close_all, send_to_all
from alexnet_jax.parallel.rendezvous import accept_processes, join_process_zero
from alexnet_jax.runtime.errors import EXIT_PEER_LOST

HEARTBEAT_SECONDS = 1.0
# Long enough for imports from a slow disk, which hold Python's lock.
SILENCE_SECONDS = 60.0


class Peers:
    """This process's connections to its peers: to all of them in process 0, else to process 0.

    The constructor returns when all processes have joined. `on_loss` is called with a sentence, in
    a thread of its own, when one is lost; by default it prints the sentence and ends this process.

    UserError where the port is taken or two processes do not agree on who they are, PeerLost
    where some have not joined after `join_seconds`.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        rank: int,
        num_processes: int,
        join_seconds: float,
        on_loss: Callable[[str], None] | None = None,
        silence_seconds: float = SILENCE_SECONDS,
    ):
        self._num_processes = num_processes
        self._on_loss = on_loss or _end_process
        self._silence_seconds = silence_seconds
        self._closing = threading.Event()
        if rank == 0:
            peers = accept_processes(port, num_processes, join_seconds)
        else:
            peers = join_process_zero(
                host, port, rank=rank, num_processes=num_processes, join_seconds=join_seconds
            )
        self._peers = list(peers.values())
        self._thread = threading.Thread(target=self._watch, name="peers", daemon=True)
        self._thread.start()

    def failed(self, reason: str) -> None:
        """Tell the others that this process fails and why, before it ends."""
        self._leave({"failed": reason})

    def close(self) -> None:
        """Tell the others that this process ends well: from now on none of them misses it."""
        self._leave({"done": True})

    def _leave(self, message: dict) -> None:
        self._closing.set()
        self._thread.join(2 * HEARTBEAT_SECONDS)
        send_to_all(self._peers, message)
        close_all(self._peers)

    def _watch(self) -> None:
        """Read from all peers and send heartbeats until this process ends or one is lost."""
        with selectors.DefaultSelector() as selector:
            for peer in self._peers:
                peer.connection.setblocking(False)
                peer.last_message = time.monotonic()
                selector.register(peer.connection, selectors.EVENT_READ, peer)
            last_heartbeat = 0.0
            while not self._closing.is_set():
                ready = selector.select(HEARTBEAT_SECONDS / 2)
                now = time.monotonic()
                for key, _ in ready:
                    if not self._read(key.data):
                        selector.unregister(key.fileobj)
                if now - last_heartbeat > HEARTBEAT_SECONDS:
                    if now - last_heartbeat > 5 * HEARTBEAT_SECONDS:  # this process was stopped
                        for peer in self._peers:
                            peer.last_message = now
                    send_to_all(self._peers, {})
                    last_heartbeat = now
                for peer in self._peers:
                    if not peer.done and now - peer.last_message > self._silence_seconds:
                        self._lose(peer, f"it has been silent for {self._silence_seconds:g} s")

    def _read(self, peer: Peer) -> bool:
        """Read a peer's messages; False when no more will come."""
        try:
            data = peer.connection.recv(CHUNK_BYTES)
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
        for message in peer.received(data):
            if "lost" in message:
                self._end(message["lost"])
            elif "failed" in message:
                self._lose(peer, f"it failed: {message['failed']}")
            elif "done" in message:
                peer.done = True
                with contextlib.suppress(OSError):
                    peer.connection.shutdown(socket.SHUT_WR)  # the peer waits for this
        return True

    def _lose(self, peer: Peer, reason: str) -> None:
        peer.done = True
        location = f" ({peer.location})" if peer.location else ""
        sentence = f"Process {peer.rank} of {self._num_processes}{location} was lost: {reason}."
        send_to_all(self._peers, {"lost": sentence})
        self._end(sentence)

    def _end(self, sentence: str) -> None:
        if not self._closing.is_set():
            self._closing.set()
            close_all(self._peers)
            self._on_loss(sentence)


def _end_process(sentence: str) -> None:
    """Print it and end at once: the main thread may wait for the lost process for ever."""
    sys.stdout.flush()
    print(
        f"error: {sentence} This process ends too; the same command goes on from the last "
        "checkpoint.",
        file=sys.stderr,
        flush=True,
    )
    os._exit(EXIT_PEER_LOST)
