"""How fast this machine takes the real training step of a network, on one device."""

import dataclasses
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from alexnet_jax import kernels
from alexnet_jax.model.architecture import Architecture
from alexnet_jax.parallel import mesh as meshes
from alexnet_jax.runtime.terminal import ProgressLine, Terminal
from alexnet_jax.training import optimizer
from alexnet_jax.training.preprocessing import Augmentation, Preprocessing
from alexnet_jax.training.train_state import TrainState
from alexnet_jax.training.train_step import Steps

# The rates of 2012, and a later step at which they fall, which none of the timed steps is.
MOMENTUM = 0.9
_LATER = 2**30
GROUPS = {
    "weights": optimizer.Group(((0, 0.01), (_LATER, 0.001)), 0.0005),
    "biases": optimizer.Group(((0, 0.02), (_LATER, 0.002))),
}
NORM_EVERY = _LATER  # the length of the gradient is not measured in any of the timed steps


@dataclasses.dataclass
class Ready:
    """A compiled training step of random images, with its state on the device.

    Everything of a training step runs, augmentation and update included. Images come from memory, a
    seventh larger than the crop, as 256 pixels are than 224.
    """

    steps: Steps
    state: TrainState
    images: jax.Array
    labels: jax.Array
    preprocessing: Preprocessing
    step: Callable
    compile_seconds: float
    loss: jax.Array | None = None

    def __call__(self, repetitions: int) -> None:
        """Take so many steps and wait for the last."""
        for _ in range(repetitions):
            self.state, self.loss = self.step(
                self.state, self.images, self.labels, self.preprocessing
            )
        jax.block_until_ready((self.state, self.loss))


def ready(
    architecture: Architecture,
    batch: int,
    dtype: str,
    *,
    kernel_choice: str = "tuned",
    velocity_dtype: str | None = None,
    **changes: Any,
) -> Ready:
    """Compile the step for `batch` images on the first device; `changes` are fields of Steps.

    `dtype` is that of activations, `kernel_choice` as in kernels.config, `velocity_dtype` that of
    momentum_sgd.
    """
    mesh = meshes.make_mesh(1, jax.devices()[:1])
    steps = Steps(
        architecture=architecture,
        num_classes=architecture.num_classes,
        optimizer=optimizer.momentum_sgd(GROUPS, MOMENTUM, velocity_dtype=velocity_dtype),
        augmentation=Augmentation(crop=architecture.input_size),
        mesh=mesh,
        seed=0,
        dtype=jnp.dtype(dtype),
        norm_every=NORM_EVERY,
        operations=kernels.select(kernel_choice, jax.default_backend()),
    )
    steps = dataclasses.replace(steps, **changes)
    size = architecture.input_size * 8 // 7
    random, indices = np.random.default_rng(0), np.arange(batch)
    pixels = (batch, size, size, architecture.channels)
    images = meshes.put_batch(mesh, batch, indices, random.integers(0, 256, pixels, np.uint8))
    labels = random.integers(0, architecture.num_classes, batch).astype(np.int32)
    labels = meshes.put_batch(mesh, batch, indices, labels)
    preprocessing = _preprocessing(architecture, mesh)
    began = time.perf_counter()
    step = steps.training().lower(
        steps.state_shapes(), *steps.batch_shapes(batch, size), preprocessing
    ).compile()  # fmt: skip
    seconds = time.perf_counter() - began
    return Ready(steps, steps.initial_state(), images, labels, preprocessing, step, seconds)


def in_twos(ready: Ready) -> Callable[[int], None]:
    """Two steps in one program, which count as one repetition."""
    images, labels = (jnp.stack([array, array]) for array in (ready.images, ready.labels))
    two = ready.steps.several_trainings()
    two = two.lower(ready.state, images, labels, ready.preprocessing).compile()

    def take(repetitions: int) -> None:
        for _ in range(repetitions):
            ready.state, _ = two(ready.state, images, labels, ready.preprocessing)
        jax.block_until_ready(ready.state)

    return take


def measure(
    architecture: Architecture, batch: int, dtype: str, steps: int, terminal: Terminal
) -> dict:
    """Seconds of each of `steps` training steps of `batch` random images, and their median's speed.

    Two steps before them do not count.
    """
    terminal.live(f"compiling the training step of {architecture.name}")
    prepared, report, seconds = ready(architecture, batch, dtype), None, []
    for index in range(-2, steps):
        if index == 0:
            report = ProgressLine(f"training steps of {batch} images, {dtype}", terminal)
        began = time.perf_counter()
        prepared(1)
        if report:
            seconds.append(time.perf_counter() - began)
            report((index + 1) * batch, steps * batch)
    speed = batch / statistics.median(seconds)
    return {"batch": batch, "seconds": seconds, "images_per_second": speed}


def _preprocessing(architecture: Architecture, mesh) -> Preprocessing:
    """A grey mean image and colours of equal strength."""
    side, channels = architecture.input_size, architecture.channels
    mean = np.full((side, side, channels), 120, np.float32)
    values = Preprocessing(mean, 0.1 * np.eye(channels, dtype=np.float32), np.float32(1))
    return meshes.put_replicated(mesh, values)
