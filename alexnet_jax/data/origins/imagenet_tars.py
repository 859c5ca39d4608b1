"""ILSVRC-2012 as it was distributed: a tar of class tars, a flat one, and the development kit."""

import io
import pathlib
import tarfile
from collections.abc import Iterator

import numpy as np

from alexnet_jax.data.origins.origin import NO_LABEL, Origin, Slices
from alexnet_jax.errors import UserError

TRAIN, VALIDATION = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"
TESTS = "ILSVRC2012_img_test*.tar"
DEVKIT = "ILSVRC2012_devkit_t12.tar.gz"
SYNSETS, ANSWERS = "data/meta.mat", "data/ILSVRC2012_validation_ground_truth.txt"

# Name, absolute offset and size of each file in a tar.
Members = list[tuple[str, int, int]]


def open_tars(where: str) -> Origin:
    """The tars in a folder; UserError if one is missing, damaged or belongs to another set."""
    root = pathlib.Path(where)
    for name in (TRAIN, VALIDATION, DEVKIT):
        if not (root / name).is_file():
            raise UserError(f"{root / name} is missing: put {TRAIN}, {VALIDATION} and {DEVKIT} "
                            "into one folder.")  # fmt: skip
    ids, words, answers = _read_devkit(root / DEVKIT)
    classes = tuple(sorted(ids))
    number = {ids[wnid]: label for label, wnid in enumerate(classes)}
    members = sorted(_members(root / VALIDATION))
    if len(members) != len(answers):
        raise UserError(
            f"{root / VALIDATION} has {len(members):,} images, and {DEVKIT} knows the labels of "
            f"{len(answers):,}: get both anew."
        )
    splits = {
        "train": _training(root / TRAIN, classes),
        "val": _slices(root / VALIDATION, members, [number[answer] for answer in answers]),
    }
    for path in sorted(root.glob(TESTS)):
        found = sorted(_members(path))
        splits["test"] = _slices(path, found, [NO_LABEL] * len(found))
    facts = {
        "kind": "imagenet_tars",
        "where": str(root),
        "ilsvrc_ids": [ids[wnid] for wnid in classes],
        "class_words": [words[wnid] for wnid in classes],
    }
    return Origin(classes, splits, facts)


def _training(path: pathlib.Path, classes: tuple[str, ...]) -> Slices:
    """Images of the class tars inside a tar, in the order of classes."""
    number = {wnid: label for label, wnid in enumerate(classes)}
    members, labels = [], []
    with open(path, "rb") as file:
        for name, offset, size in sorted(_members(path)):
            wnid = name.removesuffix(".tar")
            if wnid not in number:
                raise UserError(
                    f"{path} holds {name}, which is no class of {DEVKIT}: expected tars named "
                    f"after classes, such as {classes[0]}.tar."
                )
            inner = _members(path, _Window(file, offset, size), offset)
            found = [(f"{wnid}/{image}", *place) for image, *place in sorted(inner)]
            members += found
            labels += [number[wnid]] * len(found)
    return _slices(path, members, labels)


def _members(path: pathlib.Path, file: io.RawIOBase | None = None, before: int = 0) -> Members:
    """The files of the tar `path`, or of one inside it that begins `before` bytes after its start.

    Reads headers alone.
    """
    found: Members = []
    try:
        with tarfile.open(path, "r:", fileobj=file) as tar:
            for member in tar:
                name = pathlib.PurePosixPath(member.name).name
                if member.isfile() and not name.startswith("."):
                    found.append((name, before + member.offset_data, member.size))
    except tarfile.TarError as error:
        raise UserError(f"{path} is not a whole tar file ({error}): get it anew.") from error
    end = before + file.size if file else path.stat().st_size
    if found and max(offset + size for _, offset, size in found) > end:
        raise UserError(f"{path} is not a whole tar file (it ends too early): get it anew.")
    return found


class _Window(io.RawIOBase):
    """A part of a file as a file of its own."""

    def __init__(self, file: io.BufferedReader, start: int, size: int):
        self._file, self._start, self.size, self._at = file, start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, self.size)[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer) -> int:
        self._file.seek(self._start + self._at)
        data = self._file.read(min(len(buffer), max(self.size - self._at, 0)))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def _slices(path: pathlib.Path, members: Members, labels: list[int]) -> Slices:
    return Slices(
        names=[name for name, _, _ in members],
        labels=np.asarray(labels, np.int32),
        files=[str(path)],
        owners=np.zeros(len(members), np.int64),
        offsets=np.asarray([offset for _, offset, _ in members], np.int64),
        sizes=np.asarray([size for _, _, size in members], np.int64),
    )


def _read_devkit(path: pathlib.Path) -> tuple[dict[str, int], dict[str, str], list[int]]:
    """ILSVRC2012_ID and words of each class by WordNet id, and the ids of validation images."""
    import scipy.io

    try:
        with tarfile.open(path) as tar:
            contents = dict(_read_ends(tar, (SYNSETS, ANSWERS)))
        synsets = scipy.io.loadmat(io.BytesIO(contents[SYNSETS]), squeeze_me=True)["synsets"]
        answers = [int(line) for line in contents[ANSWERS].split()]
        leaves = [synset for synset in synsets if int(synset["num_children"]) == 0]
        ids = {str(synset["WNID"]): int(synset["ILSVRC2012_ID"]) for synset in leaves}
        words = {str(synset["WNID"]): str(synset["words"]) for synset in leaves}
    except (OSError, tarfile.TarError, KeyError, ValueError, EOFError) as error:
        raise UserError(
            f"{path} is not the development kit of ILSVRC-2012 ({error}): get it anew."
        ) from error
    if strangers := set(answers) - set(ids.values()):
        raise UserError(f"{path} has labels that none of its classes has: {strangers}.")
    return ids, words, answers


def _read_ends(tar: tarfile.TarFile, ends: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    for member in tar:
        for end in ends:
            if member.name.endswith(end):
                yield end, tar.extractfile(member).read()
