"""What every origin of labelled images gives: its classes, and records of encoded images."""

import dataclasses
import hashlib
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from alexnet_jax.runtime.errors import UserError

NO_LABEL = -1
VALIDATION_NAMES = ("val", "validation", "valid", "test")  # the first that there is becomes "val"


class Record(NamedTuple):
    """One image: a name that is unique in its split, its label or NO_LABEL, the file as stored."""

    name: str
    label: int
    data: bytes


class Split(Protocol):
    """Records by number; picklable, so that each process can read for itself.

    `blocks` holds the int64 starts of runs of records that can only be read together cheaply; it
    is None where any record can be read alone. `fingerprint` tells sets apart without reading an
    image. `read(ids)` gives the records in the order of `ids`.
    """

    blocks: np.ndarray | None
    fingerprint: str

    def __len__(self) -> int: ...

    def read(self, ids: Sequence[int]) -> Iterator[Record]: ...


@dataclasses.dataclass(frozen=True)
class Origin:
    """A set: labels are positions in `classes`, splits are "train", "val" and perhaps "test".

    `facts` can be written as JSON: `kind` and `where`, and what else an origin knows.
    """

    classes: tuple[str, ...]
    splits: dict[str, Split]
    facts: dict


class Names:
    """Many names in two arrays: a million strings would cost several times as much memory."""

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
    """16 hexadecimal digits of what tells a split from others."""
    digest = hashlib.sha256()
    for part in parts:
        match part:
            case Names():
                pieces = (part.text, part.ends.tobytes())
            case np.ndarray():
                pieces = (part.astype(np.int64).tobytes(),)
            case _:
                pieces = (part.encode(),)
        for piece in pieces:
            digest.update(len(piece).to_bytes(8, "little") + piece)
    return digest.hexdigest()[:16]


def choose_splits(found: Collection[str], validation: str | None, where: str) -> dict[str, str]:
    """Which of the splits that were found are to be "train", "val" and, if one is left, "test".

    UserError where training or validation is missing.
    """
    listed = ", ".join(sorted(found)) or "none"
    if "train" not in found:
        raise UserError(
            f"{where} has no split 'train' (found: {listed}): check the path, or get the training "
            "images."
        )
    if validation is None:
        validation = next((name for name in VALIDATION_NAMES if name in found), None)
        if validation is None:
            raise UserError(
                f"{where} has no split to validate on: expected one of "
                f"{', '.join(VALIDATION_NAMES)}, found {listed}; name another one."
            )
    if validation not in found:
        raise UserError(
            f"{where} has no split '{validation}' (found: {listed}): name one of these for "
            "validation."
        )
    chosen = {"train": "train", "val": validation}
    return chosen if validation == "test" or "test" not in found else chosen | {"test": "test"}
