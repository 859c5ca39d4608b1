"""Checks a config and derives its numbers, once, before anything costly starts."""

import dataclasses
import math
import os
from collections.abc import Iterable

import jax
from ml_collections import ConfigDict

from alexnet_jax.errors import UserError
from alexnet_jax.model.network import Architecture
from alexnet_jax.model.networks import NETWORKS
from alexnet_jax.training.optimizer import StepRates
from alexnet_jax.training.step import Augmentation


@dataclasses.dataclass(frozen=True)
class Plan:
    """The numbers of a run. Lengths are in steps; an interval of 0 means never."""

    steps: int
    steps_per_epoch: float
    classes: int
    rates: dict[str, StepRates]
    augmentation: Augmentation
    evaluate_every: int
    checkpoint_every: int
    log_every: int
    workers: int


def architecture_of(config: ConfigDict) -> Architecture:
    """The network that the config names, with its towers, width and dropout."""
    model = config.model
    if model.network not in NETWORKS:
        raise UserError(
            f"model.network is '{model.network}': expected one of {', '.join(NETWORKS)}."
        )
    architecture = NETWORKS[model.network]
    if model.towers is not None:
        if model.towers not in (1, architecture.towers):
            raise UserError(
                f"model.towers={model.towers}, but {model.network} is made for "
                f"{architecture.towers}: leave it unset, or set 1 for a dense network."
            )
        architecture = architecture.with_towers(model.towers)
    if model.width <= 0:
        raise UserError(f"model.width={model.width} must be above 0; 1 is as published.")
    if model.width != 1:
        architecture = architecture.with_width(model.width)
    return architecture if model.dropout else architecture.without_dropout()


def check(config: ConfigDict, architecture: Architecture, devices: int) -> None:
    """Refuse impossible combinations with a sentence; looks at no data."""
    model = config.model
    _check_choice("model.compute_dtype", model.compute_dtype, ("float32", "bfloat16", "float64"))
    _check_choice("model.dtype", model.dtype, ("float32", "float64"))
    _check_choice("data.mean", config.data.mean, ("image", "channel"))
    _check_choice("optimizer.unit", config.optimizer.unit, ("epochs", "steps"))
    if "float64" in (model.dtype, model.compute_dtype) and not jax.config.jax_enable_x64:
        raise UserError("float64 needs JAX_ENABLE_X64=1 in the environment: set it or use float32.")
    split = config.parallel.model
    if split not in (1, architecture.towers):
        raise UserError(
            f"parallel.model={split}, but the network has {architecture.towers} "
            f"tower{'s' * (architecture.towers > 1)}: use 1 or {architecture.towers}."
        )
    if devices % split:
        raise UserError(
            f"parallel.model={split} does not divide the {devices} device(s) of this run: use 1."
        )
    if (config.steps if config.steps is not None else config.epochs) in (None, 0):
        raise UserError(
            f"epochs={config.epochs} and steps={config.steps} give the run no length: set one of "
            "them above 0."
        )
    for name in ("batch", "data.ahead", "log.every_steps", "checkpoint.keep", "data.shared_by"):
        if _field(config, name) < 1:
            raise UserError(f"{name}={_field(config, name)} must be at least 1.")
    if config.batch % (devices // split):
        raise UserError(
            f"batch={config.batch} is not divisible by the {devices // split} groups of devices "
            "that share it: choose a multiple."
        )
    if config.data.mean == "channel" and len(config.data.channel_mean) != architecture.channels:
        raise UserError(
            f"data.channel_mean has {len(config.data.channel_mean)} numbers, but "
            f"{model.network} sees {architecture.channels} channel(s): give one for each."
        )
    if config.data.size < architecture.input_size:
        raise UserError(
            f"data.size={config.data.size} is smaller than the {architecture.input_size} pixels "
            f"that {config.model.network} sees: store larger images."
        )


def plan(config: ConfigDict, architecture: Architecture, records: int, data_classes: int) -> Plan:
    """Derive every number of the run from the config and the size of the training set."""
    steps_per_epoch = records / config.batch
    classes = config.model.classes or data_classes
    if classes < data_classes:
        raise UserError(
            f"model.classes={classes}, but the data has {data_classes} classes: "
            "leave it unset, or set at least as many."
        )

    def length(section: ConfigDict, name: str) -> int | None:
        """Steps of `NAME_steps` or, rounded up, of `NAME_epochs`."""
        epochs = section[f"{name}epochs"]
        steps = section[f"{name}steps"]
        if steps is None and epochs is None:
            return None
        return steps if steps is not None else steps_of(epochs, steps_per_epoch)

    noise_end = length(config.data, "colour_noise_")
    augmentation = Augmentation(
        crop=architecture.input_size,
        random_crop=config.data.random_crop,
        flip=config.data.flip,
        shared_by=config.data.shared_by,
        noise=config.data.colour_noise,
        scale=config.data.scale,
        **({} if noise_end is None else {"noise_end": noise_end}),
    )
    unit = steps_per_epoch if config.optimizer.unit == "epochs" else 1.0
    return Plan(
        steps=length(config, "") or 0,
        steps_per_epoch=steps_per_epoch,
        classes=classes,
        rates=_rates(config.optimizer, architecture, unit),
        augmentation=augmentation,
        evaluate_every=length(config.evaluate, "every_") or 0,
        checkpoint_every=length(config.checkpoint, "every_") or 0,
        log_every=config.log.every_steps,
        workers=config.data.workers or os.cpu_count() or 1,
    )


def steps_of(epochs: float, steps_per_epoch: float) -> int:
    """The first step at or after so many epochs."""
    return math.ceil(round(epochs * steps_per_epoch, 6))


def _rates(optimizer: ConfigDict, architecture: Architecture, unit: float) -> dict[str, StepRates]:
    groups = {"weights": optimizer.weights, "biases": optimizer.biases}
    names = [layer.name for layer in architecture.layers if hasattr(layer, "name")]
    for layer, kinds in optimizer.layers.items():
        if layer not in names:
            raise UserError(
                f"optimizer.layers.{layer}: the network has no such layer, only {', '.join(names)}."
            )
        for kind, pairs in kinds.items():
            _check_choice(f"optimizer.layers.{layer}", kind, ("weights", "biases"))
            groups[f"{layer}.{kind}"] = pairs
    return {group: _step_rates(group, pairs, unit) for group, pairs in groups.items()}


def _step_rates(group: str, pairs: Iterable, unit: float) -> StepRates:
    try:
        rates = tuple((steps_of(when, unit), float(rate)) for when, rate in pairs)
    except (TypeError, ValueError):
        rates = ()
    starts = [start for start, _ in rates]
    if not rates or starts[0] != 0 or starts != sorted(starts) or min(r for _, r in rates) < 0:
        raise UserError(
            f"The rates of {group} are {pairs!r}: expected pairs (from when, rate) in ascending "
            "order, the first from 0, such as ((0, 0.01), (25, 0.001))."
        )
    return rates


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise UserError(f"{name} is '{value}': expected {' or '.join(choices)}.")


def _field(config: ConfigDict, dotted: str):
    for part in dotted.split("."):
        config = config[part]
    return config
