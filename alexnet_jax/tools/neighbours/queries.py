"""The images whose neighbours are wanted, and which of them are in the set itself."""

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


def check_comparable(features: Features, about: dict, path: str) -> None:
    """UserError where features of `path` have no distance to these; `about` as in a file."""
    for name, told in COMPARED.items():
        if about[name] != features.about[name]:
            raise UserError(
                f"{path} {told} than {features.path}, which is {features.about['layer']} of "
                f"{features.about['weights']}: distances need one layer of one network."
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
    layer = features.about["layer"]
    about = extract.described(trained, layer)
    check_comparable(features, about, trained.name)
    found = image_files.find(arguments)
    images = collection.of_files(found, trained.classes, extract.stored_of(trained))
    numbers, rows = [], []
    computed = extract.features(
        trained,
        layer,
        images.load,
        range(len(images)),
        batch_size=batch_size,
        num_workers=os.cpu_count() or 1,
    )
    for ids, some, unusable in computed:
        for _, error in unusable:
            terminal.warn(str(error))
        if some is not None:
            numbers += ids.tolist()
            rows.append(some.reshape(len(ids), -1))
    if not numbers:
        raise UserError(f"None of the {len(images):,} images can be read: name others.")
    together = np.concatenate(rows)

    def blocks(count: int) -> Iterator[np.ndarray]:
        return (together[start : start + count] for start in range(0, len(together), count))

    return Features(
        path="the images named",
        about=about | {"weights": trained.name} | images.about([]),
        names=[images.names[number] for number in numbers],
        labels=images.labels[numbers],
        width=features.width,
        blocks=blocks,
    )


def rows_of(queries: Features, features: Features) -> np.ndarray:
    """The row of `features` that is the query itself, by the image's name, or NOBODY; int64."""
    names = collection.full_names(features.about["images"], features.names)
    rows = {name: row for row, name in enumerate(names)}
    wanted = collection.full_names(queries.about["images"], queries.names)
    return np.asarray([rows.get(name, NOBODY) for name in wanted], np.int64)
