"""The shards of a prepared set: which records each one holds, and writing one.

A shard is written under a temporary name and renamed when it is whole. Its summary, an .npz in the
folder of unfinished work, is written last and marks it as done.
"""

import dataclasses
import hashlib
import io
import json
import os
import pathlib
import re
from collections.abc import Callable, Iterable

import numpy as np
from PIL import Image

from alexnet_jax.data import arrays, images, prepared, statistics, tf_example
from alexnet_jax.data.origins.origin import Record, Split
from alexnet_jax.runtime.errors import UserError

MAX_IMAGES = 8192  # in a shard
MAX_SHUFFLED = 2000  # records whose blocks are shuffled together, since they are held in memory
JPEG_QUALITY = 95
CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f-\x9f]")
PROGRESS_IMAGES = 16  # between two calls of `progress`
# What the report says of unusual images that are kept, and of those that are left out.
KEPT_ODDITIES = (
    "greyscale",
    "CMYK",
    "other format under a JPEG name",
    "rotated by EXIF, kept as stored",
)
EXCLUDED = ("refused", "undecodable")


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a set is stored: its name, the images' size and channels, and the seed of the order.

    `resize` is crop or warp, `format` jpeg or raw.
    """

    name: str
    size: int
    channels: int
    resize: str
    format: str
    seed: int


@dataclasses.dataclass(frozen=True)
class Shard:
    """File number `index` of the `shards` of a split, with the records `ids` in this order."""

    split: str
    index: int
    shards: int
    ids: np.ndarray


def divide_split(name: str, split: Split, seed: int) -> list[Shard]:
    """Divide a split into shards, which depend on its records and the seed alone.

    The training split is shuffled. Where records can't be read one by one, their blocks are
    shuffled, and then the records within every few blocks. Other splits keep their order.
    """
    records = len(split)
    count = max(-(-records // MAX_IMAGES), min(16, -(-records // 256)))
    starts = np.arange(records) if split.blocks is None else split.blocks
    lengths = np.diff(np.append(starts, records))
    random = np.random.default_rng([seed, 0])
    order = random.permutation(len(starts)) if name == "train" else np.arange(len(starts))
    first_records = np.cumsum(lengths[order]) - lengths[order]
    shard_of_block = first_records * count // max(records, 1)
    shards = []
    for index in range(count):
        ids = [np.arange(starts[b], starts[b] + lengths[b]) for b in order[shard_of_block == index]]
        if name == "train" and split.blocks is not None:
            few = max(1, MAX_SHUFFLED * len(starts) // records)
            groups = (ids[first : first + few] for first in range(0, len(ids), few))
            ids = [random.permutation(np.concatenate(group)) for group in groups]
        of_shard = np.concatenate(ids) if ids else np.empty(0)
        shards.append(Shard(name, index, count, of_shard.astype(np.int64)))
    return shards


@dataclasses.dataclass
class ShardSummary:
    """Labels and names of a shard's images, sums for the statistics, a digest, and oddities.

    `oddities` has the names of unusual images under the words of KEPT_ODDITIES and EXCLUDED.
    """

    labels: np.ndarray
    sums: statistics.Sums
    names: list[str]
    digest: str
    oddities: dict[str, list[str]]

    def save(self, path: pathlib.Path) -> None:
        """Write it whole or not at all."""
        buffer = io.BytesIO()
        sums = dataclasses.asdict(self.sums)
        texts = {"names": self.names, "digest": self.digest, "oddities": self.oddities}
        facts = json.dumps(texts)
        np.savez(buffer, labels=self.labels, facts=facts, **sums)
        partial = path.with_name(path.name + ".partial")
        partial.write_bytes(buffer.getvalue())
        os.replace(partial, path)

    @classmethod
    def load(cls, path: pathlib.Path) -> "ShardSummary":
        """Read what `save` wrote; UserError for a damaged archive."""
        stored = arrays.load_archive(path, "take it away, and its shard is written again")
        facts = json.loads(str(stored["facts"]))
        fields = [field.name for field in dataclasses.fields(statistics.Sums)]
        sums = statistics.Sums(*(stored[name] for name in fields))
        return cls(stored["labels"], sums, **facts)


def summary_file(folder: pathlib.Path, shard: Shard) -> pathlib.Path:
    """The file of a shard's summary while the set is being prepared."""
    return folder / prepared.UNFINISHED / f"{shard.split}-{shard.index:05d}.npz"


