"""The numbers of a run, derived once from its config and the size of its training set."""

import dataclasses
import math
import os
import pathlib

import jax
from ml_collections import ConfigDict

from alexnet_jax.model.architecture import Architecture
from alexnet_jax.model.networks import Variant
from alexnet_jax.model.ops import REFERENCE, Operations
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.training import schedules, warm_start
from alexnet_jax.training.divergence import LEAST_FLAT_STEPS
from alexnet_jax.training.optimizer import Group, Plateau, Schedule
from alexnet_jax.training.preprocessing import Augmentation


@dataclasses.dataclass(frozen=True)
class Every:
    """The first step at or after each multiple of `steps`, which may be a fraction; 0: never."""

    steps: float

    def due(self, step: int) -> bool:
        """Whether it is time after step number `step`, counted from 1."""
        return self.steps > 0 and self._times(step) > self._times(step - 1)

    def _times(self, step: int) -> int:
        return math.floor(round(step / self.steps, 6))


@dataclasses.dataclass(frozen=True)
class Plan:
    """The numbers of a run; lengths are in steps.

    `groups` are the learning rates and decays of each group of parameters, `schedule` and `plateau`
    what changes them all. What is `Every` so many steps: log, pictures, histograms, evaluation,
    checkpoint, keep_for_good. `init_run` is the run whose `init_layers` (all if empty) but
    `init_skip` this one starts from.
    """

    name: str
    seed: int
    batch_size: int
    num_steps: int
    steps_per_epoch: float
    num_classes: int
    groups: dict[str, Group]
    schedule: Schedule
    plateau: Plateau | None
    augmentation: Augmentation
    mean_subtracted: bool
    log: Every
    pictures: Every
    histograms: Every
    evaluation: Every
    checkpoint: Every
    keep_for_good: Every
    keep: int
    keep_best: int
    replace_bad_images: bool
    skip_bad_steps: bool
    max_rollbacks: int
    rollback_factor: float
    stall_steps: int
    watchdog_minutes: float
    init_run: pathlib.Path | None
    init_layers: tuple[str, ...]
    init_skip: tuple[str, ...]
    num_workers: int
    prefetch: int


def variant_of(config: ConfigDict) -> Variant:
    """The network that the config names, with what is changed of it."""
    return Variant(
        **{field.name: config.model[field.name] for field in dataclasses.fields(Variant)}
    )


def architecture_of(config: ConfigDict) -> Architecture:
    """The layers of the config's network, with how its first weights are drawn."""
    architecture, factor = variant_of(config).architecture(), config.init.first_weights
    if factor <= 0:
        raise UserError(f"init.first_weights={factor:g} must be above 0; 1 is as published.")
    if factor == 1:
        return architecture
    if any(getattr(layer, "low_resolution", None) for layer in architecture.layers):
        raise UserError(
            f"init.first_weights={factor:g} is for one layer, but {architecture.name} has two that "
            "see pixels: use 1."
        )
    return architecture.with_first_weights(factor)


def operations_of(kernels: str) -> Operations:
    """The operations that config.kernels names; UserError for a name that is not known.

    The kernels are imported only where one is asked for.
    """
    if kernels == "reference":
        return REFERENCE
    from alexnet_jax.kernels import select

    return select(kernels, jax.default_backend())


