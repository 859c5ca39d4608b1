"""Features on their way: a folder of parts, so that a killed command goes on where it was."""

import contextlib
import fcntl
import json
import os
import pathlib
import shutil
from collections.abc import Iterator, Sequence
from typing import TextIO

import numpy as np

from alexnet_jax.data import arrays, images
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.weights import atomic_write

PLAN, LOCK = "plan.json", "lock"


class Parts:
    """The parts of the features of `total` images, `images` in each but the last."""

    def __init__(
        self,
        folder: pathlib.Path,
        *,
        total: int,
        images: int,
        shape: Sequence[int],
        remedy: str,
    ):
        self.total, self.images, self.shape = total, images, tuple(shape)
        self.count = -(-total // images)
        self._folder, self._remedy = folder, remedy

    def numbers(self, part: int) -> range:
        """The images that a part stands for."""
        return range(part * self.images, min(self.total, (part + 1) * self.images))

    def missing(self) -> list[int]:
        """The parts that are not there yet."""
        return [part for part in range(self.count) if not self._file(part).exists()]

    def write(
        self,
        part: int,
        numbers: np.ndarray,
        features: np.ndarray,
        unusable: list[tuple[int, images.BadImage]],
    ) -> None:
        """Keep a part: `numbers` int64 [n] of the images with features float32 [n, ...]."""
        with atomic_write.atomic_path(self._file(part)) as partial, open(partial, "wb") as file:
            left_out = np.asarray([number for number, _ in unusable], np.int64)
            np.savez(file, numbers=numbers, features=features, left_out=left_out)

    def used(self) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of all images that have features, and of those that were left out, int64."""
        each = [self._read(part, ("numbers", "left_out")) for part in range(self.count)]
        numbers, left_out = (np.concatenate(column) for column in zip(*each, strict=True))
        return numbers, left_out

    def features(self) -> Iterator[np.ndarray]:
        """The features of each part in order, float32 [n, ...]."""
        for part in range(self.count):
            yield self._read(part, ("features",))[0]

    def _read(self, part: int, names: tuple[str, ...]) -> list[np.ndarray]:
        file = self._file(part)
        try:
            with np.load(file, allow_pickle=False) as stored:
                values = [stored[name] for name in names]
        except Exception as error:  # NumPy and zipfile raise any of half a dozen kinds
            raise arrays.unreadable_file(file, error, self._remedy) from error
        return values

    def _file(self, part: int) -> pathlib.Path:
        return self._folder / f"part-{part:05d}.npz"


def folder_of(output: pathlib.Path) -> pathlib.Path:
    """Where the parts of a file lie until it is finished."""
    return output.with_name(output.name + ".parts")


@contextlib.contextmanager
def opened(output: pathlib.Path, plan: dict, total: int, images: int, shape: Sequence[int]):
    """The Parts of a file that belong to `plan` (flat JSON); they are taken away at a good end.

    UserError where those of another plan lie, where another command is at work, and where the
    folder can't be written.
    """
    folder = folder_of(output)
    with _locked(folder, output):
        _settle(folder, plan)
        remedy = "take it away and give the same command again"
        yield Parts(folder, total=total, images=images, shape=shape, remedy=remedy)
        # The plan goes last: whatever is left by a kill in between, the same command goes on.
        for part in folder.glob("part-*"):
            part.unlink()
        shutil.rmtree(folder)


def _locked(folder: pathlib.Path, output: pathlib.Path) -> TextIO:
    """The folder's lock, which is free again once it is closed."""
    try:
        folder.mkdir(exist_ok=True)
        lock = open(folder / LOCK, "w")  # noqa: SIM115
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UserError(f"Another command is writing {output} at this moment.") from error
    except OSError as error:
        raise UserError(
            f"{folder} can't be used ({error.strerror}): name an --output in a folder that exists."
        ) from error
    return lock


def _settle(folder: pathlib.Path, plan: dict) -> None:
    """Write down the plan, or compare it with the one that is there."""
    file = folder / PLAN
    if not file.exists():
        left = sorted(set(os.listdir(folder)) - {LOCK, f"{PLAN}.partial"})
        if left:
            raise UserError(f"{folder} holds {left[0]} and no {PLAN}: choose another --output.")
        with atomic_write.atomic_path(file) as partial:
            partial.write_text(json.dumps(plan, indent=2) + "\n")
        return
    try:
        before = json.loads(file.read_text())
        different = [name for name in plan if before.get(name) != plan[name]]
    except (ValueError, AttributeError) as error:
        raise UserError(f"{file} can't be read ({error}): take the folder away.") from error
    if different:
        raise UserError(
            f"{folder} holds the unfinished features of another command, with other "
            f"{' and '.join(different)}: choose another --output, or take that folder away."
        )
    for partial in folder.glob("*.partial"):
        partial.unlink()
