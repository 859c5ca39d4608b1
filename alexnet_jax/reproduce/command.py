"""Run the paper's claims in small: python -m alexnet_jax reproduce [EXPERIMENT --path=SET].

Without an experiment the claims are listed: paper section, runs done and needed, minutes that two
slow cores would still take, the command, and the results so far. An experiment's runs are done one
after the other, with each of --seeds seeds, on CIFAR-10 (docs/results.md says how to prepare it).
Each becomes a line of docs/runs/reproduce.jsonl, from which the tables of docs/results.md are
written anew. Stopped at any moment, the same command goes on; a run that has its line is not run
again. `tables` writes the tables only; `table2 --path=IMAGENET` says what would run on ImageNet.
"""

import argparse
import pathlib
import sys

from alexnet_jax.runtime import cli, command_flags
from alexnet_jax.runtime.errors import UserError


def main() -> None:
    """Parse flags, then import the rest: --help and a wrong flag answer at once."""
    cli.answer(_main)


def _main() -> None:
    args, words = command_flags.parse(sys.argv, __doc__, _define_flags, arguments=True)
    if len(words) > 1:
        raise UserError(f"'{words[1]}' was not understood: name one experiment.")
    run_command(words[0] if words else None, args)


def _define_flags(flags: command_flags.Flags) -> None:
    flags.string("path", None, "Prepared CIFAR-10, or a folder of its images.")
    flags.integer("seeds", 3, "How many seeds, from 0.")
    flags.string("only", "", "Names of runs between commas: these, and what they compare with.")
    flags.string("runs", "runs/reproduce", "Folder of the runs.")
    flags.string("docs", "docs", "Folder with results.md and runs/.")


def run_command(experiment_name: str | None, args: argparse.Namespace) -> None:
    """List, run, or say what would run."""
    from alexnet_jax.reproduce import execute, imagenet, runner, tables
    from alexnet_jax.reproduce.experiments import EXPERIMENTS, find_experiment

    if args.seeds < 1:
        raise UserError(f"--seeds={args.seeds} must be at least 1.")
    if experiment_name == "table2":
        print(imagenet.table2_commands(args.path or "IMAGENET", args.runs))
        return
    if experiment_name == "tables":
        runner.write_tables(EXPERIMENTS, pathlib.Path(args.docs))
        return
    if experiment_name is None:
        runs = [run for experiment in EXPERIMENTS for run in experiment.runs]
        records = runner.records_file(pathlib.Path(args.docs))
        results = execute.read_results(records, runs)
        print(tables.listing(EXPERIMENTS, args.seeds, results))
        print("table2: what would run on ImageNet, python -m alexnet_jax reproduce table2")
        return
    experiment = find_experiment(experiment_name)
    if not args.path:
        raise UserError(
            f"Which images? Add --path=DIR, CIFAR-10 prepared or as DIR/train/CLASS/* and "
            f"DIR/test/CLASS/*, to python -m alexnet_jax reproduce {experiment.name}."
        )
    only = [name for name in args.only.split(",") if name]
    path = str(pathlib.Path(args.path).resolve())
    workdirs, docs = pathlib.Path(args.runs).resolve(), pathlib.Path(args.docs)
    runner.ExperimentRunner(EXPERIMENTS, path, workdirs, docs).run(experiment, args.seeds, only)


if __name__ == "__main__":
    main()
