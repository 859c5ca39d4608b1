"""From images to the activations of a layer, batch by batch on one device."""

import hashlib
import math
from collections.abc import Iterator, Sequence

import jax
import numpy as np

from alexnet_jax.data import image_files, images
from alexnet_jax.runtime.terminal import ProgressLine, Terminal
from alexnet_jax.tools import inference
from alexnet_jax.tools.features.collection import Collection, Stored
from alexnet_jax.tools.features.parts import Parts
from alexnet_jax.training.train_state import parameters_sha256
from alexnet_jax.weights.trained import Trained

FORMAT = "alexnet_jax features 1"
MOST_PART_BYTES, MOST_PART_IMAGES = 2**24, 1024  # so much a kill may cost
Computed = tuple[np.ndarray, np.ndarray | None, list[tuple[int, images.BadImage]]]


def stored_of(trained: Trained) -> Stored:
    """The shape of the images that a network takes."""
    return Stored(trained.pixels.size, trained.architecture.channels, trained.pixels.warp)


def metadata_of(trained: Trained, layer: str) -> dict:
    """Layer, network and preprocessing of features, for JSON; equal for comparable features.

    UserError where the network has no such layer.
    """
    pixels = trained.pixels
    numbers = b"".join(np.float32(part).tobytes() for part in (pixels.mean, pixels.divisor))
    return {
        "format": FORMAT,
        "network": trained.variant.network,
        "layer": layer,
        "shape": list(shape_of(trained, layer)),
        "parameters_sha256": parameters_sha256(trained.parameters),
        "pixels": {
            "size": pixels.size,
            "channels": trained.architecture.channels,
            "crop": trained.architecture.input_size,
            "warp": pixels.warp,
            "mean_and_divisor_sha256": hashlib.sha256(numbers).hexdigest(),
        },
    }


def shape_of(trained: Trained, layer: str) -> tuple[int, ...]:
    """Shape of the activations of one image; UserError where the network has no such layer."""
    size, channels = trained.pixels.size, trained.architecture.channels
    images_shape = jax.ShapeDtypeStruct((1, size, size, channels), np.uint8)
    forward = inference.activations_of(trained, (layer,))
    return jax.eval_shape(forward, trained.parameters, images_shape)[layer].shape[1:]


def part_images(shape: tuple[int, ...], batch: int) -> int:
    """How many images a part holds: whole batches of bounded size."""
    most = min(MOST_PART_IMAGES, MOST_PART_BYTES // (4 * math.prod(shape)))
    return batch * max(1, most // batch)


def compute_features(
    trained: Trained,
    layer: str,
    load: image_files.Load,
    numbers: Sequence[int],
    *,
    batch_size: int,
    num_workers: int,
) -> Iterator[Computed]:
    """(numbers, float32 [n, ...] or None for no image, unusable ones) of each batch, in order.

    While the device works on a batch, the one before is handed out and threads read the next. The
    batch is padded to full size, so that the network is compiled once.
    """
    forward = inference.activations_of(trained, (layer,))
    parameters = jax.device_put(trained.parameters)
    waiting = None
    for ids, pixels, unusable in image_files.batches(load, numbers, batch_size, num_workers):
        pending = None
        if len(ids):
            padded = np.zeros((batch_size, *pixels.shape[1:]), np.uint8)
            padded[: len(pixels)] = pixels
            pending = forward(parameters, padded)[layer]
        if waiting:
            yield _finished(*waiting)
        waiting = ids, pending, unusable
    if waiting:
        yield _finished(*waiting)


def _finished(ids: np.ndarray, pending: jax.Array | None, unusable: list) -> Computed:
    values = None if pending is None else np.asarray(pending, np.float32)[: len(ids)]
    return ids, values, unusable


def fill(
    parts: Parts,
    trained: Trained,
    layer: str,
    collection: Collection,
    *,
    batch_size: int,
    num_workers: int,
    stop_at_bad: bool,
    terminal: Terminal,
) -> None:
    """Compute and write the parts that are missing.

    An image that can't be read is warned of and left out, or raised at once with `stop_at_bad`.
    """
    missing = parts.missing()
    if len(missing) < parts.count:
        terminal.info(f"Going on: {len(missing):,} of {parts.count:,} parts are missing.")
    numbers = [number for part in missing for number in parts.numbers(part)]
    progress = ProgressLine(layer, terminal)
    done, held = 0, []
    batches = compute_features(
        trained, layer, collection.load, numbers, batch_size=batch_size, num_workers=num_workers
    )
    for computed in batches:
        ids, _, unusable = computed
        for _, error in unusable:
            if stop_at_bad:
                raise error
            terminal.warn(str(error))
        held.append(computed)
        done += len(ids) + len(unusable)
        part = numbers[done - 1] // parts.images
        if numbers[done - 1] == parts.numbers(part)[-1]:
            parts.write(part, *_joined(held, parts.shape))
            held = []
        progress(done, len(numbers))


def _joined(
    held: list[Computed], shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray, list[tuple[int, images.BadImage]]]:
    parts = [part for _, part, _ in held if part is not None]
    return (
        np.concatenate([ids for ids, _, _ in held]),
        np.concatenate(parts) if parts else np.empty((0, *shape), np.float32),
        [bad_image for _, _, unusable in held for bad_image in unusable],
    )
