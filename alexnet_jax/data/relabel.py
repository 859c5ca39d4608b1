"""A data set with the labels by which a network knows its classes."""

from collections.abc import Sequence

import numpy as np

from alexnet_jax.data.arrays import RecordIds
from alexnet_jax.data.sources import Source


class Relabelled:
    """A source whose classes are some of `classes`, labelled by their positions in `classes`.

    ValueError with the name of a class of the source that is not among them.
    """

    ilsvrc_ids: Sequence[int] | None = None

    def __init__(self, source: Source, classes: Sequence[str]):
        self._source, self.classes = source, tuple(classes)
        label_of = {name: label for label, name in enumerate(self.classes)}
        unknown = [name for name in source.classes if name not in label_of]
        if unknown:
            raise ValueError(unknown[0])
        labels = np.array([label_of[name] for name in source.classes], np.int32)
        self.labels = np.where(source.labels < 0, source.labels, labels[source.labels])
        self.size, self.channels = source.size, source.channels
        self.fingerprint, self.statistics_file = source.fingerprint, source.statistics_file

    def __len__(self) -> int:
        return len(self._source)

    def name(self, record: int) -> str:
        """The file name of an image."""
        return self._source.name(record)

    def load(self, ids: RecordIds, out: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Images and their new labels; see sources.Source."""
        return self._source.load(ids, out)[0], self.labels[np.asarray(ids)]
