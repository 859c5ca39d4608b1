"""One evaluation: the pass of each checkpoint over the split, then all of them as one."""

import pathlib
from collections.abc import Sequence

import numpy as np

from alexnet_jax.runtime.errors import UserError
from alexnet_jax.runtime.terminal import Terminal
from alexnet_jax.tools import load
from alexnet_jax.tools.evaluate import ensemble, member
from alexnet_jax.tools.evaluate.member import Choice, Prediction
from alexnet_jax.training import checkpoint


def predict_members(
    workdirs: Sequence[pathlib.Path],
    steps: Sequence[str | None],
    choice: Choice,
    terminal: Terminal,
) -> list[Prediction]:
    """Predictions of each run's checkpoint for the split; `steps` as for load.find_checkpoint.

    UserError for what is missing, before any network is run, and for runs with other images.
    """
    checkpoints = [load.find_checkpoint(*pair) for pair in zip(workdirs, steps, strict=True)]
    predictions: list[Prediction] = []
    for workdir, (step, kind) in zip(workdirs, checkpoints, strict=True):
        facts = checkpoint.facts_at(workdir / "checkpoints", step)
        opened = member.open_member(workdir, facts, choice, terminal)
        terminal.info(
            f"{workdir}: {opened.network} at step {step:,}{kind and f', the {kind} kept'}."
        )
        predictions.append(member.predict(opened, step, facts, terminal))
        check_same_images(predictions[0], predictions[-1])
    return predictions


def check_same_images(prediction: Prediction, other: Prediction) -> None:
    """UserError unless both predictions are of the same images in the same order, as far as known.

    Compared are the names of the classes, the number of images, their labels and the outputs.
    """
    first, second = prediction.member.source, other.member.source
    differs = None
    if first.classes != second.classes:
        differs = "the names of the classes"
    elif len(first) != len(second):
        differs = f"the number of images ({len(first):,} and {len(second):,})"
    elif not np.array_equal(prediction.labels, other.labels):
        differs = "the classes of the images"
    elif prediction.log_probabilities.shape != other.log_probabilities.shape:
        differs = "the number of the networks' outputs"
    if differs:
        raise UserError(
            f"{prediction.member.workdir} and {other.member.workdir} differ in {differs}: an "
            "ensemble needs networks for the same images; give the same folder to all by "
            "--path=DIR."
        )


def combine_members(
    predictions: Sequence[Prediction],
    weights: Sequence[float] | None,
    search: bool,
    terminal: Terminal,
) -> tuple[np.ndarray, Sequence[float]]:
    """Combined log-probabilities of all members, and weights: `weights`, searched or equal."""
    members = [prediction.log_probabilities for prediction in predictions]
    if search:
        images = len(predictions[0].labels)

        def report_round(values: tuple[float, ...], errors: int) -> None:
            listed = ", ".join(f"{value:.2f}" for value in values)
            terminal.info(f"weights {listed}: top-5 error {errors / images:.2%}")

        weights = ensemble.search_weights(members, predictions[0].labels, report_round)
    weights = weights or (1.0,) * len(members)
    return (members[0] if len(members) == 1 else ensemble.combine(members, weights)), weights


def parse_member_weights(text: str, members: int) -> tuple[float, ...]:
    """The weights that a flag gives, one a member; UserError unless they can be weights."""
    try:
        weights = tuple(float(part) for part in text.split(","))
    except ValueError:
        weights = ()
    if (
        len(weights) != members
        or not np.isfinite(weights).all()
        or min(weights) < 0
        or not any(weights)
    ):
        raise UserError(
            f"--member_weights={text}: expected {members} number(s) of at least 0, one for each of "
            "--workdir and not all of them 0, such as 0.3,0.7."
        )
    return weights
