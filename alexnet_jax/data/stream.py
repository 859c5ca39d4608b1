"""The order of images, and batches in that order, decoded ahead of time.

The stream has no state. Training is one endless row of images: a permutation of the records for
each epoch, drawn from (seed, epoch), one after the other. Step s takes the images at
s * batch ... (s + 1) * batch - 1. Every epoch visits each record exactly once; a batch may end one
epoch and begin the next. So resuming, another number of processes, and the question which images
were in step 1234 are all the same function.
"""

import functools
from collections.abc import Callable, Iterator

import numpy as np

from alexnet_jax.data.sources import Source

Batch = tuple[np.ndarray, np.ndarray]
PADDING_LABEL = -1


def record_ids(records: int, seed: int, step: int, batch: int, rows: np.ndarray) -> np.ndarray:
    """Records of the given rows of step `step`, as int64 [len(rows)]."""
    positions = step * batch + np.asarray(rows, np.int64)
    epochs, places = np.divmod(positions, records)
    ids = np.empty_like(positions)
    for epoch in np.unique(epochs):
        chosen = epochs == epoch
        ids[chosen] = _permutation(records, seed, int(epoch))[places[chosen]]
    return ids


@functools.lru_cache(maxsize=2)
def _permutation(records: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(records)


def training_batches(
    source: Source,
    seed: int,
    batch: int,
    rows: np.ndarray,
    first_step: int,
    last_step: int,
    workers: int,
    ahead: int,
) -> Iterator[Batch]:
    """The rows of this process for steps first_step ... last_step - 1, in order.

    Images uint8 [len(rows), size, size, channels], labels int32 [len(rows)].
    `workers` batches are decoded at a time, and at most `ahead` finished ones wait.
    """

    def load(step: int) -> Batch:
        return source.load(record_ids(len(source), seed, step, batch, rows))

    return _ordered(load, first_step, last_step, workers, ahead)


def evaluation_batches(
    source: Source, batch: int, rows: np.ndarray, workers: int, ahead: int
) -> Iterator[Batch]:
    """The rows of this process for a whole split in stored order, each record exactly once.

    The last batch is filled up with black images whose label is PADDING_LABEL.
    """

    def load(step: int) -> Batch:
        ids = step * batch + np.asarray(rows)
        images, labels = source.load(ids[ids < len(source)])  # rows ascend: padding comes last
        missing = len(ids) - len(images)
        black = np.zeros((missing, *images.shape[1:]), np.uint8)
        no_label = np.full(missing, PADDING_LABEL, np.int32)
        return np.concatenate([images, black]), np.concatenate([labels, no_label])

    return _ordered(load, 0, -(-len(source) // batch), workers, ahead)


def all_records(source: Source, ids: np.ndarray, workers: int, chunk: int = 64) -> Iterator[Batch]:
    """The given records in order, `chunk` at a time, the last one shorter."""

    def load(index: int) -> Batch:
        return source.load(ids[index * chunk : (index + 1) * chunk])

    return _ordered(load, 0, -(-len(ids) // chunk), workers, ahead=2)


def _ordered(
    load: Callable[[int], Batch], first: int, last: int, workers: int, ahead: int
) -> Iterator[Batch]:
    """load(first) ... load(last - 1) in order, on tf.data's threads.

    An error of `load` is raised here as it was, not as TensorFlow wraps it.
    """
    tf = _tensorflow()
    errors: list[Exception] = []

    def guarded(index):
        try:
            return load(int(index))
        except Exception as error:
            errors.append(error)
            raise

    def read(index):
        return tf.numpy_function(guarded, [index], (tf.uint8, tf.int32))

    options = tf.data.Options()
    options.deterministic = True
    options.autotune.enabled = False
    options.threading.private_threadpool_size = workers
    options.experimental_optimization.inject_prefetch = False
    dataset = tf.data.Dataset.range(first, last).map(read, num_parallel_calls=workers)
    dataset = dataset.prefetch(ahead).with_options(options)
    try:
        yield from dataset.as_numpy_iterator()
    except tf.errors.OpError:
        if errors:
            raise errors[0] from None
        raise


@functools.cache
def _tensorflow():
    """TensorFlow without the GPU, which belongs to JAX."""
    import tensorflow as tf

    tf.config.set_visible_devices([], "GPU")
    return tf
