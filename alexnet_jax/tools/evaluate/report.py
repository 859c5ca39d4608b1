"""Results of an evaluation: over all images, by class, and which classes are taken for which."""

import collections
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from alexnet_jax.data.stream import PADDING_LABEL
from alexnet_jax.runtime.provenance import provenance
from alexnet_jax.tools.evaluate.member import Choice, Prediction
from alexnet_jax.training import metrics

CHUNK = 4096  # images scored at a time
PAIRS = 100  # of confused classes in the JSON
MOST_CLASSES = 100  # up to which the JSON has the whole confusion matrix
MOST_CONFUSED = 20  # classes that it has instead where there are more
SHOWN = 5  # classes and pairs at the terminal


def evaluation_record(
    predictions: Sequence[Prediction],
    log_probabilities: np.ndarray,
    weights: Sequence[float],
    searched: bool,
    choice: Choice,
) -> dict:
    """Everything that is known of an evaluation, for its JSON.

    `log_probabilities` are those of the members together; `weights` are scaled to sum 1.
    """
    labels, source = predictions[0].labels, predictions[0].member.source
    means, ranks = score_chunks(log_probabilities, labels)
    if len(predictions) == 1:  # to the last bit what the training loop says
        means = predictions[0].means
    names = output_names(source.classes, log_probabilities.shape[1])
    shares = [weight / sum(weights) for weight in weights]
    confused = confused_pairs(log_probabilities, ranks, labels, names)
    return {
        "split": choice.split,
        "views": choice.views,
        "scores": means,
        "unreadable_images": int(np.count_nonzero(labels < PADDING_LABEL)),
        "weights": shares,
        "weights_searched_on_this_split": searched,
        "members": [
            {
                "workdir": str(prediction.member.workdir),
                "name": prediction.member.name,
                "network": prediction.member.network,
                "step": prediction.step,
                "weight": share,
                "scores": prediction.means,
                "parameters_sha256": prediction.parameters_sha256,
                "fingerprint": prediction.member.source.fingerprint,
                "trained_on": prediction.facts["data"],
                "git_commit_of_training": prediction.facts["git_commit"],
            }
            for prediction, share in zip(predictions, shares, strict=True)
        ],
        "classes": class_errors(ranks, labels, names),
        "confused": confused[:PAIRS],
        "confusion": confusion_matrix(confused, ranks, labels, names),
        **provenance(),
    }


def score_chunks(log_probabilities: np.ndarray, labels: np.ndarray) -> tuple[dict, np.ndarray]:
    """Means over all images as training has them, and metrics.ranks of each image."""
    sums, ranks = [], []
    for first in range(0, len(labels), CHUNK):
        chunk = slice(first, first + CHUNK)
        arrays = jnp.asarray(log_probabilities[chunk]), jnp.asarray(labels[chunk])
        sums.append(jax.device_get(metrics.score(*arrays)[1]))
        ranks.append(np.asarray(metrics.ranks(*arrays)))
    return metrics.means(sums), np.concatenate(ranks)


def output_names(names: Sequence[str], outputs: int) -> list[str]:
    """The names of a network's outputs, of which the data may know fewer."""
    return [*names, *(f"output {index}" for index in range(len(names), outputs))]


