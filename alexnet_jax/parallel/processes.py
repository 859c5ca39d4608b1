"""Starting and ending the processes of one run (JAX's distributed runtime), and sums over them."""

import contextlib
import hashlib
import os
import socket
import sys
import time
import traceback
from collections.abc import Iterator
from typing import NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils

from alexnet_jax.parallel.cluster import Membership
from alexnet_jax.parallel.messages import listen
from alexnet_jax.parallel.peers import Peers
from alexnet_jax.parallel.rendezvous import PeerLost
from alexnet_jax.runtime.errors import (
    EXIT_INTERRUPTED,
    EXIT_PEER_LOST,
    EXIT_USER_ERROR,
    Diverged,
    Stopped,
    UserError,
)

# jax's runtime waits longer for a silent process than Peers does, since it can't name the process.
RUNTIME_SECONDS = 100
# How long a failing process waits for the news that another one was lost, which may be the cause.
LOSS_SECONDS = 2.0
TPU_PORT = 8483  # the one after that of jax's coordinator on Cloud TPU


@contextlib.contextmanager
def distributed_run(
    member: Membership | None, join_seconds: float, handles_sigterm: bool = False
) -> Iterator[None]:
    """Join the other processes and run the body; all processes end together.

    A process that fails tells the others and exits at once: waiting for it, they would hang until
    jax's barrier times out, and then blame the wrong one. A run of one process (None) only runs the
    body. If the body `handles_sigterm`, jax's runtime catches the signal and spreads it
    (preemption.PreemptionGuard).
    """
    if member is None:
        yield
        return
    jax.config.update("jax_enable_preemption_service", handles_sigterm)
    peers, collective_error = None, None
    try:
        if member.coordinator is not None:
            peers = _connect_peers(member, member.coordinator, join_seconds)
        _initialize(member, join_seconds)
        if peers is None:
            peers = _connect_peers_after_start(join_seconds)
        yield
    except BaseException as error:
        # All processes raise these at the same step, and end as if the body had returned.
        if not (isinstance(error, Diverged) or isinstance(error, Stopped) and error.agreed):
            _exit_with_error(error, peers)
        collective_error = error
    jax.distributed.shutdown()
    if peers is not None:
        peers.close()
    if collective_error is not None:
        raise collective_error


def _connect_peers(member: Membership, coordinator: str, join_seconds: float) -> Peers:
    """Connections to the peers, on the port after the coordinator's."""
    assert member.process_id is not None
    assert member.num_processes is not None
    host, _, port = coordinator.rpartition(":")
    if member.process_id == 0:  # jax ends with a segmentation fault if its port is taken
        listen(int(port)).close()
    return Peers(
        host.strip("[]"),
        int(port) + 1,
        rank=member.process_id,
        num_processes=member.num_processes,
        join_seconds=join_seconds,
    )


def _initialize(member: Membership, join_seconds: float) -> None:
    jax.distributed.initialize(
        member.coordinator,
        member.num_processes,
        member.process_id,
        local_device_ids=member.local_device_ids,
        cluster_detection_method=None if member.coordinator is None else "deactivate",
        initialization_timeout=int(join_seconds),
        heartbeat_timeout_seconds=RUNTIME_SECONDS,
        shutdown_timeout_seconds=RUNTIME_SECONDS,
    )


def _connect_peers_after_start(join_seconds: float) -> Peers:
    """Connections to the peers where jax finds the processes itself, as on Cloud TPU."""
    address = np.zeros(4, np.uint8)
    if is_lead():
        text = socket.gethostbyname(socket.gethostname())
        address = np.frombuffer(socket.inet_aton(text), np.uint8)
    address = np.asarray(multihost_utils.broadcast_one_to_all(address))
    host = socket.inet_ntoa(address.tobytes())
    return Peers(
        host,
        TPU_PORT,
        rank=jax.process_index(),
        num_processes=jax.process_count(),
        join_seconds=join_seconds,
    )


def _exit_with_error(error: BaseException, peers: Peers | None) -> NoReturn:
    """Tell the others, print the error and end this process."""
    sentence, code = str(error), EXIT_USER_ERROR
    if isinstance(error, Stopped):
        code = error.code
    elif isinstance(error, PeerLost):
        code = EXIT_PEER_LOST
    elif isinstance(error, KeyboardInterrupt):
        sentence, code = "interrupted", EXIT_INTERRUPTED
    elif not isinstance(error, UserError):
        # A collective fails when a peer is lost; then the thread of `peers` ends this process.
        time.sleep(LOSS_SECONDS)
        traceback.print_exception(error)
        sentence, code = f"{type(error).__name__}: {error}".split("\n")[0], 1
    if peers is not None:
        peers.failed(sentence)
    sys.stdout.flush()
    line = sentence if isinstance(error, Stopped) else f"error: {sentence}"
    print(line, file=sys.stderr, flush=True)
    os._exit(code)


def host_numbers() -> np.ndarray:
    """The number of each process's host, int64 [processes], hosts numbered in order of processes.

    All processes of the run must call it.
    """
    digest = hashlib.sha256(socket.gethostname().encode()).digest()[:8]
    names = np.asarray(multihost_utils.process_allgather(np.frombuffer(digest, np.uint32)))
    _, first, number = np.unique(
        names.reshape(jax.process_count(), 2), axis=0, return_index=True, return_inverse=True
    )
    return np.argsort(np.argsort(first))[number.ravel()]


def is_lead() -> bool:
    """Whether this is process 0, which prints and writes files for all."""
    return jax.process_index() == 0


def wait_for_all() -> None:
    """A barrier: return when all processes of the run have called it."""
    sum_over_processes(np.zeros((), np.int64))


def sum_over_processes(values: np.ndarray) -> np.ndarray:
    """Exact sum of an int64 array over processes; all of them must call it."""
    values = np.asarray(values, np.int64)
    if jax.process_count() == 1:
        return values
    halves = np.atleast_1d(values).view(np.uint32)  # jax would cut int64 to int32
    gathered = np.asarray(multihost_utils.process_allgather(halves))
    return gathered.view(np.int64).sum(axis=0).reshape(values.shape)


def to_host(array: jax.Array) -> np.ndarray:
    """The whole of a global array on this host; every process of the run must call it."""
    if not array.is_fully_addressable:
        array = multihost_utils.process_allgather(array, tiled=True)
    return np.asarray(array)
