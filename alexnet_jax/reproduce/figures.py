"""The paper's Figure 1 from the records of runs."""

import pathlib

from alexnet_jax.reproduce import plan
from alexnet_jax.reproduce.experiment import Experiment, Results

LEVEL = 0.25


def draw_figure1(experiment: Experiment, results: Results, path: pathlib.Path) -> bool:
    """Training errors of the best candidates with seed 0; False where one is not known yet."""
    from alexnet_jax.tools.visualize import curves, figure

    drawn = []
    for group in dict.fromkeys(run.group for run in experiment.runs):
        run = plan.best_candidate(experiment, group, results)
        if run is None:
            return False
        points = results[run.name, 0]["curve"]["training"]
        records = (
            {"split": "train", "epoch": epoch, "step": 0, "top1_error": error}
            for epoch, error in points
        )
        drawn.append(curves.Curves(run.label, tuple(records)))
    figure.write_figure(curves.draw_figure1(drawn, LEVEL), path)
    return True
