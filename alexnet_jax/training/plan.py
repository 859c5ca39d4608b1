"""Checks a config and derives its numbers, once, before anything costly starts."""

import dataclasses
import json
import math
import os
import pathlib

import jax
from ml_collections import ConfigDict

from alexnet_jax.model.architecture import Architecture
from alexnet_jax.model.layers import Dense
from alexnet_jax.model.networks import Variant
from alexnet_jax.model.ops import REFERENCE, Operations
from alexnet_jax.runtime.errors import UserError, check_choice
from alexnet_jax.training import initial_parameters
from alexnet_jax.training import schedules as training_schedules
from alexnet_jax.training.divergence import LEAST_FLAT_STEPS
from alexnet_jax.training.optimizer import Group, Plateau, Schedule
from alexnet_jax.training.preprocessing import Augmentation

VIEWS = ("center", "ten", "all")
LAYOUTS = ("data", "towers", "hybrid")
LEAST = {"batch_size": 1, "grad_accum_steps": 1, "data.prefetch": 1, "data.augmentation_group_size": 1, "log.every_steps": 1,
         "checkpoint.keep": 1, "checkpoint.keep_best": 0, "guards.rollback_factor": 1,
         "guards.rollback_times": 0, "guards.watchdog_minutes": 0}  # fmt: skip


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
    """The numbers of a run; lengths are in steps."""

    steps: int
    steps_per_epoch: float
    classes: int
    groups: dict[str, Group]
    schedule: Schedule
    plateau: Plateau | None
    augmentation: Augmentation
    log: Every
    pictures: Every
    histograms: Every
    evaluation: Every
    checkpoint: Every
    keep_for_good: Every
    replace_bad: bool
    skip_bad: bool
    rollbacks: int
    rollback_factor: float
    stalled: int
    init_layers: tuple[str, ...]
    init_skip: tuple[str, ...]
    workers: int


def architecture_of(config: ConfigDict) -> Architecture:
    """The network that the config names, with its towers, width and dropout, and how it starts."""
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


def variant_of(config: ConfigDict) -> Variant:
    """The same by name, with what is changed of it."""
    return Variant(
        **{field.name: config.model[field.name] for field in dataclasses.fields(Variant)}
    )


def check(config: ConfigDict, architecture: Architecture, devices: int) -> None:
    """Refuse impossible combinations with a sentence; looks at no data."""
    model = config.model
    check_choice("model.dtype", model.dtype, ("float32", "bfloat16", "float64"))
    check_choice("model.param_dtype", model.param_dtype, ("float32", "float64"))
    check_choice("data.resize", config.data.resize, ("crop", "warp"))
    check_choice("data.on_bad_image", config.data.on_bad_image, ("replace", "stop"))
    divergence = ("stop", "rollback", "skip")
    check_choice("guards.on_divergence", config.guards.on_divergence, divergence)
    _check_pixels(config.data, model.network, architecture.channels)
    check_choice("evaluate.views", config.evaluate.views, VIEWS)
    _check_rule(config.optimizer, config.parallel.layout)
    if "float64" in (model.param_dtype, model.dtype) and not jax.config.jax_enable_x64:
        raise UserError("float64 needs JAX_ENABLE_X64=1 in the environment: set it or use float32.")
    check_choice("parallel.layout", config.parallel.layout, LAYOUTS)
    select_operations(config.kernels)
    if config.optimizer.velocity_dtype is not None:
        check_choice("optimizer.velocity_dtype", config.optimizer.velocity_dtype, ("bfloat16",))
    reason = misfit(config.parallel.layout, architecture, devices)
    if reason:
        raise UserError(f"parallel.layout is '{config.parallel.layout}', but {reason}: use 'data'.")
    if (config.num_steps if config.num_steps is not None else config.num_epochs) in (None, 0):
        raise UserError(
            f"num_epochs={config.num_epochs} and num_steps={config.num_steps} give the run no length: set one of "
            "them above 0."
        )
    for name, least in LEAST.items():
        if _field(config, name) < least:
            raise UserError(f"{name}={_field(config, name)} must be at least {least}.")
    groups = devices // towers_apart(config.parallel.layout, architecture)
    if config.batch_size % (groups * config.grad_accum_steps):
        parts = (
            f", times grad_accum_steps={config.grad_accum_steps} parts,"
            if config.grad_accum_steps > 1
            else ""
        )
        raise UserError(
            f"batch_size={config.batch_size} is not divisible by the {groups} groups of devices{parts} "
            "that share it: choose a multiple."
        )
    if config.data.image_size < architecture.input_size:
        raise UserError(
            f"data.image_size={config.data.image_size} is smaller than the {architecture.input_size} pixels "
            f"that {config.model.network} sees: store larger images."
        )


