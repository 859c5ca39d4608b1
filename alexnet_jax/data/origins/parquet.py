"""Sets in the layout of the Hugging Face Hub: parquet files with an image and a label column."""

import dataclasses
import functools
import json
import pathlib
import re
from collections.abc import Iterator, Sequence

import numpy as np

from alexnet_jax.data.origins.origin import Origin, Record, fingerprint, validation_of
from alexnet_jax.errors import UserError

FILE = re.compile(r"(?P<split>.+)-\d+-of-\d+\.parquet")  # the other layout is SPLIT/0000.parquet


def open_parquet(where: str, validation: str | None) -> Origin:
    """DIR or DIR/data with SPLIT-00000-of-00294.parquet, or SPLIT/0000.parquet anywhere below.

    UserError if there are no such files, or if they hold no images with labels.
    """
    root = pathlib.Path(where)
    found: dict[str, list[pathlib.Path]] = {}
    for path in sorted(root.rglob("*.parquet")):
        named = FILE.fullmatch(path.name)
        found.setdefault(named["split"] if named else path.parent.name, []).append(path)
    if "train" not in found:
        raise UserError(
            f"{root} holds no parquet files of a split 'train': expected names such as "
            f"train-00000-of-00005.parquet, and found splits {', '.join(found) or 'none'}."
        )
    second = validation_of([name for name in found if name != "train"], validation, str(root))
    names = {"train": "train", "val": second}
    if "test" in found and second != "test":
        names["test"] = "test"
    image, label, classes = _columns(found["train"][0])
    splits = {split: _index(found[there], image, label) for split, there in names.items()}
    if classes is None:
        most = max(int(split.labels.max()) for split in splits.values())
        classes = tuple(map(str, range(most + 1)))
    return Origin(classes, splits, {"kind": "parquet", "where": str(root)})


@dataclasses.dataclass(frozen=True)
class Rows:
    """Rows of parquet files; row group i is `groups[i]` (file, group), its first `blocks[i]`."""

    files: Sequence[str]
    groups: Sequence[tuple[int, int]]
    blocks: np.ndarray
    labels: np.ndarray
    image: str

    @property
    def fingerprint(self) -> str:
        """Of file names, row groups and labels."""
        names = [pathlib.PurePath(file).name for file in self.files]
        sizes = np.asarray([pathlib.Path(file).stat().st_size for file in self.files])
        return fingerprint(names, np.asarray(self.groups), self.blocks, self.labels, sizes)

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, ids: Sequence[int]) -> Iterator[Record]:
        """Rows in the order of `ids`; each group of rows is read once, and kept until the end."""
        ids = np.asarray(ids, np.int64)
        owners = np.searchsorted(self.blocks, ids, side="right") - 1
        last = {int(owner): place for place, owner in enumerate(owners)}
        read = {}
        for place, (record, owner) in enumerate(zip(ids.tolist(), owners.tolist(), strict=True)):
            if owner not in read:
                read[owner] = self._read_group(owner)
            row = record - int(self.blocks[owner])
            image = read[owner][row].as_py()
            if last[owner] == place:
                del read[owner]
            data, name = (image or {}).get("bytes"), (image or {}).get("path")
            if data is None:
                raise UserError(
                    f"Row {row} of a row group of {self._file(owner)} has no image in it: get the "
                    "set with its images embedded."
                )
            yield Record(f"{record:08d}/{name or 'image'}", int(self.labels[record]), data)

    def _file(self, owner: int) -> str:
        return self.files[self.groups[owner][0]]

    def _read_group(self, owner: int):
        group = self.groups[owner][1]
        return _open(self._file(owner)).read_row_group(group, columns=[self.image])[self.image]


def _index(paths: Sequence[pathlib.Path], image: str, label: str) -> Rows:
    """Row groups and labels; the images are not read."""
    groups, blocks, labels, count = [], [], [], 0
    for owner, path in enumerate(paths):
        file = _open(str(path))
        for group in range(file.num_row_groups):
            groups.append((owner, group))
            blocks.append(count)
            count += file.metadata.row_group(group).num_rows
        labels.append(file.read(columns=[label])[label].to_numpy())
    labels = np.concatenate(labels).astype(np.int32)
    return Rows(list(map(str, paths)), groups, np.asarray(blocks, np.int64), labels, image)


def _columns(path: pathlib.Path) -> tuple[str, str, tuple[str, ...] | None]:
    """Names of the image and of the label column, and the classes if the file names them."""
    import pyarrow

    schema = _open(str(path)).schema_arrow
    known = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    features = known.get("info", {}).get("features", {})
    structs = [field for field in schema if pyarrow.types.is_struct(field.type)]
    images = [field.name for field in structs if field.type.get_field_index("bytes") >= 0]
    labelled = [name for name, kind in features.items() if kind.get("_type") == "ClassLabel"]
    plain = [field.name for field in schema if pyarrow.types.is_integer(field.type)]
    labels = labelled or [name for name in ("label", "labels") if name in plain] or plain
    if len(images) != 1 or not labels:
        raise UserError(
            f"{path} has the columns {', '.join(schema.names)}: expected one of images with their "
            "bytes and one of labels."
        )
    names = features[labels[0]].get("names") if labels[0] in features else None
    return images[0], labels[0], tuple(names) if names else None


@functools.lru_cache(maxsize=8)
def _open(path: str):
    import pyarrow.parquet

    try:
        return pyarrow.parquet.ParquetFile(path, memory_map=True)
    except (OSError, pyarrow.ArrowInvalid) as error:
        raise UserError(f"{path} is not a whole parquet file ({error}): get it anew.") from error
