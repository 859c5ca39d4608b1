"""Several networks as one: a weighted mean of their probabilities, and a search for the weights."""

from collections.abc import Callable, Sequence

import numpy as np
from scipy.special import logsumexp

from alexnet_jax.training import metrics

CHUNK = 1024  # images combined at a time, in float64
GRID = np.arange(21) / 20  # weights that the search tries: 0, 0.05 ... 1
FIRST_WEIGHT = 0.5


def combine(log_probabilities: Sequence[np.ndarray], weights: Sequence[float]) -> np.ndarray:
    """ln of the weighted mean of the members' probabilities, float32 [images, classes].

    Each of `log_probabilities` is [images, classes]; the weights count by their ratios.
    """
    shares = np.asarray(weights, np.float64) / np.sum(weights)
    weighted = [
        (member, share) for member, share in zip(log_probabilities, shares, strict=True) if share
    ]
    members, shares = zip(*weighted, strict=True)
    result = np.empty_like(members[0])
    for first in range(0, len(result), CHUNK):
        chunk = [member[first : first + CHUNK].astype(np.float64) for member in members]
        result[first : first + CHUNK] = logsumexp(
            chunk, axis=0, b=np.asarray(shares)[:, None, None]
        )
    return result


def search_weights(
    log_probabilities: Sequence[np.ndarray],
    labels: np.ndarray,
    progress: Callable[[tuple[float, ...], int], None] = lambda weights, errors: None,
) -> tuple[float, ...]:
    """Weights from GRID with few top-5 errors: one after the other is set to its best value.

    The authors' way (avg-valid.py): from 0.5 each, until a whole round finds nothing better; of
    equally good values the first one stays. `labels` are as in metrics.score. The errors are
    those of the images that were searched on, so they flatter. `progress` is called each round.
    """
    probabilities = [np.exp(member_probabilities) for member_probabilities in log_probabilities]
    weights = [FIRST_WEIGHT] * len(probabilities)
    total = sum(
        weight * member_probabilities
        for weight, member_probabilities in zip(weights, probabilities, strict=True)
    )
    best = top5_errors(total, labels)
    improved = True
    while improved:
        improved = False
        for member, member_probabilities in enumerate(probabilities):
            others = [w for index, w in enumerate(weights) if index != member]
            rest = sum(
                weight * probabilities[index]
                for index, weight in enumerate(weights)
                if index != member and weight
            )
            for weight in GRID:
                if not weight and not any(others):
                    continue
                errors = top5_errors(rest + np.float32(weight) * member_probabilities, labels)
                if errors < best:
                    best, improved = errors, True
                    weights[member] = float(weight)
        progress(tuple(weights), best)
    return tuple(weights)


def top5_errors(probabilities: np.ndarray, labels: np.ndarray) -> int:
    """How many images have five classes at least as likely as the true one, or are unreadable."""
    true_probabilities = np.take_along_axis(
        probabilities, metrics.true_labels(labels)[:, None], axis=1
    )
    at_least = np.count_nonzero(~(probabilities < true_probabilities), axis=1) - 1
    return int(np.count_nonzero((at_least >= 5) | (labels < 0)))
