"""How the processes of a run meet, before jax's runtime starts: all connect to process 0."""

import os
import socket
import time

from alexnet_jax.parallel.messages import Peer, close_all, listen, send_to_all
from alexnet_jax.runtime.errors import UserError

CONNECT_SECONDS = 5  # for one attempt, and for the first message of a new connection
RETRY_SECONDS = 0.2


class PeerLost(Exception):
    """Another process of the run did not join, ended or is silent; the text says which."""


def accept_processes(port: int, num_processes: int, join_seconds: float) -> dict[int, Peer]:
    """In process 0: wait until all others have connected; their connections by rank.

    UserError where the port is taken or a process doesn't fit, PeerLost where some have not
    connected after `join_seconds`. Those that have are told the reason.
    """
    deadline = time.monotonic() + join_seconds
    peers: dict[int, Peer] = {}
    with listen(port) as listener:
        while len(peers) < num_processes - 1:
            listener.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                connection = listener.accept()[0]
            except TimeoutError:
                error = _missing_processes(peers, num_processes, join_seconds)
                raise _cancel(peers, error) from None
            _admit(connection, peers, num_processes)
    send_to_all(peers.values(), {"start": True})
    return peers


def join_process_zero(
    host: str, port: int, *, rank: int, num_processes: int, join_seconds: float
) -> dict[int, Peer]:
    """In the other processes: connect to process 0 and wait until all have; {0: its connection}.

    UserError where process 0 refuses this one, PeerLost where it does not answer within
    `join_seconds` or another process does not join.
    """
    peer = Peer(_connect(host, port, join_seconds), 0, host)
    try:
        peer.send(
            {
                "rank": rank,
                "count": num_processes,
                "pid": os.getpid(),
                "host": socket.gethostname(),
            }
        )
        # Process 0 may have started later.
        peer.connection.settimeout(2 * join_seconds + CONNECT_SECONDS)
        answer = peer.receive()
    except (OSError, ValueError) as error:
        raise PeerLost(
            f"Process 0 at {host}:{port} did not say that all processes have come ({error}). "
            "See what it printed."
        ) from error
    if "start" not in answer:
        peer.connection.close()
    if "refused" in answer:
        raise UserError(f"Process 0 at {host}:{port} refused this process: {answer['refused']}.")
    if "failed" in answer:
        raise PeerLost(answer["failed"])
    return {0: peer}


def _admit(connection: socket.socket, peers: dict[int, Peer], num_processes: int) -> None:
    """Add one process to `peers`, or refuse it with the reason; others are disconnected."""
    peer = Peer(connection)
    try:
        connection.settimeout(CONNECT_SECONDS)
        hello = peer.receive()
        peer.rank = int(hello["rank"])
        peer.location = f"{hello['host']}, process id {hello['pid']}"
        count = int(hello["count"])
    except (OSError, ValueError, KeyError, TypeError):  # no process of a run, such as a port scan
        connection.close()
        return
    refusal = ""
    if count != num_processes:
        refusal = f"it was told of {count} processes, process 0 of {num_processes}"
    elif peer.rank in peers or not 0 < peer.rank < num_processes:
        location = peers[peer.rank].location if peer.rank in peers else socket.gethostname()
        refusal = f"there is another process {peer.rank} already ({location})"
    if refusal:
        peer.send({"refused": refusal})
        connection.close()
        error = UserError(
            f"The process on {peer.location} can't join as process {peer.rank}: {refusal}. "
            "Each needs the same --processes and its own --process."
        )
        raise _cancel(peers, error)
    peers[peer.rank] = peer


def _cancel(peers: dict[int, Peer], error: Exception) -> Exception:
    """Tell the processes that have joined why there will be no run; returns the error."""
    send_to_all(peers.values(), {"failed": str(error)})
    close_all(peers.values())
    return error


def _missing_processes(peers: dict[int, Peer], num_processes: int, join_seconds: float) -> PeerLost:
    missing = [rank for rank in range(1, num_processes) if rank not in peers]
    named = ", ".join(map(str, missing[:8])) + ", ..." * (len(missing) > 8)
    return PeerLost(
        f"{len(missing)} of {num_processes} processes did not come within {join_seconds:g} s: "
        f"{named}. See what they printed, or wait longer with --join_seconds."
    )


def _connect(host: str, port: int, join_seconds: float) -> socket.socket:
    """A connection to process 0, which may not listen yet."""
    deadline = time.monotonic() + join_seconds
    while True:
        try:
            return socket.create_connection((host, port), timeout=CONNECT_SECONDS)
        except OSError as error:
            if time.monotonic() > deadline:
                raise PeerLost(
                    f"Process 0 did not answer at {host}:{port} within {join_seconds:g} s "
                    f"({error}). See what it printed, check the address, or wait longer with "
                    "--join_seconds."
                ) from error
            time.sleep(RETRY_SECONDS)
