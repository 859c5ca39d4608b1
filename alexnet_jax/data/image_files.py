"""Image files named on the command line, read in batches by threads, without TensorFlow."""

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
    """The image files that arguments stand for: files, folders (all images below) and patterns.

    The files of a folder or a pattern come in alphabetical order; each file is listed once.
    UserError where an argument stands for no image.
    """
    all_files: dict[str, None] = {}
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
        all_files |= dict.fromkeys(files)
    return list(all_files)


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
    """(numbers, images uint8 [n, size, size, channels], bad images with their errors), in order.

    Each batch covers the next `batch` of `numbers`; bad images are left out of its arrays. While
    the caller works on one batch, threads read the next two.
    """
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        pending: collections.deque[list[tuple[int, concurrent.futures.Future]]]
        pending = collections.deque()
        rest = iter(numbers)
        while True:
            while len(pending) < 3 and (chunk := list(itertools.islice(rest, batch))):
                pending.append([(number, pool.submit(load, number)) for number in chunk])
            if not pending:
                return
            yield _gather(pending.popleft())


def _gather(futures: list[tuple[int, concurrent.futures.Future]]) -> Batch:
    good, pixels, bad = [], [], []
    for number, future in futures:
        try:
            pixels.append(future.result())
            good.append(number)
        except images.BadImage as error:
            bad.append((number, error))
    stacked = np.stack(pixels) if pixels else np.empty((0, 0, 0, 0), np.uint8)
    return np.asarray(good, np.int64), stacked, bad


def _below(folder: str) -> list[str]:
    """All files of images below a folder; hidden ones are left out."""
    paths = []
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        paths += [
            os.path.join(root, name)
            for name in sorted(files)
            if name.lower().endswith(SUFFIXES) and not name.startswith(".")
        ]
    return paths
