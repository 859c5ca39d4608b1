"""The program: python -m alexnet_jax COMMAND [FLAGS]; COMMAND --help lists the flags of a command.

Importing this imports no command, so that a list of commands and each --help come at once.
"""

import dataclasses
import importlib
import sys

from alexnet_jax.runtime import cli

PROGRAM = "python -m alexnet_jax"


@dataclasses.dataclass(frozen=True)
class Command:
    """A command: the module whose `main` runs it, and what it does in one sentence."""

    module: str
    help: str


COMMANDS = {
    "train": Command("alexnet_jax.main", "Train a network; the same command goes on."),
    "evaluate": Command("alexnet_jax.tools.evaluate.command", "Measure the error of checkpoints."),
    "predict": Command("alexnet_jax.tools.predict.command", "Name what images show."),
    "features": Command("alexnet_jax.tools.features.command", "Write a layer's activations."),
    "neighbours": Command("alexnet_jax.tools.neighbours.command", "Find the most similar images."),
    "visualize": Command("alexnet_jax.tools.visualize.command", "Draw filters, curves and more."),
    "convert": Command("alexnet_jax.tools.convert.command", "Convert files of weights."),
    "prepare": Command("alexnet_jax.tools.prepare", "Prepare a data set once, as in 2012."),
    "model": Command("alexnet_jax.tools.model.command", "List, show and draw the networks."),
    "benchmark": Command("alexnet_jax.benchmark.command", "Measure and predict speeds."),
    "reproduce": Command("alexnet_jax.reproduce.command", "Repeat the paper's experiments."),
}


def main() -> None:
    """Run the command that the first word names; without one, or with --help, list them all."""
    argv = [PROGRAM, *(sys.argv[1:] or ["--help"])]
    cli.answer(lambda: _run(*cli.choose("command", argv, usage(), COMMANDS)))


def _run(name: str, argv: list[str]) -> None:
    sys.argv[:] = argv
    importlib.import_module(COMMANDS[name].module).main()


def usage() -> str:
    """All commands, a line for each."""
    width = max(map(len, COMMANDS)) + 2
    lines = [f"  {name:<{width}}{command.help}" for name, command in COMMANDS.items()]
    return "\n".join([f"{PROGRAM} COMMAND [FLAGS]", "", *lines, "",
                      "COMMAND --help lists the flags of a command."])  # fmt: skip


if __name__ == "__main__":
    main()
