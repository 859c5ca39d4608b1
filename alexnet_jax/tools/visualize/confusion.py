"""Which classes are taken for which, from the JSON of python -m alexnet_jax evaluate."""

import dataclasses
import json
import pathlib

import numpy as np

from alexnet_jax.data import synsets
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.tools.visualize import figure

MOST_NUMBERED = 25  # classes up to which each field has its number
RIGHT, WRONG = "Blues", "Reds"


@dataclasses.dataclass(frozen=True)
class Confusion:
    """Counts [classes, classes]: images of a row's class that were taken for a column's.

    `others` [classes] were taken for classes that are not shown. `title` says of what.
    """

    classes: tuple[str, ...]
    counts: np.ndarray
    others: np.ndarray
    title: str


def read_confusion(path: pathlib.Path) -> Confusion:
    """From the JSON of an evaluation; UserError where the file is none."""
    try:
        evaluation = json.loads(path.read_text())
        matrix = evaluation["confusion"]
        confusion = Confusion(
            classes=tuple(synsets.words(str(name)) for name in matrix["classes"]),
            counts=np.array(matrix["counts"], np.int64),
            others=np.array(matrix["taken_for_others"], np.int64),
            title=_title(evaluation, len(matrix["classes"])),
        )
    except OSError as error:
        raise UserError(
            f"{path} can't be read ({error.strerror}): name the file that python -m "
            "alexnet_jax evaluate --json=FILE wrote."
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} holds no confusion matrix: evaluate one run anew with python -m "
            "alexnet_jax evaluate --workdir=DIR --json=FILE."
        ) from error
    classes = len(confusion.classes)
    if confusion.counts.shape != (classes, classes) or confusion.others.shape != (classes,):
        raise UserError(f"{path} holds a damaged confusion matrix: evaluate the run anew.")
    return confusion


def _title(evaluation: dict, shown: int) -> str:
    scores, classes = evaluation["scores"], len(evaluation["classes"])
    some = "" if shown >= classes else f"; the {shown} of {classes:,} classes confused most"
    return (
        f"{scores['images']:,} images ({evaluation['split']}), "
        f"top-1 error {scores['top1_error']:.1%}{some}"
    )


def draw_confusion(confusion: Confusion):
    """The figure: a row for each true class, right guesses blue, wrong ones red."""
    counts, others = confusion.counts, confusion.others
    with_others = bool(others.any())
    columns = [*confusion.classes, "others"] if with_others else list(confusion.classes)
    whole = np.column_stack([counts, others]) if with_others else counts
    images = whole.sum(axis=1, keepdims=True)
    share = whole / np.maximum(images, 1)
    right = np.eye(*whole.shape) > 0
    worst = max(share[~right].max(initial=0), 1e-9)
    side = max(6.5, min(14.0, 0.36 * len(columns) + 3.5))
    drawn = figure.blank(side + 1, side)
    axes = drawn.subplots()
    shapes = {"aspect": "equal", "interpolation": "nearest"}
    blue = axes.imshow(np.where(right, share, np.nan), cmap=RIGHT, vmin=0, vmax=1, **shapes)
    red = axes.imshow(np.where(right | (whole == 0), np.nan, share), cmap=WRONG, vmin=0,
                      vmax=1.2 * worst, **shapes)  # fmt: skip
    size = 11 if len(columns) <= 12 else 9 if len(columns) <= 50 else 5
    if len(columns) <= MOST_NUMBERED + 1:
        _write_numbers(axes, whole, np.where(right, share, share / (1.2 * worst)), size)
    names = [figure.shortened(name, 22) for name in columns]
    slanted = {"rotation": 45, "ha": "right"} if max(map(len, names)) > 6 else {}
    axes.set_xticks(range(len(columns)), names, fontsize=size, **slanted)
    axes.set_yticks(range(len(counts)), names[: len(counts)], fontsize=size)
    axes.tick_params(length=0)
    axes.set_xlabel("taken for", fontsize=13)
    axes.set_ylabel("true class", fontsize=13)
    axes.set_title(confusion.title, fontsize=13)
    for mappable, label in ((blue, "share that is right"), (red, "share taken for another")):
        bar = drawn.colorbar(mappable, ax=axes, shrink=0.55, pad=0.01, aspect=30)
        bar.set_label(label, fontsize=10)
        bar.ax.tick_params(labelsize=9)
    return drawn


def _write_numbers(axes, whole: np.ndarray, darkness: np.ndarray, size: int) -> None:
    for row, column in np.argwhere(whole):
        colour = "white" if darkness[row, column] > 0.6 else "black"
        axes.text(column, row, f"{whole[row, column]:,}", ha="center", va="center", color=colour,
                  fontsize=size)  # fmt: skip
