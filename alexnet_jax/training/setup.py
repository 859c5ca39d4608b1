"""Makes a run of a config: data, network, compiled steps, everything that stays the same."""

import dataclasses
import json
import pathlib
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from alexnet_jax.data import augment, sources, statistics
from alexnet_jax.model import summary
from alexnet_jax.model.architecture import Architecture
from alexnet_jax.parallel import mesh as meshes
from alexnet_jax.runtime.provenance import provenance
from alexnet_jax.runtime.terminal import Terminal
from alexnet_jax.training import (
    checkpoint,
    checkpoint_integrity,
    custom_optimizers,
    grad_accum,
    optimizer,
    schedules,
    warm_start,
)
from alexnet_jax.training.config_check import check_config
from alexnet_jax.training.data_statistics import measure_statistics, save_on_lead
from alexnet_jax.training.identity import check_same_run, run_identity
from alexnet_jax.training.layouts import num_tower_devices
from alexnet_jax.training.plan import (
    Plan,
    architecture_of,
    hyperparameters,
    make_plan,
    operations_of,
)
from alexnet_jax.training.preprocessing import Preprocessing
from alexnet_jax.training.run_folder import STATISTICS
from alexnet_jax.training.train_step import Steps


@dataclasses.dataclass(frozen=True)
class Run:
    """A run that is ready to take its steps.

    `facts` go into every checkpoint: what the run is (`identity`), its config and provenance.
    `augmented` is Steps.augmented, `train_step` and `evaluation_step` are compiled.
    `hyperparameters` are the few numbers by which TensorBoard compares runs.
    """

    plan: Plan
    facts: dict
    hyperparameters: dict
    training: sources.Source
    validation: sources.Source
    mesh: Mesh
    preprocessing: Preprocessing
    steps: Steps
    augmented: Callable
    train_step: Callable
    evaluation_step: Callable


def set_up(config: ConfigDict, workdir: pathlib.Path, terminal: Terminal) -> Run:
    """Check everything, open the data, measure its statistics and compile both steps."""
    checkpoints = workdir / "checkpoints"
    checkpoint_integrity.cleanup(checkpoints, terminal.warn)
    stored_facts = checkpoint.newest_facts(checkpoints)
    config = warm_start.complete_config(config, stored_facts)
    architecture = architecture_of(config)
    check_config(config, architecture, jax.device_count())
    training, validation = open_data(config, architecture)
    plan = make_plan(
        config, architecture, num_images=len(training), data_classes=len(training.classes)
    )
    facts = facts_of(config, plan, training, validation)
    if stored_facts:
        check_same_run(facts["identity"], stored_facts["identity"], workdir)
    layout = config.parallel.layout
    mesh = meshes.make_mesh(num_tower_devices(layout, architecture.towers))
    terminal.info(summary.table(architecture, plan.num_classes))
    terminal.info(
        f"{len(training):,} training and {len(validation):,} validation images; "
        f"{plan.num_steps:,} steps of {plan.batch_size} images are "
        f"{plan.num_steps / plan.steps_per_epoch:.4g} epochs; "
        f"{mesh.size} device(s), layout {layout}, "
        f"data x model = {mesh.devices.shape[0]} x {mesh.devices.shape[1]}"
    )
    _warn_of_late_pairs(config, plan, terminal)
    steps = make_steps(config, plan, architecture, mesh)
    goes_on = stored_facts is not None
    if plan.init_run is not None and not goes_on:
        _check_warm_start(config, plan, plan.init_run, steps, terminal)
    measured = run_statistics(config, plan, training, workdir / STATISTICS, goes_on, terminal)
    preprocessing = make_preprocessing(config, architecture, measured, mesh)
    train_step, evaluation_step = _compile_steps(
        steps,
        plan.batch_size,
        image_size=config.data.image_size,
        views=config.evaluate.views,
        preprocessing=preprocessing,
        terminal=terminal,
    )
    return Run(
        plan=plan,
        facts=facts,
        hyperparameters=hyperparameters(config, plan),
        training=training,
        validation=validation,
        mesh=mesh,
        preprocessing=preprocessing,
        steps=steps,
        augmented=steps.augmented(),
        train_step=train_step,
        evaluation_step=evaluation_step,
    )


def open_data(
    config: ConfigDict, architecture: Architecture
) -> tuple[sources.Source, sources.Source]:
    """Training and validation split."""
    data = config.data
    return sources.open_splits(
        data.source,
        path=data.path,
        name=data.name,
        validation=data.validation,
        image_size=data.image_size,
        channels=architecture.channels,
        num_records=data.records,
        num_classes=config.model.num_classes,
        warp=data.resize == "warp",
        hold_out=data.hold_out,
    )


def make_steps(config: ConfigDict, plan: Plan, architecture: Architecture, mesh: Mesh) -> Steps:
    """The network with its update rule on the mesh."""
    layers = architecture.parameter_shapes(plan.num_classes)
    rule = config.optimizer
    return Steps(
        architecture=architecture,
        num_classes=plan.num_classes,
        optimizer=_update_rule(rule, plan),
        clip_norm=rule.clip_norm,
        augmentation=plan.augmentation,
        mesh=mesh,
        seed=plan.seed,
        param_dtype=jnp.dtype(config.model.param_dtype),
        dtype=jnp.dtype(config.model.dtype),
        norm_every=1 if rule.clip_norm else config.log.every_steps,
        split_dense=config.parallel.layout == "hybrid",
        skip_bad_steps=plan.skip_bad_steps,
        frozen=optimizer.frozen_layers(plan.groups, layers),
        label_smoothing=rule.label_smoothing,
        ema_decay=rule.ema_decay,
        grad_accum_steps=config.grad_accum_steps,
        operations=operations_of(config.kernels),
    )


