"""Data sets with random access: folders, prepared sets, scikit-learn's digits, synthetic images."""

import functools
import hashlib
import os
import pathlib
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from PIL import Image

from alexnet_jax.data import custom_sources, images, prepared
from alexnet_jax.data.arrays import RecordIds
from alexnet_jax.data.custom_sources import ArraySource
from alexnet_jax.runtime.errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
# Files that Windows puts into folders; names with a leading dot are ignored too.
IGNORED_FILES = ("Thumbs.db", "desktop.ini")


class Source(Protocol):
    """A split of a data set.

    `labels` int32 [records]. `ilsvrc_ids` are the ILSVRC2012_IDs of the classes, where the set
    has them. `statistics_file` is the file of this split's statistics, if there is one.
    `load(ids, out)` returns images uint8 [n, size, size, channels], written to `out` unless that is
    None, and labels int32 [n], or raises images.BadImage.
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
        self, ids: RecordIds, out: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]: ...


class Folder:
    """The images of PATH/SPLIT/CLASS/*, classes in alphabetical order.

    A validation split gets the `classes` of the training split, so that their labels agree. With
    `hold_out` the images are those of PATH/CLASS/*, and every `hold_out`-th of a class, by name,
    belongs to the validation split instead of "train". UserError for a missing folder, a class
    without images, an unknown class and a file that is no image.
    """

    ilsvrc_ids: Sequence[int] | None = None
    statistics_file: pathlib.Path | None = None

    def __init__(
        self,
        path: str | pathlib.Path,
        split: str,
        size: int,
        channels: int,
        *,
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
        folders = tuple(sorted(e.name for e in entries if not e.name.startswith(".")))
        if not folders:
            raise UserError(f"{root} holds no class folders: expected CLASS/NAME.jpg in it.")
        unknown = sorted(set(folders) - set(classes or folders))
        if unknown:
            raise UserError(
                f"{root} has a class '{unknown[0]}' that the training folder lacks: both splits "
                "need the same class folders."
            )
        self.classes = classes or folders
        self.size, self.channels, self.warp = size, channels, warp
        self.files: list[str] = []
        labels: list[int] = []
        for label, name in enumerate(self.classes):
            files = _image_files(root / name) if name in folders else []
            if hold_out:
                held_out = files[hold_out - 1 :: hold_out]
                training = [file for file in files if file not in held_out]
                files = training if split == "train" else held_out
            self.files += files
            labels += [label] * len(files)
        self.labels = np.asarray(labels, np.int32)
        names = "\n".join(os.path.relpath(file, root) for file in self.files)
        options = ("warp",) * warp + (f"hold out {hold_out}",) * bool(hold_out)
        self.fingerprint = _fingerprint("folder", split, size, channels, names, *options)

    def __len__(self) -> int:
        return len(self.files)

    def name(self, record: int) -> str:
        return self.files[record]

    def load(self, ids: RecordIds, out: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        shape = (len(ids), self.size, self.size, self.channels)
        pixels = np.empty(shape, np.uint8) if out is None else out
        for i, record in enumerate(ids):
            file = self.files[record]
            try:
                data = images.read(file)
            except OSError as error:
                raise images.Undecodable(f"The image {file} can't be read: {error}") from error
            pixels[i] = images.decode(data, file, self.size, self.channels, self.warp)
        return pixels, self.labels[np.asarray(ids)]


class Digits(ArraySource):
    """The 1,797 handwritten digits inside scikit-learn, 8 x 8 enlarged to `size`.

    Every fifth is held out: 1,438 for "train", 359 for "val".
    """

    def __init__(self, split: str, size: int, channels: int):
        from sklearn.datasets import load_digits

        digits = load_digits()
        held_out = np.arange(len(digits.target)) % 5 == 4
        in_split = held_out if split == "val" else ~held_out
        mode = "L" if channels == 1 else "RGB"
        grey = np.round(digits.images[in_split] * (255 / 16)).astype(np.uint8)
        enlarged = np.stack([_enlarge(digit, mode, size) for digit in grey])
        super().__init__(enlarged, digits.target[in_split], "0123456789")
        self.fingerprint = _fingerprint("digits", split, size, channels)

    def name(self, record: int) -> str:
        return f"digit{record:04d}"


class Synthetic:
    """Random pixels, a function of the record's number: for trying a config without data."""

    ilsvrc_ids: Sequence[int] | None = None
    statistics_file: pathlib.Path | None = None

    def __init__(self, split: str, *, num_records: int, num_classes: int, size: int, channels: int):
        self.classes = tuple(f"class{label}" for label in range(num_classes))
        self.size, self.channels = size, channels
        self.first = 0 if split == "train" else num_records  # the splits share no image
        self.labels = ((self.first + np.arange(num_records)) % num_classes).astype(np.int32)
        self.fingerprint = _fingerprint(
            "synthetic", split, num_records, num_classes, size, channels
        )

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, record: int) -> str:
        return f"image{self.first + record:06d}"

    def load(self, ids: RecordIds, out: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        shape = (self.size, self.size, self.channels)
        pixels = np.empty((len(ids), *shape), np.uint8) if out is None else out
        for i, record in enumerate(ids):
            random = np.random.Generator(np.random.Philox(key=self.first + int(record)))
            pixels[i] = random.integers(0, 256, shape, np.uint8)
        return pixels, self.labels[np.asarray(ids)]


def open_splits(
    kind: str,
    *,
    path: str | None,
    name: str,
    validation: str,
    image_size: int,
    channels: int,
    num_records: int,
    num_classes: int | None,
    warp: bool = False,
    hold_out: int = 0,
) -> tuple[Source, Source]:
    """Training and validation split of a source: BUILT_IN or registered (custom_sources.py).

    A folder holds a prepared set or images: the one at `path` or, without a path, the prepared set
    called `name` where tensorflow-datasets keeps its data. `validation` is the name of the folder
    of validation images, `warp` how images are resized, and `hold_out` how class folders without
    splits are divided (see Folder). `num_records` and `num_classes` (10 if None) are for synthetic
    images. UserError for an unknown source or a folder that can't be used.
    """
    match kind:
        case "folder":
            folder = pathlib.Path(path) if path else _prepared_folder(name)
            return _open_folder(folder, validation, image_size, channels, warp, hold_out)
        case "digits":
            return Digits("train", image_size, channels), Digits("val", image_size, channels)
        case "synthetic":
            make = functools.partial(
                Synthetic,
                num_records=num_records,
                num_classes=num_classes or 10,
                size=image_size,
                channels=channels,
            )
            return make("train"), make("val")
    return custom_sources.open_registered(kind, path=path, image_size=image_size, channels=channels)


def _open_folder(
    folder: pathlib.Path, validation: str, size: int, channels: int, warp: bool, hold_out: int
) -> tuple[Source, Source]:
    """Both splits of a prepared set or of a folder of images."""
    if not hold_out and prepared.is_prepared(folder):
        make = functools.partial(prepared.Prepared, size=size, channels=channels, warp=warp)
        return make(folder, "train"), make(folder, "val")
    open_split = functools.partial(
        Folder, folder, size=size, channels=channels, warp=warp, hold_out=hold_out
    )
    if not hold_out:
        training = open_split("train")
        return training, open_split(validation, classes=training.classes)
    has_splits = prepared.is_prepared(folder) or (folder / "train").is_dir()
    if has_splits or hold_out < 2:
        problem = (
            f"{folder} has its splits already"
            if has_splits
            else "that would leave none to train on"
        )
        raise UserError(
            f"data.hold_out={hold_out} holds every so many-th image of a class out, but {problem}: "
            "give 0 where there are splits, else at least 2."
        )
    training, held_out = open_split("train"), open_split("val")
    if not len(held_out):
        raise UserError(
            f"data.hold_out={hold_out}, but no class in {folder} has so many images: choose less."
        )
    return training, held_out


def _prepared_folder(name: str) -> pathlib.Path:
    folder = prepared.default_folder(name)
    if not prepared.is_prepared(folder):
        raise UserError(
            f"No data was given, and no prepared set lies in {folder}: add --config.data.path=DIR, "
            "where DIR is a prepared set or holds train/CLASS/*.jpg and val/CLASS/*.jpg, or "
            "prepare one: python -m alexnet_jax prepare --help."
        )
    return folder


def _image_files(folder: pathlib.Path) -> list[str]:
    """Paths of the images of a class, sorted; anything else in it but IGNORED_FILES is refused."""
    entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    names = []
    for entry in entries:
        if entry.name.startswith(".") or entry.name in IGNORED_FILES:
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
