"""Sets of labelled images, read by random access: on disk, scikit-learn's digits, made-up ones."""

import functools
import hashlib
import os
import pathlib
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from PIL import Image

from alexnet_jax.data import images, prepared
from alexnet_jax.runtime.errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")


LEFT_BEHIND = ("Thumbs.db", "desktop.ini")  # by Windows; names with a leading dot are left out too


class Source(Protocol):
    """A split of a data set.

    `labels` int32 [records]. `ilsvrc_ids` are the ILSVRC2012_IDs of the classes, where the set
    knows them, `statistics_file` is where the statistics of this split lie, if it has them.
    `load(ids)` gives uint8 [n, size, size, channels], in the memory of `into` if that is given, and
    int32 [n], or raises images.BadImage.
    `name(record)` is the file name of an image.
    """

    classes: tuple[str, ...]
    labels: np.ndarray
    size: int
    channels: int
    fingerprint: str
    ilsvrc_ids: Sequence[int] | None
    statistics_file: pathlib.Path | None

    def __len__(self) -> int: ...

    def name(self, record: int) -> str: ...

    def load(
        self, ids: Sequence[int], into: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]: ...


class Folder:
    """The images of PATH/SPLIT/CLASS/*, classes in alphabetical order.

    `classes` is given for a validation split, so that its labels are those of training. With
    `hold_out` the images are those of PATH/CLASS/*, and every `hold_out`-th of a class, by name,
    is not for "train" but for the other split. UserError for a missing folder, a class without
    images, an unknown class and a file that is no image.
    """

    ilsvrc_ids = statistics_file = None

    def __init__(
        self,
        path: str | pathlib.Path,
        split: str,
        size: int,
        channels: int,
        classes: tuple[str, ...] | None = None,
        warp: bool = False,
        hold_out: int = 0,
    ):
        root = pathlib.Path(path) / ("" if hold_out else split)
        if not root.is_dir():
            raise UserError(
                f"{root} is not a folder: expected a prepared set in {path}, or images in "
                f"{path}/train/CLASS/ and {path}/val/CLASS/; give one of them with "
                "--config.data.path=DIR, and the name of the second folder with "
                "--config.data.validation=NAME if it is not val; or hold images of DIR/CLASS/ "
                "out with --config.data.hold_out=5."
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
            if hold_out:
                held = files[hold_out - 1 :: hold_out]
                files = [file for file in files if file not in held] if split == "train" else held
            self.files += files
            labels += [label] * len(files)
        self.labels = np.asarray(labels, np.int32)
        names = "\n".join(os.path.relpath(file, root) for file in self.files)
        how = ("warp",) * warp + (f"hold out {hold_out}",) * bool(hold_out)
        self.fingerprint = _fingerprint("folder", split, size, channels, names, *how)

    def __len__(self) -> int:
        return len(self.files)

    def name(self, record: int) -> str:
        return self.files[record]

    def load(
        self, ids: Sequence[int], into: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        shape = (len(ids), self.size, self.size, self.channels)
        pixels = np.empty(shape, np.uint8) if into is None else into
        for row, record in enumerate(ids):
            file = self.files[record]
            try:
                data = images.read(file)
            except OSError as error:
                raise images.Undecodable(f"The image {file} can't be read: {error}") from error
            pixels[row] = images.decode(data, file, self.size, self.channels, self.warp)
        return pixels, self.labels[np.asarray(ids)]


class Digits:
    """The 1,797 handwritten digits inside scikit-learn, 8 x 8 enlarged to `size`.

    Every fifth is held out: 1,438 for "train", 359 for "val".
    """

    classes = tuple("0123456789")
    ilsvrc_ids = statistics_file = None

    def __init__(self, split: str, size: int, channels: int):
        from sklearn.datasets import load_digits

        digits = load_digits()
        held_out = np.arange(len(digits.target)) % 5 == 4
        chosen = held_out if split == "val" else ~held_out
        mode = "L" if channels == 1 else "RGB"
        grey = np.round(digits.images[chosen] * (255 / 16)).astype(np.uint8)
        self.pixels = np.stack([_enlarge(digit, mode, size) for digit in grey])
        self.labels = digits.target[chosen].astype(np.int32)
        self.size, self.channels = size, channels
        self.fingerprint = _fingerprint("digits", split, size, channels)

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, record: int) -> str:
        return f"digit{record:04d}"

    def load(
        self, ids: Sequence[int], into: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        ids = np.asarray(ids)
        return np.take(self.pixels, ids, axis=0, out=into), self.labels[ids]


class Synthetic:
    """Random pixels, record i always the same: for trying a config without data."""

    ilsvrc_ids = statistics_file = None

    def __init__(self, split: str, records: int, classes: int, size: int, channels: int):
        self.classes = tuple(f"class{label}" for label in range(classes))
        self.size, self.channels = size, channels
        self.first = 0 if split == "train" else records  # the splits share no image
        self.labels = ((self.first + np.arange(records)) % classes).astype(np.int32)
        self.fingerprint = _fingerprint("synthetic", split, records, classes, size, channels)

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, record: int) -> str:
        return f"image{self.first + record:06d}"

    def load(
        self, ids: Sequence[int], into: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        shape = (self.size, self.size, self.channels)
        pixels = np.empty((len(ids), *shape), np.uint8) if into is None else into
        for row, record in enumerate(ids):
            random = np.random.Generator(np.random.Philox(key=self.first + int(record)))
            pixels[row] = random.integers(0, 256, shape, np.uint8)
        return pixels, self.labels[np.asarray(ids)]


def open_splits(
    kind: str,
    path: str | None,
    name: str,
    validation: str,
    size: int,
    channels: int,
    records: int,
    classes: int | None,
    warp: bool = False,
    hold_out: int = 0,
) -> tuple[Source, Source]:
    """Training and validation split of a source: "folder", "digits" or "synthetic".

    A folder holds a prepared set or images: that at `path` or, without one, the prepared set called
    `name` where tensorflow-datasets keeps its data. `validation` is the name of the second folder
    of images, `warp` how they are resized, `hold_out` how they are split if they are not; `records`
    and `classes` are for synthetic images.
    """
    match kind:
        case "folder":
            folder = pathlib.Path(path) if path else _prepared_folder(name)
            if hold_out:
                return _divided(folder, size, channels, warp, hold_out)
            if prepared.is_prepared(folder):
                shape = (size, channels, warp)
                return tuple(prepared.Prepared(folder, s, *shape) for s in ("train", "val"))
            training = Folder(folder, "train", size, channels, warp=warp)
            return training, Folder(folder, validation, size, channels, training.classes, warp)
        case "digits":
            return Digits("train", size, channels), Digits("val", size, channels)
        case "synthetic":
            make = functools.partial(
                Synthetic, records=records, classes=classes or 10, size=size, channels=channels
            )
            return make("train"), make("val")
    raise UserError(f"data.source is '{kind}': expected 'folder', 'digits' or 'synthetic'.")


def _divided(
    folder: pathlib.Path, size: int, channels: int, warp: bool, hold_out: int
) -> tuple[Folder, Folder]:
    """Both splits of a folder of class folders."""
    divided = prepared.is_prepared(folder) or (folder / "train").is_dir()
    if divided or hold_out < 2:
        why = f"{folder} has its splits already" if divided else "that would leave none to train on"
        raise UserError(
            f"data.hold_out={hold_out} holds every so many-th image of a class out, but {why}: "
            "give 0 where there are splits, else at least 2."
        )
    training, held = (
        Folder(folder, split, size, channels, None, warp, hold_out) for split in ("train", "val")
    )
    if not len(held):
        raise UserError(
            f"data.hold_out={hold_out}, but no class in {folder} has so many images: choose less."
        )
    return training, held


def _prepared_folder(name: str) -> pathlib.Path:
    folder = prepared.default_folder(name)
    if not prepared.is_prepared(folder):
        raise UserError(
            f"No data was given, and no prepared set lies in {folder}: add --config.data.path=DIR, "
            "where DIR is a prepared set or holds train/CLASS/*.jpg and val/CLASS/*.jpg, or "
            "prepare one: python -m alexnet_jax.data.prepare --help."
        )
    return folder


def _image_files(folder: pathlib.Path) -> list[str]:
    """Paths of the images of a class, sorted; anything else in it but LEFT_BEHIND is refused."""
    entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    names = []
    for entry in entries:
        if entry.name.startswith(".") or entry.name in LEFT_BEHIND:
            continue
        # A link to a file is one. A pipe or a device would be read for ever.
        if not entry.name.lower().endswith(SUFFIXES) or not entry.is_file():
            raise UserError(
                f"{entry.path} is not an image: a class folder holds image files "
                f"({', '.join(SUFFIXES)}) alone; take it away."
            )
        names.append(entry.name)
    if not names:
        raise UserError(f"{folder} holds no images: put some in it, or take the folder away.")
    return [str(folder / name) for name in names]


def _enlarge(digit: np.ndarray, mode: str, size: int) -> np.ndarray:
    return images.resize(Image.fromarray(digit).convert(mode), size)


def _fingerprint(*parts) -> str:
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:16]
