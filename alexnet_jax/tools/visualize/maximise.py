"""Images that a class or unit responds to most, by gradient ascent on the pixels.

Simonyan et al. 2013 (section 2): the logit of a class minus a decay of the image. Yosinski et al.
2015: also blurred now and then. The image is moved at random by a few pixels in each step, so that
no pixel matters by its place alone, and its grey levels stay within those of an image: the decay
is towards the mean that is subtracted.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from alexnet_jax.data import augment
from alexnet_jax.model import intermediates, receptive_field
from alexnet_jax.model.layers import Shape
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.tools import inference
from alexnet_jax.tools.visualize import figure
from alexnet_jax.weights.trained import Trained

CHUNK = 10  # steps between two lines of progress
START = 5.0  # grey levels of the noise at the start
COLUMNS = 5


@dataclasses.dataclass(frozen=True)
class Ascent:
    """How to climb: `step_size` is the root mean square change of a pixel in a step, grey levels.

    `decay` is the share that is taken off the image in each step, `jitter` the most pixels that it
    is moved by, `blur` the deviation in pixels of the Gaussian of every `blur_every`-th step. With
    `grey` all colours stay equal.
    """

    steps: int = 200
    step_size: float = 4.0
    decay: float = 0.01
    jitter: int = 2
    blur: float = 0.5
    blur_every: int = 4
    grey: bool = False


@dataclasses.dataclass(frozen=True)
class MaximisedImages:
    """Images uint8 [units, height, width, channels], cut to what the unit can see.

    `before` and `after` [units] are its activations at the start and at the end.
    """

    images: np.ndarray
    before: np.ndarray
    after: np.ndarray


def place_of(trained: Trained, layer: str) -> tuple[str, int, Shape]:
    """Full name, index and shape of the activations of a layer, before their function.

    There a unit that is off has a gradient too. UserError where there is none of that name.
    """
    places = intermediates.activation_places(trained.architecture)
    name = f"{layer}.linear" if f"{layer}.linear" in places else layer
    if name not in places:
        raise UserError(
            f"The network {trained.variant.network} has no activations '{layer}': expected one of "
            f"{', '.join(places)}."
        )
    graph = inference.tuned_graph(trained)
    side, channels = trained.architecture.input_size, trained.architecture.channels
    image = jax.ShapeDtypeStruct((1, side, side, channels), jnp.float32)
    captured = jax.eval_shape(
        functools.partial(intermediates.activations, graph), trained.parameters, image
    )
    return name, places[name], captured[name].shape[1:]


def ascend(
    trained: Trained,
    layer: str,
    units: Sequence[int],
    ascent: Ascent,
    seed: int,
    progress: Callable[[int, int], None],
) -> MaximisedImages:
    """An image for each of some units of a layer; of a feature map, for the unit in its center.

    The last layer's units are the classes. The same seed gives the same images. UserError for a
    unit that is not there; `progress(done, total)` is called every CHUNK steps.
    """
    name, index, shape = place_of(trained, layer)
    for unit in units:
        if not 0 <= unit < shape[-1]:
            raise UserError(
                f"{layer} has no unit {unit}: it has {shape[-1]:,}, numbered from 0 on."
            )
    score = _score(trained, name, shape, units)
    key = jax.random.key(seed, impl="threefry2x32")
    images, climb = _start(trained, len(units), ascent, key), _climbing(trained, score, ascent, key)
    parameters = jax.device_put(trained.parameters)
    before = np.asarray(jax.jit(score)(images, parameters))
    for done in range(0, ascent.steps, CHUNK):
        end = min(done + CHUNK, ascent.steps)
        images = climb(images, parameters, done, end)
        images.block_until_ready()
        progress(end, ascent.steps)
    after = np.asarray(jax.jit(score)(images, parameters))
    pixels = np.asarray(images) * trained.pixels.divisor + _mean(trained)
    pixels = np.clip(np.round(pixels), 0, augment.LARGEST_GREY_LEVEL).astype(np.uint8)
    if len(shape) == 3:
        rows, columns = (
            receptive_field.receptive_field(trained.architecture, index, length // 2)
            for length in shape[:2]
        )
        pixels = pixels[:, rows[0] : rows[1] + 1, columns[0] : columns[1] + 1]
    return MaximisedImages(pixels, before, after)


def _mean(trained: Trained) -> np.ndarray:
    """The mean that is subtracted from the center crop."""
    mean = trained.pixels.mean
    return augment.center_crop(mean, trained.architecture.input_size) if mean.ndim == 3 else mean


def _start(trained: Trained, count: int, ascent: Ascent, key: jax.Array) -> jax.Array:
    """Faint noise around the mean, as inputs float32 [count, crop, crop, channels]."""
    side, channels = trained.architecture.input_size, trained.architecture.channels
    shape = (count, side, side, 1 if ascent.grey else channels)
    noise = START * jax.random.normal(jax.random.fold_in(key, ascent.steps), shape)
    return jnp.broadcast_to(noise, (*shape[:3], channels)) / trained.pixels.divisor


def _score(trained: Trained, name: str, shape: Shape, units: Sequence[int]) -> Callable:
    """(inputs [units, ...], parameters) -> the activation of each image's unit, [units]."""
    graph = inference.tuned_graph(trained)
    middle = tuple(length // 2 for length in shape[:-1])
    examples, channels = np.arange(len(units)), np.asarray(units)

    def score(images, parameters):
        values = intermediates.activations(graph, parameters, images)[name]
        return values[(examples, *middle, channels)]

    return score


def _climbing(trained: Trained, score: Callable, ascent: Ascent, key: jax.Array) -> Callable:
    """jitted (images, parameters, first step, end) -> images."""
    blur = jnp.asarray(blur_matrix(trained.architecture.input_size, ascent.blur))
    mean, divisor = jnp.float32(_mean(trained)), jnp.float32(trained.pixels.divisor)
    gradient = jax.grad(lambda images, parameters: score(images, parameters).sum())

    def step(number, images, parameters):
        shift = jax.random.randint(
            jax.random.fold_in(key, number), (2,), -ascent.jitter, ascent.jitter + 1
        )
        moved = jnp.roll(images, shift, axis=(1, 2))
        change = jnp.roll(gradient(moved, parameters), -shift, axis=(1, 2)) / divisor
        if ascent.grey:
            change = jnp.broadcast_to(change.mean(axis=-1, keepdims=True), change.shape)
        size = jnp.sqrt(jnp.mean(change**2, axis=(1, 2, 3), keepdims=True))
        images = (1 - ascent.decay) * images + ascent.step_size * change / (size + 1e-12) / divisor
        blurred = jnp.einsum("ij,njkc,lk->nilc", blur, images, blur)
        images = jnp.where((number + 1) % ascent.blur_every == 0, blurred, images)
        return (jnp.clip(images * divisor + mean, 0, augment.LARGEST_GREY_LEVEL) - mean) / divisor

    @jax.jit
    def climb(images, parameters, first, end):
        return jax.lax.fori_loop(
            first, end, lambda number, images: step(number, images, parameters), images
        )

    return climb


def blur_matrix(side: int, deviation: float) -> np.ndarray:
    """float32 [side, side] that blurs along an axis by a Gaussian; what is outside has no weight.

    With a deviation of 0 it changes nothing.
    """
    if deviation == 0:
        return np.eye(side, dtype=np.float32)
    distance = np.arange(side)[:, None] - np.arange(side)
    weights = np.exp(-0.5 * (distance / deviation) ** 2)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def draw_maximised(result: MaximisedImages, names: Sequence[str]):
    """The figure: each image, with the name of its unit and how far its activation rose."""
    count = len(names)
    columns = min(COLUMNS, count)
    rows = -(-count // columns)
    drawn = figure.blank(2.6 * columns, 3.0 * rows)
    grid = drawn.subplots(rows, columns, squeeze=False).flat
    for axes in grid[count:]:
        axes.set_axis_off()
    for index, axes in enumerate(grid[:count]):
        figure.show_image(axes, result.images[index], figure.shortened(names[index], 24),
                    fontsize=13)  # fmt: skip
        axes.set_xlabel(f"{result.before[index]:.1f} → {result.after[index]:.1f}", fontsize=11)
    return drawn
