"""Narrow networks with everything on, for tests of the step on many meshes."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from alexnet_jax import kernels
from alexnet_jax.model import alexnet
from alexnet_jax.model.architecture import Architecture
from alexnet_jax.model.layers import (
    Convolution,
    Dense,
    Dropout,
    Exchange,
    MaxPool,
    Output,
    ReLU,
)
from alexnet_jax.model.networks import NETWORKS
from alexnet_jax.parallel import mesh as meshes
from alexnet_jax.training import optimizer
from alexnet_jax.training.preprocessing import Augmentation, Preprocessing
from alexnet_jax.training.train_step import Steps

CLASSES, BATCH = 10, 4
# For what depends on towers, dropout and kinds of parameters, but not on the layers between them:
# it takes a fraction of the others' time to compile.
TINY = (
    Convolution("conv1", 8, size=5, stride=2), ReLU(), MaxPool(3, 2), Exchange(),
    Convolution("conv2", 8, size=3), ReLU(), Exchange(), Dropout(0.5, scale_in_training=True),
    Dense("fc7", 16), ReLU(), Dropout(0.5), Output("fc8"),
)  # fmt: skip
NARROW = {
    "net145": NETWORKS["net145"].with_width(1 / 32),
    "quickstart": NETWORKS["quickstart"].with_width(1 / 4),
    "tiny": Architecture("tiny", 28, 3, 2, TINY, CLASSES),
}
STORED = {"net145": 228, "quickstart": 32, "tiny": 32}
GROUPS = {
    "weights": optimizer.Group(((0, 0.01), (5, 0.001)), 0.0005),
    "biases": optimizer.Group(((0, 0.02),)),
    "conv1.weights": optimizer.Group(((0, 0.01), (7, 0.0)), 0.0005),
    "conv1.biases": optimizer.Group(((0, 0.02), (7, 0.0))),
}


def tuned():
    """The operations that training computes with by default, on this backend."""
    return kernels.select("tuned", jax.default_backend())


def graph_of(architecture, num_classes=CLASSES, dtype="float32", choice="tuned"):
    """A network's graph definition with the operations of a choice of kernels."""
    operations = kernels.select(choice, jax.default_backend())
    return alexnet.graph_of(architecture, num_classes, jnp.dtype(dtype), operations)


def compiled(graph):
    """alexnet.apply as one program: one for each of its operations takes longer to compile."""
    return jax.jit(functools.partial(alexnet.apply, graph))


def make_mesh(data, model):
    return meshes.make_mesh(model, jax.devices()[: data * model])


def make_steps(
    name, data, model, dtype="float32", seed=5, architecture=None, split_dense=False, **augmentation
):
    """Steps on a data x model mesh, with dropout, crops, flips and colour noise on."""
    architecture = architecture or NARROW[name]
    return Steps(
        architecture=architecture,
        num_classes=CLASSES,
        optimizer=optimizer.momentum_sgd(GROUPS, 0.9),
        augmentation=Augmentation(crop=architecture.input_size, **augmentation),
        mesh=make_mesh(data, model),
        seed=seed,
        param_dtype=jnp.dtype(dtype),
        dtype=jnp.dtype(dtype),
        split_dense=split_dense,
        operations=tuned(),
    )


def batch_of(name, step, channels=3):
    """Random images and labels on the host, the same for every mesh."""
    random = np.random.default_rng([11, step])
    size = STORED[name]
    images = random.integers(0, 256, (BATCH, size, size, channels), np.uint8)
    return images, random.integers(0, CLASSES, BATCH).astype(np.int32)


def preprocessing_of(name):
    """A mean image with structure and three colour directions."""
    random = np.random.default_rng(12)
    crop = NARROW[name].input_size
    mean = random.uniform(90, 130, (crop, crop, 3)).astype(np.float32)
    directions = random.normal(scale=40, size=(3, 3)).astype(np.float32)
    return Preprocessing(mean, directions, np.float32(1))


def put(steps, *arrays):
    """Host rows onto the mesh."""
    indices = np.arange(BATCH)
    return tuple(meshes.put_batch(steps.mesh, BATCH, indices, array) for array in arrays)


def run(name, data, model, count, dtype, split_dense=False, group_size=1, **changed):
    """The loss and what the state has (on the host) after each of `count` steps.

    After the first step the optimizer's momentum is the gradient times the rate, so that all
    gradients are compared to as many digits as the state. `changed` are fields of Steps.
    """
    steps = make_steps(name, data, model, dtype, split_dense=split_dense, group_size=group_size)
    steps = dataclasses.replace(steps, **changed)
    preprocessing = meshes.put_replicated(steps.mesh, preprocessing_of(name))
    state, train = steps.initial_state(), steps.training()
    history = []
    for step in range(count):
        batch = put(steps, *batch_of(name, step))
        state, loss = train(state, *batch, preprocessing)
        history.append(jax.device_get({"loss": loss, "scores": state.scores,
                                       "parameters": state.parameters,
                                       "optimizer": state.optimizer_state,
                                       "average": state.average}))  # fmt: skip
    return history


def plain_preprocessing(steps):
    """A grey mean and no colours, for any network."""
    channels = steps.architecture.channels
    mean, directions = np.full(channels, 120, np.float32), np.eye(channels, dtype=np.float32)
    return meshes.put_replicated(steps.mesh, Preprocessing(mean, directions, np.float32(1)))
