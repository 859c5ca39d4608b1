"""The file that ILSVRC asks for: a line an image, its five most likely classes."""

import os
import pathlib

import numpy as np

from alexnet_jax.data.sources import Source

GUESSES = 5


def write_submission(path: pathlib.Path, source: Source, log_probabilities: np.ndarray) -> str:
    """Write a line for each image in order of file name; returns which class ids were used.

    `log_probabilities` [images, classes] are in stored order. The ids, most likely first, are
    ILSVRC's where the data knows them, else places in the alphabetical list of classes, from 1.
    """
    ids = np.asarray(class_ids(source))
    likeliest = np.argsort(-log_probabilities[:, : len(ids)], axis=1, kind="stable")[:, :GUESSES]
    order = sorted(range(len(source)), key=source.name)
    text = "".join(" ".join(map(str, ids[likeliest[record]])) + "\n" for record in order)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text)
    os.replace(partial, path)
    if source.ilsvrc_ids is not None:
        return "ILSVRC2012_IDs"
    return "positions in the alphabetical list of classes, from 1"


def class_ids(source: Source) -> tuple[int, ...]:
    """The id of each class in the file."""
    return tuple(source.ilsvrc_ids or range(1, len(source.classes) + 1))
