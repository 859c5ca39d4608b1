"""Sets of labelled images, read by random access: a folder, scikit-learn's digits, made-up ones."""

import functools
import hashlib
import os
import pathlib
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from PIL import Image

from alexnet_jax.data import images
from alexnet_jax.errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")


LEFT_BEHIND = ("Thumbs.db", "desktop.ini")  # by Windows; names with a leading dot are left out too


class Source(Protocol):
    """A split of a data set. `load(ids)` gives uint8 [n, size, size, channels] and int32 [n]."""

    classes: tuple[str, ...]
    fingerprint: str

    def __len__(self) -> int: ...

    def load(self, ids: Sequence[int]) -> tuple[np.ndarray, np.ndarray]: ...


class Folder:
    """The images of PATH/SPLIT/CLASS/*, classes in alphabetical order.

    `classes` is given for a validation split, so that its labels are those of training. UserError
    for a missing folder, a class without images, an unknown class and a file that is no image.
    """

    def __init__(
        self,
        path: str,
        split: str,
        size: int,
        channels: int,
        classes: tuple[str, ...] | None = None,
        warp: bool = False,
    ):
        root = pathlib.Path(path) / split
        if not root.is_dir():
            raise UserError(
                f"{root} is not a folder: images are expected in {path}/train/CLASS/ and "
                f"{path}/val/CLASS/; give that folder with --config.data.path=DIR, and the name of "
                "the second with --config.data.validation=NAME if it is not val."
            )
        entries = (entry for entry in os.scandir(root) if entry.is_dir())
        found = tuple(sorted(e.name for e in entries if not e.name.startswith(".")))
        if not found:
            raise UserError(f"{root} holds no class folders: expected CLASS/NAME.jpg in it.")
        unknown = sorted(set(found) - set(classes or found))
        if unknown:
            raise UserError(
                f"{root} has a class '{unknown[0]}' that the training folder lacks: both splits "
                "need the same class folders."
            )
        self.classes = classes or found
        self.size, self.channels, self.warp = size, channels, warp
        self.files, labels = [], []
        for label, name in enumerate(self.classes):
            files = _image_files(root / name) if name in found else []
            self.files += files
            labels += [label] * len(files)
        self.labels = np.asarray(labels, np.int32)
        names = "\n".join(os.path.relpath(file, root) for file in self.files)
        how = ("warp",) * warp
        self.fingerprint = _fingerprint("folder", split, size, channels, names, *how)

    def __len__(self) -> int:
        return len(self.files)

    def load(self, ids: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        pixels = np.empty((len(ids), self.size, self.size, self.channels), np.uint8)
        for row, record in enumerate(ids):
            pixels[row] = images.read(self.files[record], self.size, self.channels, self.warp)
        return pixels, self.labels[np.asarray(ids)]


class Digits:
    """The 1,797 handwritten digits inside scikit-learn, 8 x 8 enlarged to `size`.

    Every fifth is held out: 1,438 for "train", 359 for "val".
    """

    classes = tuple("0123456789")

    def __init__(self, split: str, size: int, channels: int):
        from sklearn.datasets import load_digits

        digits = load_digits()
        held_out = np.arange(len(digits.target)) % 5 == 4
        chosen = held_out if split == "val" else ~held_out
        mode = "L" if channels == 1 else "RGB"
        grey = np.round(digits.images[chosen] * (255 / 16)).astype(np.uint8)
        self.pixels = np.stack([_enlarge(digit, mode, size) for digit in grey])
        self.labels = digits.target[chosen].astype(np.int32)
        self.fingerprint = _fingerprint("digits", split, size, channels)

    def __len__(self) -> int:
        return len(self.labels)

    def load(self, ids: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        return self.pixels[np.asarray(ids)], self.labels[np.asarray(ids)]


class Synthetic:
    """Random pixels, record i always the same: for trying a config without data."""

    def __init__(self, split: str, records: int, classes: int, size: int, channels: int):
        self.classes = tuple(f"class{label}" for label in range(classes))
        self.shape = (size, size, channels)
        self.first = 0 if split == "train" else records  # the splits share no image
        self.records = records
        self.fingerprint = _fingerprint("synthetic", split, records, classes, size, channels)

    def __len__(self) -> int:
        return self.records

    def load(self, ids: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        pixels = np.empty((len(ids), *self.shape), np.uint8)
        for row, record in enumerate(ids):
            random = np.random.Generator(np.random.Philox(key=self.first + int(record)))
            pixels[row] = random.integers(0, 256, self.shape, np.uint8)
        labels = (self.first + np.asarray(ids)) % len(self.classes)
        return pixels, labels.astype(np.int32)


def open_splits(
    kind: str,
    path: str | None,
    validation: str,
    size: int,
    channels: int,
    records: int,
    classes: int | None,
    warp: bool = False,
) -> tuple[Source, Source]:
    """Training and validation split of a source: "folder", "digits" or "synthetic".

    `path`, the name of its folder for `validation` and `warp` are for a folder of images; `records`
    and `classes` are for synthetic images.
    """
    match kind:
        case "folder" if path is None:
            raise UserError(
                "This config trains on a folder of images, and none was given: add "
                "--config.data.path=DIR, where DIR holds train/CLASS/*.jpg and val/CLASS/*.jpg."
            )
        case "folder":
            training = Folder(path, "train", size, channels, warp=warp)
            return training, Folder(path, validation, size, channels, training.classes, warp)
        case "digits":
            return Digits("train", size, channels), Digits("val", size, channels)
        case "synthetic":
            make = functools.partial(
                Synthetic, records=records, classes=classes or 10, size=size, channels=channels
            )
            return make("train"), make("val")
    raise UserError(f"data.source is '{kind}': expected 'folder', 'digits' or 'synthetic'.")


def _image_files(folder: pathlib.Path) -> list[str]:
    """Paths of the images of a class, sorted; anything else in it but LEFT_BEHIND is refused."""
    names = sorted(e.name for e in os.scandir(folder) if not e.name.startswith("."))
    names = [name for name in names if name not in LEFT_BEHIND]
    for name in names:
        if not name.lower().endswith(SUFFIXES):
            raise UserError(
                f"{folder / name} is not an image: a class folder holds image files "
                f"({', '.join(SUFFIXES)}) alone; take it away."
            )
    if not names:
        raise UserError(f"{folder} holds no images: put some in it, or take the folder away.")
    return [str(folder / name) for name in names]


def _enlarge(digit: np.ndarray, mode: str, size: int) -> np.ndarray:
    return images.resize(Image.fromarray(digit).convert(mode), size)


def _fingerprint(*parts) -> str:
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:16]
