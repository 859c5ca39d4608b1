"""A whole split, each image counted exactly once, whatever batch, devices or processes."""

import collections
from collections.abc import Callable

import jax
from jax.sharding import Mesh

from alexnet_jax.data import stream
from alexnet_jax.data.sources import Source
from alexnet_jax.parallel import mesh as meshes
from alexnet_jax.training import scores
from alexnet_jax.training.stopwatch import IN_FLIGHT


def evaluate(
    evaluation_step: Callable,
    parameters,
    preprocessing,
    source: Source,
    batch: int,
    mesh: Mesh,
    workers: int,
    ahead: int,
    count_bad_as_wrong: bool = False,
) -> dict[str, float]:
    """Mean log loss, top-1 and top-5 error of the centre view over all images of `source`."""
    rows = meshes.process_rows(mesh, batch)
    sums, running = [], collections.deque()
    for images, labels, _ in stream.evaluation_batches(
        source, batch, rows, workers, ahead, count_bad_as_wrong
    ):
        images = meshes.put_rows(mesh, batch, rows, images)
        labels = meshes.put_rows(mesh, batch, rows, labels)
        sums.append(evaluation_step(parameters, images, labels, preprocessing))
        running.append(sums[-1]["images"])
        if len(running) > IN_FLIGHT:
            running.popleft().block_until_ready()
    means = scores.means(jax.device_get(sums))
    if means["images"] != len(source):
        raise RuntimeError(f"Evaluated {means['images']} images of a split of {len(source)}.")
    return means
