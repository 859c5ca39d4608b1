"""Probabilities and activations of a trained network: jitted functions of its weights and images.

Images are uint8 [batch, size, size, channels] in the size that the network's Pixels name.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from alexnet_jax import kernels
from alexnet_jax.data import augment
from alexnet_jax.model import alexnet, intermediates
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.weights.trained import Trained


def tuned_graph(trained: Trained) -> nnx.GraphDef:
    """The network with the tuned operations for this process's devices, for alexnet.apply."""
    return alexnet.graph_of(
        trained.architecture,
        len(trained.classes),
        operations=kernels.select("tuned", jax.default_backend()),
    )


def inputs_at(trained: Trained, images: jax.Array, position) -> jax.Array:
    """The network's input float32 [batch, crop, crop, channels] at a crop position."""
    pixels, crop = trained.pixels, trained.architecture.input_size
    mean, divisor = jnp.float32(pixels.mean), jnp.float32(pixels.divisor)
    return augment.crop_inputs(
        images,
        jnp.asarray(position),
        crop=crop,
        mean=mean,
        divisor=divisor,
        mean_at_crop=pixels.mean_at_crop,
    )


def center_inputs(trained: Trained, images: jax.Array) -> jax.Array:
    """As `inputs_at`, at the center crop."""
    (position,) = augment.crop_positions(
        "center", trained.pixels.size, trained.architecture.input_size
    )
    return inputs_at(trained, images, position)


def log_probabilities(trained: Trained, views: str = "center") -> Callable:
    """jitted (parameters, images) -> log of the mean probability over `views`, [batch, classes]."""
    graph = tuned_graph(trained)
    crop = trained.architecture.input_size
    positions = jnp.asarray(augment.crop_positions(views, trained.pixels.size, crop))

    def predict(parameters, images):
        def log_softmax_at(position):
            inputs = inputs_at(trained, images, position)
            return jax.nn.log_softmax(alexnet.apply(graph, parameters, inputs))

        total = jax.nn.logsumexp(jax.lax.map(log_softmax_at, positions), axis=0)
        return total - np.log(len(positions)).astype(np.float32)

    return jax.jit(predict)


def activations_of(trained: Trained, names: tuple[str, ...]) -> Callable:
    """jitted (parameters, images) -> {name: activations} of the center crop.

    Names are those of activations.activation_places; UserError for another.
    """
    places = intermediates.activation_places(trained.architecture)
    for name in names:
        if name not in places:
            raise UserError(
                f"The network {trained.variant.network} has no activations '{name}': expected one "
                f"of {', '.join(places)}."
            )
    graph = tuned_graph(trained)

    def forward(parameters, images):
        captured = intermediates.activations(graph, parameters, center_inputs(trained, images))
        return {name: captured[name] for name in names}

    return jax.jit(forward)
