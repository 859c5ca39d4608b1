"""Images in class folders, and Kaggle's ImageNet with its flat validation and test folders."""

import csv
import os
import pathlib
from collections.abc import Iterable, Iterator

import numpy as np

from alexnet_jax.data import images
from alexnet_jax.data.arrays import RecordIds
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
    """The image files `names` below `root`, with their sizes in bytes and their labels."""

    blocks: np.ndarray | None = None

    def __init__(
        self, root: pathlib.Path, names: Iterable[str], sizes: list[int], labels: list[int]
    ):
        self.root = root
        self.names = Names(names)
        self.labels = np.asarray(labels, np.int32)
        self.fingerprint = fingerprint_of(self.names, np.asarray(sizes), self.labels)

    def __len__(self) -> int:
        return len(self.names)

    def read(self, ids: RecordIds) -> Iterator[Record]:
        for record in ids:
            name = self.names[record]
            yield Record(name, int(self.labels[record]), images.read(self.root / name))


def open_folder(root: pathlib.Path, validation: str | None = None) -> Origin:
    """The set below `root`: SPLIT/CLASS/*, or Kaggle's ImageNet, whose root lies up to 3 higher.

    UserError for any other layout, for classes that training lacks and for labels that do not fit
    the files.
    """
    folder = _splits_folder(root)
    names = [entry.name for entry in os.scandir(folder) if entry.is_dir()]
    chosen = choose_splits(names, validation, str(folder))
    classes = _folders(folder / "train")
    if not classes:
        raise UserError(f"{folder / 'train'} holds no class folders: expected CLASS/IMAGE in it.")
    splits = {}
    for split, name in chosen.items():
        if split == "train" or _folders(folder / name):
            splits[split] = _in_class_folders(folder / name, classes)
        else:
            labels = _solution(folder, folder / name, classes) if split == "val" else {}
            splits[split] = _flat(folder / name, labels)
    facts: dict[str, object] = {"kind": "folder", "where": str(root)}
    mapping = _find_above(folder, MAPPING)
    if mapping:
        facts["class_words"] = _words(mapping, classes)
    return Origin(classes, splits, facts)


def _splits_folder(root: pathlib.Path) -> pathlib.Path:
    """The folder that holds the splits: `root`, or one of Kaggle's below it."""
    below = [root.joinpath(*KAGGLE.parts[start:]) for start in range(len(KAGGLE.parts))]
    candidates = [folder for folder in (root, *below) if (folder / "train").is_dir()]
    if not candidates:
        raise UserError(
            f"{root} holds no folder train: expected train/CLASS/* and val/CLASS/* in it, or "
            f"Kaggle's {KAGGLE}."
        )
    return candidates[0]


def _in_class_folders(root: pathlib.Path, classes: tuple[str, ...]) -> FolderSplit:
    folders = _folders(root)
    unknown = sorted(set(folders) - set(classes))
    if unknown:
        raise UserError(
            f"{root} has a class '{unknown[0]}' that the training folder lacks: both splits need "
            "the same class folders."
        )
    names: list[str] = []
    sizes: list[int] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        for file, size in _files(root / name) if name in folders else ():
            names.append(f"{name}/{file}")
            sizes.append(size)
            labels.append(label)
    return FolderSplit(root, names, sizes, labels)


def _flat(root: pathlib.Path, labels: dict[str, int]) -> FolderSplit:
    """Files without class folders; `labels` maps names without suffix to labels, or is empty."""
    files = _files(root)
    stems = [pathlib.PurePath(file).stem for file, _ in files]
    if labels:
        unlabelled = sorted(set(stems) - set(labels))
        missing = sorted(set(labels) - set(stems))
        if unlabelled:
            raise UserError(
                f"{root / unlabelled[0]}.* has no row in {SOLUTION}: take it away, or get the "
                "whole file."
            )
        if missing:
            raise UserError(
                f"{SOLUTION} has a row '{missing[0]}', but {root} has no such image: get it, or "
                "take the row away."
            )
    names, sizes = [file for file, _ in files], [size for _, size in files]
    return FolderSplit(root, names, sizes, [labels.get(stem, NO_LABEL) for stem in stems])


def _folders(root: pathlib.Path) -> tuple[str, ...]:
    names = (entry.name for entry in os.scandir(root) if entry.is_dir())
    return tuple(sorted(name for name in names if not name.startswith(".")))


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


def _find_above(folder: pathlib.Path, name: str) -> pathlib.Path | None:
    """A file in the folder or in one of its parents."""
    resolved = folder.resolve()
    paths = (parent / name for parent in (resolved, *resolved.parents[:PARENTS_SEARCHED]))
    return next((path for path in paths if path.is_file()), None)


def _solution(
    splits_folder: pathlib.Path, root: pathlib.Path, classes: tuple[str, ...]
) -> dict[str, int]:
    """The label of each validation image, by its file name without suffix."""
    path = _find_above(splits_folder, SOLUTION)
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
    """The words of each class, from a file of lines such as "n01440764 tench, Tinca tinca"."""
    lines = path.read_text(encoding="utf-8").splitlines()
    words = {name: rest.strip() for name, _, rest in (line.partition(" ") for line in lines)}
    return [words.get(name, "") for name in classes]
