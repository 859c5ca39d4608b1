"""Images that people name, and any others by number: read in batches by threads.

TensorFlow is not needed.
"""

import collections
import concurrent.futures
import glob
import itertools
import os
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from alexnet_jax.data import images
from alexnet_jax.data.sources import SUFFIXES
from alexnet_jax.runtime.errors import UserError

Load = Callable[[int], np.ndarray]
Batch = tuple[np.ndarray, np.ndarray, list[tuple[int, images.BadImage]]]


def find(arguments: Sequence[str]) -> list[str]:
    """Files of images, folders with all images below them, and patterns, as files in this order.

    What a folder or a pattern stands for comes in alphabetical order; each file is listed once.
    UserError where an argument stands for no image.
    """
    found: dict[str, None] = {}
    for argument in arguments:
        if os.path.isdir(argument):
            files = _below(argument)
        elif os.path.exists(argument):
            files = [argument]
        else:
            matching = sorted(glob.glob(argument, recursive=True))
            below = (_below(path) if os.path.isdir(path) else [path] for path in matching)
            files = list(itertools.chain(*below))
        if not files:
            raise UserError(
                f"{argument} stands for no image: expected a file, a folder that holds some "
                f"({', '.join(SUFFIXES)}), or a pattern such as 'folder/*.jpg'."
            )
        found |= dict.fromkeys(files)
    return list(found)


def loader(files: Sequence[str], size: int, channels: int, warp: bool = False) -> Load:
    """A function from a file's number to its pixels; see images.decode."""

    def load(number: int) -> np.ndarray:
        file = files[number]
        try:
            data = images.read(file)
        except OSError as error:
            raise images.Undecodable(
                f"The image {file} can't be read ({error.strerror}): name another."
            ) from error
        return images.decode(data, file, size, channels, warp)

    return load


def batches(load: Load, numbers: Sequence[int], batch: int, workers: int) -> Iterator[Batch]:
    """(numbers, images uint8 [n, size, size, channels], unusable ones with their errors), in order.

    Each batch stands for the next `batch` of `numbers`; those that can't be used are left out of
    its arrays. While one is worked on, threads read the next two.
    """
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        waiting: collections.deque = collections.deque()
        rest = iter(numbers)
        while True:
            while len(waiting) < 3 and (some := list(itertools.islice(rest, batch))):
                waiting.append([(number, pool.submit(load, number)) for number in some])
            if not waiting:
                return
            yield _gathered(waiting.popleft())


def _gathered(some: list[tuple[int, concurrent.futures.Future]]) -> Batch:
    usable, pixels, unusable = [], [], []
    for number, future in some:
        try:
            pixels.append(future.result())
            usable.append(number)
        except images.BadImage as error:
            unusable.append((number, error))
    stacked = np.stack(pixels) if pixels else np.empty((0, 0, 0, 0), np.uint8)
    return np.asarray(usable, np.int64), stacked, unusable


def _below(folder: str) -> list[str]:
    """All files of images below a folder; hidden ones are left out."""
    found = []
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [
            os.path.join(root, name)
            for name in sorted(files)
            if name.lower().endswith(SUFFIXES) and not name.startswith(".")
        ]
    return found
