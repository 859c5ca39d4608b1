"""The order of images, and batches in that order, decoded ahead of time.

The stream has no state. Training sees an endless sequence of images: for each epoch a permutation
of the records, drawn from (seed, epoch). Step s takes the positions s * batch_size ...
(s + 1) * batch_size - 1. Every epoch visits each record exactly once; a batch may span the end of
one epoch and the start of the next. So resuming, another number of processes, and the question
which images were in step 1234 are all the same function. An unreadable image is replaced by another
of the same epoch, drawn from (seed, epoch, offset), or the run stops; it is always reported.
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
from alexnet_jax.runtime.optional_imports import import_tensorflow

PADDING_LABEL = -1
TRIES = 100  # replacements for one image, before the data set is called broken


class Batch(NamedTuple):
    """Examples of a batch: images uint8 [batch, size, size, channels] and labels int32 [batch].

    `bad` int64 [n, 2] has a pair for each unreadable record: its id, and the id of the record that
    replaces it, or -1. Negative labels are PADDING_LABEL, or -2 - label for an image that has to
    count as wrong.
    """

    images: np.ndarray
    labels: np.ndarray
    bad: np.ndarray


def record_ids(
    num_records: int, *, seed: int, step: int, batch_size: int, indices: np.ndarray
) -> np.ndarray:
    """Record ids of the examples `indices` in the batch of step `step`, int64 [len(indices)]."""
    positions = step * batch_size + np.asarray(indices, np.int64)
    epochs, offsets = np.divmod(positions, num_records)
    ids = np.empty_like(positions)
    for epoch in np.unique(epochs):
        in_epoch = epochs == epoch
        ids[in_epoch] = _permutation(num_records, seed, int(epoch))[offsets[in_epoch]]
    return ids


def replacements(num_records: int, seed: int, position: int) -> Iterator[int]:
    """Ids of records to try in place of the unreadable one at `position` of the stream.

    Positions count from the first step. Replacements come later in the same epoch; for the last
    image of an epoch, earlier.
    """
    epoch, offset = divmod(position, num_records)
    random = np.random.default_rng([seed, epoch, offset])
    low, high = (offset + 1, num_records) if offset + 1 < num_records else (0, offset)
    for _ in range(TRIES if high > low else 0):
        yield int(_permutation(num_records, seed, epoch)[random.integers(low, high)])


def training_batches(
    source: Source,
    *,
    seed: int,
    batch_size: int,
    indices: np.ndarray,
    first_step: int,
    last_step: int,
    num_workers: int,
    prefetch: int,
    replace_bad: bool = False,
) -> Iterator[Batch]:
    """This process's examples of the steps first_step ... last_step - 1, in order.

    `indices` are the positions in the global batch that this process supplies. `num_workers`
    batches are decoded at a time, and at most `prefetch` finished ones wait, or without TensorFlow
    as many as both together. An unreadable image is replaced if `replace_bad`, or raises BadImage.
    """
    buffers = _Buffers((len(indices), source.size, source.size, source.channels))

    def load(step: int) -> Batch:
        ids = record_ids(len(source), seed=seed, step=step, batch_size=batch_size, indices=indices)
        batch = _load(source, ids, replace_bad, buffers.take())
        for example in np.flatnonzero(batch.labels < 0):
            position = step * batch_size + int(indices[example])
            _replace(source, seed, position, batch, int(example))
        return batch

    return _ordered(load, first_step, last_step, num_workers=num_workers, prefetch=prefetch)


def evaluation_batches(
    source: Source,
    *,
    batch_size: int,
    indices: np.ndarray,
    num_workers: int,
    prefetch: int,
    count_bad_as_wrong: bool = False,
) -> Iterator[Batch]:
    """This process's examples of a whole split in stored order, each record exactly once.

    The last batch is filled up with black images whose label is PADDING_LABEL. An unreadable image
    is black with the label -2 - label if `count_bad_as_wrong`, or raises BadImage.
    """
    buffers = _Buffers((len(indices), source.size, source.size, source.channels))

    def load(step: int) -> Batch:
        ids = step * batch_size + np.asarray(indices)
        ids = ids[ids < len(source)]
        count, images = len(ids), buffers.take()
        labels = np.full(len(indices), PADDING_LABEL, np.int32)  # ids ascend: padding comes last
        images[count:] = 0
        _, labels[:count], bad = _load(source, ids, count_bad_as_wrong, images[:count])
        return Batch(images, labels, bad)

    return _ordered(
        load, 0, -(-len(source) // batch_size), num_workers=num_workers, prefetch=prefetch
    )


def load_records(
    source: Source,
    ids: np.ndarray,
    *,
    num_workers: int,
    skip_bad: bool = False,
    chunk_size: int = 64,
) -> Iterator[Batch]:
    """The records `ids` in order, `chunk_size` at a time, the last chunk shorter.

    Unreadable ones are left out if `skip_bad`, or raise BadImage.
    """

    def load(index: int) -> Batch:
        chunk = ids[index * chunk_size : (index + 1) * chunk_size]
        images = np.empty((len(chunk), source.size, source.size, source.channels), np.uint8)
        batch = _load(source, chunk, skip_bad, images)
        readable = batch.labels >= 0
        if readable.all():
            return batch
        return Batch(images[readable], batch.labels[readable], batch.bad)

    return _ordered(load, 0, -(-len(ids) // chunk_size), num_workers=num_workers, prefetch=2)


class _Buffers:
    """Memory for batches of one shape, used again once no array refers to the batch any more.

    New memory would cost more than reading raw pixels, since the system clears it page by page. It
    is aligned to a page, so that TensorFlow and JAX can use it without a copy.
    """

    def __init__(self, shape: tuple[int, ...]):
        self._shape = shape
        self._free: collections.deque[mmap.mmap] = collections.deque()

    def take(self) -> np.ndarray:
        """An array of the shape, with any content."""
        try:
            memory = self._free.pop()
        except IndexError:
            memory = mmap.mmap(-1, max(1, math.prod(self._shape)))
        array = np.frombuffer(memory, np.uint8, math.prod(self._shape))
        weakref.finalize(array, self._free.append, memory)  # its views keep it alive
        return array.reshape(self._shape)


def _load(source: Source, ids: np.ndarray, allow_bad: bool, out: np.ndarray) -> Batch:
    """The records `ids`, whose images are written to `out`.

    With `allow_bad` an unreadable image is black and has the label -2 - label.
    """
    try:
        return Batch(out, _read(source, ids, out), np.empty((0, 2), np.int64))
    except BadImage:
        if not allow_bad:
            raise
    labels, bad = source.labels[ids].copy(), []
    validation.check_labels(labels, ids, source)
    for example, record in enumerate(ids.tolist()):
        one = slice(example, example + 1)
        try:
            labels[one] = _read(source, [record], out[one])
        except BadImage:
            out[example], labels[example] = 0, -2 - labels[example]
            bad.append((record, -1))
    return Batch(out, labels, np.asarray(bad, np.int64).reshape(-1, 2))


def _read(source: Source, ids: Sequence[int] | np.ndarray, out: np.ndarray) -> np.ndarray:
    """The labels of the records, whose images are written to `out`.

    Every batch gets its images here. UserError for images or labels that a step must not see.
    """
    images, labels = source.load(ids, out)
    validation.check_images(images, out.shape, source)
    validation.check_labels(labels, ids, source)
    if images is not out:
        out[...] = images
    return labels


def _replace(source: Source, seed: int, position: int, batch: Batch, example: int) -> None:
    """Overwrite an unreadable `example` of a training batch by its first readable replacement."""
    one = slice(example, example + 1)
    for record in replacements(len(source), seed, position):
        try:
            batch.labels[one] = _read(source, [record], batch.images[one])
        except BadImage:
            continue
        batch.bad[np.flatnonzero(batch.bad[:, 1] < 0)[0], 1] = record
        return
    raise UserError(
        f"{TRIES} images of the training set in a row can't be read: look at the data before you "
        "go on; --config.data.on_bad_image=stop names the first."
    )


@functools.lru_cache(maxsize=2)
def _permutation(num_records: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(num_records)


def _ordered(
    load: Callable[[int], Batch], first: int, last: int, *, num_workers: int, prefetch: int
) -> Iterator[Batch]:
    """load(first) ... load(last - 1) in order, on tf.data's threads, without TensorFlow on others.

    An error of `load` is raised here as it was, not as TensorFlow wraps it.
    """
    tf = _tensorflow()
    if tf is None:
        yield from _ordered_without_tensorflow(
            load, first, last, num_workers=num_workers, prefetch=prefetch
        )
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
    options.threading.private_threadpool_size = num_workers
    options.experimental_optimization.inject_prefetch = False
    dataset = tf.data.Dataset.range(first, last).map(read, num_parallel_calls=num_workers)
    dataset = dataset.prefetch(prefetch).with_options(options)
    try:
        for arrays in dataset.as_numpy_iterator():
            yield Batch(*arrays)
    except tf.errors.OpError:
        if errors:
            raise errors[min(errors)] from None
        raise


def _ordered_without_tensorflow(
    load: Callable[[int], Batch], first: int, last: int, *, num_workers: int, prefetch: int
) -> Iterator[Batch]:
    pool, pending = ThreadPoolExecutor(num_workers), collections.deque[Future[Batch]]()
    try:
        for index in range(first, last):
            pending.append(pool.submit(load, index))
            if len(pending) == num_workers + prefetch:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _tensorflow():
    """TensorFlow, or None where it is not installed."""
    try:
        return import_tensorflow()
    except ModuleNotFoundError:
        return None
