"""The benchmark `input`: images a second of the stream and of other readers of the same records."""

import contextlib
import pathlib
import statistics
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np

from alexnet_jax.data import images, prepared, stream
from alexnet_jax.data.prepared import Prepared
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.runtime.terminal import Terminal

SAMPLE = 2000  # records that the bare contestants hold in memory
AHEAD = 2  # batches that wait, as by default in training

Item = TypeVar("Item")
# Counts the images that come within so many seconds.
Contestant = Callable[[float], float]


def measure_input(
    folders: list[pathlib.Path],
    *,
    batch_size: int,
    num_workers: int,
    seconds: float,
    turns: int,
    terminal: Terminal,
) -> dict:
    """Images a second of every contestant in every turn, by folder; UserError for no prepared set.

    The contestants of all folders take turns of `seconds` after one that does not count.
    """
    with contextlib.ExitStack() as stack:
        contestants: dict[tuple[str, str], Contestant] = {}
        for folder in folders:
            for name, contestant in _contestants(folder, batch_size, num_workers, stack):
                contestants[str(folder), name] = contestant
        speeds: dict[str, dict[str, list[float]]] = {str(folder): {} for folder in folders}
        for turn in range(turns + 1):
            for (path, name), contestant in contestants.items():
                speed = contestant(seconds)
                if turn:
                    speeds[path].setdefault(name, []).append(speed)
            terminal.live(f"turn {turn} of {turns}")
    return {
        "batch": batch_size,
        "workers": num_workers,
        "seconds": seconds,
        "images_per_second": speeds,
    }


def input_table(result: dict) -> str:
    """Median, least and most of each contestant, and the median over turns of stream : it."""
    lines = [
        f"batches of {result['batch']}, {result['workers']} workers, images/s "
        "(median, least, most) and the stream's share of it"
    ]
    for folder, contestants in result["images_per_second"].items():
        lines.append(folder)
        streams = next(iter(contestants.values()))
        for name, speeds in contestants.items():
            ratio = statistics.median(a / b for a, b in zip(streams, speeds, strict=True))
            lines.append(
                f"  {name:<44}{statistics.median(speeds):>9,.0f}{min(speeds):>9,.0f}"
                f"{max(speeds):>9,.0f}{ratio:>8.2f}"
            )
    return "\n".join(lines)


def _contestants(
    folder: pathlib.Path, batch_size: int, num_workers: int, stack: contextlib.ExitStack
) -> Iterator[tuple[str, Contestant]]:
    """The stream first, then what it is compared with."""
    source = _open(folder)
    raw = prepared.read_facts(folder)["format"] == "raw"
    endless = stream.training_batches(
        source,
        seed=0,
        batch_size=batch_size,
        indices=np.arange(batch_size),
        first_step=0,
        last_step=2**40,
        num_workers=num_workers,
        prefetch=AHEAD,
    )
    if isinstance(endless, Generator):
        stack.callback(endless.close)
    yield f"stream, {'raw' if raw else 'JPEG'}", _pull(endless, num_workers + AHEAD)
    pool = stack.enter_context(ThreadPoolExecutor(num_workers))
    ids = np.random.default_rng(0).permutation(len(source))[:SAMPLE]
    shape = (source.size, source.size, source.channels)
    if not raw:
        files = [source.encoded(record) for record in ids.tolist()]
        bare = _in_threads(pool, num_workers, files, prepared.decode_into, shape)
        yield f"bare libjpeg-turbo, {num_workers} threads", bare
    pixels = list(source.load(ids)[0])
    copy = _in_threads(pool, num_workers, pixels, _copy, shape)
    yield f"copy in memory, {num_workers} threads", copy
    if not raw:
        yield from _data_loaders(folder, batch_size, num_workers)


def _copy(image: np.ndarray, out: np.ndarray) -> None:
    np.copyto(out, image)


def _open(folder: pathlib.Path) -> Prepared:
    """The training split; UserError if the folder is no prepared set."""
    if not prepared.is_prepared(folder):
        raise UserError(f"{folder} is no prepared set: name one with --path=DIR.")
    facts = prepared.read_facts(folder)
    return Prepared(
        folder, "train", facts["size"], facts["channels"], warp=facts["resize"] == "warp"
    )


def _data_loaders(
    folder: pathlib.Path, batch_size: int, num_workers: int
) -> Iterator[tuple[str, Contestant]]:
    """PyTorch's DataLoader over the same records, decoded as usual and as the stream does."""
    try:
        import torch
    except ImportError:
        return
    for name, decoder in (("Pillow", _by_pillow), ("libjpeg-turbo", _by_libjpeg_turbo)):
        source = _open(folder)  # a fresh one, without open files, goes to other processes
        records: Any = _Records(source, decoder)  # a Dataset by its methods: torch may be missing
        loader: Iterable = torch.utils.data.DataLoader(
            records,
            batch_size=batch_size,
            sampler=torch.utils.data.RandomSampler(range(len(source)), num_samples=2**40),
            num_workers=num_workers,
            prefetch_factor=AHEAD,
            multiprocessing_context="spawn",
        )
        batches = _pull(iter(loader), num_workers * AHEAD)
        yield f"DataLoader, {name}, {num_workers} processes", batches


class _Records:
    """The data set of a DataLoader: a decoded image and its label by number."""

    def __init__(self, source: Prepared, decode: Callable[[bytes, int, int], np.ndarray]):
        self.source, self.decode = source, decode

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, record: int) -> tuple[np.ndarray, int]:
        data = self.source.encoded(record)
        pixels = self.decode(data, self.source.size, self.source.channels)
        return pixels, int(self.source.labels[record])


def _by_pillow(data: bytes, size: int, channels: int) -> np.ndarray:
    return images.decode(data, "in a record", size, channels)


def _by_libjpeg_turbo(data: bytes, size: int, channels: int) -> np.ndarray:
    pixels = np.empty((size, size, channels), np.uint8)
    prepared.decode_into(data, pixels)
    return pixels


def _pull(batches: Iterator, waiting: int) -> Contestant:
    """Takes batches for some time; those that were `waiting` from before do not count."""

    def contestant(seconds: float) -> float:
        for _ in range(waiting):
            next(batches)
        began, count = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            count += len(next(batches)[0])
        return count / (time.perf_counter() - began)

    return contestant


def _in_threads(
    pool: ThreadPoolExecutor,
    num_workers: int,
    items: list[Item],
    work: Callable[[Item, np.ndarray], None],
    shape: tuple[int, ...],
) -> Contestant:
    """Does `work(item, out)` over and over in all threads, each into a buffer of its own."""

    def repeat(share: list[Item], seconds: float) -> int:
        out, count, until = np.empty(shape, np.uint8), 0, time.perf_counter() + seconds
        while True:
            for item in share:
                work(item, out)
                count += 1
                if time.perf_counter() > until:
                    return count

    def contestant(seconds: float) -> float:
        began = time.perf_counter()
        shares = [items[worker::num_workers] for worker in range(num_workers)]
        counts = pool.map(repeat, shares, [seconds] * num_workers)
        return sum(counts) / (time.perf_counter() - began)

    return contestant
