"""A prepared set on disk: its files, and reading them by random access in native code.

It is a data set of tensorflow-datasets in array_record files, written by data/prepare.py, with
`prepared.json` beside them, which appears last. Images are JPEG or PNG files in the records; where
the set was prepared with raw pixels, NumPy files hold them as well and are read instead.
"""

import functools
import json
import os
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np

from alexnet_jax.data import examples, images
from alexnet_jax.errors import UserError

FACTS, STATISTICS, REPORT, UNFINISHED = (
    "prepared.json", "statistics.npz", "report.json", ".preparing",
)  # fmt: skip
VERSION = "1.0.0"


def default_folder(name: str) -> pathlib.Path:
    """Where a set called `name` lies if no place is given: where tensorflow-datasets keeps its."""
    root = os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return pathlib.Path(root).expanduser() / dataset_name(name) / VERSION


def dataset_name(name: str) -> str:
    """The name by which tensorflow-datasets knows the set."""
    return f"alexnet_{name}"


def is_prepared(folder: pathlib.Path) -> bool:
    """Whether a prepared set lies there; UserError if its preparation was not finished."""
    if (folder / FACTS).exists():
        return True
    if (folder / UNFINISHED).exists():
        raise UserError(
            f"The set in {folder} is not finished: give the command that prepares it once more, "
            "and it goes on from where it was stopped."
        )
    return False


def read_facts(folder: pathlib.Path) -> dict:
    """prepared.json: how the set was made and what it holds."""
    return json.loads((folder / FACTS).read_text())


def shard_file(folder: pathlib.Path, name: str, split: str, index: int, shards: int) -> str:
    """Path of an array_record file, named as tensorflow-datasets does."""
    file = f"{dataset_name(name)}-{split}.array_record-{index:05d}-of-{shards:05d}"
    return str(folder / file)


def pixels_file(folder: pathlib.Path, split: str, index: int, shards: int) -> str:
    """Path of the NumPy file with the raw pixels of a shard."""
    return str(folder / f"{split}.pixels-{index:05d}-of-{shards:05d}.npy")


def names_file(folder: pathlib.Path, split: str) -> pathlib.Path:
    """Path of the text file with a line for each image of a split: where it came from."""
    return folder / f"{split}.names.txt"


def labels_file(folder: pathlib.Path, split: str) -> pathlib.Path:
    """Path of the NumPy file with the labels of a split, int32, -1 for an image without one."""
    return folder / f"{split}.labels.npy"


class Prepared:
    """A split of a prepared set.

    UserError if it was made with another size, shape or number of channels, or lacks the split.
    """

    def __init__(
        self, folder: pathlib.Path, split: str, size: int, channels: int, warp: bool = False
    ):
        facts = read_facts(folder)
        made = (facts["size"], facts["channels"], facts["resize"])
        wanted = (size, channels, "warp" if warp else "crop")
        for what, there, here in zip(
            ("data.size", "channels", "data.resize"), made, wanted, strict=True
        ):
            if there != here:
                raise UserError(
                    f"The set in {folder} was prepared with {what}={there}, and this run wants "
                    f"{here}: prepare one for it, or change the config."
                )
        if split not in facts["splits"]:
            raise UserError(
                f"The set in {folder} has no split '{split}': it has {', '.join(facts['splits'])}."
            )
        this = facts["splits"][split]
        self.classes = tuple(facts["classes"])
        self.ilsvrc_ids = facts["ilsvrc_ids"]
        self.fingerprint = this["fingerprint"]
        self.statistics_file = folder / STATISTICS if split == "train" else None
        self.size, self.channels = size, channels
        self.labels = np.load(labels_file(folder, split))
        self._starts = np.cumsum([0, *this["shards"]])
        shards = len(this["shards"])
        self._files = [shard_file(folder, facts["name"], split, i, shards) for i in range(shards)]
        self._pixels = None
        if facts["format"] == "raw":
            files = [pixels_file(folder, split, i, shards) for i in range(shards)]
            self._pixels = [np.load(file, mmap_mode="r") for file in files]
        self._readers = {}
        self._folder, self._split = folder, split

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, record: int) -> str:
        """The name that the image had where it came from."""
        return self._names[record]

    def load(
        self, ids: Sequence[int], into: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Pixels uint8 [n, size, size, channels] and labels int32 [n]; BadImage if one is bad."""
        ids = np.asarray(ids, np.int64)
        shape = (len(ids), self.size, self.size, self.channels)
        pixels = np.empty(shape, np.uint8) if into is None else into
        if self._pixels is not None:
            for row, (shard, place) in enumerate(self._places(ids)):
                pixels[row] = self._pixels[shard][place]
        else:
            for row, record in enumerate(ids.tolist()):
                data = self.encoded(record)
                try:
                    decode_into(data, pixels[row])
                except Exception as error:
                    raise self._unreadable(record, error) from error
        return pixels, self.labels[ids]

    def encoded(self, record: int) -> bytes:
        """The image as a JPEG or PNG file; BadImage if the record can't be read."""
        ((shard, place),) = self._places(np.asarray([record]))
        try:
            # One by one: a few together take longer (measured).
            return examples.image_of(self._reader(shard).read([place])[0])
        except Exception as error:
            raise self._unreadable(record, error) from error

    def _unreadable(self, record: int, error: Exception) -> images.BadImage:
        return images.Undecodable(
            f"The prepared image {self.name(record)} can't be read ({error}): prepare the set anew."
        )

    @functools.cached_property
    def _names(self) -> list[str]:
        data = names_file(self._folder, self._split).read_bytes()
        return os.fsdecode(data).split("\n")[:-1]

    def _reader(self, shard: int):
        """One open reader a file, for all threads; reading ahead makes random access slow."""
        from array_record.python.array_record_module import ArrayRecordReader

        if shard not in self._readers:
            self._readers[shard] = ArrayRecordReader(self._files[shard], "readahead_buffer_size:0")
        return self._readers[shard]

    def _places(self, ids: np.ndarray) -> Iterator[tuple[int, int]]:
        """(shard, place in it) of each record."""
        shards = np.searchsorted(self._starts, ids, side="right") - 1
        yield from zip(shards.tolist(), (ids - self._starts[shards]).tolist(), strict=True)


def decode_into(data: bytes, pixels: np.ndarray) -> None:
    """Decode an image that has the stored size into `pixels` [size, size, channels].

    JPEG by libjpeg-turbo, without Python's lock; the pixels are those that Pillow gives. Raises
    what the decoder raises.
    """
    import simplejpeg

    if data[:2] == b"\xff\xd8":
        colours = "GRAY" if pixels.shape[2] == 1 else "RGB"
        shape = simplejpeg.decode_jpeg(data, colours, buffer=pixels).shape
        if shape != pixels.shape:
            raise ValueError(f"it has {shape} pixels instead of {pixels.shape}")
    else:
        pixels[:] = images.decode(data, "in a record", pixels.shape[0], pixels.shape[2])