def write_shard(
    folder: pathlib.Path,
    shard: Shard,
    split: Split,
    settings: Settings,
    progress: Callable[[int], None],
) -> None:
    """Write one shard; `progress(n)` is called after every n images, at most PROGRESS_IMAGES."""
    from array_record.python.array_record_module import ArrayRecordWriter

    final = prepared.shard_file(folder, settings.name, shard.split, shard.index, shard.shards)
    partial = str(summary_file(folder, shard).with_suffix(".partial"))
    writer = ArrayRecordWriter(partial, "group_size:1,uncompressed")
    raw = None
    if settings.format == "raw":
        raw = _PixelsFile(partial + ".npy", (settings.size, settings.size, settings.channels))
    labels, names, digest = [], [], hashlib.sha256()
    sums = statistics.zero_sums(settings.size, settings.channels)
    oddities: dict[str, list[str]] = {word: [] for word in KEPT_ODDITIES + EXCLUDED}
    for number, original in enumerate(split.read(shard.ids), start=1):
        # Names are stored one a line, and are printed at terminals.
        record = original._replace(name=CONTROL_CHARACTERS.sub("?", original.name))
        if record.label < 0 and shard.split != "test":
            raise UserError(
                f"The image {record.name} of the split {shard.split} has no label: name a split "
                "whose images have one, such as --validation=NAME."
            )
        try:
            stored, pixels = _convert(record, settings, oddities)
        except images.Refused:
            oddities["refused"].append(record.name)
        except images.Undecodable:
            oddities["undecodable"].append(record.name)
        else:
            serialized = tf_example.serialize(stored, record.label, record.name)
            writer.write(serialized)
            digest.update(serialized)
            labels.append(record.label)
            names.append(record.name)
            statistics.add_images(sums, pixels[None])
            if raw:
                raw.append(pixels)
        if number % PROGRESS_IMAGES == 0 or number == len(shard.ids):
            progress((number - 1) % PROGRESS_IMAGES + 1)
    writer.close()
    if raw:
        raw.close()
        os.replace(
            partial + ".npy",
            prepared.pixels_file(folder, shard.split, shard.index, shard.shards),
        )
    os.replace(partial, final)
    summary = ShardSummary(np.asarray(labels, np.int32), sums, names, digest.hexdigest(), oddities)
    summary.save(summary_file(folder, shard))


def _convert(
    record: Record, settings: Settings, oddities: dict[str, list[str]]
) -> tuple[bytes, np.ndarray]:
    """The encoded image as it is stored, and the pixels that decoding it gives."""
    with images.open_image(record.data, record.name) as image:
        for word in _traits(image, record.name):
            oddities[word].append(record.name)
        pixels = images.to_pixels(
            image, settings.size, settings.channels, settings.resize == "warp"
        )
        mode = "L" if settings.channels == 1 else "RGB"
        untouched = image.size == (settings.size, settings.size) and image.mode == mode
        if untouched and image.format in ("JPEG", "PNG"):
            return record.data, pixels
    buffer = io.BytesIO()
    plain = Image.fromarray(pixels if settings.channels == 3 else pixels[:, :, 0])
    if settings.format == "raw":
        plain.save(buffer, "PNG", compress_level=1)
        return buffer.getvalue(), pixels
    plain.save(buffer, "JPEG", quality=JPEG_QUALITY)
    stored = np.empty_like(pixels)
    prepared.decode_into(buffer.getvalue(), stored)
    return buffer.getvalue(), stored


def _traits(image: Image.Image, name: str) -> Iterable[str]:
    """The words of KEPT_ODDITIES that apply to an image."""
    greyscale, cmyk, other, rotated = KEPT_ODDITIES
    if image.mode in ("1", "L", "LA", "I", "I;16"):
        yield greyscale
    if image.mode == "CMYK":
        yield cmyk
    named_jpeg = name.lower().endswith((".jpg", ".jpeg"))
    if named_jpeg and image.format not in ("JPEG", "MPO"):  # MPO: a JPEG with a second picture
        yield other
    orientation = 0x0112
    if image.getexif().get(orientation, 1) != 1:
        yield rotated


class _PixelsFile:
    """An .npy file of uint8 images that is written one image at a time."""

    def __init__(self, path: str, shape: tuple[int, ...]):
        self._file, self._shape, self._count = open(path, "wb"), shape, 0  # noqa: SIM115
        self._write_header()

    def append(self, pixels: np.ndarray) -> None:
        """Write one more image."""
        self._file.write(np.ascontiguousarray(pixels).data)
        self._count += 1

    def close(self) -> None:
        """Write the number of images into the header, whose length NumPy keeps."""
        self._file.seek(0)
        self._write_header()
        self._file.close()

    def _write_header(self) -> None:
        header = {"descr": "|u1", "fortran_order": False, "shape": (self._count, *self._shape)}
        np.lib.format.write_array_header_1_0(self._file, header)
