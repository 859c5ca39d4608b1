"""Loss and errors of a batch as sums, so that means over any number of batches are exact."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from alexnet_jax.data.stream import PADDING_LABEL

# Of images: loss, top1_errors, top5_errors, images. Of training also gradient_norm, norms and
# skipped_steps, whose loss or gradient was not finite and which count in nothing else.
Sums = dict[str, jax.Array]


def no_scores(dtype=jnp.float32) -> Sums:
    """Sums over no training step, reals in `dtype`, counts as integers."""
    counts = ("top1_errors", "top5_errors", "images", "norms", "skipped_steps")
    zeros = {name: jnp.zeros((), dtype) for name in ("loss", "gradient_norm")}
    return zeros | {name: jnp.zeros((), jnp.int32) for name in counts}


def score(
    logits: jax.Array, labels: jax.Array, label_smoothing: float = 0.0
) -> tuple[jax.Array, Sums]:
    """Losses [batch], -ln of the label's softmax probability, and their sums with the errors.

    `logits` may as well be log-probabilities. With `label_smoothing` so much of the label's weight
    of 1 is spread over all classes alike. Rows with PADDING_LABEL count nothing. An image that
    could not be read has the label -2 - label: it is wrong, and as unlikely as by chance.
    """
    real, unreadable = labels != PADDING_LABEL, labels < PADDING_LABEL
    known = jnp.maximum(labels, 0)
    if label_smoothing:
        wanted = jax.nn.one_hot(known, logits.shape[1], dtype=logits.dtype)
        losses = optax.softmax_cross_entropy(logits, optax.smooth_labels(wanted, label_smoothing))
    else:
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, known)
    losses = jnp.where(unreadable, math.log(logits.shape[1]), losses)
    losses = jnp.where(real, losses, 0)
    rank = ranks(logits, labels)
    return losses, {
        "loss": losses.sum(),
        "top1_errors": jnp.sum(real & (rank >= 1), dtype=jnp.int32),
        "top5_errors": jnp.sum(real & (rank >= 5), dtype=jnp.int32),
        "images": jnp.sum(real, dtype=jnp.int32),
    }


def log_mean_probabilities(
    log_softmax: Callable[..., jax.Array], positions: np.ndarray, like: jax.Array
) -> jax.Array:
    """Log of the mean over `positions` of the probabilities whose logs `log_softmax` gives.

    [batch, classes]. `like` is an array that differs between devices where the result does.
    """
    if len(positions) == 1:
        total = log_softmax(positions[0])
    else:  # a scan, so that memory is that of one position
        shape = jax.eval_shape(log_softmax, positions[0])
        nothing = jnp.full_like(like, -jnp.inf, shape.dtype, shape.shape)
        total, _ = jax.lax.scan(
            lambda total, position: (jnp.logaddexp(total, log_softmax(position)), None),
            nothing,
            positions,
        )
    return total - np.log(len(positions)).astype(total.dtype)


def ranks(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """How many classes are at least as likely as the true one, [batch]; `logits` as in `score`.

    Classes as likely as the true one count against it, and so does a logit that is not a number.
    Where the label is negative all classes do.
    """
    true_logits = jnp.take_along_axis(logits, jnp.maximum(labels, 0)[:, None], axis=1)
    rank = jnp.sum(~(logits < true_logits), axis=1) - 1
    return jnp.where(labels < 0, max(logits.shape[1], 5), rank)


def true_labels(labels: np.ndarray) -> np.ndarray:
    """The classes of images, also of those that could not be read."""
    return np.where(labels < PADDING_LABEL, -2 - labels, labels)


def means(sums: list[dict]) -> dict[str, float]:
    """Mean loss, top-1 and top-5 error and the number of images, from host sums, in float64.

    Of training steps also the mean of the gradient norms that were measured, and how many were
    skipped; where all were, loss and errors are not a number.
    """
    total = {name: np.sum([np.float64(part[name]) for part in sums]) for name in sums[0]}
    images = int(total["images"])
    result = {
        "loss": float(total["loss"] / (images or math.nan)),
        "top1_error": float(total["top1_errors"] / (images or math.nan)),
        "top5_error": float(total["top5_errors"] / (images or math.nan)),
        "images": images,
    }
    if total.get("norms"):
        result["gradient_norm"] = float(total["gradient_norm"] / total["norms"])
    if "skipped_steps" in total:
        result["skipped_steps"] = int(total["skipped_steps"])
    return result
