"""The images whose features are wanted: files that people name, or a split of a data set."""

import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Callable, Sequence

import numpy as np

from alexnet_jax.data import image_files, sources, synsets
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.tools.load import find_checkpoint
from alexnet_jax.training import checkpoint, plan, run_folder, setup

NO_LABEL = -1
SPLITS = ("train", "val")


@dataclasses.dataclass(frozen=True)
class Stored:
    """The shape in which images are kept before a crop is cut out of them; see images.decode."""

    size: int
    channels: int
    warp: bool


@dataclasses.dataclass(frozen=True)
class Collection:
    """Images by number: `load` gives uint8 [size, size, channels] or raises images.BadImage.

    `labels` int32, NO_LABEL where the class is not known; their names are `classes`. `where` the
    images are is flat JSON for `open_again`; `fingerprint` tells lists apart.
    """

    names: Sequence[str]
    labels: np.ndarray
    classes: tuple[str, ...]
    load: image_files.Load
    where: dict
    fingerprint: str

    def __len__(self) -> int:
        return len(self.names)

    def metadata(self, left_out: Sequence[int]) -> dict:
        """The images for JSON, with the numbers of those that can't be read as names."""
        return {
            "classes": list(self.classes),
            "images": {"fingerprint": self.fingerprint, **self.where},
            "left_out": [self.names[number] for number in left_out],
        }


def of_files(files: Sequence[str], classes: tuple[str, ...], stored: Stored) -> Collection:
    """Files of images; one whose folder has the name of a class, or its words, has that label."""
    folders = [pathlib.Path(file).parent.name for file in files]
    known = {folder: synsets.find_class(classes, folder) for folder in set(folders)}
    labels = [NO_LABEL if known[folder] is None else known[folder] for folder in folders]
    text = "\0".join(files).encode(errors="surrogateescape")
    return Collection(
        names=files,
        labels=np.asarray(labels, np.int32),
        classes=classes,
        load=image_files.loader(files, stored.size, stored.channels, stored.warp),
        where={"files_named_from": os.getcwd()},
        fingerprint=hashlib.sha256(text).hexdigest()[:16],
    )


def of_set(path: str, split: str, stored: Stored) -> Collection:
    """A split of a prepared set or of PATH/train/CLASS/* and PATH/val/CLASS/*."""
    source = _set_at(path, split, stored)
    return _of_source(source, {"path": os.path.abspath(path), "split": split})


def of_run(workdir: str, split: str) -> Collection:
    """A split of the data that a run was trained on; UserError if it is no longer there."""
    return _of_source(
        _set_of(workdir, split), {"workdir": os.path.abspath(workdir), "split": split}
    )


def open_again(where: dict, names: Sequence[str], stored: Stored) -> image_files.Load:
    """The pixels of images by their number; `where` as in Collection.metadata."""
    if "files_named_from" in where:
        files = full_names(where, names)
        return image_files.loader(files, stored.size, stored.channels, stored.warp)
    if "path" in where:
        return _load_by_name(_set_at(where["path"], where["split"], stored), names)
    return _load_by_name(_set_of(where["workdir"], where["split"]), names)


def full_names(where: dict, names: Sequence[str]) -> list[str]:
    """Names that an image has in no other collection; `where` as in Collection.metadata."""
    if "files_named_from" in where:
        folder = where["files_named_from"]
        return [os.path.normpath(os.path.join(folder, name)) for name in names]
    return [f"{where['fingerprint']} {name}" for name in names]


def _set_at(path: str, split: str, stored: Stored) -> sources.Source:
    splits = sources.open_splits(
        kind="folder",
        path=path,
        name="",
        validation="val",
        image_size=stored.size,
        channels=stored.channels,
        num_records=0,
        num_classes=None,
        warp=stored.warp,
    )
    return splits[SPLITS.index(split)]


def _set_of(workdir: str, split: str) -> sources.Source:
    folder = pathlib.Path(workdir)
    step, _ = find_checkpoint(folder, "latest")
    config = run_folder.config_of(checkpoint.facts_at(folder / "checkpoints", step))
    architecture = plan.variant_of(config).architecture()
    return setup.open_data(config, architecture)[SPLITS.index(split)]


def _of_source(source: sources.Source, where: dict) -> Collection:
    return Collection(
        names=[source.name(record) for record in range(len(source))],
        labels=np.asarray(source.labels),
        classes=tuple(source.classes),
        load=_loader(source),
        where=where,
        fingerprint=source.fingerprint,
    )


def _loader(source: sources.Source) -> Callable[[int], np.ndarray]:
    return lambda record: source.load([record])[0][0]


def _load_by_name(source: sources.Source, names: Sequence[str]) -> image_files.Load:
    """Images that could not be read were left out of `names`."""
    records = {source.name(record): record for record in range(len(source))}
    load = _loader(source)

    def load_named(number: int) -> np.ndarray:
        if names[number] not in records:
            raise UserError(f"The data set no longer holds the image {names[number]}.")
        return load(records[names[number]])

    return load_named
