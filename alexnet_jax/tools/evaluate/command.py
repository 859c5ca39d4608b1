"""Evaluate checkpoints: python -m alexnet_jax evaluate --workdir=DIR[,DIR...] [--views=ten].

Each image of a split counts exactly once. Several runs are one ensemble: the mean of their
probabilities. Network, data and statistics are those of each run.
"""

import argparse
import pathlib
import sys

from alexnet_jax.parallel import launch
from alexnet_jax.runtime import cli, command_flags
from alexnet_jax.runtime.errors import UserError

# Of flags that other commands have in another sense.
REMARKS = {
    "weights": "--member_weights=0.3,0.7 weighs several runs, and python -m alexnet_jax convert "
    "FILE --to=DIR makes a file of weights a folder for --workdir.",
}


def main() -> None:
    """Parse flags, then import the rest: --help and a wrong flag answer at once."""
    cli.answer(_main)


def _main() -> None:
    args, _ = command_flags.parse(sys.argv, __doc__, _define_flags, remarks=REMARKS)
    _check_flags(args)
    launch.in_processes(lambda: _run(args), args)


def _define_flags(flags: command_flags.Flags) -> None:
    flags.strings("workdir", [], "Folder of a run, or several for an ensemble.")
    flags.strings("step", [], "best, latest or a number, one a run; unset: best if it was kept.")
    flags.string("split", "val", "val or train.")
    flags.code()
    flags.views()
    flags.string(
        "member_weights", None, "Weights of the runs in the mean, such as 0.3,0.7; unset: equal."
    )
    flags.switch(
        "search", False,
        "Search the members' weights on this very split, as in 2012: its error flatters.",
    )  # fmt: skip
    flags.string("json", None, "File for all results.")
    flags.string("submission", None, "File for the five likeliest classes of each image.")
    flags.switch("follow", False, "Score each new checkpoint of a run until it has ended.")
    flags.string("path", None, "Folder of images instead of that of training.")
    flags.integer("batch_size", None, "Images at a time instead of training's.", at_least=1)
    launch.define_process_flags(flags)


def _check_flags(args: argparse.Namespace) -> None:
    """UserError for flags that contradict each other and files that can't be written."""
    runs = len(args.workdir)
    if not all(args.workdir) or not runs:
        raise UserError("No run was named: add --workdir=DIR, the folder of a training run.")
    if len(args.step) not in (0, 1, runs):
        raise UserError(
            f"--step names {len(args.step)} steps for {runs} run(s): give one for each."
        )
    if args.search and (args.member_weights or runs == 1):
        raise UserError(
            "--search looks for weights of several runs: name them with --workdir=DIR,DIR and "
            "leave --member_weights out."
        )
    wrong = [
        name for name in ("step", "member_weights", "search", "submission") if getattr(args, name)
    ]
    if args.follow and (wrong or runs > 1):
        raise UserError(
            "--follow scores every checkpoint of one run: name one --workdir"
            + (f" and leave --{wrong[0]} out." if wrong else ".")
        )
    for name in ("json", "submission"):
        cli.check_output(name, getattr(args, name))


def _run(args: argparse.Namespace) -> None:
    from alexnet_jax.parallel import processes
    from alexnet_jax.runtime.terminal import Terminal
    from alexnet_jax.tools.evaluate.member import Choice

    choice = Choice(args.split, args.views, args.path, args.batch_size)
    with Terminal(speaks=processes.is_lead()) as terminal:
        if args.follow:
            _follow(args, choice, terminal)
        else:
            _evaluate(args, choice, terminal)


def _follow(args: argparse.Namespace, choice, terminal) -> None:
    from alexnet_jax.tools.evaluate.follow import follow

    if args.processes not in (None, 1):
        raise UserError("--follow runs in one process: leave --processes out.")
    try:
        follow(
            pathlib.Path(args.workdir[0]),
            choice,
            pathlib.Path(args.json) if args.json else None,
            terminal,
        )
    except KeyboardInterrupt:
        terminal.info("Stopped.")


def _evaluate(args: argparse.Namespace, choice, terminal) -> None:
    from alexnet_jax.parallel import processes
    from alexnet_jax.runtime import json_files
    from alexnet_jax.tools.evaluate import ensemble_run, report, submission

    workdirs = [pathlib.Path(name) for name in args.workdir]
    steps = args.step or [None]
    steps = steps * len(workdirs) if len(steps) == 1 else steps
    chosen = None
    if args.member_weights:
        chosen = ensemble_run.parse_member_weights(args.member_weights, len(workdirs))
    predictions = ensemble_run.predict_members(workdirs, steps, choice, terminal)
    if not processes.is_lead():
        return
    log_probabilities, weights = ensemble_run.combine_members(
        predictions, chosen, args.search, terminal
    )
    record = report.evaluation_record(predictions, log_probabilities, weights, args.search, choice)
    terminal.info(report.evaluation_table(record))
    if args.json:
        json_files.write_json(pathlib.Path(args.json), record)
        terminal.info(f"In {args.json}: all of this, every class and the confused pairs.")
    if args.submission:
        source = predictions[0].member.source
        ids = submission.write_submission(pathlib.Path(args.submission), source, log_probabilities)
        terminal.info(f"In {args.submission}: the five likeliest classes of each image, as {ids}.")


if __name__ == "__main__":
    main()
