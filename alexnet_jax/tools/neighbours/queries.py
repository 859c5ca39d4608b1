"""Query images, and which of them are in the searched set itself."""

import os
from collections.abc import Iterator, Sequence

import numpy as np

from alexnet_jax.data import image_files
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.runtime.terminal import Terminal
from alexnet_jax.tools.features import collection, extract
from alexnet_jax.tools.features.files import Features
from alexnet_jax.tools.neighbours.search import NOBODY
from alexnet_jax.weights.trained import Trained

COMPARED = {
    "layer": "is of another layer",
    "parameters_sha256": "is of a network with other weights",
    "pixels": "comes from images that were cut or scaled in another way",
}


def check_comparable(features: Features, metadata: dict, path: str) -> None:
    """UserError where features of `path` have no distance to these; `metadata` as in a file."""
    for name, difference in COMPARED.items():
        if metadata[name] != features.metadata[name]:
            raise UserError(
                f"{path} {difference} than {features.path}, which is "
                f"{features.metadata['layer']} of {features.metadata['weights']}: distances need "
                "one layer of one network."
            )


def of_images(
    trained: Trained,
    features: Features,
    arguments: Sequence[str],
    batch_size: int,
    terminal: Terminal,
) -> Features:
    """The features of images that people name, in memory; one that can't be read is left out.

    UserError where the network is not that of `features`, and where no image is left.
    """
    layer = features.metadata["layer"]
    metadata = extract.metadata_of(trained, layer)
    check_comparable(features, metadata, trained.name)
    files = image_files.find(arguments)
    images = collection.of_files(files, trained.classes, extract.stored_of(trained))
    indices, chunks = [], []
    computed = extract.compute_features(
        trained,
        layer,
        images.load,
        range(len(images)),
        batch_size=batch_size,
        num_workers=os.cpu_count() or 1,
    )
    for ids, values, unusable in computed:
        for _, error in unusable:
            terminal.warn(str(error))
        if values is not None:
            indices += ids.tolist()
            chunks.append(values.reshape(len(ids), -1))
    if not indices:
        raise UserError(f"None of the {len(images):,} images can be read: name others.")
    values_of_all = np.concatenate(chunks)

    def blocks(count: int) -> Iterator[np.ndarray]:
        return (
            values_of_all[start : start + count] for start in range(0, len(values_of_all), count)
        )

    return Features(
        path="the images named",
        metadata=metadata | {"weights": trained.name} | images.metadata([]),
        names=[images.names[index] for index in indices],
        labels=images.labels[indices],
        width=features.width,
        blocks=blocks,
    )


def self_indices(queries: Features, features: Features) -> np.ndarray:
    """The index in `features` of the query itself, by the image's name, or NOBODY; int64."""
    names = collection.full_names(features.metadata["images"], features.names)
    indices = {name: index for index, name in enumerate(names)}
    query_names = collection.full_names(queries.metadata["images"], queries.names)
    return np.asarray([indices.get(name, NOBODY) for name in query_names], np.int64)
