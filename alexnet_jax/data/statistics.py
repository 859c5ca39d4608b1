"""Mean image and colour statistics of a training set, measured once and kept as a file.

Sums are exact integers, so that the result does not depend on order or number of processes.
"""

import dataclasses
import io
import os
import pathlib
from collections.abc import Callable

import numpy as np

from alexnet_jax.data import arrays, stream
from alexnet_jax.data.sources import Source
from alexnet_jax.runtime.errors import UserError

REMEDY = (
    "take it away, and training measures it anew; if it belongs to a prepared set, prepare that "
    "anew"
)


@dataclasses.dataclass(frozen=True)
class Statistics:
    """Statistics of a training set's pixels, in grey levels of 0 to 255.

    `images` is their number and `mean_image` [size, size, channels] their mean. The principal
    components of all pixels (paper section 4.1) are `colour_directions` [channels, channels], an
    eigenvector of the covariance a row, and `colour_deviations` [channels], the square roots of the
    eigenvalues, largest first (the 2012 source stores standard deviations).
    """

    images: int
    mean_image: np.ndarray
    colour_deviations: np.ndarray
    colour_directions: np.ndarray
    fingerprint: str

    @property
    def channel_means(self) -> np.ndarray:
        """Mean of each channel over all pixels, float32 [channels]."""
        return self.mean_image.mean(axis=(0, 1), dtype=np.float64).astype(np.float32)

    @property
    def channel_deviations(self) -> np.ndarray:
        """Standard deviation of each channel over all pixels, float32 [channels].

        The roots of the diagonal of the covariance, the sum of s_k^2 v_k v_k^T over components.
        """
        components = self.colour_deviations[:, None].astype(np.float64) * self.colour_directions
        return np.sqrt(np.square(components).sum(axis=0)).astype(np.float32)

    def save(self, path: pathlib.Path) -> None:
        """Write an .npz; it appears whole or not at all."""
        buffer = io.BytesIO()
        np.savez(buffer, **dataclasses.asdict(self))
        partial = path.with_name(path.name + ".partial")
        partial.write_bytes(buffer.getvalue())
        os.replace(partial, path)

    @classmethod
    def load(cls, path: pathlib.Path) -> "Statistics":
        """Read what `save` wrote; UserError for anything else."""
        stored = arrays.load_archive(path, REMEDY)
        names = [field.name for field in dataclasses.fields(cls)]
        if not set(names) <= set(stored) or not _consistent(stored):
            raise UserError(f"{path} holds no statistics of images: {REMEDY}.")
        return cls(
            images=int(stored["images"]),
            mean_image=stored["mean_image"],
            colour_deviations=stored["colour_deviations"],
            colour_directions=stored["colour_directions"],
            fingerprint=str(stored["fingerprint"]),
        )

    @classmethod
    def load_for(cls, path: pathlib.Path, size: int, channels: int) -> "Statistics":
        """As `load`; UserError also for statistics of images of another shape."""
        measured = cls.load(path)
        if measured.mean_image.shape != (size, size, channels):
            raise UserError(
                f"{path} is of images {list(measured.mean_image.shape)}, and this run's are "
                f"{[size, size, channels]}: {REMEDY}."
            )
        return measured


def _consistent(stored: dict[str, np.ndarray]) -> bool:
    """Whether types and shapes are those of Statistics, and all numbers finite."""
    mean, deviations, directions = (
        stored[name] for name in ("mean_image", "colour_deviations", "colour_directions")
    )
    channels = mean.shape[-1:]
    return (
        mean.ndim == 3
        and deviations.shape == channels
        and directions.shape == channels * 2
        and all(part.dtype == np.float32 for part in (mean, deviations, directions))
        and all(np.isfinite(part).all() for part in (mean, deviations, directions))
        and stored["images"].shape == stored["fingerprint"].shape == ()
        and stored["images"].dtype.kind == "i"
    )


@dataclasses.dataclass(frozen=True)
class Sums:
    """Exact int64 sums over images: count [], pixels [size, size, channels], products [c, c].

    `products` sums the outer product of each pixel's channels with themselves.
    """

    images: np.ndarray
    pixels: np.ndarray
    products: np.ndarray


def sum_images(
    source: Source,
    ids: np.ndarray,
    *,
    num_workers: int,
    progress: Callable[[int, int], None],
    skip_bad: bool = False,
) -> Sums:
    """Sums over the records `ids`; `progress(done, total)` is called after each chunk.

    Unreadable images are left out if `skip_bad`, or raise images.BadImage.
    """
    sums, done = zero_sums(source.size, source.channels), 0
    for chunk, _, bad in stream.load_records(
        source, ids, num_workers=num_workers, skip_bad=skip_bad
    ):
        add_images(sums, chunk)
        done += len(chunk) + len(bad)
        progress(done, len(ids))
    return sums


def zero_sums(size: int, channels: int) -> Sums:
    """Sums over no images, to be passed to `add_images`."""
    pixels = np.zeros((size, size, channels), np.int64)
    return Sums(np.zeros((), np.int64), pixels, np.zeros((channels, channels), np.int64))


def add_images(sums: Sums, images: np.ndarray) -> None:
    """Add images uint8 [n, size, size, channels] to the sums, in place."""
    sums.images[...] += len(images)
    sums.pixels[...] += images.sum(axis=0, dtype=np.int64)
    for image in images:
        flat = image.reshape(-1, image.shape[2]).astype(np.float64)  # below 2**53, so exact
        sums.products[...] += (flat.T @ flat).astype(np.int64)


def from_sums(sums: Sums, fingerprint: str) -> Statistics:
    """Mean image and principal components from sums over the whole training set."""
    images = int(sums.images)
    mean_image = sums.pixels / images
    mean = mean_image.mean(axis=(0, 1))
    count = images * mean_image.shape[0] * mean_image.shape[1]
    covariance = sums.products / count - np.outer(mean, mean)
    values, vectors = np.linalg.eigh(covariance)
    directions = vectors.T[::-1]
    # An eigenvector's sign is free: fix it, or it would depend on the machine's LAPACK.
    largest = np.abs(directions).argmax(axis=1)
    directions = directions * np.sign(directions[np.arange(len(directions)), largest])[:, None]
    return Statistics(
        images=images,
        mean_image=mean_image.astype(np.float32),
        colour_deviations=np.sqrt(np.maximum(values[::-1], 0)).astype(np.float32),
        colour_directions=directions.astype(np.float32),
        fingerprint=fingerprint,
    )
