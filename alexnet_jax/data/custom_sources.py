"""Data sources of the user's own: a function that opens a split, registered under a name."""

import hashlib
import pathlib
from collections.abc import Callable, Sequence

import numpy as np

from alexnet_jax.data.arrays import RecordIds
from alexnet_jax.runtime.errors import UserError

BUILT_IN = ("folder", "digits", "synthetic")
# (split, path=..., image_size=..., channels=...) -> a sources.Source
Opener = Callable
_openers: dict[str, Opener] = {}


class ArraySource:
    """Images that are in memory already: what a function of a data source of one's own may return.

    `images` uint8 [records, size, size, channels], `labels` whole numbers [records] from 0 and the
    names of all `classes`. UserError for anything else.
    """

    ilsvrc_ids: Sequence[int] | None = None
    statistics_file: pathlib.Path | None = None

    def __init__(self, images: np.ndarray, labels: Sequence[int], classes: Sequence[str]):
        self.images, self.classes = np.asarray(images), tuple(map(str, classes))
        given = np.asarray(labels)
        shape = self.images.shape
        if self.images.dtype != np.uint8 or len(shape) != 4 or shape[1] != shape[2]:
            raise UserError(
                f"The images are {self.images.dtype} {list(shape)}: expected uint8 [records, size, "
                "size, channels]."
            )
        if given.shape != shape[:1] or not np.issubdtype(given.dtype, np.integer) or not len(given):
            raise UserError(
                f"There are {shape[0]} images, but labels {given.dtype} {list(given.shape)}: "
                "expected a whole number for each, and at least one image."
            )
        if given.min() < 0 or given.max() >= len(self.classes):
            raise UserError(
                f"Labels reach from {given.min()} to {given.max()}, but there are "
                f"{len(self.classes)} classes: expected 0 to {len(self.classes) - 1}."
            )
        self.labels = given.astype(np.int32)
        self.size, self.channels = shape[1], shape[3]
        digest = hashlib.sha256("\0".join(self.classes).encode())
        digest.update(np.ascontiguousarray(self.images).tobytes())
        digest.update(self.labels.tobytes())
        self.fingerprint = digest.hexdigest()[:16]

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, record: int) -> str:
        """What an image is called in messages."""
        return f"image{record:06d}"

    def load(self, ids: RecordIds, out: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Images and labels of some records; see sources.Source."""
        ids = np.asarray(ids)
        return np.take(self.images, ids, axis=0, out=out), self.labels[ids]


def register_source(name: str) -> Callable[[Opener], Opener]:
    """A decorator: data.source=NAME then opens its images by the function below.

    The function is called with "train" and with "val" as its first argument, and with path=
    (data.path, a string or None), image_size= (pixels) and channels=. It returns a Source: an
    ArraySource, or an object of the user's own with what data.sources.Source lists. UserError where
    the name is one of this project's.
    """
    if name in BUILT_IN:
        raise UserError(f"A data source can't be called {name}, which this project has: rename it.")

    def register(opener: Opener) -> Opener:
        _openers[name] = opener
        return opener

    return register


def open_registered(name: str, *, path: str | None, image_size: int, channels: int) -> tuple:
    """Training and validation split of a registered source, checked against each other.

    UserError for an unknown name, and where the two don't belong together or have other images
    than were asked for.
    """
    if name not in _openers:
        raise UserError(
            f"data.source is '{name}': expected one of {', '.join((*BUILT_IN, *_openers))}; a "
            "source of your own is known once --code=FILE.py names the file that registers it."
        )
    training, validation = (
        _openers[name](split, path=path, image_size=image_size, channels=channels)
        for split in ("train", "val")
    )
    for split in (training, validation):
        if (split.size, split.channels) != (image_size, channels):
            raise UserError(
                f"The data source {name} has images of {split.size} pixels with {split.channels} "
                f"channel(s), but data.image_size={image_size} and the network sees {channels}."
            )
    if training.classes != validation.classes:
        raise UserError(f"The two splits of the data source {name} have different classes.")
    return training, validation
