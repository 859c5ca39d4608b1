"""What stays the same from the first step of a run to the last, and how it is made of a config."""

import contextlib
import dataclasses
import json
import pathlib
import tempfile
import time
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from alexnet_jax.data import augment, sources, statistics
from alexnet_jax.model import summary
from alexnet_jax.model.architecture import Architecture
from alexnet_jax.parallel import mesh as meshes
from alexnet_jax.parallel import processes
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.runtime.provenance import provenance
from alexnet_jax.runtime.terminal import ProgressLine, Terminal
from alexnet_jax.training import (
    checkpoint,
    checkpoint_integrity,
    grad_accum,
    initial_parameters,
    optimizer,
    warm_start,
)
from alexnet_jax.training import plan as configuration
from alexnet_jax.training.preprocessing import Preprocessing
from alexnet_jax.training.train_step import Steps


@dataclasses.dataclass(frozen=True)
class Run:
    """A run that is ready to take its steps.

    `facts` go into every checkpoint: what the run is (`identity`), its config and provenance.
    """

    config: ConfigDict
    plan: configuration.Plan
    facts: dict
    training: sources.Source
    validation: sources.Source
    mesh: Mesh
    preprocessing: Preprocessing
    steps: Steps
    views: Callable
    train_step: Callable
    evaluation_step: Callable


def set_up(config: ConfigDict, workdir: pathlib.Path, terminal: Terminal) -> Run:
    """Check everything, open the data, measure its statistics and compile both steps."""
    checkpoint_integrity.cleanup(workdir / "checkpoints", terminal.warn)
    before = checkpoint.newest_facts(workdir / "checkpoints")
    config = warm_start.completed(config, before)
    architecture = configuration.architecture_of(config)
    configuration.check(config, architecture, jax.device_count())
    training, validation = open_data(config, architecture)
    plan = configuration.make_plan(config, architecture, len(training), len(training.classes))
    facts = facts_of(config, plan, training, validation)
    if before:
        configuration.check_same_run(facts["identity"], before["identity"], workdir)
    layout = config.parallel.layout
    mesh = meshes.make_mesh(configuration.towers_apart(layout, architecture))
    terminal.info(summary.table(architecture, plan.classes))
    terminal.info(
        f"{len(training):,} training and {len(validation):,} validation images; "
        f"{plan.steps:,} steps of {config.batch_size} images are "
        f"{plan.steps / plan.steps_per_epoch:.4g} epochs; "
        f"{mesh.size} device(s), layout {layout}, "
        f"data x model = {mesh.devices.shape[0]} x {mesh.devices.shape[1]}"
    )
    steps = make_steps(config, plan, architecture, mesh)
    if config.init.from_run is not None and before is None:
        check_start(config, plan, steps, terminal)
    measured = statistics_of(config, plan, training, workdir, before is not None, terminal)
    preprocessing = make_preprocessing(config, architecture, measured, mesh)
    compiled = compile_steps(steps, config, preprocessing, terminal)
    return Run(
        config, plan, facts, training, validation, mesh, preprocessing, steps, steps.views(),
        *compiled,
    )  # fmt: skip


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


def make_steps(
    config: ConfigDict, plan: configuration.Plan, architecture: Architecture, mesh: Mesh
) -> Steps:
    """The network with its update rule on the mesh."""
    frozen = optimizer.frozen_layers(plan.groups, architecture.parameter_shapes(plan.classes))
    rules = config.optimizer
    trust = rules.trust_coefficient if rules.rule == "lars" else None
    return Steps(
        architecture=architecture,
        num_classes=plan.classes,
        optimizer=optimizer.momentum_sgd(
            plan.groups, rules.momentum, plan.schedule, trust, rules.velocity_dtype
        ),
        augmentation=plan.augmentation,
        mesh=mesh,
        seed=config.seed,
        param_dtype=jnp.dtype(config.model.param_dtype),
        dtype=jnp.dtype(config.model.dtype),
        norm_every=config.log.every_steps,
        split_dense=config.parallel.layout == "hybrid",
        skip_bad=plan.skip_bad,
        frozen=frozen,
        label_smoothing=rules.label_smoothing,
        ema_decay=rules.ema_decay,
        grad_accum_steps=config.grad_accum_steps,
        operations=configuration.select_operations(config.kernels),
    )


def make_preprocessing(
    config: ConfigDict,
    architecture: Architecture,
    measured: statistics.Statistics,
    mesh: Mesh,
) -> Preprocessing:
    """What the training set's statistics contribute to a view, on every device."""
    data = config.data
    values = Preprocessing(
        mean=augment.subtracted_mean(
            measured,
            data.mean,
            at_crop=data.mean_at == "crop",
            crop=architecture.input_size,
            channel_mean=tuple(data.channel_mean),
        ),
        directions=augment.scaled_directions(measured, data.colour_noise_by),
        divisor=augment.divisor(measured, data.units, data.scale),
    )
    return meshes.put_replicated(mesh, values)


def facts_of(
    config: ConfigDict,
    plan: configuration.Plan,
    training: sources.Source,
    validation: sources.Source,
) -> dict:
    """What a run is, for the JSON beside its checkpoints."""
    return {
        "identity": configuration.identity(config, plan.classes, training.fingerprint),
        "data": {
            name: {"fingerprint": source.fingerprint, "images": len(source)}
            for name, source in (("training", training), ("validation", validation))
        },
        "classes": list(training.classes),
        "config": json.loads(config.to_json_best_effort()),
        **provenance(),
    }


