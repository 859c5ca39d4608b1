"""Train a network: python -m alexnet_jax.main --config=configs/NAME.py [--workdir=DIR].

--config=NAME names the project's own config too, wherever it is installed. Any field of the config
is a flag, such as --config.batch_size=256. The same command goes on from where it was stopped.
Without --config the quickstart runs.
"""

import argparse
import pathlib
import sys
from collections.abc import Sequence

from alexnet_jax.parallel import launch
from alexnet_jax.runtime import cli, command_flags
from alexnet_jax.training import config_files
from alexnet_jax.training.field_names import SYNONYMS

FIELDS_HINT = " (all fields stand in alexnet_jax/training/defaults.py)"
# The flag of a field, by its last name and by what other programs call it.
FIELDS = {field.rpartition(".")[2]: f"config.{field}" for field in SYNONYMS.values()}
FIELDS |= {name: f"config.{field}" for name, field in SYNONYMS.items()}


def main() -> None:
    """Parse flags, then import the rest: --help and a wrong flag answer at once."""
    cli.answer(lambda: _run(_parse_flags(sys.argv)))


def _parse_flags(argv: Sequence[str]) -> argparse.Namespace:
    """The flags with the config as the fields' flags change it; UserError for any mistake."""
    argv = config_files.with_files(argv)
    args, _ = command_flags.parse(argv, __doc__, _define_flags, hint=FIELDS_HINT, synonyms=FIELDS)
    config_files.set_network(args.config, argv)
    return args


def _define_flags(flags: command_flags.Flags) -> None:
    default = config_files.find("quickstart")
    flags.config("config", default, "Config's name or file, with options after a colon.")
    flags.string("workdir", None, "Folder of the run; by default runs/NAME.")
    launch.define_process_flags(flags)


def _run(args: argparse.Namespace) -> None:
    def train() -> None:
        from alexnet_jax.training.loop import train_and_evaluate

        workdir = pathlib.Path(args.workdir or f"runs/{args.config.name}")
        train_and_evaluate(args.config, workdir)

    launch.in_processes(train, args, saves=True)


if __name__ == "__main__":
    main()
