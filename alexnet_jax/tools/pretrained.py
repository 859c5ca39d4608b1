"""A trained network as an object: classes of images, features of any layer, and their gradients."""

import contextlib
import functools
import os
import pathlib
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from flax import nnx
from PIL import Image

from alexnet_jax.data import image_files, images, synsets
from alexnet_jax.model import alexnet, intermediates
from alexnet_jax.model.architecture import Architecture
from alexnet_jax.model.networks import Variant
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.tools import inference
from alexnet_jax.tools.load import from_run
from alexnet_jax.tools.predict.classify import Guess, likeliest
from alexnet_jax.weights import files
from alexnet_jax.weights.trained import Trained
from alexnet_jax.weights.user_hints import UserHints

BATCH = 64  # images at a time, so that memory does not grow with their number
File = str | os.PathLike[str]
Images = File | Sequence[File] | np.ndarray | jax.Array


def load(
    path: File,
    *,
    step: str | int | None = None,
    network: str | None = None,
    mean: File | None = None,
    classes: Sequence[str] | None = None,
) -> "Pretrained":
    """The trained network in a run's folder, or in a file of weights that `convert` reads.

    `step` chooses a run's checkpoint: "best", "latest" or a number; None is the best that was
    kept, else the newest. `network`, the file of the `mean` image and the names of the `classes`
    are for files that do not say them. UserError where the path holds no network.
    """
    place = pathlib.Path(path)
    hints = UserHints(
        variant=Variant(network) if network else None,
        mean=pathlib.Path(mean) if mean else None,
        classes=tuple(classes) if classes else None,
    )
    if (place / "checkpoints").is_dir():
        if hints != UserHints():
            raise UserError(
                f"{path} is the folder of a run, which says all itself: leave them out."
            )
        with _quiet():
            return Pretrained(from_run(place, None if step is None else str(step)))
    if step is not None:
        raise UserError(f"step={step} names a checkpoint of a run, and {path} is none: leave it.")
    if network:
        Variant(network).architecture()
    return Pretrained(files.read_weights(place, hints))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings of Orbax that a folder is only read."""
    before = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(before)


class Pretrained:
    """A network with its weights and with the preprocessing of its images.

    Images are files, or arrays [height, width, channels] or [batch, height, width, channels] of
    grey levels from 0 to 255, RGB for three channels.
    """

    def __init__(self, trained: Trained):
        self.trained = trained
        self.parameters = jax.device_put(trained.parameters)

    @property
    def architecture(self) -> Architecture:
        """The network as a list of layers."""
        return self.trained.architecture

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the labels, in the order of the logits."""
        return self.trained.classes

    @property
    def layers(self) -> tuple[str, ...]:
        """The names that `features` knows, from the first layer to the last."""
        return tuple(intermediates.activation_places(self.architecture))

    def __repr__(self) -> str:
        network = self.architecture.name
        return f"Pretrained({self.trained.name}: {network}, {len(self.classes)} classes)"

    def model(self, num_classes: int | None = None, *, seed: int = 0) -> alexnet.AlexNet:
        """A new flax.nnx.Module with these weights and plain operations, to be trained on.

        It takes what `inputs` gives, and its dropout is on until `eval()`. With `num_classes` the
        last layer is a new one, drawn from `seed`, for classes of one's own. UserError if that is
        below 1.
        """
        parameters, last = self.parameters, self.architecture.output.name
        if num_classes is not None:
            if num_classes < 1:
                raise UserError(f"num_classes={num_classes} must be at least 1.")
            key = jax.random.key(seed)
            drawn = alexnet.draw_parameters(self.architecture, num_classes, key)
            parameters = {**parameters, last: drawn[last]}
        return alexnet.with_parameters(self.architecture, parameters, seed)

    def predict(
        self, images: Images, *, top: int = 5, views: str = "center"
    ) -> list[tuple[Guess, ...]]:
        """The `top` likeliest classes of each image, likeliest first.

        Images are resized as the network's own were. `views` is "center", "ten" (paper section
        4.1) or "all". UserError for an image that can't be read.
        """
        pixels, names = self._resized(images), [synsets.words(name) for name in self.classes]
        forward = inference.log_probabilities(self.trained, views)
        found = []
        for start in range(0, len(pixels), BATCH):
            batch = pixels[start : start + BATCH]
            padding = np.zeros((min(BATCH, len(pixels)) - len(batch), *batch.shape[1:]), np.uint8)
            rows = np.asarray(forward(self.parameters, np.concatenate([batch, padding])))
            found += [likeliest(row, names, top) for row in np.exp(rows[: len(batch)])]
        return found

    def logits(self, images: Images) -> jax.Array:
        """Logits [batch, classes]; images as for `features`."""
        last = self.architecture.output.name
        return self.features(images, (last,))[last]

    def features(self, images: Images, layers: Sequence[str] = ("fc7",)) -> dict[str, jax.Array]:
        """{layer: activations} of all named layers, from one pass.

        [batch, height, width, channels] or [batch, units], the towers' channels one after the
        other. Files are resized and cropped at their center as the network's own images were.
        Arrays are taken as they are, of any size: convolutional layers see all of it, and what
        comes to the first dense layer is averaged over regions to the size that it has weights
        for, as in torchvision's AlexNet. Differentiable by arrays, and to be used inside
        `jax.jit`. UserError for a layer that there is not, or for images that are too small.
        """
        unknown = [layer for layer in layers if layer not in self.layers]
        if unknown:
            raise UserError(
                f"The network {self.architecture.name} has no activations '{unknown[0]}': expected "
                f"some of {', '.join(self.layers)}."
            )
        graph = inference.tuned_graph(self.trained)
        return _activations(graph, tuple(layers), self.parameters, self.inputs(images))

    def inputs(self, images: Images) -> jax.Array:
        """(image - mean) / divisor for the network, float32 [batch, height, width, channels].

        Files are resized and cropped. Of arrays of another size than the network's the mean of
        each channel is subtracted, since the mean image does not fit.
        """
        if _file_names(images) is not None:
            return inference.center_inputs(self.trained, jnp.asarray(self._resized(images)))
        array = _as_batch(images)
        self.architecture.input_shapes(array.shape, any_size=True)  # or one channel would be three
        pixels, side = self.trained.pixels, self.architecture.input_size
        mean = np.float32(pixels.mean)
        if mean.ndim == 3 and array.shape[1:3] != (side, side):
            mean = mean.mean(axis=(0, 1))
        elif mean.ndim == 3:
            start = (len(mean) - side) // 2
            mean = mean[start : start + side, start : start + side]
        return (jnp.asarray(array, jnp.float32) - mean) / np.float32(pixels.divisor)

    def _resized(self, given: Images) -> np.ndarray:
        """uint8 [batch, size, size, channels] in the size from which crops are cut."""
        pixels, channels = self.trained.pixels, self.architecture.channels
        names = _file_names(given)
        if names is not None:
            read = image_files.loader(names, pixels.size, channels, pixels.warp)
            return np.stack([read(number) for number in range(len(names))])
        arrays = np.clip(np.rint(np.asarray(_as_batch(given))), 0, 255).astype(np.uint8)
        shape = (arrays[..., 0] if arrays.shape[-1] == 1 else arrays).shape[1:]
        return np.stack([
            images.to_pixels(
                Image.fromarray(array.reshape(shape)), pixels.size, channels, pixels.warp
            )
            for array in arrays
        ])  # fmt: skip


@functools.partial(jax.jit, static_argnums=(0, 1))
def _activations(graph: nnx.GraphDef, layers: tuple[str, ...], parameters, inputs):
    found = intermediates.activations(graph, parameters, inputs, any_size=True)
    return {layer: found[layer] for layer in layers}


def _file_names(images: Images) -> list[str] | None:
    """The names of the files that were given; None for arrays."""
    if isinstance(images, str | os.PathLike):
        return [os.fspath(images)]
    if isinstance(images, np.ndarray | jax.Array):
        return None
    names = [os.fspath(item) for item in images if isinstance(item, str | os.PathLike)]
    return names if names and len(names) == len(images) else None


def _as_batch(images) -> np.ndarray | jax.Array:
    """[batch, height, width, channels]; UserError for another shape."""
    array = images if isinstance(images, np.ndarray | jax.Array) else np.asarray(images)
    if array.ndim == 3:
        array = array[None]
    if array.ndim != 4 or not len(array):
        raise UserError(
            f"Images of the shape {array.shape} were given: expected files, or arrays [height, "
            "width, channels] or [batch, height, width, channels]."
        )
    return array