def make_plan(
    config: ConfigDict, architecture: Architecture, *, num_images: int, data_classes: int
) -> Plan:
    """Derive every number of a run on a training set of `num_images` in `data_classes` classes."""
    steps_per_epoch = num_images / config.batch_size
    num_classes = config.model.num_classes or data_classes
    if num_classes < data_classes:
        raise UserError(
            f"model.num_classes={num_classes}, but the data has {data_classes} classes: "
            "leave it unset, or set at least as many."
        )
    length = _Lengths(steps_per_epoch)
    num_steps = length.steps(config, "num_") or 0
    evaluation = length.every(config.evaluate)
    optimizer, guards = config.optimizer, config.guards
    init_layers, init_skip = init_names(config, architecture)
    return Plan(
        name=config.name,
        seed=config.seed,
        batch_size=config.batch_size,
        num_steps=num_steps,
        steps_per_epoch=steps_per_epoch,
        num_classes=num_classes,
        groups=schedules.groups(
            optimizer,
            architecture,
            unit=steps_per_epoch if optimizer.unit == "epochs" else 1.0,
            num_steps=num_steps,
            new_layers=_new_layers(config, architecture, num_classes),
        ),
        schedule=schedules.schedule(optimizer, length.steps(optimizer, "warmup_") or 0, num_steps),
        plateau=schedules.plateau(optimizer, evaluates=evaluation.steps > 0),
        augmentation=_augmentation(config.data, architecture.input_size, length),
        mean_subtracted=config.data.mean != "none",
        log=Every(config.log.every_steps),
        pictures=length.every(config.log, "pictures_every_"),
        histograms=length.every(config.log, "histograms_every_"),
        evaluation=evaluation,
        checkpoint=length.every(config.checkpoint),
        keep_for_good=length.every(config.checkpoint, "keep_every_"),
        keep=config.checkpoint.keep,
        keep_best=config.checkpoint.keep_best,
        replace_bad_images=config.data.on_bad_image == "replace",
        skip_bad_steps=guards.on_divergence == "skip",
        max_rollbacks=guards.rollback_times if guards.on_divergence == "rollback" else 0,
        rollback_factor=guards.rollback_factor,
        stall_steps=_stall_steps(guards, length),
        watchdog_minutes=guards.watchdog_minutes,
        init_run=None if config.init.from_run is None else pathlib.Path(config.init.from_run),
        init_layers=init_layers,
        init_skip=init_skip,
        num_workers=config.data.num_workers or os.cpu_count() or 1,
        prefetch=config.data.prefetch,
    )


def init_names(
    config: ConfigDict, architecture: Architecture
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Layers that init.from_run gives (all if empty), and those that it doesn't."""
    layers, skip = schedules.names_in(config.init.layers), schedules.names_in(config.init.skip)
    if not config.init.softmax:
        skip = (*skip, architecture.output.name)
    return layers, skip


def hyperparameters(config: ConfigDict, plan: Plan) -> dict:
    """The few numbers by which TensorBoard compares runs."""
    return {
        "network": config.model.network,
        "num_epochs": plan.num_steps / plan.steps_per_epoch,
        "batch_size": plan.batch_size,
        "seed": plan.seed,
        "learning_rate": float(config.optimizer.learning_rate[0][1]),
        "schedule": config.optimizer.schedule,
        "rule": config.optimizer.rule,
        "momentum": config.optimizer.momentum,
        "weight_decay": config.optimizer.weight_decay,
        "dropout": config.model.dropout,
        "colour_noise": config.data.colour_noise,
        "dtype": config.model.dtype,
    }


@dataclasses.dataclass(frozen=True)
class _Lengths:
    """Turns the lengths of a config, in steps or epochs, into steps."""

    steps_per_epoch: float

    def steps(self, section: ConfigDict, name: str) -> int | None:
        """Steps of `NAMEsteps` or, rounded up, of `NAMEepochs`; None if neither is set."""
        epochs, steps = section[f"{name}epochs"], section[f"{name}steps"]
        if steps is None and epochs is None:
            return None
        return steps if steps is not None else schedules.steps_of(epochs, self.steps_per_epoch)

    def every(self, section: ConfigDict, name: str = "every_") -> Every:
        if section[f"{name}steps"] is not None:
            return Every(section[f"{name}steps"])
        return Every((section[f"{name}epochs"] or 0) * self.steps_per_epoch)


def _augmentation(data: ConfigDict, crop: int, length: _Lengths) -> Augmentation:
    noise_end = length.steps(data, "colour_noise_")
    return Augmentation(
        crop=crop,
        random_crop=data.random_crop,
        resized_areas=tuple(data.random_resized_crop) or None,
        flip=data.flip,
        group_size=data.augmentation_group_size,
        mean_at_crop=data.mean == "image" and data.mean_at == "crop",
        noise=data.colour_noise,
        noise_divides=data.colour_noise_divides,
        **({} if noise_end is None else {"noise_end": noise_end}),
    )


def _stall_steps(guards: ConfigDict, length: _Lengths) -> int:
    """Steps at the loss of guessing after which is warned; 0: never."""
    steps = length.steps(guards, "stalled_") or 0
    if steps and guards.stalled_steps is None:
        return max(steps, LEAST_FLAT_STEPS)
    return steps


def _new_layers(config: ConfigDict, architecture: Architecture, num_classes: int) -> set[str]:
    """Layers with parameters that a run started from another one does not take from it."""
    if not config.init.from_run:
        return set()
    names = architecture.parameter_shapes(num_classes)
    return set(names) - set(warm_start.chosen_layers(names, *init_names(config, architecture)))
