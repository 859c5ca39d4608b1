"""A prepared set on disk: its files, and reading them with random access in native code.

It is a data set of tensorflow-datasets in array_record files, written by data/prepare.py, with
`prepared.json` beside them, which is written last. Records hold JPEG or PNG files; a set that was
prepared with raw pixels has NumPy files of them as well, which are read instead.
"""

import contextlib
import functools
import json
import os
import pathlib
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from alexnet_jax.data import arrays, images, tf_example
from alexnet_jax.data.arrays import RecordIds
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.runtime.optional_imports import require_package

if TYPE_CHECKING:
    from array_record.python.array_record_module import ArrayRecordReader

FACTS, STATISTICS, REPORT, UNFINISHED = (
    "prepared.json", "statistics.npz", "report.json", ".preparing",
)  # fmt: skip
VERSION = "1.0.0"
NAME = re.compile("[a-z][a-z0-9_]*")  # or tensorflow-datasets does not take it
REMEDY = "prepare the set anew"


def default_folder(name: str) -> pathlib.Path:
    """The folder of a set without a path: where tensorflow-datasets keeps its sets."""
    root = os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return pathlib.Path(root).expanduser() / dataset_name(name) / VERSION


def _require_record_readers(folder: pathlib.Path) -> None:
    purpose = f"Reading the records of the prepared set {folder}"
    with require_package("array_record", purpose):
        from array_record.python import array_record_module  # noqa: F401
    with require_package("tensorflow_datasets", purpose):
        tf_example.load_library()


def dataset_name(name: str) -> str:
    """The name by which tensorflow-datasets knows the set."""
    return f"alexnet_{name}"


def is_prepared(folder: pathlib.Path) -> bool:
    """Whether the folder holds a prepared set; UserError if its preparation was not finished."""
    if (folder / FACTS).exists():
        return True
    if (folder / UNFINISHED).exists():
        raise UserError(
            f"The set in {folder} is not finished: give the command that prepares it once more, "
            "and it goes on from where it was stopped."
        )
    return False


def read_facts(folder: pathlib.Path) -> dict:
    """The content of prepared.json: how the set was made and what it holds.

    UserError where a field is not valid: names in it become names of files.
    """
    try:
        facts = json.loads((folder / FACTS).read_text())
        for field, valid in _check_facts(facts):
            if not valid:
                raise ValueError(f"its {field} can't be")
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{folder / FACTS} can't be used ({error}): {REMEDY}.") from error
    return facts


def _check_facts(facts: dict) -> Iterator[tuple[str, bool]]:
    """Names of fields, and whether they are valid."""
    yield "name", NAME.fullmatch(facts["name"]) is not None
    yield "size", _natural(facts["size"]) and facts["size"] > 0
    yield "channels", facts["channels"] in (1, 3)
    yield "resize", facts["resize"] in ("crop", "warp")
    yield "format", facts["format"] in ("jpeg", "raw")
    classes, numbers = facts["classes"], facts["ilsvrc_ids"]
    yield "classes", isinstance(classes, list) and all(isinstance(name, str) for name in classes)
    yield (
        "ilsvrc_ids",
        numbers is None or (len(numbers) == len(classes) and all(map(_natural, numbers))),
    )
    yield "plan", isinstance(facts["plan"]["settings"], dict)
    for name, split in facts["splits"].items():
        yield "splits", NAME.fullmatch(name) is not None
        yield "fingerprints", isinstance(split["fingerprint"], str)
        yield "shards", all(_natural(images) for images in split["shards"])


def _natural(value) -> bool:
    return isinstance(value, int) and value >= 0


def shard_file(folder: pathlib.Path, name: str, split: str, index: int, shards: int) -> str:
    """Path of an array_record file, named as tensorflow-datasets does."""
    file = f"{dataset_name(name)}-{split}.array_record-{index:05d}-of-{shards:05d}"
    return str(folder / file)


