"""What is said of a run that diverges, and whether one has stalled.

A step is bad if its loss or a gradient is not finite: training/step.py finds and counts them.
"""

import math

import numpy as np

from alexnet_jax.data import stream
from alexnet_jax.data.sources import Source

NAMED = 5  # images of a bad step whose names are said
FLAT = 0.01  # share of ln(classes) within which a loss is that of guessing
LEAST_FLAT_STEPS = 500  # before which any network may be at it


def advice(skips: bool, rollbacks: int) -> str:
    """What to do about a run that stops at a bad step though it `skips` them or went back."""
    if skips:
        first = "Parameters that are no numbers themselves can't be helped by skipping steps."
    elif rollbacks:
        first = f"That was after {rollbacks} rollbacks: --config.guards.rollback_times allows more."
    else:
        first = (
            "No checkpoint has it: the same command with --config.guards.on_divergence=rollback "
            "goes on from the newest one with lower learning rates, with skip it leaves such steps "
            "out."
        )
    return (
        f"{first} Otherwise look at these images, or start another run with lower rates in "
        "--config.optimizer.learning_rate and bias_learning_rate."
    )


def images_of(step: int, source: Source, seed: int, batch: int) -> str:
    """Names of the first images of step `step`, counted from 1, and how many more there are."""
    ids = stream.record_ids(
        len(source), seed=seed, step=step - 1, batch_size=batch, indices=np.arange(batch)
    )
    names = ", ".join(source.name(int(record)) for record in ids[:NAMED])
    return names + (f" and {batch - NAMED:,} more" if batch > NAMED else "")


def flat_steps(before: int, steps: int, loss: float, classes: int) -> int:
    """For how many steps the loss has been that of guessing, after `steps` more with this mean."""
    guessing = math.log(classes)
    return before + steps if abs(loss - guessing) < FLAT * guessing else 0


def stall_warning(steps: int, classes: int) -> str:
    """What is known of a loss that has been that of guessing for so many steps, and remedies."""
    return (
        f"for {steps:,} steps the training loss has stayed at ln({classes:,}) = "
        f"{math.log(classes):.3f}, that of guessing. This network is known for it: some runs learn "
        "after thousands of such steps, some never. Known remedies:\n"
        "  - another --config.seed;\n"
        "  - where the biases are 1: 0.1 as in Caffe (bvlc_alexnet), or deviation 0.03 in conv3 to "
        "conv5 as in 2012 (net145), where the paper's text has 0.01;\n"
        "  - another learning rate: 0.01 works with 128 images a step, 0.1 is too high;\n"
        "  - pixels as large as the initial weights expect: grey levels without their mean "
        "(data.units, data.mean, data.scale), or others with init.first_weights;\n"
        "  - labels that belong to their images, in a training set that is whole."
    )
