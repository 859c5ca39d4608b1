"""A whole split, each image counted exactly once, whatever batch, devices or processes."""

import collections
import dataclasses
from collections.abc import Callable, Iterator

import jax
import numpy as np
from jax.sharding import Mesh

from alexnet_jax.data import stream
from alexnet_jax.data.sources import Source
from alexnet_jax.parallel import mesh as meshes
from alexnet_jax.parallel import processes
from alexnet_jax.training import metrics
from alexnet_jax.training.preprocessing import Preprocessing
from alexnet_jax.training.throughput import IN_FLIGHT

Batch = tuple[metrics.Sums, jax.Array, jax.Array]


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """One compiled evaluation step on one split, for any number of parameters.

    `step` is that of `Steps.evaluation`; images come `batch` at a time, decoded by `workers`, with
    at most `ahead` batches waiting. An image that can't be read counts as wrong, as `warn`
    is told, or stops it.
    """

    step: Callable
    preprocessing: Preprocessing
    source: Source
    batch: int
    mesh: Mesh
    workers: int
    ahead: int
    warn: Callable[[str], None]
    count_bad_as_wrong: bool = False

    def measure(
        self, parameters, stopping: Callable[[], bool] = lambda: False
    ) -> dict[str, float] | None:
        """Mean log loss, top-1 and top-5 error and the number of images.

        `stopping` is asked after every batch but the last; if it says so there is no result.
        """
        found = []
        for sums, _, _ in self._batches(parameters):
            found.append(sums)
            if len(found) * self.batch < len(self.source) and stopping():
                return None
        return self._means(found)

    def predict(
        self, parameters, progress: Callable[[int, int], None]
    ) -> tuple[dict[str, float], np.ndarray, np.ndarray]:
        """Means, log-probabilities float32 [images, classes] and labels int32 [images].

        Both arrays are in stored order and whole on the lead process, on the others empty.
        `progress(done, total)` is called after each batch. All processes of a run call it.
        """
        sums, predicted, labels = [], [], []
        for batch_sums, log_probabilities, batch_labels in self._batches(parameters):
            sums.append(batch_sums)
            rows = processes.to_host(log_probabilities).astype(np.float32)
            own = processes.to_host(batch_labels)
            real = own != stream.PADDING_LABEL
            if processes.is_lead():
                predicted.append(rows[real])
                labels.append(own[real])
            progress(min(len(sums) * self.batch, len(self.source)), len(self.source))
        if not processes.is_lead():
            return self._means(sums), np.empty((0, 0), np.float32), np.empty(0, np.int32)
        return self._means(sums), np.concatenate(predicted), np.concatenate(labels)

    def _batches(self, parameters) -> Iterator[Batch]:
        """Scores, log-probabilities and labels of each batch, as soon as they are there."""
        indices = meshes.local_batch_indices(self.mesh, self.batch)
        running: collections.deque[Batch] = collections.deque()
        for host in stream.evaluation_batches(
            self.source,
            batch_size=self.batch,
            indices=indices,
            num_workers=self.workers,
            prefetch=self.ahead,
            count_bad_as_wrong=self.count_bad_as_wrong,
        ):
            for record, _ in host.bad:
                self.warn(f"{self.source.name(record)} can't be read and counts as wrong")
            images, labels = (
                meshes.put_batch(self.mesh, self.batch, indices, array) for array in host[:2]
            )
            sums, predicted = self.step(parameters, images, labels, self.preprocessing)
            running.append((sums, predicted, labels))
            if len(running) > IN_FLIGHT:
                running[0][1].block_until_ready()
                yield running.popleft()
        yield from running

    def _means(self, sums: list[metrics.Sums]) -> dict[str, float]:
        means = metrics.means(jax.device_get(sums))
        if means["images"] != len(self.source):
            raise RuntimeError(
                f"Evaluated {means['images']} images of a split of {len(self.source)}."
            )
        return means
