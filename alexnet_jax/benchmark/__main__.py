"""Measure speeds: python -m alexnet_jax.benchmark input --path=DIR[,DIR...].

input: images a second from the files of prepared sets to batches on the host, against bare
libjpeg-turbo and a copy in memory in as many threads, and against PyTorch's DataLoader where that
is installed. These take turns, so that a noisy machine is noisy for all; trust the ratios.
"""

import argparse
import json
import os
import pathlib
import sys

from alexnet_jax.errors import EXIT_USER_ERROR, UserError


def main() -> None:
    """Parse flags, then measure."""
    parser = argparse.ArgumentParser(
        prog="python -m alexnet_jax.benchmark", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    pages = parser.add_subparsers(dest="page", required=True)
    add = pages.add_parser("input", help="the input pipeline on the host").add_argument
    add("--path", required=True, metavar="DIR,...", help="prepared sets")
    add("--batch", type=int, default=128, help="images (%(default)s)")
    add("--workers", type=int, default=0, help="threads or processes; by default one a core")
    add("--seconds", type=float, default=2.0, help="of each turn (%(default)s)")
    add("--turns", type=int, default=7, help="of each contestant (%(default)s)")
    add("--json", metavar="FILE", help="where all turns are written")
    given = parser.parse_args()
    try:
        measure(given)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)


def measure(given: argparse.Namespace) -> None:
    """Print a table and, if asked for, write all numbers."""
    from alexnet_jax.parallel import platform

    platform.configure()
    from alexnet_jax.benchmark import host_input
    from alexnet_jax.provenance import provenance
    from alexnet_jax.terminal import Terminal

    if min(given.batch, given.turns) < 1 or given.seconds <= 0 or given.workers < 0:
        raise UserError("--batch, --turns and --seconds must be above 0, --workers at least 0.")
    folders = [pathlib.Path(path) for path in given.path.split(",")]
    workers = given.workers or os.cpu_count() or 1
    with Terminal() as terminal:
        found = host_input.measure(
            folders, given.batch, workers, given.seconds, given.turns, terminal
        )
        terminal.say(host_input.table(found))
        if given.json:
            text = json.dumps(found | provenance(), indent=1)
            pathlib.Path(given.json).write_text(text)
            terminal.say(f"In {given.json}: every turn.")


if __name__ == "__main__":
    main()
