"""Evaluate checkpoints: python -m alexnet_jax evaluate --workdir=DIR[,DIR...] [--views=ten].

Each image of a split counts exactly once. Several runs are one ensemble: the mean of their
probabilities. Network, data and statistics are those of each run.
"""

import pathlib
import sys

from absl import flags

from alexnet_jax.parallel import launch
from alexnet_jax.runtime import cli
from alexnet_jax.runtime.errors import UserError


def main() -> None:
    """Parse flags, then import the rest: --help and a wrong flag answer at once."""
    cli.answer(_main)


def _main() -> None:
    cli.parse(sys.argv, __doc__, _define_flags)
    _check_flags()
    launch.in_processes(_run)


def _define_flags() -> None:
    flags.DEFINE_list("workdir", [], "Folder of a run, or several for an ensemble.")
    flags.DEFINE_list(
        "step", [], "best, latest or a number, one a run; unset: best if it was kept."
    )
    flags.DEFINE_string("split", "val", "val or train.")
    flags.DEFINE_enum(
        "views", "center", ["center", "ten", "all"],
        "center; ten: corners, centre and their mirror images; all: every place of the crop.",
    )  # fmt: skip
    flags.DEFINE_string("weights", None, "Weights of the runs, such as 0.3,0.7; unset: equal.")
    flags.DEFINE_bool(
        "search", False, "Search the weights on this very split, as in 2012: its error flatters."
    )
    flags.DEFINE_string("json", None, "File for all that was found.")
    flags.DEFINE_string("submission", None, "File for the five likeliest classes of each image.")
    flags.DEFINE_bool("follow", False, "Score each new checkpoint of a run until it has ended.")
    flags.DEFINE_string("path", None, "Folder of images instead of that of training.")
    flags.DEFINE_integer("batch", None, "Images at a time instead of training's.", lower_bound=1)
    launch.define_process_flags()
    flags.adopt_module_key_flags(launch)


def _check_flags() -> None:
    """UserError for flags that contradict each other and files that can't be written."""
    given = flags.FLAGS
    runs = len(given.workdir)
    if not all(given.workdir) or not runs:
        raise UserError("No run was named: add --workdir=DIR, the folder of a training run.")
    if len(given.step) not in (0, 1, runs):
        raise UserError(
            f"--step names {len(given.step)} steps for {runs} run(s): give one for each."
        )
    if given.search and (given.weights or runs == 1):
        raise UserError(
            "--search looks for the weights of several runs: name them with --workdir=DIR,DIR and "
            "leave --weights out."
        )
    wrong = [name for name in ("step", "weights", "search", "submission") if given[name].value]
    if given.follow and (wrong or runs > 1):
        raise UserError(
            "--follow scores every checkpoint of one run: name one --workdir"
            + (f" and leave --{wrong[0]} out." if wrong else ".")
        )
    for name in ("json", "submission"):
        cli.check_output(name, given[name].value)


def _run() -> None:
    from alexnet_jax.parallel import processes
    from alexnet_jax.runtime.terminal import Terminal
    from alexnet_jax.tools.evaluate.member import Choice

    given = flags.FLAGS
    choice = Choice(given.split, given.views, given.path, given.batch)
    with Terminal(speaks=processes.is_lead()) as terminal:
        if given.follow:
            _follow(choice, terminal)
        else:
            _evaluate(choice, terminal)


def _follow(choice, terminal) -> None:
    from alexnet_jax.tools.evaluate.follow import follow

    given = flags.FLAGS
    if given.processes not in (None, 1):
        raise UserError("--follow runs in one process: leave --processes out.")
    try:
        follow(
            pathlib.Path(given.workdir[0]),
            choice,
            pathlib.Path(given.json) if given.json else None,
            terminal,
        )
    except KeyboardInterrupt:
        terminal.info("Stopped.")


def _evaluate(choice, terminal) -> None:
    from alexnet_jax.parallel import processes
    from alexnet_jax.runtime import json_files
    from alexnet_jax.tools.evaluate import ensemble_run, report, submission

    given = flags.FLAGS
    workdirs = [pathlib.Path(name) for name in given.workdir]
    steps = given.step or [None]
    steps = steps * len(workdirs) if len(steps) == 1 else steps
    weights = ensemble_run.weights_of(given.weights, len(workdirs)) if given.weights else None
    predictions = ensemble_run.predictions(workdirs, steps, choice, terminal)
    if not processes.is_lead():
        return
    log_probabilities, weights = ensemble_run.together(predictions, weights, given.search, terminal)
    found = report.content(predictions, log_probabilities, weights, given.search, choice)
    terminal.info(report.table(found))
    if given.json:
        json_files.write_json(pathlib.Path(given.json), found)
        terminal.info(f"In {given.json}: all of this, every class and the confused pairs.")
    if given.submission:
        source = predictions[0].member.source
        ids = submission.write(pathlib.Path(given.submission), source, log_probabilities)
        terminal.info(f"In {given.submission}: the five likeliest classes of each image, as {ids}.")


if __name__ == "__main__":
    main()
