"""Commands of one or several processes: their flags, and how all of them start and end together.

Importing this imports neither jax nor NumPy, so that --help answers at once.
"""

import argparse
import contextlib
import os
from collections.abc import Callable

from alexnet_jax.parallel import preemption
from alexnet_jax.parallel.cluster import KINDS
from alexnet_jax.runtime.cli import silence_echoes
from alexnet_jax.runtime.command_flags import Flags


def in_processes(action: Callable[[], None], args: argparse.Namespace, saves: bool = False) -> None:
    """Set up XLA, join the other processes if there are any, and run `action` in all of them.

    `args` has the flags of `define_process_flags`. If the command `saves` its state when it is
    asked to end (preemption.PreemptionGuard), SIGTERM and Ctrl-C are no failures before that.
    """
    with preemption.raise_on_signal() if saves else contextlib.nullcontext():
        from alexnet_jax.runtime import xla_flags

        xla_flags.configure_xla()
        silence_echoes()
        from alexnet_jax.parallel import cluster, processes

        member = cluster.resolve_membership(
            args.cluster,
            coordinator=args.coordinator,
            num_processes=args.processes,
            process_id=args.process,
            environment=os.environ,
        )
        with processes.distributed_run(member, args.join_seconds, saves):
            action()


def define_process_flags(flags: Flags) -> None:
    """The flags that say which processes there are; cluster.membership reads them."""
    variables = os.environ.get
    flags.string(
        "coordinator", variables("COORDINATOR_ADDRESS"), "HOST:PORT of process 0, for several."
    )
    flags.integer("processes", variables("NUM_PROCESSES"), "How many processes there are.")
    flags.integer("process", variables("PROCESS_ID"), "Which of them this is, from 0.")
    flags.string(
        "cluster",
        variables("ALEXNET_CLUSTER", "auto"),
        f"The system that starts the processes and knows the rest: {', '.join(KINDS)}.",
    )
    flags.number(
        "join_seconds",
        variables("JOIN_SECONDS", 100.0),
        "Seconds to wait for all processes to start.",
    )
