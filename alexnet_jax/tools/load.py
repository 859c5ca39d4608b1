"""Opens a trained network: a run's checkpoint, or a file of weights."""

import pathlib

import jax
import numpy as np

from alexnet_jax.data import augment
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.training import checkpoint, plan, run_folder
from alexnet_jax.weights import files
from alexnet_jax.weights.trained import Pixels, Trained


def from_flags(workdir: str | None, step: str | None, weights: str | None) -> Trained:
    """The network that --workdir and --step, or --weights name; UserError if they name none."""
    if workdir is not None and weights is None:
        return from_run(pathlib.Path(workdir), step)
    if weights is None or workdir is not None:
        raise UserError(
            "Which network? Name a training run with --workdir=DIR or a file of weights with "
            "--weights=FILE, one of the two."
        )
    if step is not None:
        raise UserError("--step names a checkpoint of a run, and --weights is a file: leave one.")
    return files.read_weights(pathlib.Path(weights))


def from_run(workdir: pathlib.Path, choice: str | None = None) -> Trained:
    """The network of a run's checkpoint; `choice` as for `find_checkpoint`, and the same errors.

    The classes of runs that did not keep their names are numbers.
    """
    step, _ = find_checkpoint(workdir, choice)
    folder = workdir / "checkpoints"
    facts = checkpoint.facts_at(folder, step)
    config = run_folder.config_of(facts)
    variant, data = plan.variant_of(config), config.data
    architecture = variant.architecture()
    count = facts["identity"]["model.num_classes"]
    sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    shapes = {
        layer: {
            kind: jax.ShapeDtypeStruct(shape, config.model.param_dtype, sharding=sharding)
            for kind, shape in kinds.items()
        }
        for layer, kinds in architecture.parameter_shapes(count).items()
    }
    parameters = checkpoint.parameters_at(folder, step, shapes)
    statistics = run_folder.statistics_of(workdir, data.image_size, architecture.channels)
    at_crop, crop = data.mean_at == "crop", architecture.input_size
    mean = augment.subtracted_mean(
        statistics,
        data.mean,
        at_crop=at_crop,
        crop=crop,
        channel_mean=tuple(data.channel_mean),
    )
    names = facts.get("classes", [])
    return Trained(
        name=f"{workdir} at step {step:,}",
        variant=variant,
        classes=tuple(names) + tuple(map(str, range(len(names), count))),
        parameters=jax.tree.map(lambda array: np.asarray(array, np.float32), parameters),
        pixels=Pixels(
            size=data.image_size,
            mean=mean,
            divisor=augment.divisor(statistics, data.units, data.scale),
            mean_at_crop=data.mean == "image" and at_crop,
            warp=data.resize == "warp",
        ),
    )


def find_checkpoint(workdir: pathlib.Path, choice: str | None) -> tuple[int, str]:
    """Step of a run's checkpoint, and "best", "newest" or "" for what it is.

    `choice` is "best" (by validation error), "latest" or a number; None takes the best if it was
    kept, else the newest. UserError where there is no such checkpoint.
    """
    if not workdir.is_dir():
        raise UserError(f"--workdir={workdir} is not a folder: expected that of a training run.")
    folder = workdir / "checkpoints"
    steps = checkpoint.steps_in(folder)
    if not steps:
        raise UserError(
            f"--workdir={workdir} holds no complete checkpoint in checkpoints/: expected the "
            "folder of a training run that has saved one."
        )
    if choice == "latest":
        return steps[-1], "newest"
    if choice in (None, "best"):
        best = checkpoint.facts_at(folder, steps[-1])["progress"]["best"].get("step")
        if best in steps:
            return best, "best"
        if choice is None:
            return steps[-1], "newest"
        raise UserError(
            f"--step=best: {workdir} does not keep its best checkpoint, only those of the steps "
            f"{_listed(steps)}: name one of them, or latest."
        )
    if not choice.isdigit() or int(choice) not in steps:
        raise UserError(
            f"--step={choice}: {workdir} holds checkpoints of the steps {_listed(steps)}; name one "
            "of them, best or latest."
        )
    return int(choice), ""


def _listed(steps: list[int]) -> str:
    return ", ".join(map(str, steps))
