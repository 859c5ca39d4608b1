"""How fast this machine takes the real training step of a network, on one device."""

import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np

from alexnet_jax.model.network import Architecture
from alexnet_jax.parallel import mesh as meshes
from alexnet_jax.terminal import ProgressLine, Terminal
from alexnet_jax.training import optimizer
from alexnet_jax.training.step import Steps
from alexnet_jax.training.views import Augmentation, Preprocessing

# The rates of 2012; others cost the same.
GROUPS = {
    "weights": optimizer.Group(((0, 0.01),), 0.0005),
    "biases": optimizer.Group(((0, 0.02),)),
}
NORM_EVERY = 100  # the length of the gradient is not measured in any of the timed steps


def measure(
    architecture: Architecture, batch: int, dtype: str, steps: int, terminal: Terminal
) -> dict:
    """Seconds of each of `steps` training steps of `batch` random images, and their median's speed.

    Two steps before them do not count. Images come from memory, a seventh larger than the crop, as
    256 pixels are than 224; everything of a training step runs, augmentation and update included.
    """
    mesh = meshes.make_mesh(1, jax.devices()[:1])
    training = _steps(architecture, dtype, mesh)
    size = architecture.input_size * 8 // 7
    random, rows = np.random.default_rng(0), np.arange(batch)
    pixels = (batch, size, size, architecture.channels)
    images = meshes.put_rows(mesh, batch, rows, random.integers(0, 256, pixels, np.uint8))
    labels = random.integers(0, architecture.classes, batch).astype(np.int32)
    labels = meshes.put_rows(mesh, batch, rows, labels)
    preprocessing = _preprocessing(architecture, mesh)
    terminal.live(f"compiling the training step of {architecture.name}")
    step = training.training().lower(
        training.state_shapes(), *training.batch_shapes(batch, size), preprocessing
    ).compile()  # fmt: skip
    state, report = training.initial_state(), None
    seconds = []
    for index in range(-2, steps):
        if index == 0:
            report = ProgressLine(f"training steps of {batch} images, {dtype}", terminal)
        began = time.perf_counter()
        state, loss = step(state, images, labels, preprocessing)
        jax.block_until_ready((state, loss))
        if report:
            seconds.append(time.perf_counter() - began)
            report((index + 1) * batch, steps * batch)
    speed = batch / statistics.median(seconds)
    return {"batch": batch, "seconds": seconds, "images_per_second": speed}


def _steps(architecture: Architecture, dtype: str, mesh) -> Steps:
    return Steps(
        architecture=architecture,
        classes=architecture.classes,
        optimizer=optimizer.momentum_sgd(GROUPS, 0.9),
        augmentation=Augmentation(crop=architecture.input_size),
        mesh=mesh,
        seed=0,
        compute_dtype=jnp.dtype(dtype),
        norm_every=NORM_EVERY,
    )


def _preprocessing(architecture: Architecture, mesh) -> Preprocessing:
    """A grey mean image and colours of equal strength."""
    side, channels = architecture.input_size, architecture.channels
    mean = np.full((side, side, channels), 120, np.float32)
    values = Preprocessing(mean, 0.1 * np.eye(channels, dtype=np.float32), np.float32(1))
    return meshes.put_replicated(mesh, values)
