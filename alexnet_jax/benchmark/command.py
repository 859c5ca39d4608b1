"""Measure speeds and predict them: python -m alexnet_jax benchmark WHAT [FLAGS]

  input     the input pipeline on the host, from files to batches
  scaling   a prediction of the speed on 1 to 1,024 devices
  step      the training step on one device, and where its time goes
  train     the training loop with its data
  gpu       many cases of step on a GPU, the most important first

WHAT --help explains a benchmark and lists its flags.
"""

import argparse
import inspect
import os
import pathlib
import sys
import time

from alexnet_jax.benchmark import benchmark_flags
from alexnet_jax.runtime import cli, command_flags
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.training import config_files


def main() -> None:
    """Parse flags, then import the rest: --help and a wrong flag answer at once."""
    cli.answer(_main)


def _main() -> None:
    benchmarks = {
        "input": (benchmark_flags.input_pipeline, _run_input),
        "scaling": (benchmark_flags.scaling, _run_scaling),
        "step": (benchmark_flags.step, _run_step),
        "train": (benchmark_flags.train, _run_train),
        "gpu": (benchmark_flags.gpu, _run_gpu),
    }
    name, argv = cli.choose("benchmark", sys.argv, __doc__, benchmarks)
    define, run = benchmarks[name]
    if name == "train":
        argv = config_files.with_files(argv)
    flags, _ = command_flags.parse(argv, inspect.getdoc(define) or "", define)
    if name == "train":
        config_files.set_network(flags.config, argv)
    run(flags)


def _run_input(flags: argparse.Namespace) -> None:
    from alexnet_jax.runtime import xla_flags

    xla_flags.configure_xla()
    from alexnet_jax.benchmark import host_input, json_output
    from alexnet_jax.runtime.provenance import provenance
    from alexnet_jax.runtime.terminal import Terminal

    if not flags.path:
        raise UserError("Which images? Add --path=DIR, a prepared set.")
    if flags.seconds <= 0:
        raise UserError(f"--seconds={flags.seconds:g} must be above 0.")
    path = json_output.check_json(flags.json) if flags.json else None
    with Terminal() as terminal:
        result = host_input.measure_input(
            [pathlib.Path(folder) for folder in flags.path.split(",")],
            batch_size=flags.batch_size,
            num_workers=flags.num_workers or os.cpu_count() or 1,
            seconds=flags.seconds,
            turns=flags.turns,
            terminal=terminal,
        )
        terminal.info(host_input.input_table(result))
        if path:
            json_output.write_json(path, flags.run, result | provenance(), terminal)


def _run_scaling(flags: argparse.Namespace) -> None:
    from alexnet_jax.runtime import xla_flags

    xla_flags.configure_xla()
    from alexnet_jax.benchmark import scaling_report
    from alexnet_jax.runtime.terminal import Terminal

    with Terminal() as terminal:
        scaling_report.run_scaling(flags, terminal)


def _run_step(flags: argparse.Namespace) -> None:
    if flags.against:  # else jax takes three quarters of a GPU's memory before PyTorch starts
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    from alexnet_jax.runtime import xla_flags

    xla_flags.configure_xla()
    from alexnet_jax.benchmark import step_command
    from alexnet_jax.runtime.terminal import Terminal

    with Terminal() as terminal:
        step_command.run_step(flags, terminal)


def _run_train(flags: argparse.Namespace) -> None:
    began = time.perf_counter()
    from alexnet_jax.benchmark import loop_speed

    cli.alone(lambda: loop_speed.run_train(flags, began))


def _run_gpu(flags: argparse.Namespace) -> None:
    from alexnet_jax.benchmark import gpu

    if not flags.json:
        raise UserError("Where to? Add --json=FILE, which gets a line for each case.")
    gpu.run_gpu(flags.json, flags.minutes, flags.tiny)


if __name__ == "__main__":
    main()
