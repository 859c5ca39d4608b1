"""The interface of all origins of labelled images: classes, and splits of encoded images."""

import dataclasses
import hashlib
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple, Protocol

import numpy as np

from alexnet_jax.data.arrays import RecordIds
from alexnet_jax.runtime.errors import UserError

NO_LABEL = -1
VALIDATION_NAMES = ("val", "validation", "valid", "test")  # the first that exists becomes "val"


class Record(NamedTuple):
    """One image: its name, unique in its split, its label or NO_LABEL, and the encoded file."""

    name: str
    label: int
    data: bytes


class Split(Protocol):
    """Records by number; picklable, so that worker processes can read them.

    `blocks` has the int64 first records of the blocks that are read as a whole; it is None where
    any record can be read alone. `fingerprint` identifies the split without reading an image.
    `read(ids)` gives the records in the order of `ids`.
    """

    fingerprint: str

    @property
    def blocks(self) -> np.ndarray | None: ...

    def __len__(self) -> int: ...

    def read(self, ids: RecordIds) -> Iterator[Record]: ...


@dataclasses.dataclass(frozen=True)
class Origin:
    """A data set: labels are positions in `classes`; splits are "train", "val" and maybe "test".

    `facts` can be written as JSON: `kind` and `where`, and whatever else the origin knows.
    """

    classes: tuple[str, ...]
    splits: Mapping[str, Split]
    facts: dict


class Names:
    """A sequence of names in two arrays, a fraction of the memory of a million strings."""

    def __init__(self, names: Iterable[str]):
        encoded = [os.fsencode(name) for name in names]
        self.text = b"".join(encoded)
        self.ends = np.cumsum([len(name) for name in encoded], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, record: int) -> str:
        start = self.ends[record - 1] if record else 0
        return os.fsdecode(self.text[start : self.ends[record]])


def fingerprint_of(*parts: str | Names | np.ndarray) -> str:
    """A hash of the parts that identify a split, 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for part in parts:
        match part:
            case Names():
                fields = [part.text, part.ends.tobytes()]
            case np.ndarray():
                fields = [part.astype(np.int64).tobytes()]
            case _:
                fields = [part.encode()]
        for field in fields:
            digest.update(len(field).to_bytes(8, "little") + field)
    return digest.hexdigest()[:16]


def choose_splits(names: Collection[str], validation: str | None, where: str) -> dict[str, str]:
    """The names of the splits to use as "train", "val" and, if one is left, "test".

    UserError where training or validation is missing.
    """
    listed = ", ".join(sorted(names)) or "none"
    if "train" not in names:
        raise UserError(
            f"{where} has no split 'train' (found: {listed}): check the path, or get the training "
            "images."
        )
    if validation is None:
        validation = next((name for name in VALIDATION_NAMES if name in names), None)
        if validation is None:
            raise UserError(
                f"{where} has no split to validate on: expected one of "
                f"{', '.join(VALIDATION_NAMES)}, found {listed}; name another one."
            )
    if validation not in names:
        raise UserError(
            f"{where} has no split '{validation}' (found: {listed}): name one of these for "
            "validation."
        )
    splits = {"train": "train", "val": validation}
    if "test" in names and validation != "test":
        splits["test"] = "test"
    return splits