def _update_rule(rule: ConfigDict, plan: Plan) -> optax.GradientTransformation:
    if rule.rule not in custom_optimizers.OWN_RULES:
        return optimizer.named_rule(
            rule.rule,
            plan.groups,
            rule.momentum,
            schedule=plan.schedule,
            arguments=rule.arguments.to_dict(),
        )
    return optimizer.momentum_sgd(
        plan.groups,
        rule.momentum,
        schedule=plan.schedule,
        trust_coefficient=rule.trust_coefficient if rule.rule == "lars" else None,
        velocity_dtype=rule.velocity_dtype,
    )


def make_preprocessing(
    config: ConfigDict,
    architecture: Architecture,
    measured: statistics.Statistics,
    mesh: Mesh,
) -> Preprocessing:
    """What the training set's statistics contribute to the network's input, on every device."""
    data = config.data
    arrays = {
        "mean": augment.subtracted_mean(
            measured,
            data.mean,
            at_crop=data.mean_at == "crop",
            crop=architecture.input_size,
            channel_mean=tuple(data.channel_mean),
        ),
        "directions": augment.scaled_directions(measured, data.colour_noise_by),
        "divisor": augment.divisor(measured, data.units, data.scale),
    }
    return Preprocessing(**meshes.put_replicated(mesh, arrays))


def facts_of(
    config: ConfigDict, plan: Plan, training: sources.Source, validation: sources.Source
) -> dict:
    """What a run is, for the JSON beside its checkpoints."""
    return {
        "identity": run_identity(config, plan.num_classes, training.fingerprint),
        "data": {
            name: {"fingerprint": source.fingerprint, "images": len(source)}
            for name, source in (("training", training), ("validation", validation))
        },
        "classes": list(training.classes),
        "config": json.loads(config.to_json_best_effort()),
        **provenance(),
    }


def compile_evaluation(
    steps: Steps, views: str, *, batch_size: int, image_size: int, preprocessing: Preprocessing
) -> Callable:
    """The evaluation step for batches of stored images, compiled before any is read."""
    parameters = steps.state_shapes().parameters
    images, labels = steps.batch_shapes(batch_size, image_size)
    lowered = steps.evaluation(views).lower(parameters, images, labels, preprocessing)
    return lowered.compile()


def run_statistics(
    config: ConfigDict,
    plan: Plan,
    training: sources.Source,
    path: pathlib.Path,
    goes_on: bool,
    terminal: Terminal,
) -> statistics.Statistics:
    """The statistics by which this run sees images: its training set's, or those that init says.

    They lie in the run's folder, and a run that `goes_on` takes them from there.
    """
    if plan.init_run is None or not config.init.statistics:
        return measure_statistics(
            training, path, plan.num_workers, plan.replace_bad_images, terminal
        )
    if goes_on and path.exists():
        return statistics.Statistics.load_for(path, training.size, training.channels)
    return save_on_lead(warm_start.stored_statistics(config, training.channels), path)


def _check_warm_start(
    config: ConfigDict, plan: Plan, path: pathlib.Path, steps: Steps, terminal: Terminal
) -> None:
    """UserError if the run to start from doesn't fit; a warning if it saw other pixels."""
    shapes = steps.state_shapes().parameters
    warm_start.check_parameters(path, shapes, layers=plan.init_layers, skip=plan.init_skip)
    for difference in warm_start.pixel_differences(config):
        terminal.info(f"warning: {difference}, in {path}: its features may lose their meaning.")


def _warn_of_late_pairs(config: ConfigDict, plan: Plan, terminal: Terminal) -> None:
    unit = plan.steps_per_epoch if config.optimizer.unit == "epochs" else 1.0
    late = schedules.late_pairs(config.optimizer, unit, plan.num_steps)
    if late:
        terminal.info(
            f"warning: the run ends at step {plan.num_steps:,}, before these learning rates begin: "
            f"{', '.join(late)}."
        )


def _compile_steps(
    steps: Steps,
    batch_size: int,
    *,
    image_size: int,
    views: str,
    preprocessing: Preprocessing,
    terminal: Terminal,
) -> tuple[Callable, Callable]:
    """Compile both steps before the first batch is read, and say what a step costs."""
    began = time.perf_counter()
    state, (images, labels) = steps.state_shapes(), steps.batch_shapes(batch_size, image_size)
    train_step = steps.training().lower(state, images, labels, preprocessing).compile()
    evaluation_step = compile_evaluation(
        steps, views, batch_size=batch_size, image_size=image_size, preprocessing=preprocessing
    )
    memory = train_step.memory_analysis()
    needed = memory.argument_size_in_bytes + memory.temp_size_in_bytes
    # XLA counts a loop's body once; then the update is counted too often, which costs little.
    repeated = 1 if grad_accum.is_unrolled() else steps.grad_accum_steps
    flops = train_step.cost_analysis()["flops"] * repeated
    terminal.info(
        f"Compiled in {time.perf_counter() - began:.1f} s; on each device a training step costs "
        f"{flops / 1e9:,.1f} GFLOP and {needed / 2**30:.2f} GiB."
    )
    return train_step, evaluation_step