def class_errors(ranks: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> list[dict]:
    """Images, top-1 and top-5 error of each class that has images, in the order of classes."""
    truth, outputs = metrics.true_labels(labels), len(names)
    images = np.bincount(truth, minlength=outputs)
    top1 = np.bincount(truth[ranks >= 1], minlength=outputs)
    top5 = np.bincount(truth[ranks >= 5], minlength=outputs)
    return [
        {
            "class": names[index],
            "images": int(images[index]),
            "top1_error": float(top1[index] / images[index]),
            "top5_error": float(top5[index] / images[index]),
        }
        for index in np.flatnonzero(images).tolist()
    ]


def confused_pairs(
    log_probabilities: np.ndarray, ranks: np.ndarray, labels: np.ndarray, names: Sequence[str]
) -> list[dict]:
    """How often each class was taken for which other, most often first; unreadable images not."""
    wrong = np.flatnonzero((ranks >= 1) & (labels >= 0))
    others = log_probabilities[wrong]
    others[np.arange(len(wrong)), labels[wrong]] = -math.inf
    pairs = zip(labels[wrong].tolist(), others.argmax(axis=1).tolist(), strict=True)
    counts = sorted(collections.Counter(pairs).items(), key=lambda item: (-item[1], item[0]))
    return [
        {"class": names[true], "taken_for": names[taken], "images": count}
        for (true, taken), count in counts
    ]


def confusion_matrix(
    pairs: Sequence[dict], ranks: np.ndarray, labels: np.ndarray, names: Sequence[str]
) -> dict:
    """The matrix of all classes, or of those confused most often; unreadable images not.

    `pairs` are those of `confused_pairs`. `counts` has a row for each true class and a column for
    each that it was taken for, `taken_for_others` what was taken for a class that is left out.
    """
    chosen = range(len(names)) if len(names) <= MOST_CLASSES else _confused_most(pairs, names)
    place = {names[label]: index for index, label in enumerate(chosen)}
    right = np.bincount(labels[(ranks < 1) & (labels >= 0)], minlength=len(names))
    counts, others = np.diag(right[list(chosen)]), np.zeros(len(place), np.int64)
    for pair in pairs:
        true, taken = place.get(pair["class"]), place.get(pair["taken_for"])
        if true is not None and taken is not None:
            counts[true, taken] += pair["images"]
        elif true is not None:
            others[true] += pair["images"]
    return {
        "classes": list(place),
        "counts": counts.tolist(),
        "taken_for_others": others.tolist(),
    }


def _confused_most(pairs: Sequence[dict], names: Sequence[str]) -> list[int]:
    """Labels of the MOST_CONFUSED classes in the most confused pairs, in the order of labels."""
    both: collections.Counter = collections.Counter()
    for pair in pairs:
        both[frozenset((pair["class"], pair["taken_for"]))] += pair["images"]
    chosen: set[str] = set()
    for pair, _ in both.most_common():
        if len(chosen | pair) <= MOST_CONFUSED:
            chosen |= pair
    return [label for label, name in enumerate(names) if name in chosen]


def evaluation_table(record: dict) -> str:
    """A line a member and one for the ensemble, the worst classes and the most confused pairs."""
    members, images = record["members"], record["scores"]["images"]
    width = max(len(member["workdir"]) for member in members) + 2
    lines = [
        f"{record['split']}: {images:,} images, views: {record['views']}",
        f"{'':<{width}}{'step':>10}{'weight':>9}{'loss':>10}{'top-1 error':>14}{'top-5 error':>14}",
    ]
    for member in members:
        start = f"{member['workdir']:<{width}}{member['step']:>10,}{member['weight']:>9.3f}"
        lines.append(start + _errors(member["scores"]))
    if len(members) > 1:
        lines.append(f"{'together':<{width}}{'':>19}" + _errors(record["scores"]))
    if record["weights_searched_on_this_split"]:
        lines.append("The weights were searched on these very images, so these errors flatter.")
    if record["unreadable_images"]:
        lines.append(f"{record['unreadable_images']:,} unreadable image(s) count as wrong.")
    worst = sorted(record["classes"], key=lambda entry: -entry["top1_error"])[:SHOWN]
    lines.append("Worst classes (top-1 error, images):")
    lines += [
        f"  {entry['class']}  {entry['top1_error']:.2%} of {entry['images']:,}" for entry in worst
    ]
    if record["confused"]:
        lines.append("Most often confused:")
    lines += [
        f"  {pair['class']} taken for {pair['taken_for']}: {pair['images']:,} time(s)"
        for pair in record["confused"][:SHOWN]
    ]
    return "\n".join(lines)


def checkpoint_line(record: dict) -> str:
    """One checkpoint in one line."""
    step, means = record["members"][0]["step"], record["scores"]
    return (
        f"step {step:,}: loss {means['loss']:.4f}  top-1 error {means['top1_error']:.2%}  "
        f"top-5 error {means['top5_error']:.2%}"
    )


def _errors(means: dict) -> str:
    return f"{means['loss']:>10.4f}{means['top1_error']:>14.2%}{means['top5_error']:>14.2%}"