def select_operations(kernels: str) -> Operations:
    """The operations that config.kernels names; the kernels are imported only if they are asked for."""
    if kernels == "reference":
        return REFERENCE
    from alexnet_jax.kernels import select

    return select(kernels, jax.default_backend())


def towers_apart(layout: str, architecture: Architecture) -> int:
    """Length of the mesh axis "model": how many devices the towers are split over."""
    return architecture.towers if layout == "towers" else 1


def misfit(layout: str, architecture: Architecture, devices: int) -> str:
    """Why a network can't be divided over so many devices in this layout; empty if it can."""
    towers = architecture.towers
    if layout == "towers" and towers == 1:
        return "the network has one tower"
    if layout == "towers" and devices % towers:
        return f"the {devices} device(s) of this run can't be shared by {towers} towers"
    if layout == "hybrid":
        dense = [layer for layer in architecture.layers if isinstance(layer, Dense)]
        if not dense:
            return "the network has no dense layer before its softmax"
        for layer in dense:
            if layer.units // towers % devices:
                return (
                    f"the {layer.units // towers:,} units of a tower in {layer.name} are not "
                    f"divisible by the {devices} devices"
                )
    return ""


def make_plan(
    config: ConfigDict, architecture: Architecture, records: int, data_classes: int
) -> Plan:
    """Derive every number of the run from the config and the size of the training set."""
    steps_per_epoch = records / config.batch_size
    classes = config.model.num_classes or data_classes
    if classes < data_classes:
        raise UserError(
            f"model.num_classes={classes}, but the data has {data_classes} classes: "
            "leave it unset, or set at least as many."
        )

    def length(section: ConfigDict, name: str) -> int | None:
        """Steps of `NAME_steps` or, rounded up, of `NAME_epochs`."""
        epochs = section[f"{name}epochs"]
        steps = section[f"{name}steps"]
        if steps is None and epochs is None:
            return None
        return steps if steps is not None else training_schedules.steps_of(epochs, steps_per_epoch)

    def every(section: ConfigDict, name: str = "every_") -> Every:
        if section[f"{name}steps"] is not None:
            return Every(section[f"{name}steps"])
        return Every((section[f"{name}epochs"] or 0) * steps_per_epoch)

    noise_end = length(config.data, "colour_noise_")
    augmentation = Augmentation(
        crop=architecture.input_size,
        random_crop=config.data.random_crop,
        flip=config.data.flip,
        shared_by=config.data.augmentation_group_size,
        mean_at_crop=config.data.mean == "image" and config.data.mean_at == "crop",
        noise=config.data.colour_noise,
        noise_divides=config.data.colour_noise_divides,
        **({} if noise_end is None else {"noise_end": noise_end}),
    )
    rules = config.optimizer
    unit = steps_per_epoch if rules.unit == "epochs" else 1.0
    guards = config.guards
    stalled = length(guards, "stalled_") or 0
    if stalled and guards.stalled_steps is None:
        stalled = max(stalled, LEAST_FLAT_STEPS)
    steps = length(config, "num_") or 0
    evaluation = every(config.evaluate)
    layers, skip = (
        training_schedules.names_in(config.init.layers),
        training_schedules.names_in(config.init.skip),
    )
    if not config.init.softmax:
        skip = (*skip, architecture.layers[-1].name)
    named = architecture.parameter_shapes(classes)
    new = (
        set(named) - set(initial_parameters.taken(named, layers, skip))
        if config.init.from_run
        else ()
    )
    return Plan(
        steps=steps,
        steps_per_epoch=steps_per_epoch,
        classes=classes,
        groups=training_schedules.groups(rules, architecture, unit, steps, new),
        schedule=training_schedules.schedule(rules, length(rules, "warmup_") or 0, steps),
        plateau=training_schedules.plateau(rules, evaluates=evaluation.steps > 0),
        augmentation=augmentation,
        log=Every(config.log.every_steps),
        pictures=every(config.log, "pictures_every_"),
        histograms=every(config.log, "histograms_every_"),
        evaluation=evaluation,
        checkpoint=every(config.checkpoint),
        keep_for_good=every(config.checkpoint, "keep_every_"),
        replace_bad=config.data.on_bad_image == "replace",
        skip_bad=guards.on_divergence == "skip",
        rollbacks=guards.rollback_times if guards.on_divergence == "rollback" else 0,
        rollback_factor=guards.rollback_factor,
        stalled=stalled,
        init_layers=layers,
        init_skip=skip,
        workers=config.data.num_workers or os.cpu_count() or 1,
    )