@contextlib.contextmanager
def ensure_workdir(workdir: pathlib.Path) -> Iterator[None]:
    """Make the folder of a run if need be; if nothing comes to lie in it, take it away again.

    UserError if it can't be written.
    """
    made = [folder for folder in (workdir, *workdir.parents) if not folder.exists()]
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=workdir):
            pass
    except OSError as error:
        raise UserError(
            f"The folder {workdir} can't be written ({error.strerror}): choose another --workdir."
        ) from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # not empty: the run has begun
            for folder in made:
                folder.rmdir()


def check_start(
    config: ConfigDict, plan: configuration.Plan, steps: Steps, terminal: Terminal
) -> None:
    """UserError if the run named by init.from_run doesn't fit; a warning if it saw other pixels."""
    source, shapes = pathlib.Path(config.init.from_run), steps.state_shapes().parameters
    initial_parameters.check_parameters(source, shapes, plan.init_layers, plan.init_skip)
    for difference in warm_start.other_pixels(config):
        terminal.info(f"warning: {difference}, in {source}: its features may lose their meaning.")


def statistics_of(
    config: ConfigDict,
    plan: configuration.Plan,
    training: sources.Source,
    workdir: pathlib.Path,
    going_on: bool,
    terminal: Terminal,
) -> statistics.Statistics:
    """The statistics by which this run sees images: its training set's, or those that init says.

    They lie in the run's folder, and a run that is `going_on` takes them from there.
    """
    path = workdir / "statistics.npz"
    if config.init.from_run is None or not config.init.statistics:
        return measure_statistics(training, path, plan.workers, plan.replace_bad, terminal)
    if going_on and path.exists():
        return statistics.Statistics.load_for(path, training.size, training.channels)
    taken = warm_start.statistics(config, training.channels)
    if processes.is_lead():
        taken.save(path)
    return taken


def measure_statistics(
    source: sources.Source,
    path: pathlib.Path,
    workers: int,
    leave_out_bad: bool,
    terminal: Terminal,
) -> statistics.Statistics:
    """Mean image and colours of the training set, from `path` if they were measured before.

    A prepared set brings its own. Otherwise the processes of a run share the work.
    """
    stored = statistics.Statistics.load(path) if path.exists() else None
    shape = (source.size, source.size, source.channels)
    known = stored is not None and stored.fingerprint == source.fingerprint
    usable = known and stored.mean_image.shape == shape
    if processes.sum_over_processes(np.int64(usable)) == jax.process_count():
        return stored
    if source.statistics_file is not None:
        measured = statistics.Statistics.load_for(
            source.statistics_file, source.size, source.channels
        )
        if processes.is_lead():
            measured.save(path)
        return measured
    own = np.arange(jax.process_index(), len(source), jax.process_count())
    report = ProgressLine("mean image and colours", terminal)
    own_sums = statistics.sum_images(
        source, own, num_workers=workers, progress=report, skip_bad=leave_out_bad
    )
    sums = statistics.Sums(*map(processes.sum_over_processes, dataclasses.astuple(own_sums)))
    if sums.images < len(source):
        terminal.info(
            f"warning: {len(source) - sums.images:,} of {len(source):,} training images can't be "
            "read and are left out of the mean; each is named when its turn comes."
        )
    measured = statistics.from_sums(sums, source.fingerprint)
    if processes.is_lead():
        measured.save(path)
    return measured


def compile_evaluation(
    steps: Steps, views: str, batch: int, size: int, preprocessing: Preprocessing
) -> Callable:
    """The evaluation step for `batch` images of `size` pixels, compiled before any is read."""
    parameters, (images, labels) = steps.state_shapes().parameters, steps.batch_shapes(batch, size)
    lowered = steps.evaluation(views).lower(parameters, images, labels, preprocessing)
    return lowered.compile()


def compile_steps(
    steps: Steps, config: ConfigDict, preprocessing: Preprocessing, terminal: Terminal
) -> tuple[Callable, Callable]:
    """Compile both steps before the first batch is read, and say what a step costs."""
    began, batch, size = time.perf_counter(), config.batch_size, config.data.image_size
    state, (images, labels) = steps.state_shapes(), steps.batch_shapes(batch, size)
    lowered = steps.training().lower(state, images, labels, preprocessing)
    train_step = lowered.compile()
    evaluation_step = compile_evaluation(steps, config.evaluate.views, batch, size, preprocessing)
    memory = train_step.memory_analysis()
    needed = memory.argument_size_in_bytes + memory.temp_size_in_bytes
    # XLA counts a loop's body once; then the update is counted too often, which costs little.
    repeated = 1 if grad_accum.written_out() else config.grad_accum_steps
    work = train_step.cost_analysis()["flops"] * repeated
    terminal.info(
        f"Compiled in {time.perf_counter() - began:.1f} s; on each device a training step costs "
        f"{work / 1e9:,.1f} GFLOP and {needed / 2**30:.2f} GiB."
    )
    return train_step, evaluation_step
