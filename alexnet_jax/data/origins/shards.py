"""The files that tensorflow-datasets stores examples in: TFRecord and array_record."""

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from alexnet_jax.data.arrays import RecordIds
from alexnet_jax.data.origins.file_slices import FileSlices
from alexnet_jax.data.origins.origin import fingerprint_of
from alexnet_jax.runtime.errors import UserError

if TYPE_CHECKING:
    from array_record.python.array_record_module import ArrayRecordReader

HEADER, FOOTER = 12, 4  # of a TFRecord: length and its checksum before the data, one more after
LENGTH = 8
MAX_READERS = 128  # array_record files that a process keeps open


class Shards(Protocol):
    """The serialized examples of a split; `starts` [files] has the first record of each file."""

    paths: tuple[str, ...]
    starts: np.ndarray
    fingerprint: str

    def __len__(self) -> int: ...

    def read(self, ids: RecordIds) -> Iterator[bytes]: ...


class TfRecordShards(FileSlices):
    """TFRecord files, which have no index: they are indexed by the length before each record.

    `lengths` [files] are the expected numbers of records. UserError where a file has another, or is
    truncated.
    """

    def __init__(self, paths: Sequence[str], lengths: Sequence[int]):
        indices = [_index(path) for path in paths]
        for path, (offsets, _), length in zip(paths, indices, lengths, strict=True):
            _check_length(path, len(offsets), length)
        offsets, sizes = (np.concatenate(part) for part in zip(*indices, strict=True))
        super().__init__(paths, np.repeat(np.arange(len(paths)), lengths), offsets, sizes)
        self.starts = _starts(lengths)
        self.fingerprint = fingerprint_of(_names(paths), self.files, self.offsets, self.sizes)


class ArrayRecordShards:
    """array_record files, which have an index; a process opens a file when it first needs it.

    `lengths` [files] are the expected numbers of records. UserError where a file has another.
    """

    def __init__(self, paths: Sequence[str], lengths: Sequence[int]):
        for path, length in zip(paths, lengths, strict=True):
            _check_length(path, _array_record_reader(path).num_records(), length)
        self.paths, self.starts, self.records = tuple(paths), _starts(lengths), sum(lengths)
        sizes = np.asarray([os.path.getsize(path) for path in paths])
        self.fingerprint = fingerprint_of(_names(paths), sizes, np.asarray(lengths))
        self._readers: dict[int, ArrayRecordReader] = {}

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_readers": {}}  # open files can't be pickled

    def __len__(self) -> int:
        return self.records

    def read(self, ids: RecordIds) -> Iterator[bytes]:
        """The examples in the order of `ids`."""
        for record in ids:
            file = file_of(self.starts, record)
            yield self._reader(file).read([int(record - self.starts[file])])[0]

    def _reader(self, file: int):
        reader = self._readers.get(file)
        if reader is None:
            if len(self._readers) >= MAX_READERS:
                del self._readers[next(iter(self._readers))]
            reader = self._readers[file] = _array_record_reader(self.paths[file])
        return reader


def file_of(starts: np.ndarray, record: int) -> int:
    """The number of the file that a record is in."""
    return int(np.searchsorted(starts, record, side="right")) - 1


def _index(path: str) -> tuple[np.ndarray, np.ndarray]:
    """int64 offsets and sizes of the records of a TFRecord file; UserError if it is not whole."""
    offsets, sizes, position = [], [], 0
    with open(path, "rb", buffering=0) as file:
        end = os.fstat(file.fileno()).st_size
        while position < end:
            size = int.from_bytes(os.pread(file.fileno(), LENGTH, position), "little")
            offsets.append(position + HEADER)
            sizes.append(size)
            position += HEADER + size + FOOTER
    if position != end:
        raise UserError(
            f"{path} is no TFRecord file, or not a whole one: prepare its set again with "
            "tensorflow-datasets."
        )
    return np.asarray(offsets, np.int64), np.asarray(sizes, np.int64)


def _check_length(path: str, records: int, length: int) -> None:
    if records != length:
        raise UserError(
            f"{path} holds {records:,} records, but its set says {length:,}: prepare the set again "
            "with tensorflow-datasets."
        )


def _starts(lengths: Sequence[int]) -> np.ndarray:
    return np.cumsum([0, *lengths[:-1]], dtype=np.int64)


def _names(paths: Sequence[str]) -> str:
    return "\n".join(map(os.path.basename, paths))


def _array_record_reader(path: str):
    """A reader for random access; it reports 0 records for a damaged or missing file."""
    from array_record.python.array_record_module import ArrayRecordReader

    return ArrayRecordReader(path, "readahead_buffer_size:0,max_parallelism:0")
