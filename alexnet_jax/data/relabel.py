"""A set of images with the labels that a network gives its classes."""

from collections.abc import Sequence

import numpy as np

from alexnet_jax.data.arrays import RecordIds
from alexnet_jax.data.sources import Source


class Relabelled:
    """A source of some of `classes`, with the labels that its classes have among all of these.

    ValueError, with its name, for a class of the source that is not among them.
    """

    ilsvrc_ids = None

    def __init__(self, source: Source, classes: Sequence[str]):
        self._source, self.classes = source, tuple(classes)
        places = {name: label for label, name in enumerate(self.classes)}
        strange = [name for name in source.classes if name not in places]
        if strange:
            raise ValueError(strange[0])
        labels = np.int32([places[name] for name in source.classes])
        self.labels = np.where(source.labels < 0, source.labels, labels[source.labels])
        self.size, self.channels = source.size, source.channels
        self.fingerprint, self.statistics_file = source.fingerprint, source.statistics_file

    def __len__(self) -> int:
        return len(self._source)

    def name(self, record: int) -> str:
        return self._source.name(record)

    def load(self, ids: RecordIds, out: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        return self._source.load(ids, out)[0], self.labels[np.asarray(ids)]
