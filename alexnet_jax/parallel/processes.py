"""Starting, counting and ending the processes of one run (JAX's own distributed runtime)."""

import contextlib
import hashlib
import os
import socket
import sys
import time
import traceback
from collections.abc import Iterator

import jax
import numpy as np
from jax.experimental import multihost_utils

from alexnet_jax.parallel.cluster import Membership
from alexnet_jax.parallel.peers import PeerLost, Peers, listening
from alexnet_jax.runtime.errors import (
    EXIT_INTERRUPTED,
    EXIT_PEER_LOST,
    EXIT_USER_ERROR,
    Diverged,
    Stopped,
    UserError,
)

# jax's runtime waits longer for a silent process than the peers do, since it can't name it.
RUNTIME_SECONDS = 100
# How long a failing process waits whether it fails because another one was lost.
LOSS_SECONDS = 2.0
TPU_PORT = 8483  # the one after that of jax's coordinator on Cloud TPU


@contextlib.contextmanager
def together(member: Membership | None, join_seconds: float, saves: bool = False) -> Iterator[None]:
    """Join the other processes and run the body, so that its end is the end of all of them.

    A process that fails tells the others and leaves at once: waiting for it, they would hang until
    jax's barrier times out, and then blame the wrong one. With one process nothing is done. If the
    body `saves` its state on SIGTERM, jax's runtime catches the signal (preemption.Notice).
    """
    if member is None:
        yield
        return
    jax.config.update("jax_enable_preemption_service", saves)
    peers, ended = None, None
    try:
        if member.coordinator is not None:
            peers = _met(member, join_seconds)
        _initialize(member, join_seconds)
        if peers is None:
            peers = _met_after_start(join_seconds)
        yield
    except BaseException as error:
        if not (isinstance(error, Diverged) or isinstance(error, Stopped) and error.agreed):
            _leave(error, peers)
        ended = error  # of all processes alike
    jax.distributed.shutdown()
    peers.close()
    if ended is not None:
        raise ended


def _met(member: Membership, join_seconds: float) -> Peers:
    """Connections to the peers, on the port after the coordinator's."""
    host, _, port = member.coordinator.rpartition(":")
    if member.process == 0:  # jax ends with a segmentation fault if its port is taken
        listening(int(port)).close()
    host = host.strip("[]")
    return Peers(host, int(port) + 1, member.process, member.processes, join_seconds)


def _initialize(member: Membership, join_seconds: float) -> None:
    known = member.coordinator is not None
    jax.distributed.initialize(
        member.coordinator,
        member.processes,
        member.process,
        local_device_ids=member.devices,
        cluster_detection_method="deactivate" if known else None,
        initialization_timeout=int(join_seconds),
        heartbeat_timeout_seconds=RUNTIME_SECONDS,
        shutdown_timeout_seconds=RUNTIME_SECONDS,
    )


def _met_after_start(join_seconds: float) -> Peers:
    """Connections to the peers where only jax knew the processes, as on Cloud TPU."""
    address = np.zeros(4, np.uint8)
    if is_lead():
        text = socket.gethostbyname(socket.gethostname())
        address = np.frombuffer(socket.inet_aton(text), np.uint8)
    address = np.asarray(multihost_utils.broadcast_one_to_all(address))
    host = socket.inet_ntoa(address.tobytes())
    return Peers(host, TPU_PORT, jax.process_index(), jax.process_count(), join_seconds)


def _leave(error: BaseException, peers: Peers | None) -> None:
    """Say why, tell the others and end this process."""
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
    says = sentence if isinstance(error, Stopped) else f"error: {sentence}"
    print(says, file=sys.stderr, flush=True)
    os._exit(code)


def host_numbers() -> np.ndarray:
    """For each process the number of the host it is on, counted as they appear; all call it."""
    digest = hashlib.sha256(socket.gethostname().encode()).digest()[:8]
    names = np.asarray(multihost_utils.process_allgather(np.frombuffer(digest, np.uint32)))
    _, first, number = np.unique(
        names.reshape(jax.process_count(), 2), axis=0, return_index=True, return_inverse=True
    )
    return np.argsort(np.argsort(first))[number.ravel()]


def is_lead() -> bool:
    """Whether this process prints and writes for all."""
    return jax.process_index() == 0


def wait_for_all() -> None:
    """Return when all processes of the run have come here."""
    sum_over_processes(np.zeros((), np.int64))


def sum_over_processes(values: np.ndarray) -> np.ndarray:
    """Exact sum of an int64 array over processes; all of them must call it."""
    if jax.process_count() == 1:
        return values
    values = np.asarray(values, np.int64)
    halves = np.atleast_1d(values).view(np.uint32)  # jax would cut int64 to int32
    gathered = np.asarray(multihost_utils.process_allgather(halves))
    return gathered.view(np.int64).sum(axis=0).reshape(values.shape)


def to_host(array: jax.Array) -> np.ndarray:
    """The whole of a global array on this host; every process of the run must call it."""
    if not array.is_fully_addressable:
        array = multihost_utils.process_allgather(array, tiled=True)
    return np.asarray(array)
