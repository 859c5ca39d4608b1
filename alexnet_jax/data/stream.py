"""The order of images, and batches in that order, decoded ahead of time.

The stream has no state. Training is one endless row of images: a permutation of the records for
each epoch, drawn from (seed, epoch), one after the other. Step s takes the images at
s * batch ... (s + 1) * batch - 1. Every epoch visits each record exactly once; a batch may end one
epoch and begin the next. So resuming, another number of processes, and the question which images
were in step 1234 are all the same function. In place of an image that can't be read comes another
of the same epoch, drawn from (seed, epoch, place), or the run stops: never is one lost in silence.
"""

import collections
import functools
import math
import mmap
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from alexnet_jax.data import validation
from alexnet_jax.data.images import BadImage
from alexnet_jax.data.sources import Source
from alexnet_jax.runtime.errors import UserError

PADDING_LABEL = -1
TRIES = 100  # for one place, before the data set is called broken


class Batch(NamedTuple):
    """Images uint8 [rows, size, size, channels], labels int32 [rows], and what could not be read.

    `bad` int64 [n, 2] has pairs (record, the one that stands in its place, or -1). Negative labels
    are PADDING_LABEL, or -2 - label for an image that has to count as wrong.
    """

    images: np.ndarray
    labels: np.ndarray
    bad: np.ndarray


def record_ids(records: int, seed: int, step: int, batch: int, rows: np.ndarray) -> np.ndarray:
    """Records of the given rows of step `step`, as int64 [len(rows)]."""
    positions = step * batch + np.asarray(rows, np.int64)
    epochs, places = np.divmod(positions, records)
    ids = np.empty_like(positions)
    for epoch in np.unique(epochs):
        chosen = epochs == epoch
        ids[chosen] = _permutation(records, seed, int(epoch))[places[chosen]]
    return ids


def replacements(records: int, seed: int, position: int) -> Iterator[int]:
    """Records to try in place of the unreadable one at `position`, counted from the first step.

    They come later in the same epoch; for the last image of an epoch, earlier.
    """
    epoch, place = divmod(position, records)
    random = np.random.default_rng([seed, epoch, place])
    low, high = (place + 1, records) if place + 1 < records else (0, place)
    for _ in range(TRIES if high > low else 0):
        yield int(_permutation(records, seed, epoch)[random.integers(low, high)])


def training_batches(
    source: Source,
    seed: int,
    batch: int,
    rows: np.ndarray,
    first_step: int,
    last_step: int,
    workers: int,
    ahead: int,
    replace_bad: bool = False,
) -> Iterator[Batch]:
    """The rows of this process for steps first_step ... last_step - 1, in order.

    `workers` batches are decoded at a time, and at most `ahead` finished ones wait, or as many as
    both together without TensorFlow. An image that can't be read is replaced if `replace_bad`, or
    raises BadImage.
    """
    buffers = _Buffers((len(rows), source.size, source.size, source.channels))

    def load(step: int) -> Batch:
        ids = record_ids(len(source), seed, step, batch, rows)
        loaded = _load(source, ids, replace_bad, buffers.take())
        for row in np.flatnonzero(loaded.labels < 0):
            _replace(source, seed, step * batch + int(rows[row]), int(row), loaded)
        return loaded

    return _ordered(load, first_step, last_step, workers, ahead)