def identity(config: ConfigDict, classes: int, fingerprint: str) -> dict:
    """What has to stay the same when a run goes on: {field: value}, values as JSON has them.

    Network, start, optimiser, seed, global batch and training data. Mesh, kernels, paths, end,
    logging, guards and checkpoint policy may change.
    """
    fields = json.loads(config.to_json_best_effort())
    model = fields["model"] | {"num_classes": classes}
    init = {name: value for name, value in fields["init"].items() if name != "from_run"}
    return {
        "seed": fields["seed"],
        "batch_size": fields["batch_size"],
        **{f"model.{name}": value for name, value in model.items()},
        **{f"init.{name}": value for name, value in init.items()},
        **{f"optimizer.{name}": value for name, value in fields["optimizer"].items()},
        "the fingerprint of the training data": fingerprint,
    }


def check_same_run(ours: dict, theirs: dict, workdir: pathlib.Path) -> None:
    """UserError naming the first field in which `ours` differs from the run in `workdir`.

    A field of init or optimizer that did not exist yet when that run began had its default.
    """
    from alexnet_jax.training import defaults as training_defaults

    defaults = identity(training_defaults.get_config(), 0, "").items()
    added = {name: value for name, value in defaults if name.startswith(("init.", "optimizer."))}
    for name, value in (added | theirs).items():
        if name in ours and ours[name] != value:
            raise UserError(
                f"{workdir} holds a run with other settings: {name} is {value} there and "
                f"{ours[name]} here. Choose another --workdir, or set it as it was; to start from "
                f"that run's parameters alone, add --config.init.from_run={workdir}."
            )


def _check_rule(rules: ConfigDict, layout: str) -> None:
    """Refuse update rules that do not exist, or not in this layout."""
    check_choice("optimizer.rule", rules.rule, ("momentum", "lars"))
    check_choice("optimizer.unit", rules.unit, ("epochs", "steps"))
    schedules = ("stepped", "plateau", "cosine", "exponential")
    check_choice("optimizer.schedule", rules.schedule, schedules)
    if rules.rule == "lars" and layout == "hybrid":
        raise UserError(
            "optimizer.rule=lars measures a tower's whole weight matrices, but parallel.layout="
            "hybrid splits those of dense layers: use 'data' or 'towers'."
        )
    if rules.trust_coefficient <= 0:
        raise UserError(f"optimizer.trust_coefficient={rules.trust_coefficient} must be above 0.")
    for name in ("label_smoothing", "ema_decay"):
        if not 0 <= rules[name] < 1:
            raise UserError(f"optimizer.{name}={rules[name]} must be at least 0 and below 1.")


def _check_pixels(data: ConfigDict, network: str, channels: int) -> None:
    """Refuse conventions of pixels that do not exist or contradict each other."""
    check_choice("data.mean", data.mean, ("image", "scalar", "channel", "none"))
    check_choice("data.mean_at", data.mean_at, ("center", "crop"))
    check_choice("data.units", data.units, ("grey_levels", "min_max", "standardise"))
    check_choice("data.colour_noise_by", data.colour_noise_by, ("deviations", "eigenvalues"))
    if data.mean == "channel" and len(data.channel_mean) not in (0, channels):
        raise UserError(
            f"data.channel_mean has {len(data.channel_mean)} numbers, but {network} sees "
            f"{channels} channel(s): give one for each, or none to have them measured."
        )
    mean = {"min_max": "none", "standardise": "channel"}.get(data.units, data.mean)
    if data.mean != mean or (data.units != "grey_levels" and data.scale != 1):
        raise UserError(
            f"data.units={data.units} goes with data.mean={mean} and data.scale=1, but they are "
            f"{data.mean} and {data.scale:g}: set both, or use data.units=grey_levels."
        )
    if data.scale <= 0:
        raise UserError(f"data.scale={data.scale:g} must be above 0: 1 leaves the pixels.")


def _field(config: ConfigDict, dotted: str):
    for part in dotted.split("."):
        config = config[part]
    return config
