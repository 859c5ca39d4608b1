"""Files of features, .npz and .parquet: written piece by piece, and read so again.

An .npz holds `features` float32 [n, ...], `names` [n], `labels` int32 [n] if any is known, and the
JSON text `about`; np.load reads it. A parquet file has the columns name, label and features (a list
of fixed length; feature maps in the order height, width, channel), and the JSON in the metadata of
its schema.
"""

import contextlib
import dataclasses
import json
import math
import os
import pathlib
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from alexnet_jax.data import arrays
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.tools.features.collection import NO_LABEL, Stored
from alexnet_jax.tools.features.extract import FORMAT
from alexnet_jax.weights import atomic_write

SUFFIXES = (".npz", ".parquet")
METADATA_KEY = "about"
ANEW = "expected one that python -m alexnet_jax features wrote; write it anew"
NAMES_AT_ONCE = 10_000
Blocks = Callable[[int], Iterator[np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Features:
    """Features as they lie in a file, or in memory; `path` names them in messages.

    `blocks(count)` yields all in order, float32 [up to count, width], feature maps flattened.
    `labels` are int32 [n], NO_LABEL where unknown; `metadata` has the names of the classes and the
    rest.
    """

    path: str
    metadata: dict
    names: list[str]
    labels: np.ndarray
    width: int
    blocks: Blocks

    def __len__(self) -> int:
        return len(self.names)

    @property
    def stored(self) -> Stored:
        """The shape of the images."""
        pixels = self.metadata["pixels"]
        return Stored(pixels["size"], pixels["channels"], pixels["warp"])


def check_features_path(path: pathlib.Path, names: Iterable[str] = ()) -> None:
    """UserError where a file can't have this name, or can't hold these names of images."""
    if path.suffix not in SUFFIXES:
        raise UserError(
            f"--output={path} is no name for features: end it in {' or '.join(SUFFIXES)}."
        )
    if path.suffix == ".parquet":
        for name in names:
            if not name.isascii() and os.fsencode(name).decode(errors="replace") != name:
                raise UserError(
                    f"The file name {os.fsencode(name)!r} is not UTF-8, which parquet needs: "
                    "rename it, or write an .npz."
                )


def write_features(
    path: pathlib.Path,
    *,
    metadata: dict,
    names: Sequence[str],
    labels: np.ndarray,
    shape: Sequence[int],
    features: Iterable[np.ndarray],
) -> None:
    """Write features float32 [n, *shape], which come in pieces; the file appears whole or not."""
    write = _write_npz if path.suffix == ".npz" else _write_parquet
    with atomic_write.atomic_path(path) as partial:
        write(
            partial,
            metadata=metadata,
            names=names,
            labels=labels,
            shape=tuple(shape),
            features=features,
        )


def _write_npz(path, *, metadata, names, labels, shape, features) -> None:
    width = max(map(len, names))
    pieces = (
        np.asarray(names[start : start + NAMES_AT_ONCE], f"<U{width}")
        for start in range(0, len(names), NAMES_AT_ONCE)
    )
    text = np.asarray(json.dumps(metadata))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        _write_entry(archive, METADATA_KEY, text.dtype, (), [text])
        _write_entry(archive, "names", np.dtype(f"<U{width}"), (len(names),), pieces)
        if np.any(labels != NO_LABEL):
            _write_entry(archive, "labels", np.dtype("<i4"), labels.shape, [labels])
        _write_entry(archive, "features", np.dtype("<f4"), (len(names), *shape), features)


def _write_entry(archive, name, dtype, shape, pieces) -> None:
    """An array written piece by piece; one piece is in memory at a time."""
    header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
    with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as entry:
        np.lib.format.write_array_header_1_0(entry, header)
        for piece in pieces:
            entry.write(np.ascontiguousarray(piece, dtype).tobytes())


def _write_parquet(path, *, metadata, names, labels, shape, features) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    width = math.prod(shape)
    schema = pa.schema(
        [
            pa.field("name", pa.string()),
            pa.field("label", pa.int32()),
            pa.field("features", pa.list_(pa.float32(), width)),
        ],
        metadata={METADATA_KEY: json.dumps(metadata)},
    )
    start = 0
    with pq.ParquetWriter(path, schema, use_dictionary=False) as writer:
        for piece in features:
            part = slice(start, start + len(piece))
            flat = pa.array(np.ascontiguousarray(piece, np.float32).reshape(-1))
            columns = [
                pa.array(names[part], pa.string()),
                pa.array(labels[part], pa.int32(), mask=labels[part] == NO_LABEL),
                pa.FixedSizeListArray.from_arrays(flat, width),
            ]
            writer.write_table(pa.table(columns, schema=schema))
            start += len(piece)


def read_features(path: pathlib.Path) -> Features:
    """Features of a file of `write_features`; the feature values are read later, by `blocks`.

    UserError for any other file, and from Features.blocks where the numbers are damaged.
    """
    if not path.is_file():
        raise UserError(f"There is no file {path}: expected one of features.")
    with _reading(path):
        features = (_read_parquet if path.suffix == ".parquet" else _read_npz)(path)
        metadata = features.metadata
        if metadata["format"] != FORMAT or not len(features):
            raise ValueError("it holds no features of this program")
        if math.prod(metadata["shape"]) != features.width or features.labels.shape != (
            len(features),
        ):
            raise ValueError("its parts do not fit together")
        known = features.labels[features.labels != NO_LABEL]
        if len(known) and not 0 <= known.min() <= known.max() < len(metadata["classes"]):
            raise ValueError("it has labels of no class")
        for name in ("layer", "network", "weights", "parameters_sha256", "pixels", "images"):
            metadata[name]
    return features


def _read_npz(path: pathlib.Path) -> Features:
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        # A megabyte of compressed zeros is a gigabyte, and entries can share their bytes.
        if sum(entry.file_size for entry in entries) > path.stat().st_size:
            raise ValueError("it holds more than it is long")
        metadata = json.loads(str(_whole_entry(archive, METADATA_KEY)))
        names = _whole_entry(archive, "names").tolist()
        labels = np.full(len(names), NO_LABEL, np.int32)
        if "labels.npy" in archive.namelist():
            labels = _whole_entry(archive, "labels").astype(np.int32)
        with archive.open("features.npy") as entry:
            shape = _header(entry)
    if shape[0] != len(names):
        raise ValueError("its parts do not fit together")

    def blocks(count: int) -> Iterator[np.ndarray]:
        with (
            _reading(path),
            zipfile.ZipFile(path) as archive,
            archive.open("features.npy") as entry,
        ):
            _header(entry)
            for start in range(0, shape[0], count):
                length = min(count, shape[0] - start)
                data = entry.read(4 * length * width)
                yield np.frombuffer(data, "<f4").reshape(length, width)
            # At the very end zipfile compares its checksum.
            if entry.read(1):
                raise ValueError("it is longer than it says")

    width = math.prod(shape[1:])
    return Features(str(path), metadata, names, labels, width, blocks)


def _whole_entry(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    with archive.open(f"{name}.npy") as entry:
        return np.lib.format.read_array(entry, allow_pickle=False)


def _header(entry) -> tuple[int, ...]:
    """Shape of the array in an entry, of which only the header is read."""
    if np.lib.format.read_magic(entry) != (1, 0):
        raise ValueError("its features are of another form")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(entry)
    if fortran or dtype != np.float32 or len(shape) < 2:
        raise ValueError("its features are no rows of float32")
    return shape


def _read_parquet(path: pathlib.Path) -> Features:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        metadata = json.loads((file.schema_arrow.metadata or {})[METADATA_KEY.encode()])
        groups, width = file.num_row_groups, file.schema_arrow.field("features").type.list_size
        names = file.read(["name"])["name"].to_pylist()
        labels = file.read(["label"])["label"].fill_null(NO_LABEL).to_numpy()

    def blocks(count: int) -> Iterator[np.ndarray]:
        # Group by group: pyarrow reads ahead all that it is asked for.
        for group in range(groups):
            with _reading(path), pq.ParquetFile(path) as file:
                for batch in file.iter_batches(count, [group], ["features"]):
                    yield batch["features"].flatten().to_numpy().reshape(len(batch), width)

    return Features(str(path), metadata, names, labels.astype(np.int32), width, blocks)


@contextlib.contextmanager
def _reading(path: pathlib.Path) -> Iterator[None]:
    """Whatever goes wrong in a foreign file becomes one sentence."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # three libraries raise a dozen kinds
        raise arrays.unreadable_file(path, " ".join(str(error).split()), ANEW) from error
