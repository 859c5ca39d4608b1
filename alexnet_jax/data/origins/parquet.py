"""Images in parquet files as Hugging Face lays them out, with its class names in the schema."""

import contextlib
import json
import pathlib
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from alexnet_jax.data.arrays import RecordIds
from alexnet_jax.data.origins.origin import (
    NO_LABEL,
    Names,
    Origin,
    Record,
    choose_splits,
    fingerprint_of,
)
from alexnet_jax.runtime.errors import UserError

if TYPE_CHECKING:
    from pyarrow import ChunkedArray

SHARD = re.compile(r"(?P<split>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\b.*\.parquet")
NUMBERED = re.compile(r"(?P<number>\d{4})\.parquet")
MAX_GROUP_BYTES = 2**31  # of a row group, which is held in memory
MAX_UNNAMED_CLASSES = 100_000
PREFERRED_LABELS = ("label", "labels", "fine_label")  # where a set has several


class Columns(NamedTuple):
    """The columns of images and labels, and the names of the classes if the schema has them."""

    image: str
    label: str
    classes: tuple[str, ...]


class ParquetSplit:
    """The records of some files, read by whole row groups."""

    def __init__(self, files: Sequence[pathlib.Path], columns: Columns):
        import pyarrow.parquet as pq

        self.files, self.image = tuple(map(str, files)), columns.image
        groups, labels, paths, positions = [], [], [], []
        for number, path in enumerate(files):
            with _reading(path), pq.ParquetFile(path) as file:
                if _columns(file, path) != columns:
                    raise UserError(
                        f"{path} has other columns or classes than {files[0]}: give a folder with "
                        "the files of one set."
                    )
                for group in range(file.num_row_groups):
                    facts = file.metadata.row_group(group)
                    if facts.total_byte_size > MAX_GROUP_BYTES:
                        raise UserError(
                            f"{path} has a row group of {facts.total_byte_size:,} bytes, "
                            "which would be held in memory: write it again with at most "
                            f"{MAX_GROUP_BYTES:,} in each."
                        )
                    groups.append((number, group, facts.num_rows, facts.total_byte_size))
                table = file.read([columns.label, f"{columns.image}.path"])
                labels.append(table[columns.label].cast("int64").fill_null(NO_LABEL).to_numpy())
            paths += [entry and entry["path"] for entry in table[columns.image].to_pylist()]
            positions += [f"{path.name}__{row}" for row in range(len(table))]
        table = np.asarray([group for group in groups if group[2]], np.int64).reshape(-1, 4)
        self.groups, rows = table[:, :2], table[:, 2]
        self.blocks = np.cumsum(rows) - rows
        self.labels = np.concatenate(labels)
        limit = len(columns.classes) or MAX_UNNAMED_CLASSES
        wrong = np.flatnonzero((self.labels < NO_LABEL) | (self.labels >= limit))
        if len(wrong):
            raise UserError(
                f"{files[0]} and its like have a label {self.labels[wrong[0]]} in "
                f"'{columns.label}', beyond the {limit:,} classes that can be: get them again."
            )
        self.labels = self.labels.astype(np.int32)
        unique = all(paths) and len(set(paths)) == len(paths)
        self.names = Names(paths if unique else positions)
        self.fingerprint = fingerprint_of(self.names, table.ravel(), self.labels)

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, ids: RecordIds) -> Iterator[Record]:
        """The records in the order of `ids`; a row group is in memory while it is needed."""
        records = np.asarray(ids, np.int64)
        blocks = (np.searchsorted(self.blocks, records, side="right") - 1).tolist()
        last_use = {block: position for position, block in enumerate(blocks)}
        cached: dict[int, ChunkedArray] = {}
        for position, (record, block) in enumerate(zip(records.tolist(), blocks, strict=True)):
            if block not in cached:
                cached[block] = self._images(block)
            image = cached[block][record - int(self.blocks[block])].as_py()
            if last_use[block] == position:
                del cached[block]
            if not image or image["bytes"] is None:
                raise UserError(
                    f"Record {self.names[record]} holds no image, only a path at best: write the "
                    "set again with its images embedded."
                )
            yield Record(self.names[record], int(self.labels[record]), image["bytes"])

    def _images(self, block: int):
        """The image column of a row group."""
        import pyarrow.parquet as pq

        number, group = map(int, self.groups[block])
        path = self.files[number]
        with _reading(path), pq.ParquetFile(path) as file:
            return file.read_row_group(group, [f"{self.image}.bytes"])[self.image]


