"""Images in class folders, and Kaggle's ImageNet with its flat validation and test folders."""

import csv
import os
import pathlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from alexnet_jax.data import images
from alexnet_jax.data.origins.origin import (
    NO_LABEL,
    Names,
    Origin,
    Record,
    choose_splits,
    fingerprint_of,
)
from alexnet_jax.data.sources import IGNORED_FILES
from alexnet_jax.runtime.errors import UserError

KAGGLE = pathlib.PurePath("ILSVRC/Data/CLS-LOC")
SOLUTION, MAPPING = "LOC_val_solution.csv", "LOC_synset_mapping.txt"
PARENTS_SEARCHED = 3  # KAGGLE is three folders deep


class FolderSplit:
    """The files `names` below `root`."""

    blocks = None

    def __init__(self, root: pathlib.Path, names: Iterable[str], sizes: list, labels: list):
        self.root = root
        self.names = Names(names)
        self.labels = np.asarray(labels, np.int32)
        self.fingerprint = fingerprint_of(self.names, np.asarray(sizes), self.labels)

    def __len__(self) -> int:
        return len(self.names)

    def read(self, ids: Sequence[int]) -> Iterator[Record]:
        for record in ids:
            name = self.names[record]
            yield Record(name, int(self.labels[record]), images.read(self.root / name))


def open_folder(root: pathlib.Path, validation: str | None = None) -> Origin:
    """The set below `root`: SPLIT/CLASS/*, or Kaggle's ImageNet, whose root lies up to 3 higher.

    UserError for what is no such layout, for classes that training lacks and for labels that do
    not fit the files.
    """
    place = _place(root)
    found = [entry.name for entry in os.scandir(place) if entry.is_dir()]
    chosen = choose_splits(found, validation, str(place))
    classes = _folders(place / "train")
    if not classes:
        raise UserError(f"{place / 'train'} holds no class folders: expected CLASS/IMAGE in it.")
    splits = {}
    for split, name in chosen.items():
        if split == "train" or _folders(place / name):
            splits[split] = _in_class_folders(place / name, classes)
        else:
            labels = _solution(place, place / name, classes) if split == "val" else {}
            splits[split] = _flat(place / name, labels)
    facts = {"kind": "folder", "where": str(root)}
    mapping = _beside(place, MAPPING)
    if mapping:
        facts["class_words"] = _words(mapping, classes)
    return Origin(classes, splits, facts)


def _place(root: pathlib.Path) -> pathlib.Path:
    """The folder that holds the splits."""
    below = [root.joinpath(*KAGGLE.parts[start:]) for start in range(len(KAGGLE.parts))]
    places = [place for place in (root, *below) if (place / "train").is_dir()]
    if not places:
        raise UserError(
            f"{root} holds no folder train: expected train/CLASS/* and val/CLASS/* in it, or "
            f"Kaggle's {KAGGLE}."
        )
    return places[0]


def _in_class_folders(root: pathlib.Path, classes: tuple[str, ...]) -> FolderSplit:
    found = _folders(root)
    unknown = sorted(set(found) - set(classes))
    if unknown:
        raise UserError(
            f"{root} has a class '{unknown[0]}' that the training folder lacks: both splits need "
            "the same class folders."
        )
    names, sizes, labels = [], [], []
    for label, name in enumerate(classes):
        for file, size in _files(root / name) if name in found else ():
            names.append(f"{name}/{file}")
            sizes.append(size)
            labels.append(label)
    return FolderSplit(root, names, sizes, labels)


def _flat(root: pathlib.Path, labels: dict[str, int]) -> FolderSplit:
    """Files in no class folder; `labels` by file name without ending, or none at all."""
    files = _files(root)
    stems = [pathlib.PurePath(file).stem for file, _ in files]
    if labels:
        bare = sorted(set(stems) - set(labels))
        missing = sorted(set(labels) - set(stems))
        if bare:
            raise UserError(
                f"{root / bare[0]}.* has no row in {SOLUTION}: take it away, or get the whole file."
            )
        if missing:
            raise UserError(
                f"{SOLUTION} has a row '{missing[0]}', but {root} has no such image: get it, or "
                "take the row away."
            )
    names, sizes = [file for file, _ in files], [size for _, size in files]
    return FolderSplit(root, names, sizes, [labels.get(stem, NO_LABEL) for stem in stems])


def _folders(root: pathlib.Path) -> tuple[str, ...]:
    found = (entry.name for entry in os.scandir(root) if entry.is_dir())
    return tuple(sorted(name for name in found if not name.startswith(".")))


def _files(folder: pathlib.Path) -> list[tuple[str, int]]:
    """Names and bytes of all files in a folder, sorted; UserError if there is none."""
    files = []
    for entry in os.scandir(folder):
        if entry.name.startswith(".") or entry.name in IGNORED_FILES:
            continue
        if not entry.is_file():
            raise UserError(
                f"{entry.path} is no file: a folder of images holds nothing else; take it away."
            )
        files.append((entry.name, entry.stat().st_size))
    if not files:
        raise UserError(f"{folder} holds no images: put some in it, or take the folder away.")
    return sorted(files)


def _beside(place: pathlib.Path, name: str) -> pathlib.Path | None:
    """A file of the folder of splits, or of one that it lies in."""
    here = place.resolve()
    paths = (folder / name for folder in (here, *here.parents[:PARENTS_SEARCHED]))
    return next((path for path in paths if path.is_file()), None)


def _solution(place: pathlib.Path, root: pathlib.Path, classes: tuple[str, ...]) -> dict[str, int]:
    """The label of each validation image, by its file name without ending."""
    path = _beside(place, SOLUTION)
    if path is None:
        raise UserError(
            f"{root} has no class folders, and no {SOLUTION} was found beside it or up to "
            f"{PARENTS_SEARCHED} folders higher: sort its images into CLASS/, or put that file "
            "there."
        )
    label_of = {name: label for label, name in enumerate(classes)}
    labels = {}
    with path.open(newline="", errors="replace") as file:
        rows = csv.DictReader(file)
        for row in rows:
            image, words = row.get("ImageId"), (row.get("PredictionString") or "").split()
            if not image or not words or words[0] not in label_of:
                raise UserError(
                    f"{path}, line {rows.line_num}: expected the columns ImageId and "
                    "PredictionString, the second with a class of the training folder as its first "
                    "word; get the file again."
                )
            labels[image] = label_of[words[0]]
    if not labels:
        raise UserError(f"{path} has no rows: get the file again.")
    return labels


def _words(path: pathlib.Path, classes: tuple[str, ...]) -> list[str]:
    """What each class is called: "n01440764 tench, Tinca tinca" is a line of the file."""
    lines = path.read_text(encoding="utf-8").splitlines()
    words = {name: rest.strip() for name, _, rest in (line.partition(" ") for line in lines)}
    return [words.get(name, "") for name in classes]
