"""ImageNet as ILSVRC 2012 hands it out: a tar of class tars, a flat tar, and the devkit."""

import contextlib
import io
import pathlib
import resource
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from typing import BinaryIO, NamedTuple

import numpy as np

from alexnet_jax.data.arrays import RecordIds
from alexnet_jax.data.origins.file_slices import FileSlices
from alexnet_jax.data.origins.origin import NO_LABEL, Names, Origin, Record, fingerprint_of
from alexnet_jax.runtime.errors import UserError

TRAIN, VAL, TEST = (f"ILSVRC2012_img_{split}.tar" for split in ("train", "val", "test*"))
DEVKIT = "ILSVRC2012_devkit_t12.tar.gz"
MAX_DEVKIT_BYTES = 2**30  # of memory to read it; it takes a few megabytes
META, TRUTH = "data/meta.mat", "data/ILSVRC2012_validation_ground_truth.txt"


class Member(NamedTuple):
    """An image in a tar: its name, and its offset and size in bytes in the outermost file."""

    name: str
    offset: int
    size: int


class TarSplit:
    """The images of a tar, or of the tars inside it."""

    blocks: np.ndarray | None = None

    def __init__(self, path: pathlib.Path, members: Sequence[Member], labels: Sequence[int]):
        if not members:
            raise UserError(f"{path} holds no images: get it again.")
        self.names = Names(member.name for member in members)
        self.labels = np.asarray(labels, np.int32)
        offsets = np.asarray([member.offset for member in members], np.int64)
        sizes = np.asarray([member.size for member in members], np.int64)
        self.slices = FileSlices([str(path)], np.zeros(len(members), np.int32), offsets, sizes)
        self.fingerprint = fingerprint_of(self.names, sizes, self.labels)

    def __len__(self) -> int:
        return len(self.names)

    def read(self, ids: RecordIds) -> Iterator[Record]:
        for record, data in zip(ids, self.slices.read(ids), strict=True):
            yield Record(self.names[record], int(self.labels[record]), data)


class Synsets(NamedTuple):
    """The classes in alphabetical order, with their numbers and words in the devkit."""

    classes: tuple[str, ...]
    ilsvrc_ids: list[int]
    words: list[str]


def open_imagenet_tars(root: pathlib.Path, validation: str | None = None) -> Origin:
    """The tars of `root`, indexed by their headers; the test tar is optional.

    UserError for a missing, truncated or foreign file and for labels that do not fit.
    """
    if validation is not None:
        raise UserError(
            f"imagenet_tars has one validation set, {VAL}: leave out the name '{validation}'."
        )
    for name in (TRAIN, VAL, DEVKIT):
        if not (root / name).is_file():
            raise UserError(
                f"{root / name} is missing: the source needs {TRAIN}, {VAL} and {DEVKIT}."
            )
    with _limited_memory(MAX_DEVKIT_BYTES):
        meta, truth = _devkit(root / DEVKIT)
        synsets = _synsets(meta, root / DEVKIT)
    splits = {
        "train": _train(root / TRAIN, synsets.classes),
        "val": _val(root / VAL, truth, synsets),
    }
    for path in sorted(root.glob(TEST))[:1]:
        members = _flat(path)
        splits["test"] = TarSplit(path, members, [NO_LABEL] * len(members))
    facts = {
        "kind": "imagenet_tars",
        "where": str(root),
        "ilsvrc_ids": synsets.ilsvrc_ids,
        "class_words": synsets.words,
    }
    return Origin(synsets.classes, splits, facts)


def _train(path: pathlib.Path, classes: tuple[str, ...]) -> TarSplit:
    label_of = {name: label for label, name in enumerate(classes)}
    by_class: dict[str, list[Member]] = {}
    with path.open("rb") as file:
        for class_tar in _members(file, 0, path.stat().st_size, str(path)):
            name = class_tar.name.removesuffix(".tar")
            if name not in label_of or name == class_tar.name:
                raise UserError(
                    f"{path} holds '{class_tar.name}', which is no class tar: expected WNID.tar of "
                    f"the synsets in {DEVKIT}; get the file of the 1000 classes of 2012."
                )
            inside = _members(file, *class_tar[1:], f"{class_tar.name} in {path}")
            by_class[name] = sorted(
                member._replace(name=f"{name}/{member.name}") for member in inside
            )
    missing = [name for name in classes if name not in by_class]
    if missing:
        raise UserError(f"{path} lacks {missing[0]}.tar: get the file again.")
    members = [member for name in classes for member in by_class[name]]
    labels = [label_of[name] for name in classes for _ in by_class[name]]
    return TarSplit(path, members, labels)