def evaluation_batches(
    source: Source,
    batch: int,
    rows: np.ndarray,
    workers: int,
    ahead: int,
    count_bad_as_wrong: bool = False,
) -> Iterator[Batch]:
    """The rows of this process for a whole split in stored order, each record exactly once.

    The last batch is filled up with black images whose label is PADDING_LABEL. An image that can't
    be read is black with the label -2 - label if `count_bad_as_wrong`, or raises BadImage.
    """

    buffers = _Buffers((len(rows), source.size, source.size, source.channels))

    def load(step: int) -> Batch:
        ids = step * batch + np.asarray(rows)
        ids = ids[ids < len(source)]
        count, images = len(ids), buffers.take()
        labels = np.full(len(rows), PADDING_LABEL, np.int32)  # rows ascend: padding comes last
        images[count:] = 0
        _, labels[:count], bad = _load(source, ids, count_bad_as_wrong, images[:count])
        return Batch(images, labels, bad)

    return _ordered(load, 0, -(-len(source) // batch), workers, ahead)


def all_records(
    source: Source, ids: np.ndarray, workers: int, leave_out_bad: bool = False, chunk: int = 64
) -> Iterator[Batch]:
    """The given records in order, `chunk` at a time, the last one shorter.

    Those that can't be read are left out if `leave_out_bad`, or raise BadImage.
    """

    def load(index: int) -> Batch:
        own = ids[index * chunk : (index + 1) * chunk]
        images = np.empty((len(own), source.size, source.size, source.channels), np.uint8)
        loaded = _load(source, own, leave_out_bad, images)
        read = loaded.labels >= 0
        return loaded if read.all() else Batch(images[read], loaded.labels[read], loaded.bad)

    return _ordered(load, 0, -(-len(ids) // chunk), workers, ahead=2)


class _Buffers:
    """Memory for batches of one shape, used again when nobody refers to the batch any more.

    New memory would cost more than reading raw pixels, since the system clears it page by page. It
    begins at a page, so that TensorFlow and JAX can use it where it is.
    """

    def __init__(self, shape: tuple[int, ...]):
        self._shape, self._free = shape, collections.deque()

    def take(self) -> np.ndarray:
        """An array of the shape, with any content."""
        try:
            memory = self._free.pop()
        except IndexError:
            memory = mmap.mmap(-1, max(1, math.prod(self._shape)))
        array = np.frombuffer(memory, np.uint8, math.prod(self._shape))
        weakref.finalize(array, self._free.append, memory)  # its views keep it alive
        return array.reshape(self._shape)


def _load(source: Source, ids: np.ndarray, go_on: bool, into: np.ndarray) -> Batch:
    """The records, in the memory of `into`.

    With `go_on` one that can't be read is black and has the label -2 - label.
    """
    none = np.empty((0, 2), np.int64)
    try:
        return Batch(into, _read(source, ids, into), none)
    except BadImage:
        if not go_on:
            raise
    labels, bad = source.labels[ids].copy(), []
    validation.check_labels(labels, ids, source)
    for row, record in enumerate(ids):
        try:
            labels[row : row + 1] = _read(source, [record], into[row : row + 1])
        except BadImage:
            into[row], labels[row] = 0, -2 - labels[row]
            bad.append((record, -1))
    return Batch(into, labels, np.asarray(bad, np.int64).reshape(-1, 2))


def _read(source: Source, ids: Sequence[int], into: np.ndarray) -> np.ndarray:
    """The labels of the records, and their images in `into`; the only way from a source to a batch.

    UserError for what may not enter a step.
    """
    images, labels = source.load(ids, into)
    validation.check_images(images, into.shape, source)
    validation.check_labels(labels, ids, source)
    if images is not into:
        into[...] = images
    return labels


def _replace(source: Source, seed: int, position: int, row: int, loaded: Batch) -> None:
    """Put the first readable replacement into `row` of a training batch."""
    for record in replacements(len(source), seed, position):
        try:
            loaded.labels[row : row + 1] = _read(source, [record], loaded.images[row : row + 1])
        except BadImage:
            continue
        place = np.flatnonzero(loaded.bad[:, 1] < 0)[0]
        loaded.bad[place, 1] = record
        return
    raise UserError(
        f"{TRIES} images of the training set in a row can't be read: look at the data before you "
        "go on; --config.data.on_bad_image=stop names the first."
    )


@functools.lru_cache(maxsize=2)
def _permutation(records: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(records)


def _ordered(
    load: Callable[[int], Batch], first: int, last: int, workers: int, ahead: int
) -> Iterator[Batch]:
    """load(first) ... load(last - 1) in order, on tf.data's threads, without TensorFlow on others.

    An error of `load` is raised here as it was, not as TensorFlow wraps it.
    """
    tf = _tensorflow()
    if tf is None:
        yield from _ordered_without_tensorflow(load, first, last, workers, ahead)
        return
    errors: dict[int, Exception] = {}  # by index: a later one may fail sooner

    def guarded(index):
        try:
            return load(int(index))
        except Exception as error:
            errors[int(index)] = error
            raise

    def read(index):
        return tf.numpy_function(guarded, [index], (tf.uint8, tf.int32, tf.int64))

    options = tf.data.Options()
    options.deterministic = True
    options.autotune.enabled = False
    options.threading.private_threadpool_size = workers
    options.experimental_optimization.inject_prefetch = False
    dataset = tf.data.Dataset.range(first, last).map(read, num_parallel_calls=workers)
    dataset = dataset.prefetch(ahead).with_options(options)
    try:
        for arrays in dataset.as_numpy_iterator():
            yield Batch(*arrays)
    except tf.errors.OpError:
        if errors:
            raise errors[min(errors)] from None
        raise


def _ordered_without_tensorflow(
    load: Callable[[int], Batch], first: int, last: int, workers: int, ahead: int
) -> Iterator[Batch]:
    pool, begun = ThreadPoolExecutor(workers), collections.deque[Future[Batch]]()
    try:
        for index in range(first, last):
            begun.append(pool.submit(load, index))
            if len(begun) == workers + ahead:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


@functools.cache
def _tensorflow():
    """TensorFlow without the GPU, which belongs to JAX; None where it is not installed."""
    try:
        import tensorflow as tf
    except ModuleNotFoundError:
        return None

    tf.config.set_visible_devices([], "GPU")
    return tf
