"""Pictures and histograms of a run for TensorBoard."""

import jax
import numpy as np

from alexnet_jax.model.layers import Convolution
from alexnet_jax.parallel import processes
from alexnet_jax.training import pictures
from alexnet_jax.training.metric_writers import MetricsLog
from alexnet_jax.training.setup import Run
from alexnet_jax.training.train_state import TrainState

IMAGES_SHOWN = 32


def log_pictures(
    run: Run, state: TrainState, images: jax.Array, step: int, log: MetricsLog
) -> None:
    """Write the first layer's filters and a training batch, and histograms, as they are due.

    `images` are those of step number `step`, counted from 1. All processes call it.
    """
    if run.plan.pictures.due(step):
        layers = run.steps.architecture.layers
        first = next(layer.name for layer in layers if isinstance(layer, Convolution))
        kernel = processes.to_host(state.parameters[first]["kernel"])
        inputs = run.augmented(np.int32(step - 1), images, run.preprocessing)
        local_inputs = np.asarray(inputs.addressable_shards[0].data)[:IMAGES_SHOWN]
        divisor = np.asarray(run.preprocessing.divisor.addressable_shards[0].data)
        zero = pictures.GREY if run.plan.mean_subtracted else 0
        named = {
            f"filters of {first}": pictures.filters(kernel),
            "training images as the network sees them": pictures.inputs(
                local_inputs, divisor, zero
            ),
        }
        log.write_images(step, named)
    if run.plan.histograms.due(step):
        arrays = {
            f"{layer}/{kind}": processes.to_host(array)
            for layer, kinds in state.parameters.items()
            for kind, array in kinds.items()
        }
        log.write_histograms(step, arrays)
