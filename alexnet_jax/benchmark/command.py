"""Measure speeds and predict them: python -m alexnet_jax benchmark PAGE; PAGE --help for flags.

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

gpu --json=DIR: all that is to be known of a GPU, what matters most first and written as it comes;
out of time (--minutes) the same command goes on with what is missing.
"""

import argparse
import json
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
    pages = parser.add_subparsers(dest="page", required=True)
    _input_flags(pages.add_parser("input", help="the input pipeline on the host"))
    _scaling_flags(pages.add_parser("scaling", help="predictions for many devices"))
    _step_flags(pages.add_parser("step", help="the training step and where its time goes"))
    _train_flags(pages.add_parser("train", help="the loop with its data", allow_abbrev=False))
    _gpu_flags(pages.add_parser("gpu", help="all that is to be known of a GPU"))
    given, given.rest = parser.parse_known_args()
    try:
        if given.rest and given.page != "train":
            raise UserError(f"'{given.rest[0]}' was not understood: see {given.page} --help.")
        given.action(given)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)


def _input_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--path", required=True, metavar="DIR,...", help="prepared sets")
    add("--batch", type=int, default=128, help="images (%(default)s)")
    add("--workers", type=int, default=0, help="threads or processes; by default one a core")
    add("--seconds", type=float, default=2.0, help="of each turn (%(default)s)")
    add("--turns", type=int, default=7, help="of each contestant (%(default)s)")
    add("--json", metavar="FILE", help="where all turns are written")
    parser.set_defaults(action=measure_input)


def _scaling_flags(parser: argparse.ArgumentParser) -> None:
    counts = ",".join(str(2**power) for power in range(11))
    add = parser.add_argument
    add("--network", default="net145", help="its name (%(default)s)")
    add("--layouts", default="data,towers,hybrid", metavar="LAYOUT,...", help="(%(default)s)")
    add("--devices", default=counts, metavar="N,...", help="how many (%(default)s)")
    add("--devices_per_node", type=int, default=8, metavar="N", help="(%(default)s)")
    add(
        "--inside",
        default="nvlink4",
        metavar="LINK",
        help=f"of a node (%(default)s): {', '.join(LINKS)}",
    )
    add("--between", default="ndr400", metavar="LINK", help="nodes (%(default)s)")
    add("--dtype", default="float32", help="of activations: float32 or bfloat16 (%(default)s)")
    add("--batch", type=int, default=128, metavar="N", help="images of a device (%(default)s)")
    add("--global_batch", type=int, metavar="N", help="images of a step, whatever the devices")
    add("--images_per_second", type=float, metavar="X",
        help="of a training step on one device; by default measured here")  # fmt: skip
    add("--steps", type=int, default=5, metavar="N", help="that are timed (%(default)s)")
    add("--json", metavar="FILE", help="where all numbers are written")
    add("--plot", metavar="FILE", help="a picture: .png, .svg or .pdf")
    parser.set_defaults(action=predict_scaling)


def _step_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--network", default="bvlc_alexnet", metavar="NAME,...", help="or all (%(default)s)")
    add("--batch", default="128", metavar="N,...", help="images (%(default)s)")
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
    add("--json", metavar="FILE", help="where all numbers are written")
    parser.set_defaults(action=measure_step)


def _train_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--path", metavar="DIR|synthetic", help="data; by default the config's")
    add("--steps", type=int, default=20, metavar="N", help="of a turn (%(default)s)")
    add("--json", metavar="FILE", help="where all numbers are written")
    parser.epilog = "--config=FILE and --config.FIELD=VALUE as of alexnet_jax.main"
    parser.set_defaults(action=measure_train)


def _gpu_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--json", required=True, metavar="DIR", help="a folder for the results")
    add("--minutes", type=float, default=9.0, metavar="X", help="then it stops (%(default)s)")
    add("--tiny", action="store_true", help="tiny numbers, to try the command anywhere")
    parser.set_defaults(action=measure_gpu)


def measure_input(given: argparse.Namespace) -> None:
    """Print a table and, if asked for, write all numbers."""
    from alexnet_jax.runtime import xla_flags

    xla_flags.configure_xla()
    from alexnet_jax.benchmark import host_input
    from alexnet_jax.runtime.provenance import provenance
    from alexnet_jax.runtime.terminal import Terminal

    if min(given.batch, given.turns) < 1 or given.seconds <= 0 or given.workers < 0:
        raise UserError("--batch, --turns and --seconds must be above 0, --workers at least 0.")
    folders = [pathlib.Path(path) for path in given.path.split(",")]
    workers = given.workers or os.cpu_count() or 1
    with Terminal() as terminal:
        found = host_input.measure(
            folders, given.batch, workers, given.seconds, given.turns, terminal
        )
        terminal.info(host_input.table(found))
        if given.json:
            text = json.dumps(found | provenance(), indent=1)
            pathlib.Path(given.json).write_text(text)
            terminal.info(f"In {given.json}: every turn.")


def predict_scaling(given: argparse.Namespace) -> None:
    """Print assumptions and tables and, if asked for, write numbers and a picture."""
    from alexnet_jax.runtime import xla_flags

    xla_flags.configure_xla()
    from alexnet_jax.benchmark import scaling_report
    from alexnet_jax.runtime.terminal import Terminal

    with Terminal() as terminal:
        scaling_report.run(given, terminal)


def measure_step(given: argparse.Namespace) -> None:
    """Print tables and, if asked for, write all numbers."""
    if given.against:  # else jax takes three quarters of a GPU's memory before PyTorch starts
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    from alexnet_jax.runtime import xla_flags

    xla_flags.configure_xla()
    from alexnet_jax.benchmark import step_page
    from alexnet_jax.runtime.terminal import Terminal

    with Terminal() as terminal:
        step_page.run(given, terminal)


def measure_train(given: argparse.Namespace) -> None:
    """Print a table and, if asked for, write all numbers."""
    began = time.perf_counter()
    from alexnet_jax.benchmark import train_page
    from alexnet_jax.runtime import cli

    cli.alone(lambda: train_page.run(given, given.rest, began))


def measure_gpu(given: argparse.Namespace) -> None:
    """Run the cases one after the other, each in a process of its own."""
    from alexnet_jax.benchmark import gpu

    gpu.run(pathlib.Path(given.json), given.minutes, given.tiny)


if __name__ == "__main__":
    main()
