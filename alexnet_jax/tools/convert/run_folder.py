"""A folder like that of a training run from weights alone, for every command with --workdir.

It holds the parameters, the config and the statistics that make images what the network saw when it
was trained, so that they are evaluated, looked at and trained further like a run's.
"""

import json
import os
import pathlib
import shutil

import numpy as np
from ml_collections import ConfigDict

from alexnet_jax.data.statistics import Statistics
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.runtime.provenance import provenance
from alexnet_jax.training import identity
from alexnet_jax.training.checkpoint import Checkpoints
from alexnet_jax.weights.trained import Pixels, Trained

STEP = 0  # that of the only checkpoint


def write_run_folder(path: pathlib.Path, trained: Trained) -> None:
    """Write the folder, which appears whole or not at all.

    UserError where there is one already, or where a run can't make images what this network saw.
    """
    if path.exists():
        raise UserError(f"{path} exists already: name another folder, or take it away.")
    config, statistics = config_of(trained), statistics_of(trained)
    partial = path.with_name(path.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        statistics.save(partial / "statistics.npz")
        with Checkpoints(partial / "checkpoints", keep=1) as checkpoints:
            checkpoints.save_parameters(STEP, trained.parameters, facts_of(trained, config))
        os.replace(partial, path)
    except OSError as error:
        raise UserError(f"{path} can't be written ({error.strerror}): name another.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def facts_of(trained: Trained, config: ConfigDict) -> dict:
    """As run.facts_of, of a training that is not known."""
    unknown = f"not known, since the weights are from {trained.name}"
    return {
        "identity": identity.run_identity(config, len(trained.classes), unknown),
        "data": {
            split: {"fingerprint": unknown, "images": 0} for split in ("training", "validation")
        },
        "classes": list(trained.classes),
        "config": json.loads(config.to_json_best_effort()),
        "progress": {"step": STEP, "best": {}},
        **provenance(),
    }


def config_of(trained: Trained) -> ConfigDict:
    """The default config with the network and the data fields that make its Pixels."""
    from alexnet_jax.training import defaults

    config, pixels = defaults.get_config(), trained.pixels
    config.name = trained.variant.network
    config.num_steps = 1  # how many there were is not known, and none would be no run
    for field, value in vars(trained.variant).items():
        config.model[field] = value
    config.model.num_classes = len(trained.classes)
    data = config.data
    data.image_size = pixels.size
    data.resize = "warp" if pixels.warp else "crop"
    data.colour_noise = 0.0  # of which nothing is known
    mean = np.asarray(pixels.mean)
    if mean.ndim == 3:
        data.mean, data.mean_at = "image", "crop" if pixels.mean_at_crop else "center"
    elif mean.any():
        data.mean = "channel"
        channels = trained.architecture.channels
        data.channel_mean = tuple(np.broadcast_to(mean, channels).astype(float).tolist())
    else:
        data.mean = "none"
    if np.ndim(pixels.divisor) == 0 or len(set(np.ravel(pixels.divisor).tolist())) == 1:
        data.scale = float(np.ravel(pixels.divisor)[0])
    elif data.mean == "channel":
        data.units = "standardise"
    else:
        raise UserError(
            f"{trained.name} divides each colour by another number after subtracting a mean image, "
            "which no training here does: keep it as a file of weights."
        )
    return config


def statistics_of(trained: Trained) -> Statistics:
    """What a run would have measured, as far as its Pixels tell.

    Beyond the crop a mean of the center alone is continued by its edge, which no crop uses; the
    colours' deviations are the divisor, or 0 where it is one number.
    """
    pixels, channels = trained.pixels, trained.architecture.channels
    mean = np.float32(pixels.mean)
    if mean.ndim == 3:
        before = (pixels.size - len(mean)) // 2
        after = pixels.size - len(mean) - before
        mean = np.pad(mean, ((before, after), (before, after), (0, 0)), mode="edge")
    divisor = np.float32(pixels.divisor)
    deviations = divisor if divisor.ndim else np.zeros(channels, np.float32)
    order = np.argsort(-deviations, kind="stable")
    return Statistics(
        images=0,
        mean_image=np.broadcast_to(mean, (pixels.size, pixels.size, channels)).copy(),
        colour_deviations=deviations[order],
        colour_directions=np.eye(channels, dtype=np.float32)[order],
        fingerprint="not known",
    )


def describe_preprocessing(pixels: Pixels, channels: int) -> str:
    """The preprocessing of an image, in words."""
    mean, divisor = np.asarray(pixels.mean), np.ravel(pixels.divisor)
    size = pixels.size
    way = "pressed into" if pixels.warp else "shorter side to"
    parts = [f"{way} {size} x {size} pixels" if pixels.warp else f"{way} {size} pixels, center"]
    if mean.ndim == 3:
        place = "at the place of the crop" if pixels.mean_at_crop else "the center for every crop"
        parts.append(f"minus a mean image, {place}")
    elif mean.any():
        parts.append(f"minus {_numbers(mean)}")
    if (divisor != 1).any():
        parts.append(f"divided by {_numbers(divisor)}")
    colors = "grey" if channels == 1 else "RGB"
    return f"{colors} in grey levels of 0 to 255, {', '.join(parts)}"


def _numbers(values: np.ndarray) -> str:
    return ", ".join(f"{value:.6g}" for value in np.ravel(values))
