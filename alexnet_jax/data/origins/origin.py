"""What every origin gives: classes, and splits whose encoded images are read by number."""

import dataclasses
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from alexnet_jax.errors import UserError

NO_LABEL = -1
MOST_OPEN_FILES = 64
VALIDATION_NAMES = ("val", "validation", "valid", "test")  # the first that is there


class Record(NamedTuple):
    """An image as it is stored: its name, its label or NO_LABEL, and the bytes of its file."""

    name: str
    label: int
    data: bytes


class Split(Protocol):
    """Records that can be read by number, in any process.

    `blocks` int64 has the first record of each run of records that can only be read together, and
    is None where each can be read alone. `fingerprint` changes when the images do, as far as names
    and sizes tell. `read` gives records in the order of `ids`.
    """

    blocks: np.ndarray | None
    fingerprint: str

    def __len__(self) -> int: ...

    def read(self, ids: Sequence[int]) -> Iterator[Record]: ...


@dataclasses.dataclass(frozen=True)
class Origin:
    """`splits` has "train", "val" and perhaps "test"; labels are positions in `classes`.

    `facts`, for JSON, say what the origin is; where they are known they hold "ilsvrc_ids", the
    ILSVRC2012_ID of each class, and "class_words", what each class is called.
    """

    classes: tuple[str, ...]
    splits: dict[str, Split]
    facts: dict


@dataclasses.dataclass(frozen=True)
class Slices:
    """A split whose images lie in larger files, record i at `offsets[i]`, `sizes[i]` bytes long.

    `owners[i]` is its file's number in `files`. For whole files too: then `sizes` is all that is
    known of them.
    """

    names: Sequence[str]
    labels: np.ndarray
    files: Sequence[str]
    owners: np.ndarray
    offsets: np.ndarray
    sizes: np.ndarray
    blocks: None = None

    @property
    def fingerprint(self) -> str:
        """Of names, labels, places and sizes."""
        arrays = (self.labels, self.owners, self.offsets, self.sizes)
        return fingerprint(self.names, *arrays)

    def __len__(self) -> int:
        return len(self.sizes)

    def read(self, ids: Sequence[int]) -> Iterator[Record]:
        """The records in the order of `ids`; UserError if a file ends too early."""
        opened: dict[int, int] = {}
        try:
            for record in ids:
                owner = int(self.owners[record])
                if owner not in opened:
                    while len(opened) >= MOST_OPEN_FILES:
                        os.close(opened.popitem()[1])
                    opened[owner] = os.open(self.files[owner], os.O_RDONLY)
                size, offset = int(self.sizes[record]), int(self.offsets[record])
                data = os.pread(opened[owner], size, offset)
                if len(data) < size:
                    raise UserError(
                        f"{self.files[owner]} ends inside the image {self.names[record]}: get the "
                        "file anew."
                    )
                yield Record(self.names[record], int(self.labels[record]), data)
        finally:
            for file in opened.values():
                os.close(file)


def fingerprint(names: Iterable[str], *arrays: np.ndarray) -> str:
    """Of names in order and of arrays."""
    digest = hashlib.sha256("\0".join(names).encode())
    for array in arrays:
        digest.update(np.ascontiguousarray(array, np.int64).tobytes())
    return digest.hexdigest()[:16]


def validation_of(found: Iterable[str], wanted: str | None, where: str) -> str:
    """Which of the splits `found` is for validation; UserError if none is."""
    found = list(found)
    for name in (wanted,) if wanted else VALIDATION_NAMES:
        if name in found:
            return name
    expected = f"'{wanted}'" if wanted else " or ".join(VALIDATION_NAMES)
    raise UserError(
        f"{where} has no split to validate on: expected {expected}, and found "
        f"{', '.join(found) or 'nothing'}; name it with --validation=NAME."
    )
