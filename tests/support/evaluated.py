"""Short runs to be evaluated, and their predictions once more by NumPy and the plain network."""

import jax
import numpy as np

from alexnet_jax.data import sources
from alexnet_jax.data.statistics import Statistics
from alexnet_jax.model import alexnet
from alexnet_jax.training import checkpoint, run_folder
from alexnet_jax.training import plan as configuration
from alexnet_jax.training.loop import train_and_evaluate
from tests.training.test_plan import load

RUNS = {"quickstart": "image", "lenet5": "channel"}  # and what each subtracts


def train(folder):
    """Three steps of each network, with a checkpoint at two of them."""
    for name, mean in RUNS.items():
        config = load(name, "smoke")
        config.data.mean = mean
        config.checkpoint.every_steps = 2
        train_and_evaluate(config, folder / name)
    return folder


def view(images, top, left, flipped, crop):
    patch = images[:, top : top + crop, left : left + crop]
    return patch[:, :, ::-1] if flipped else patch


def places_of(views, size, crop):
    """(top, left, flipped) of every view, as the paper's section 4.1 says."""
    low, middle, high = 0, (size - crop) // 2, size - crop
    corners = [(top, left) for top in (low, high) for left in (low, high)]
    at = {
        "center": [(middle, middle)],
        "ten": [*corners, (middle, middle)],
        "all": [(top, left) for top in range(high + 1) for left in range(high + 1)],
    }[views]
    return [
        (*place, flipped) for flipped in ((0,) if views == "center" else (0, 1)) for place in at
    ]


def probabilities(workdir, step, views):
    """float64 [images, classes] of the validation digits, from the files of a run alone."""
    facts = checkpoint.facts_at(workdir / "checkpoints", step)
    config = run_folder.config_of(facts)
    architecture = configuration.architecture_of(config)
    graph = alexnet.graph_of(architecture, 10)
    shapes = alexnet.draw_parameters(architecture, 10, jax.random.key(0))
    parameters = checkpoint.parameters_at(workdir / "checkpoints", step, shapes)
    statistics = Statistics.load(workdir / "statistics.npz")
    source = sources.Digits("val", config.data.image_size, architecture.channels)
    images, _ = source.load(range(len(source)))
    crop, start = architecture.input_size, (config.data.image_size - architecture.input_size) // 2
    mean = statistics.mean_image.mean(axis=(0, 1), dtype=np.float64)
    if config.data.mean == "image":
        mean = statistics.mean_image[start : start + crop, start : start + crop]
    apply = jax.jit(lambda inputs: jax.nn.softmax(alexnet.apply(graph, parameters, inputs)))
    parts = [
        np.float64(apply(np.float32((view(images, *place, crop) - mean) / config.data.scale)))
        for place in places_of(views, config.data.image_size, crop)
    ]
    mean = np.mean(parts, axis=0)
    return mean / mean.sum(axis=1, keepdims=True)
