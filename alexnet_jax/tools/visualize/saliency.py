"""Which pixels a class hangs on: gradients (Simonyan et al. 2013), occlusion (Zeiler, Fergus 2013).

Both use the center crop of an image uint8 [size, size, channels].
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from alexnet_jax.data import augment
from alexnet_jax.model import alexnet
from alexnet_jax.tools import inference
from alexnet_jax.tools.visualize import figure
from alexnet_jax.weights.trained import Trained

BRIGHT_SHARE = 99.5  # per cent of the gradients lie within the scale


def gradient(trained: Trained, image: np.ndarray, label: int) -> np.ndarray:
    """Change of the logit of a class with each pixel, per grey level; [crop, crop, channels].

    The logit, not the probability: that also rises where other classes fall (Simonyan, section 2).
    """
    graph = inference.tuned_graph(trained)

    def logit(pixels, parameters):
        inputs = inference.center_inputs(trained, pixels[None])
        return alexnet.apply(graph, parameters, inputs)[0, label]

    whole = jax.jit(jax.grad(logit))(jnp.float32(image), trained.parameters)
    return augment.center_crop(np.asarray(whole), trained.architecture.input_size)


def saliency_map(gradients: np.ndarray) -> np.ndarray:
    """The largest size of a gradient over the channels, [crop, crop] (Simonyan, section 3.1)."""
    return np.abs(gradients).max(axis=-1)


def square_places(crop: int, square: int, stride: int) -> np.ndarray:
    """First row (or column) of each square; its centers are `stride` apart and cover the crop.

    Squares may hang over the edge.
    """
    return np.arange(stride // 2, crop, stride, dtype=np.int32) - square // 2


def occlusion(
    trained: Trained,
    image: np.ndarray,
    label: int,
    *,
    square: int,
    stride: int,
    batch_size: int,
    progress: Callable[[int, int], None],
) -> np.ndarray:
    """Probability of a class while a square of the crop is hidden, [places, places].

    Hidden pixels have the mean that is subtracted, so they are 0 for the network: neutral grey.
    `progress(done, total)` is called after each batch.
    """
    crop = trained.architecture.input_size
    graph = inference.tuned_graph(trained)
    places = square_places(crop, square, stride)
    firsts = np.stack(np.meshgrid(places, places, indexing="ij"), axis=-1).reshape(-1, 2)
    side = jnp.arange(crop)

    @jax.jit
    def probabilities(parameters, pixels, corners):
        inputs = inference.center_inputs(trained, pixels[None])[0]
        hidden = (side >= corners[..., None]) & (side < corners[..., None] + square)
        hidden = hidden[:, 0, :, None, None] & hidden[:, 1, None, :, None]
        logits = alexnet.apply(graph, parameters, jnp.where(hidden, 0, inputs))
        return jax.nn.softmax(logits)[:, label]

    parameters, batches = jax.device_put(trained.parameters), []
    for start in range(0, len(firsts), batch_size):
        corners = firsts[start : start + batch_size]
        padded = np.concatenate([corners, np.tile(corners[:1], (batch_size - len(corners), 1))])
        batches.append(np.asarray(probabilities(parameters, image, padded))[: len(corners)])
        progress(start + len(corners), len(firsts))
    return np.concatenate(batches).reshape(len(places), len(places))


def draw_saliency(
    pixels: np.ndarray,
    title: str,
    *,
    salient: np.ndarray,
    hidden: np.ndarray,
    square: int,
    stride: int,
):
    """The figure: the crop, its saliency map, and the probability for each position of the square.

    A frame in the crop's corner shows how large the square is.
    """
    from matplotlib.patches import Rectangle

    crop = len(pixels)
    drawn = figure.blank(13.3, 4.6)
    left, middle, right = drawn.subplots(1, 3)
    figure.show_image(left, pixels, title, fontsize=13)
    shown = middle.imshow(
        salient, cmap="gray", vmin=0, vmax=np.percentile(salient, BRIGHT_SHARE) or 1,
        interpolation="nearest",
    )  # fmt: skip
    middle.set_title("|gradient| of its logit per grey level", fontsize=13)
    drawn.colorbar(shown, ax=middle, shrink=0.7, extend="max")
    reach = -0.5, len(hidden) * stride - 0.5
    heat = right.imshow(
        hidden, cmap="viridis", interpolation="nearest",
        extent=(*reach, *reach[::-1]),
    )  # fmt: skip
    right.set(xlim=(-0.5, crop - 0.5), ylim=(crop - 0.5, -0.5))
    lowest, highest = (f"{100 * value:.2f}%" for value in (hidden.min(), hidden.max()))
    right.set_title(
        f"its probability, {square} x {square} pixels hidden:\n{lowest} to {highest}", fontsize=13
    )
    drawn.colorbar(heat, ax=right, shrink=0.7).formatter.set_useOffset(False)
    left.add_patch(
        Rectangle(
            (-0.5, -0.5), square, square, fill=False, edgecolor="#ff8c1a", lw=3, clip_on=False
        )
    )
    for axes in (middle, right):
        axes.set(xticks=[], yticks=[])
    return drawn
