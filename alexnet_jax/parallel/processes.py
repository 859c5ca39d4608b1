"""Starting, counting and ending the processes of one run (JAX's own distributed runtime)."""

import contextlib
import os
import sys
import traceback
from collections.abc import Iterator

import jax
import numpy as np
from jax.experimental import multihost_utils

from alexnet_jax.errors import UserError

# A peer that stops answering ends the run after this; the default waits 100 and 300 seconds.
TIMEOUT_SECONDS = 30


def initialize(coordinator: str | None, processes: int | None, process: int | None) -> None:
    """Join a run of several processes; nothing to do when no coordinator is given.

    `coordinator` is host:port of process 0; raises UserError when only some of the three are given.
    """
    given = [value is not None for value in (coordinator, processes, process)]
    if not any(given):
        return
    if not all(given):
        raise UserError(
            "A run of several processes needs --coordinator, --processes and --process together "
            "(or COORDINATOR_ADDRESS, NUM_PROCESSES and PROCESS_ID in the environment)."
        )
    if not 0 <= process < processes:
        raise UserError(
            f"--process={process} must be at least 0 and below --processes={processes}."
        )
    jax.distributed.initialize(
        coordinator,
        processes,
        process,
        heartbeat_timeout_seconds=TIMEOUT_SECONDS,
        shutdown_timeout_seconds=TIMEOUT_SECONDS,
    )


def is_lead() -> bool:
    """Whether this process prints and writes for all."""
    return jax.process_index() == 0


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


@contextlib.contextmanager
def ending_together() -> Iterator[None]:
    """Run the body so that its end, good or bad, is the end of all processes.

    A process that fails leaves at once: waiting peers would otherwise hang until the shutdown
    barrier times out, and then blame the wrong process. With one process nothing is changed.
    """
    try:
        yield
    except BaseException as error:
        if jax.process_count() == 1:
            raise
        if isinstance(error, UserError):
            print(f"error: {error}", file=sys.stderr)
        else:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(2 if isinstance(error, UserError) else 1)
    if jax.process_count() > 1:
        jax.distributed.shutdown()