def pixels_file(folder: pathlib.Path, split: str, index: int, shards: int) -> str:
    """Path of the NumPy file with the raw pixels of a shard."""
    return str(folder / f"{split}.pixels-{index:05d}-of-{shards:05d}.npy")


def names_file(folder: pathlib.Path, split: str) -> pathlib.Path:
    """Path of the text file with the original file names of a split's images, one a line."""
    return folder / f"{split}.names.txt"


def labels_file(folder: pathlib.Path, split: str) -> pathlib.Path:
    """Path of the NumPy file with the labels of a split, int32, -1 for an image without one."""
    return folder / f"{split}.labels.npy"


class Prepared:
    """A split of a prepared set.

    UserError if the set was prepared with another size, shape or number of channels, lacks the
    split, or its arrays do not agree with prepared.json.
    """

    def __init__(
        self, folder: pathlib.Path, split: str, size: int, channels: int, *, warp: bool = False
    ):
        facts = read_facts(folder)
        for field, stored, wanted in (
            ("data.image_size", facts["size"], size),
            ("channels", facts["channels"], channels),
            ("data.resize", facts["resize"], "warp" if warp else "crop"),
        ):
            if stored != wanted:
                raise UserError(
                    f"The set in {folder} was prepared with {field}={stored}, and this run wants "
                    f"{wanted}: prepare one for it, or change the config."
                )
        if split not in facts["splits"]:
            raise UserError(
                f"The set in {folder} has no split '{split}': it has {', '.join(facts['splits'])}."
            )
        split_facts = facts["splits"][split]
        self.classes: tuple[str, ...] = tuple(facts["classes"])
        self.ilsvrc_ids: Sequence[int] | None = facts["ilsvrc_ids"]
        self.fingerprint = split_facts["fingerprint"]
        self.statistics_file = folder / STATISTICS if split == "train" else None
        self.size, self.channels = size, channels
        self.labels = _labels(folder, split, sum(split_facts["shards"]), len(self.classes))
        self._starts = np.cumsum([0, *split_facts["shards"]])
        shards = len(split_facts["shards"])
        self._files = [shard_file(folder, facts["name"], split, i, shards) for i in range(shards)]
        self._pixels = None
        if facts["format"] == "raw":
            files = [pixels_file(folder, split, i, shards) for i in range(shards)]
            shapes = [(records, size, size, channels) for records in split_facts["shards"]]
            self._pixels = [_pixels(*pair) for pair in zip(files, shapes, strict=True)]
        self._readers: dict[int, ArrayRecordReader] = {}
        self._folder, self._split = folder, split
        # Pixels need neither; without this a missing library would look like a broken record.
        with contextlib.suppress(UserError) if self._pixels else contextlib.nullcontext():
            _require_record_readers(folder)

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, record: int) -> str:
        """The file name of the image in its origin."""
        return self._names[record]

    def load(self, ids: RecordIds, out: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Pixels uint8 [n, size, size, channels] and labels int32 [n]; BadImage if one is bad."""
        records = np.asarray(ids, np.int64)
        shape = (len(records), self.size, self.size, self.channels)
        pixels = np.empty(shape, np.uint8) if out is None else out
        if self._pixels is not None:
            for i, (shard, position) in enumerate(self._locate(records)):
                pixels[i] = self._pixels[shard][position]
        else:
            for i, record in enumerate(records.tolist()):
                data, label = self._example(record)
                if label != self.labels[record]:
                    raise UserError(
                        f"The prepared image {self.name(record)} has the label {label} in its "
                        f"record, but {self.labels[record]} in "
                        f"{labels_file(self._folder, self._split)}: {REMEDY}."
                    )
                try:
                    decode_into(data, pixels[i])
                except Exception as error:
                    raise self._unreadable(record, error) from error
        return pixels, self.labels[records]

    def encoded(self, record: int) -> bytes:
        """The image as a JPEG or PNG file; BadImage if the record can't be read."""
        return self._example(record)[0]

    def _example(self, record: int) -> tuple[bytes, int]:
        ((shard, position),) = self._locate(np.asarray([record]))
        try:
            # One at a time: reading a few in one call takes longer (measured).
            return tf_example.parse(self._reader(shard).read([position])[0])
        except Exception as error:
            raise self._unreadable(record, error) from error

    def _unreadable(self, record: int, error: Exception) -> images.BadImage:
        return images.Undecodable(
            f"The prepared image {self.name(record)} can't be read ({error}): {REMEDY}."
        )

    @functools.cached_property
    def _names(self) -> list[str]:
        data = names_file(self._folder, self._split).read_bytes()
        names = os.fsdecode(data).split("\n")[:-1]
        if len(names) != len(self):
            raise UserError(
                f"{names_file(self._folder, self._split)} has {len(names):,} names for "
                f"{len(self):,} images: {REMEDY}."
            )
        return names

    def _reader(self, shard: int):
        """The reader of a shard, for all threads; without read-ahead, which slows random access."""
        from array_record.python.array_record_module import ArrayRecordReader

        if shard not in self._readers:
            self._readers[shard] = ArrayRecordReader(self._files[shard], "readahead_buffer_size:0")
        return self._readers[shard]

    def _locate(self, ids: np.ndarray) -> Iterator[tuple[int, int]]:
        """(shard, position in it) of each record."""
        shards = np.searchsorted(self._starts, ids, side="right") - 1
        yield from zip(shards.tolist(), (ids - self._starts[shards]).tolist(), strict=True)


def _labels(folder: pathlib.Path, split: str, records: int, classes: int) -> np.ndarray:
    """The labels of a split, int32 [records]; the test split may have -1, which is no label."""
    path = labels_file(folder, split)
    labels = arrays.load(path, REMEDY)
    if labels.dtype != np.int32 or labels.shape != (records,):
        raise UserError(
            f"{path} holds {labels.dtype} {list(labels.shape)}, where int32 [{records}] was "
            f"expected: {REMEDY}."
        )
    wrong = np.flatnonzero((labels < (-1 if split == "test" else 0)) | (labels >= classes))
    if len(wrong):
        raise UserError(
            f"{path} gives image {wrong[0]:,} the label {labels[wrong[0]]}, but the classes of the "
            f"set are 0 to {classes - 1}: {REMEDY}."
        )
    return labels


def _pixels(path: str, shape: tuple[int, ...]) -> np.ndarray:
    pixels = arrays.load(path, REMEDY, mapped=True)
    if pixels.dtype != np.uint8 or pixels.shape != shape:
        raise UserError(
            f"{path} holds {pixels.dtype} {list(pixels.shape)}, where uint8 {list(shape)} was "
            f"expected: {REMEDY}."
        )
    return np.asarray(pixels)  # a plain array: slicing a memmap takes twice as long


def decode_into(data: bytes, pixels: np.ndarray) -> None:
    """Decode an image that has the stored size into `pixels` [size, size, channels].

    JPEG is decoded by libjpeg-turbo, without Python's lock, to the same pixels as by Pillow. Raises
    the decoder's error, or ValueError for an image of another size.
    """
    import simplejpeg

    if data[:2] == b"\xff\xd8":
        colours = "GRAY" if pixels.shape[2] == 1 else "RGB"
        shape = simplejpeg.decode_jpeg(data, colours, buffer=pixels).shape
        if shape != pixels.shape:
            raise ValueError(f"it has {shape} pixels instead of {pixels.shape}")
    else:
        size, channels = pixels.shape[1:]
        with images.open_image(data, "in a record", max_pixels=size * size) as image:
            if image.size != (size, size):
                raise ValueError(f"it has {image.size} pixels instead of {(size, size)}")
            pixels[:] = images.to_pixels(image, size, channels)
