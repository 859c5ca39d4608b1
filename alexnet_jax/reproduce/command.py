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

from alexnet_jax.runtime.errors import EXIT_USER_ERROR, Stopped, UserError


def main() -> None:
    """Parse flags first: --help answers before jax is imported."""
    parser = argparse.ArgumentParser(
        prog="python -m alexnet_jax reproduce", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("experiment", nargs="?", help="its name, or tables, or table2; none lists them")
    add("--path", metavar="DIR", help="prepared CIFAR-10, or a folder of its images")
    add("--seeds", type=int, default=3, metavar="N", help="0 to N - 1 (%(default)s)")
    add("--only", default="", metavar="NAME,...", help="these runs, and what they compare with")
    add("--runs", default="runs/reproduce", metavar="DIR", help="folders of runs (%(default)s)")
    add("--docs", default="docs", metavar="DIR", help="results.md and runs/ (%(default)s)")
    given = parser.parse_args()
    try:
        answer(given)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)
    except Stopped as stop:
        print(stop, file=sys.stderr)
        sys.exit(stop.code)


def answer(given: argparse.Namespace) -> None:
    """List, run, or say what would run."""
    from alexnet_jax.reproduce import execute, imagenet, runner, tables
    from alexnet_jax.reproduce.experiments import EXPERIMENTS, named

    if given.seeds < 1:
        raise UserError(f"--seeds={given.seeds} must be at least 1.")
    if given.experiment == "table2":
        print(imagenet.table2_commands(given.path or "IMAGENET", given.runs))
        return
    if given.experiment == "tables":
        runner.write_tables(EXPERIMENTS, pathlib.Path(given.docs))
        return
    if given.experiment is None:
        runs = [run for experiment in EXPERIMENTS for run in experiment.runs]
        records = runner.records_file(pathlib.Path(given.docs))
        results = execute.read_results(records, runs)
        print(tables.listing(EXPERIMENTS, given.seeds, results))
        print("table2: what would run on ImageNet, python -m alexnet_jax reproduce table2")
        return
    experiment = named(given.experiment)
    if not given.path:
        raise UserError(
            f"Which images? Add --path=DIR, CIFAR-10 prepared or as DIR/train/CLASS/* and "
            f"DIR/test/CLASS/*, to python -m alexnet_jax reproduce {experiment.name}."
        )
    only = [name for name in given.only.split(",") if name]
    path = str(pathlib.Path(given.path).resolve())
    workdirs, docs = pathlib.Path(given.runs).resolve(), pathlib.Path(given.docs)
    runner.ExperimentRunner(EXPERIMENTS, path, workdirs, docs).run(experiment, given.seeds, only)


if __name__ == "__main__":
    main()
