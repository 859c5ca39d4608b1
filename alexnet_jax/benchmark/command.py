"""Measure speeds and predict them: python -m alexnet_jax benchmark WHAT; WHAT --help lists flags.

input --path=DIR[,DIR...]: images a second from the files of prepared sets to batches on the host,
against bare libjpeg-turbo and a copy in memory in as many threads, and against PyTorch's DataLoader
where that is installed. These take turns, so that a noisy machine is noisy for all; trust the
ratios.

scaling: step time and efficiency on 1 to 1,024 devices in the layouts data, towers and hybrid, from
the speed of one device, which is measured here or given, the bytes on the wire and the speeds of
links. A model, not a measurement; it prints what it assumes. docs/scaling.md explains it.

step: the real training step on one device: images a second, share of the machine's measured peak,
time by layer, memory, and with --against=torch the same network in PyTorch, turn by turn.
docs/performance.md explains it.

train [--config=FILE] [--path=DIR|synthetic]: the training loop with its data against its step
alone, the share of time that the device waits for data, and the way to the first step. Every field
of the config is a flag, as of alexnet_jax.main.

gpu --json=FILE: many cases of step on a GPU, the most important first, each written when done; out
of time (--minutes) the same command goes on with what is missing.

--json=FILE keeps one JSON line a run: a measurement replaces the line of its --run=NAME.
"""

import argparse
import os
import pathlib
import sys
import time

from alexnet_jax.benchmark.kernel_choices import NAMES
from alexnet_jax.benchmark.links import LINKS
from alexnet_jax.runtime.errors import EXIT_USER_ERROR, UserError


def main() -> None:
    """Parse flags, then measure."""
    parser = argparse.ArgumentParser(
        prog="python -m alexnet_jax benchmark", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    benchmarks = parser.add_subparsers(dest="benchmark", required=True)
    _input_flags(benchmarks.add_parser("input", help="the input pipeline on the host"))
    _scaling_flags(benchmarks.add_parser("scaling", help="predictions for many devices"))
    _step_flags(benchmarks.add_parser("step", help="the training step and where its time goes"))
    _train_flags(benchmarks.add_parser("train", help="the loop with its data", allow_abbrev=False))
    _gpu_flags(benchmarks.add_parser("gpu", help="many cases of step on a GPU"))
    flags, rest = parser.parse_known_args()
    flags.rest = rest
    try:
        if rest and flags.benchmark != "train":
            raise UserError(f"'{rest[0]}' was not understood: see {flags.benchmark} --help.")
        flags.action(flags)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)


def _input_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--path", required=True, metavar="DIR,...", help="prepared sets")
    add("--batch_size", type=int, default=128, metavar="N", help="images (%(default)s)")
    add("--num_workers", type=int, default=0, metavar="N",
        help="threads or processes; by default one a core")  # fmt: skip
    add("--seconds", type=float, default=2.0, help="of each turn (%(default)s)")
    add("--turns", type=int, default=7, help="of each contestant (%(default)s)")
    _add_json(parser, "input")
    parser.set_defaults(action=_run_input)


def _scaling_flags(parser: argparse.ArgumentParser) -> None:
    counts = ",".join(str(2**power) for power in range(11))
    add = parser.add_argument
    add("--network", default="net145", help="its name (%(default)s)")
    add("--layouts", default="data,towers,hybrid", metavar="LAYOUT,...", help="(%(default)s)")
    add("--devices", default=counts, metavar="N,...", help="how many (%(default)s)")
    add("--devices_per_node", type=int, default=8, metavar="N", help="(%(default)s)")
    add("--inside", default="nvlink4", metavar="LINK",
        help=f"of a node (%(default)s): {', '.join(LINKS)}")  # fmt: skip
    add("--between", default="ndr400", metavar="LINK", help="nodes (%(default)s)")
    add("--dtype", default="float32", help="of activations: float32 or bfloat16 (%(default)s)")
    add("--batch_size", type=int, default=128, metavar="N", help="of a device (%(default)s)")
    add("--global_batch_size", type=int, metavar="N", help="of all devices, however many")
    add("--images_per_second", type=float, metavar="X",
        help="of a training step on one device; by default measured here")  # fmt: skip
    add("--steps", type=int, default=5, metavar="N", help="that are timed (%(default)s)")
    add("--plot", metavar="FILE", help="a picture: .png, .svg or .pdf")
    _add_json(parser, "scaling")
    parser.set_defaults(action=_run_scaling)


def _step_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--network", default="bvlc_alexnet", metavar="NAME,...", help="or all (%(default)s)")
    add("--batch_size", default="128", metavar="N,...", help="images (%(default)s)")
    add("--dtype", default="float32", help="of activations: float32 or bfloat16 (%(default)s)")
    add("--steps", type=int, default=10, metavar="N", help="samples of each (%(default)s)")
    add("--against", metavar="torch", help="the same network in PyTorch, turn by turn")
    add("--torch_layouts", metavar="LAYOUT,...",
        help="of PyTorch's arrays: channels_last, NCHW; by default both")  # fmt: skip
    add("--inference", action="store_true", help="the forward pass too")
    add("--by_layer", action=argparse.BooleanOptionalAction, default=True,
        help="time of each layer; never with --network=all")  # fmt: skip
    add("--kernels", metavar="NAME,...",
        help=f"in turn with the usual step: all, {', '.join(NAMES)}")  # fmt: skip
    add("--width", type=float, default=1.0, metavar="X",
        help="factor on filters and units, to try the command; the peak is small then")  # fmt: skip
    _add_json(parser, "step")
    parser.set_defaults(action=_run_step)


def _train_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--path", metavar="DIR|synthetic", help="data; by default the config's")
    add("--steps", type=int, default=20, metavar="N", help="of a turn (%(default)s)")
    _add_json(parser, "train")
    parser.epilog = "--config=FILE and --config.FIELD=VALUE as of alexnet_jax.main"
    parser.set_defaults(action=_run_train)


def _gpu_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--json", required=True, metavar="FILE", help="a line for each case and a summary")
    add("--minutes", type=float, default=9.0, metavar="X", help="then it stops (%(default)s)")
    add("--tiny", action="store_true", help="tiny numbers, to try the command anywhere")
    parser.set_defaults(action=_run_gpu)


def _add_json(parser: argparse.ArgumentParser, run: str) -> None:
    parser.add_argument("--json", metavar="FILE", help="where the line of all numbers is written")
    parser.add_argument("--run", default=run, metavar="NAME", help="name of it (%(default)s)")


def _run_input(flags: argparse.Namespace) -> None:
    from alexnet_jax.runtime import xla_flags

    xla_flags.configure_xla()
    from alexnet_jax.benchmark import host_input, json_output
    from alexnet_jax.runtime.provenance import provenance
    from alexnet_jax.runtime.terminal import Terminal

    if min(flags.batch_size, flags.turns) < 1 or flags.seconds <= 0 or flags.num_workers < 0:
        raise UserError(
            "--batch_size, --turns and --seconds must be above 0, --num_workers at least 0."
        )
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
    from alexnet_jax.runtime import cli

    cli.alone(lambda: loop_speed.run_train(flags, flags.rest, began))


def _run_gpu(flags: argparse.Namespace) -> None:
    from alexnet_jax.benchmark import gpu

    gpu.run_gpu(flags.json, flags.minutes, flags.tiny)


if __name__ == "__main__":
    main()
