"""Commands of one or several processes: their flags, and how all of them start and end together.

Importing this imports neither jax nor NumPy, so that --help answers at once.
"""

import contextlib
import os
from collections.abc import Callable

from absl import flags

from alexnet_jax.parallel import preemption
from alexnet_jax.parallel.cluster import KINDS
from alexnet_jax.runtime.cli import silence_echoes


def in_processes(action: Callable[[], None], saves: bool = False) -> None:
    """Set up XLA, join the other processes if there are any, and run `action` in all of them.

    If it `saves` its state when it is asked to end (preemption.PreemptionGuard), SIGTERM and Ctrl-C are no
    failures before that either.
    """
    with preemption.raise_on_signal() if saves else contextlib.nullcontext():
        from alexnet_jax.runtime import xla_flags

        xla_flags.configure_xla()
        silence_echoes()
        from alexnet_jax.parallel import cluster, processes

        given = flags.FLAGS
        member = cluster.resolve_membership(
            given.cluster,
            coordinator=given.coordinator,
            num_processes=given.processes,
            process_id=given.process,
            environment=os.environ,
        )
        with processes.distributed_run(member, given.join_seconds, saves):
            action()


def define_process_flags() -> None:
    """The flags that say which processes there are; cluster.resolve_membership reads them."""
    variables = os.environ.get
    flags.DEFINE_string(
        "coordinator", variables("COORDINATOR_ADDRESS"), "HOST:PORT of process 0, for several."
    )
    flags.DEFINE_integer("processes", variables("NUM_PROCESSES"), "How many processes there are.")
    flags.DEFINE_integer("process", variables("PROCESS_ID"), "Which of them this is, from 0.")
    flags.DEFINE_string(
        "cluster",
        variables("ALEXNET_CLUSTER", "auto"),
        f"Where what these don't say is found: {', '.join(KINDS)}.",
    )
    flags.DEFINE_float(
        "join_seconds", variables("JOIN_SECONDS", 100.0), "How long to wait for all to start."
    )
