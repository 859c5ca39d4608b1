"""Numbers of a finished run, from its record; None where it has none, e.g. since it diverged."""

from alexnet_jax.reproduce.experiment import Result


def test_error(result: Result) -> float | None:
    """Top-1 error of the validation split after the last step, center view."""
    return (result.get("validation") or {}).get("top1_error")


def best_error(result: Result) -> float | None:
    """The lowest of all evaluations in training."""
    return (result.get("best") or {}).get("top1_error")


def training_error(result: Result) -> float | None:
    """Top-1 error of the training images at the end, without dropout and augmentation."""
    return _evaluated(result, "train", "center")


def gap(result: Result) -> float | None:
    """Test error minus training error."""
    return _difference(test_error(result), training_error(result))


def ten_views(result: Result) -> float | None:
    """Top-1 error of the validation split with ten views."""
    return _evaluated(result, "val", "ten")


def gain_of_ten_views(result: Result) -> float | None:
    """What ten views take off the error of one."""
    return _difference(test_error(result), ten_views(result))


def epochs_to_25_percent(result: Result) -> float | None:
    """Epochs until the training error is 25%, as Figure 1 counts; None if it never is."""
    import numpy as np

    from alexnet_jax.tools.visualize.curves import epochs_to_reach

    points = [(epoch, error) for epoch, error in result["curve"]["training"] if error is not None]
    if not points:
        return None
    epochs, errors = np.array(points, np.float64).T
    return epochs_to_reach(epochs, errors, 0.25)


def epochs_trained(result: Result) -> float | None:
    """Epochs at the last recorded training error; None if training diverged."""
    if result.get("diverged"):
        return None
    return max((epoch for epoch, _ in result["curve"]["training"]), default=None)


def lowest_training_error(result: Result) -> float | None:
    """The lowest of all training errors on the way, each a mean since the one before."""
    errors = (error for _, error in result["curve"]["training"] if error is not None)
    return min(errors, default=None)


def _evaluated(result: Result, split: str, views: str) -> float | None:
    return result.get("evaluations", {}).get(f"{split} {views}", {}).get("top1_error")


def _difference(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other
