"""The real training step of a network, compiled on one device, and how long it takes."""

import dataclasses
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from alexnet_jax import kernels
from alexnet_jax.model.architecture import Architecture
from alexnet_jax.parallel import mesh as meshes
from alexnet_jax.runtime.terminal import ProgressLine, Terminal
from alexnet_jax.training import optimizer
from alexnet_jax.training.preprocessing import Augmentation, Preprocessing
from alexnet_jax.training.train_state import TrainState
from alexnet_jax.training.train_step import Steps

# The learning rates of 2012, and a later step at which they fall: later than any timed step.
MOMENTUM = 0.9
_LATER = 2**30
GROUPS = {
    "weights": optimizer.Group(((0, 0.01), (_LATER, 0.001)), 0.0005),
    "biases": optimizer.Group(((0, 0.02), (_LATER, 0.002))),
}
NORM_EVERY = _LATER  # the norm of the gradient is not measured in any of the timed steps


@dataclasses.dataclass
class CompiledStep:
    """A compiled training step of random images, with its state on the device.

    Everything of a training step runs, augmentation and update included. Images come from memory, a
    seventh larger than the crop, as 256 pixels are than 224.
    """

    steps: Steps
    images: jax.Array
    labels: jax.Array
    preprocessing: Preprocessing
    step: Callable
    compile_seconds: float
    state: TrainState
    loss: jax.Array | float = float("nan")  # of the last step that was taken

    def __call__(self, repetitions: int) -> None:
        """Take so many steps and wait for the last."""
        for _ in range(repetitions):
            self.state, self.loss = self.step(
                self.state, self.images, self.labels, self.preprocessing
            )
        jax.block_until_ready((self.state, self.loss))


def compile_step(
    architecture: Architecture,
    *,
    batch_size: int,
    dtype: str,
    kernel_choice: str = "tuned",
    velocity_dtype: str | None = None,
    **changes: Any,
) -> CompiledStep:
    """Compile the step of `batch_size` images on the first device; `changes` are fields of Steps.

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
    random, indices = np.random.default_rng(0), np.arange(batch_size)
    pixels = (batch_size, size, size, architecture.channels)
    images = random.integers(0, 256, pixels, np.uint8)
    labels = random.integers(0, architecture.num_classes, batch_size).astype(np.int32)
    device_images, device_labels = (
        meshes.put_batch(mesh, batch_size, indices, array) for array in (images, labels)
    )
    preprocessing = _preprocessing(architecture, mesh)
    began = time.perf_counter()
    step = steps.training().lower(
        steps.state_shapes(), *steps.batch_shapes(batch_size, size), preprocessing
    ).compile()  # fmt: skip
    return CompiledStep(
        steps=steps,
        images=device_images,
        labels=device_labels,
        preprocessing=preprocessing,
        step=step,
        compile_seconds=time.perf_counter() - began,
        state=steps.initial_state(),
    )


def two_at_once(compiled: CompiledStep) -> Callable[[int], None]:
    """Two steps in one program, which count as one repetition."""
    images, labels = (jnp.stack([array, array]) for array in (compiled.images, compiled.labels))
    two_steps = compiled.steps.several_trainings()
    two_steps = two_steps.lower(compiled.state, images, labels, compiled.preprocessing).compile()

    def take(repetitions: int) -> None:
        for _ in range(repetitions):
            compiled.state, _ = two_steps(compiled.state, images, labels, compiled.preprocessing)
        jax.block_until_ready(compiled.state)

    return take


def measure_steps(
    architecture: Architecture, *, batch_size: int, dtype: str, steps: int, terminal: Terminal
) -> dict:
    """Seconds of each of `steps` training steps of random images, and their median's speed.

    Two steps before them do not count.
    """
    terminal.live(f"compiling the training step of {architecture.name}")
    compiled = compile_step(architecture, batch_size=batch_size, dtype=dtype)
    report, seconds = None, []
    for index in range(-2, steps):
        if index == 0:
            report = ProgressLine(f"training steps of {batch_size} images, {dtype}", terminal)
        began = time.perf_counter()
        compiled(1)
        if report:
            seconds.append(time.perf_counter() - began)
            report((index + 1) * batch_size, steps * batch_size)
    speed = batch_size / statistics.median(seconds)
    return {"batch": batch_size, "seconds": seconds, "images_per_second": speed}


def _preprocessing(architecture: Architecture, mesh: Mesh) -> Preprocessing:
    """A grey mean image and colours of equal strength."""
    side, channels = architecture.input_size, architecture.channels
    arrays = {
        "mean": np.full((side, side, channels), 120, np.float32),
        "directions": 0.1 * np.eye(channels, dtype=np.float32),
        "divisor": np.float32(1),
    }
    return Preprocessing(**meshes.put_replicated(mesh, arrays))