def _val(path: pathlib.Path, truth: list[str], synsets: Synsets) -> TarSplit:
    members = _flat(path)
    if len(members) != len(truth):
        raise UserError(
            f"{path} holds {len(members):,} images, but {TRUTH} in {DEVKIT} has {len(truth):,} "
            "lines: get both again."
        )
    label_of = {str(number): label for label, number in enumerate(synsets.ilsvrc_ids)}
    foreign = sorted(set(truth) - set(label_of))
    if foreign:
        raise UserError(
            f"{TRUTH} in {DEVKIT} has a line '{foreign[0]}' that is the ILSVRC2012_ID of no class: "
            "get it again."
        )
    return TarSplit(path, members, [label_of[number] for number in truth])


def _flat(path: pathlib.Path) -> list[Member]:
    """The images of a tar in the order of their file names, whatever folder they are in."""
    with path.open("rb") as file:
        return sorted(_members(file, 0, path.stat().st_size, str(path)))


def _members(file: BinaryIO, start: int, size: int, description: str) -> Iterator[Member]:
    """The files of the tar in bytes `start` ... `start + size` of `file`, except hidden ones.

    Names come without their folders. Only headers are read and nothing is unpacked, so links do no
    harm. UserError, with the `description`, if it is no tar or a truncated one.
    """
    file.seek(start)
    whole = False
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                name = pathlib.PurePosixPath(member.name).name
                if member.offset_data + member.size > start + size:  # as a sparse one can say
                    raise tarfile.ReadError
                if member.isfile() and not name.startswith("."):
                    yield Member(name, member.offset_data, member.size)
            # tarfile takes a file that stops short between two images for a whole one, and goes on
            # behind the end of a tar inside a tar.
            file.seek(tar.offset)
            ending = file.read(tarfile.BLOCKSIZE)
            whole = ending == bytes(tarfile.BLOCKSIZE) and tar.offset < start + size
    except tarfile.TarError:
        whole = False
    if not whole:
        raise UserError(f"{description} is no tar, or not a whole one: get it again.")


def _devkit(path: pathlib.Path) -> tuple[bytes, list[str]]:
    """The content of meta.mat, and the lines of the ground truth."""
    contents: dict[str, bytes] = {}
    try:
        with tarfile.open(path, "r:gz") as tar:
            for member in tar:
                for name in (META, TRUTH):
                    if member.isfile() and member.name.endswith(name):
                        file = tar.extractfile(member)
                        assert file is not None  # since it is a file
                        contents[name] = file.read()
    except (tarfile.TarError, OSError, EOFError, zlib.error, MemoryError) as error:
        reason = str(error) or "it is too large"  # a MemoryError says nothing
        raise UserError(f"{path} can't be read ({reason}): get it again.") from error
    for name in (META, TRUTH):
        if name not in contents:
            raise UserError(f"{path} holds no {name}: get the devkit of tasks 1 and 2 again.")
    return contents[META], contents[TRUTH].decode("ascii", "replace").split()


def _synsets(meta: bytes, path: pathlib.Path) -> Synsets:
    """The classes: synsets of meta.mat without children."""
    import scipy.io

    try:
        table = np.atleast_1d(scipy.io.loadmat(io.BytesIO(meta), squeeze_me=True)["synsets"])
        leaves = sorted(
            (str(row["WNID"]), int(row["ILSVRC2012_ID"]), str(row["words"]))
            for row in table
            if int(row["num_children"]) == 0
        )
        classes, numbers, words = zip(*leaves, strict=True)
    except Exception as error:  # SciPy raises any of half a dozen kinds on foreign bytes
        raise UserError(f"{META} in {path} is no list of synsets: get it again.") from error
    return Synsets(classes, list(numbers), list(words))


@contextlib.contextmanager
def _limited_memory(most: int) -> Iterator[None]:
    """Limit this process to `most` bytes more than it uses now; MemoryError beyond.

    A compressed file of a kilobyte can expand to gigabytes. No limit is set where the system
    doesn't say how much is used, or has a limit already.
    """
    import scipy.io  # noqa: F401, so that its libraries don't count

    before = resource.getrlimit(resource.RLIMIT_AS)
    used = pathlib.Path("/proc/self/statm")
    if used.exists() and before[0] == resource.RLIM_INFINITY:
        pages = int(used.read_text().split()[0])
        limit = pages * resource.getpagesize() + most
        resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
