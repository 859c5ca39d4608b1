"""Images as files in class folders, or as Kaggle distributes ILSVRC-2012."""

import csv
import os
import pathlib
from collections.abc import Sequence

import numpy as np

from alexnet_jax.data.origins.origin import NO_LABEL, Origin, Slices, validation_of
from alexnet_jax.errors import UserError

LEFT_BEHIND = ("Thumbs.db", "desktop.ini")  # by Windows; names with a leading dot are left out too
KAGGLE = pathlib.Path("ILSVRC/Data/CLS-LOC")


def open_folder(where: str, validation: str | None) -> Origin:
    """DIR/train/CLASS/* and DIR/val/CLASS/*, or Kaggle's layout; UserError if it is neither.

    Every file of a class counts as an image; what is none is found when it is prepared.
    """
    root = pathlib.Path(where)
    if not root.is_dir():
        raise UserError(f"{root} is not a folder: expected one with train/CLASS/* in it.")
    answers = _kaggle_answers(root)
    if answers is not None:
        return _open_kaggle(root, answers)
    folders = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
    if "train" not in folders:
        raise UserError(f"{root} has no folder 'train': expected train/CLASS/* in it.")
    second = validation_of(folders, validation, str(root))
    classes = _class_folders(root / "train")
    unknown = sorted(set(_class_folders(root / second)) - set(classes))
    if unknown:
        raise UserError(
            f"{root / second} has a class '{unknown[0]}' that the training folder lacks: both "
            "splits need the same class folders."
        )
    names = {"train": "train", "val": second}
    if "test" in folders and second != "test" and _class_folders(root / "test"):
        names["test"] = "test"
    splits = {split: _classified(root / name, classes) for split, name in names.items()}
    return Origin(classes, splits, {"kind": "folder", "where": str(root)})


def _open_kaggle(root: pathlib.Path, answers: pathlib.Path) -> Origin:
    inner = answers.parent / KAGGLE
    classes = _class_folders(inner / "train")
    number = {name: label for label, name in enumerate(classes)}
    with open(answers, newline="") as file:
        rows = {row["ImageId"]: row["PredictionString"].split()[0] for row in csv.DictReader(file)}
    files = _files(inner / "val")
    stems = {pathlib.PurePath(file).stem for file in files}
    if missing := sorted(stems ^ set(rows)):
        raise UserError(
            f"{answers} and {inner / 'val'} do not belong together: {missing[0]} stands in one of "
            "them alone."
        )
    labels = []
    for file in files:
        wnid = rows[pathlib.PurePath(file).stem]
        if wnid not in number:
            raise UserError(
                f"{answers} calls {file} '{wnid}', which is no folder of {inner / 'train'}."
            )
        labels.append(number[wnid])
    splits = {
        "train": _classified(inner / "train", classes),
        "val": _whole_files(inner / "val", files, labels),
    }
    if (inner / "test").is_dir():
        tests = _files(inner / "test")
        splits["test"] = _whole_files(inner / "test", tests, [NO_LABEL] * len(tests))
    facts = {"kind": "folder", "where": str(root)}
    mapping = answers.with_name("LOC_synset_mapping.txt")
    if mapping.exists():
        lines = (line.split(maxsplit=1) for line in mapping.read_text().splitlines())
        words = {line[0]: line[1] for line in lines if len(line) == 2}
        facts["class_words"] = [words.get(name, name) for name in classes]
    return Origin(classes, splits, facts)


def _kaggle_answers(root: pathlib.Path) -> pathlib.Path | None:
    """LOC_val_solution.csv, if `root` is Kaggle's folder or one on the way to its images."""
    root = root.resolve()
    for place in (root, *root.parents[:3]):
        answers = place / "LOC_val_solution.csv"
        if answers.exists() and (place / KAGGLE).is_relative_to(root):
            return answers
    return None


def _class_folders(root: pathlib.Path) -> tuple[str, ...]:
    names = (entry.name for entry in os.scandir(root) if entry.is_dir())
    found = tuple(sorted(name for name in names if not name.startswith(".")))
    if not found:
        raise UserError(f"{root} holds no class folders: expected CLASS/NAME.jpg in it.")
    return found


def _classified(root: pathlib.Path, classes: Sequence[str]) -> Slices:
    """Images of ROOT/CLASS/*, in the order of classes."""
    files, labels = [], []
    for label, name in enumerate(classes):
        own = _files(root / name) if (root / name).is_dir() else []
        files += [f"{name}/{file}" for file in own]
        labels += [label] * len(own)
    return _whole_files(root, files, labels)


def _files(folder: pathlib.Path) -> list[str]:
    names = (entry.name for entry in os.scandir(folder) if entry.is_file())
    return sorted(n for n in names if not n.startswith(".") and n not in LEFT_BEHIND)


def _whole_files(root: pathlib.Path, names: list[str], labels: list[int]) -> Slices:
    paths = [str(root / name) for name in names]
    count = len(paths)
    return Slices(
        names=names,
        labels=np.asarray(labels, np.int32),
        files=paths,
        owners=np.arange(count),
        offsets=np.zeros(count, np.int64),
        sizes=np.asarray([os.stat(path).st_size for path in paths], np.int64),
    )
