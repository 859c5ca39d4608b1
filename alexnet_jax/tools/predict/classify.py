"""The likeliest classes of image files, and how many of the known ones are right."""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np

from alexnet_jax.data import image_files, synsets
from alexnet_jax.tools import inference
from alexnet_jax.weights.trained import Trained


@dataclasses.dataclass(frozen=True)
class Guess:
    """A class, its name in words and its probability."""

    label: int
    name: str
    probability: float


@dataclasses.dataclass(frozen=True)
class Classified:
    """An image file with its likeliest classes, likeliest first.

    `label` and `name` are of the class that the file's folder is called by, None if there is none.
    """

    image: str
    label: int | None
    name: str | None
    predictions: tuple[Guess, ...]

    def record(self) -> dict:
        """All of it for JSON."""
        return {
            "image": self.image,
            "label": self.label,
            "name": self.name,
            "predictions": [vars(guess) for guess in self.predictions],
        }


def likeliest(probabilities: np.ndarray, names: Sequence[str], top: int) -> tuple[Guess, ...]:
    """The `top` likeliest classes of one image, likeliest first."""
    labels = np.argsort(-probabilities, kind="stable")[:top].tolist()
    return tuple(Guess(label, names[label], float(probabilities[label])) for label in labels)


def classify(
    trained: Trained,
    files: Sequence[str],
    *,
    views: str,
    top: int,
    batch_size: int,
    unreadable: Callable[[Exception], None],
) -> Iterator[tuple[Classified, np.ndarray]]:
    """Each file with its `top` likeliest classes, in order, from the mean over `views`.

    The second of a pair is the image as stored, uint8 [size, size, channels].

    An error of a file that can't be read goes to `unreadable`. A batch is padded to full size, so
    that the network is compiled once.
    """
    batch_size = min(batch_size, len(files))
    predict = inference.log_probabilities(trained, views)
    parameters = jax.device_put(trained.parameters)
    names = [synsets.words(name) for name in trained.classes]
    folders = [pathlib.Path(file).parent.name for file in files]
    labels = {name: synsets.find_class(trained.classes, name) for name in set(folders)}
    pixels = trained.pixels
    load = image_files.loader(files, pixels.size, trained.architecture.channels, pixels.warp)
    workers = os.cpu_count() or 1
    for ids, images, errors in image_files.batches(load, range(len(files)), batch_size, workers):
        for _, error in errors:
            unreadable(error)
        if not len(ids):
            continue
        padded = np.zeros((batch_size, *images.shape[1:]), np.uint8)
        padded[: len(images)] = images
        probabilities = np.exp(np.asarray(predict(parameters, padded))[: len(images)])
        for number, image, likelihood in zip(ids, images, probabilities, strict=True):
            label = labels[folders[number]]
            result = Classified(
                image=files[number],
                label=label,
                name=None if label is None else names[label],
                predictions=likeliest(likelihood, names, top),
            )
            yield result, image


def summarize(results: Sequence[Classified], unreadable: int) -> dict[str, float]:
    """Counts, and errors over the images whose class is known."""
    labelled = [result for result in results if result.label is not None]
    summary: dict[str, float] = {
        "images": len(results),
        "unreadable": unreadable,
        "labelled": len(labelled),
    }
    if labelled:
        most = max(len(result.predictions) for result in labelled)
        for top in (1, 5):
            wrong = sum(
                result.label not in [guess.label for guess in result.predictions[:top]]
                for result in labelled
            )
            if top <= most:
                summary[f"top{top}_error"] = wrong / len(labelled)
    return summary
