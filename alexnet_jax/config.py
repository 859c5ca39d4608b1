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
from alexnet_jax.training.optimizer import Group, Plateau, Schedule, StepRates
from alexnet_jax.training.step import Augmentation


@dataclasses.dataclass(frozen=True)
class Plan:
    """The numbers of a run. Lengths are in steps; an interval of 0 means never."""

    steps: int
    steps_per_epoch: float
    classes: int
    groups: dict[str, Group]
    schedule: Schedule
    plateau: Plateau | None
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
    schedules = ("stepped", "plateau", "cosine", "exponential")
    _check_choice("optimizer.schedule", config.optimizer.schedule, schedules)
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
    rules = config.optimizer
    unit = steps_per_epoch if rules.unit == "epochs" else 1.0
    steps = length(config, "") or 0
    evaluate_every = length(config.evaluate, "every_") or 0
    return Plan(
        steps=steps,
        steps_per_epoch=steps_per_epoch,
        classes=classes,
        groups=_groups(rules, architecture, unit, steps),
        schedule=_schedule(rules, length(rules, "warmup_") or 0, steps),
        plateau=_plateau(rules, evaluate_every),
        augmentation=augmentation,
        evaluate_every=evaluate_every,
        checkpoint_every=length(config.checkpoint, "every_") or 0,
        log_every=config.log.every_steps,
        workers=config.data.workers or os.cpu_count() or 1,
    )


def steps_of(epochs: float, steps_per_epoch: float) -> int:
    """The first step at or after so many epochs."""
    return math.ceil(round(epochs * steps_per_epoch, 6))


def _groups(optimizer: ConfigDict, architecture: Architecture, unit: float, steps: int) -> dict:
    """Rates and decay of "weights", "biases" and of what single layers have of their own."""
    common = {"weights": optimizer.weights, "biases": optimizer.biases}
    decays = {"weights": optimizer.weight_decay, "biases": 0.0}

    def group(name: str, kind: str, pairs: Iterable, decay: float) -> Group:
        rates = _step_rates(name, pairs, unit)
        if optimizer.schedule != "stepped" and any(rate for _, rate in rates[1:]):
            raise UserError(
                f"optimizer.schedule={optimizer.schedule} lowers the rates by itself, but {name} "
                "has steps of its own: give one pair, or later ones with rate 0 that freeze it."
            )
        if optimizer.schedule == "exponential":
            rates = _exponential(rates, *optimizer.exponential[kind], steps)
        return Group(rates, decay)

    groups = {
        kind: group(f"optimizer.{kind}", kind, pairs, decays[kind])
        for kind, pairs in common.items()
    }
    names = [layer.name for layer in architecture.layers if hasattr(layer, "name")]
    for layer, own in optimizer.layers.items():
        if layer not in names:
            raise UserError(
                f"optimizer.layers.{layer}: the network has no such layer, only {', '.join(names)}."
            )
        for kind in own:
            allowed = ("weights", "biases", "weight_decay")
            _check_choice(f"optimizer.layers.{layer}", kind, allowed)
        for kind, pairs in common.items():
            decay = own.get("weight_decay", decays[kind]) if kind == "weights" else 0.0
            if kind in own or decay != decays[kind]:
                name = f"optimizer.layers.{layer}.{kind}"
                groups[f"{layer}.{kind}"] = group(name, kind, own.get(kind, pairs), decay)
    return groups


def _step_rates(name: str, pairs: Iterable, unit: float) -> StepRates:
    try:
        rates = tuple((steps_of(when, unit), float(rate)) for when, rate in pairs)
    except (TypeError, ValueError):
        rates = ()
    starts = [start for start, _ in rates]
    if not rates or starts[0] != 0 or starts != sorted(starts) or min(r for _, r in rates) < 0:
        raise UserError(
            f"{name} is {pairs!r}: expected pairs (from when, rate) in ascending order, the first "
            "from 0, such as ((0, 0.01), (25, 0.001))."
        )
    return rates


def _exponential(rates: StepRates, factor: float, count: int, steps: int) -> StepRates:
    """`count` rates of equal length, in equal ratios from the first rate to 1 / factor of it.

    The authors' automatic schedule of 2013: `dexp` of cuda-convnet2 (lr.cu). Freezing pairs stay.
    """
    if count < 2 or factor <= 0:
        raise UserError(
            f"optimizer.exponential has ({factor}, {count}): expected (divide by, number of "
            "rates) with a divisor above 0 and at least two rates, such as (250, 4)."
        )
    falling = [
        (math.ceil(steps * index / count), rates[0][1] * factor ** (-index / (count - 1)))
        for index in range(count)
    ]
    frozen = rates[1:]
    return (*(pair for pair in falling if not frozen or pair[0] < frozen[0][0]), *frozen)


def _schedule(optimizer: ConfigDict, warmup: int, steps: int) -> Schedule:
    if warmup >= steps:
        raise UserError(
            f"The warm-up of {warmup:,} steps is as long as the run of {steps:,}: shorten "
            "optimizer.warmup_epochs or train longer."
        )
    return Schedule(warmup, steps if optimizer.schedule == "cosine" else 0)


def _plateau(optimizer: ConfigDict, evaluate_every: int) -> Plateau | None:
    if optimizer.schedule != "plateau":
        return None
    if not evaluate_every:
        raise UserError(
            "optimizer.schedule=plateau watches the validation error, but the run never evaluates: "
            "set evaluate.every_epochs."
        )
    rule = optimizer.plateau
    if rule.patience < 1 or rule.factor <= 1 or rule.times < 0:
        raise UserError(
            f"optimizer.plateau has patience={rule.patience}, factor={rule.factor}, "
            f"times={rule.times}: expected at least 1, more than 1 and at least 0."
        )
    return Plateau(rule.patience, rule.factor, rule.times)


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise UserError(f"{name} is '{value}': expected {' or '.join(choices)}.")


def _field(config: ConfigDict, dotted: str):
    for part in dotted.split("."):
        config = config[part]
    return config
