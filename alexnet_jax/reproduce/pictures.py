"""The paper's Figure 1 from the JSON of runs."""

import pathlib

from alexnet_jax.reproduce import plan
from alexnet_jax.reproduce.experiment import Experiment
from alexnet_jax.reproduce.plan import Done

LEVEL = 0.25


def draw_figure1(experiment: Experiment, done: Done, path: pathlib.Path) -> bool:
    """Training errors of the chosen runs with seed 0; False where one is not chosen yet."""
    from alexnet_jax.tools.visualize import curves, figure

    groups = dict.fromkeys(run.group for run in experiment.runs)
    runs = [plan.chosen(experiment, group, done) for group in groups]
    if not all(runs):
        return False
    drawn = [
        curves.Curves(
            run.label,
            tuple(
                {"split": "train", "epoch": epoch, "step": 0, "top1_error": error}
                for epoch, error in done[run.name, 0]["curve"]["training"]
            ),
        )
        for run in runs
    ]
    figure.write(curves.draw_figure1(drawn, LEVEL), path)
    return True