def open_parquet(root: pathlib.Path, validation: str | None = None) -> Origin:
    """The set in `root`, its folder data or its only CONFIG: SPLIT-00000-of-00294.parquet ...

    Labels are read and images are not. Without class names in the schema they are "0", "1" ...
    UserError for missing files and for columns that are not an image and a class.
    """
    import pyarrow.parquet as pq

    files = _find_files(root)
    chosen = choose_splits(files, validation, str(root))
    first = files["train"][0]
    with _reading(first), pq.ParquetFile(first) as file:
        columns = _columns(file, first)
    splits = {split: ParquetSplit(files[name], columns) for split, name in chosen.items()}
    for split, records in splits.items():
        if not len(records):
            raise UserError(f"{files[chosen[split]][0]} and its like hold no rows: get them again.")
    largest = max(int(split.labels.max()) for split in splits.values())
    classes = columns.classes or tuple(map(str, range(largest + 1)))
    return Origin(classes, splits, {"kind": "parquet", "where": str(root)})


def _find_files(root: pathlib.Path) -> dict[str, list[pathlib.Path]]:
    """The files of each split, in order; UserError if there are none or some are missing."""
    for folder in (root, root / "data"):
        splits = _splits_in(folder)
        if splits:
            return splits
    configs = {entry: _splits_in(entry) for entry in sorted(root.iterdir()) if entry.is_dir()}
    configs = {folder: splits for folder, splits in configs.items() if splits}
    if len(configs) > 1:
        names = ", ".join(folder.name for folder in configs)
        raise UserError(f"{root} holds several sets ({names}): add the name of one to the path.")
    if not configs:
        raise UserError(
            f"{root} holds no parquet files: expected SPLIT-00000-of-00001.parquet in it or in its "
            "folder data, or SPLIT/0000.parquet."
        )
    return next(iter(configs.values()))


def _splits_in(folder: pathlib.Path) -> dict[str, list[pathlib.Path]]:
    parts: dict[str, dict[int, pathlib.Path]] = {}
    counts: dict[str, int] = {}
    for path in sorted(folder.glob("*.parquet")):
        match = SHARD.fullmatch(path.name)
        if match:
            parts.setdefault(match["split"], {})[int(match["number"])] = path
            counts[match["split"]] = int(match["count"])
    for path in sorted(folder.glob("*/*.parquet")):
        match = NUMBERED.fullmatch(path.name)
        if match:
            parts.setdefault(path.parent.name, {})[int(match["number"])] = path
    for split, files in parts.items():
        missing = set(range(counts.get(split, max(files) + 1))) - set(files)
        if missing:
            raise UserError(
                f"{folder} lacks part {min(missing)} of the split '{split}': get the whole set."
            )
    return {split: list(files.values()) for split, files in parts.items()}


def _columns(file, path: pathlib.Path) -> Columns:
    """The columns of images and labels, by the schema's metadata or else by their types."""
    import pyarrow as pa

    schema = file.schema_arrow
    metadata = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    features = metadata.get("info", {}).get("features", {})
    images = [
        field.name
        for field in schema
        if pa.types.is_struct(field.type)
        and {"bytes", "path"} <= {part.name for part in field.type}
    ]
    numbers = [field.name for field in schema if pa.types.is_integer(field.type)]
    kinds = {name: feature.get("_type") for name, feature in features.items() if name in numbers}
    labels = [name for name, kind in kinds.items() if kind == "ClassLabel"] or numbers
    if len(labels) > 1:
        labels = [name for name in PREFERRED_LABELS if name in labels][:1]
    if len(images) != 1 or len(labels) != 1:
        listed = ", ".join(f"{field.name}: {field.type}" for field in schema)
        raise UserError(
            f"{path} is of no set for image classification: expected one column of images, a "
            f"struct with bytes and path, and one of class numbers, found {listed}; take another "
            "set."
        )
    names = features.get(labels[0], {}).get("names", ())
    return Columns(images[0], labels[0], tuple(map(str, names)))


@contextlib.contextmanager
def _reading(path: str | pathlib.Path) -> Iterator[None]:
    """Turn the errors of an unreadable file or a broken schema into a UserError."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path} can't be read ({error}): get it again.") from error
