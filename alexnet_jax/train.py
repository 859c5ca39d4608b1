"""The story of a training run, from a config to summary.json."""

import collections
import dataclasses
import json
import pathlib
import time
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from alexnet_jax import config as configuration
from alexnet_jax.data import augment, sources, statistics, stream
from alexnet_jax.errors import UserError
from alexnet_jax.evaluate import IN_FLIGHT, evaluate
from alexnet_jax.model import summary
from alexnet_jax.parallel import mesh as meshes
from alexnet_jax.parallel import processes
from alexnet_jax.provenance import provenance
from alexnet_jax.training import metrics, optimizer, scores
from alexnet_jax.training.checkpoint import Checkpoints, parameters_sha256
from alexnet_jax.training.step import Preprocessing, Steps, TrainState


def train_and_evaluate(config: ConfigDict, workdir: pathlib.Path) -> dict:
    """Train as the config says, going on from WORKDIR's newest checkpoint; returns the summary.

    UserError where the config, the data or the workdir cannot be used.
    """
    run = prepare(config, workdir)
    with Checkpoints(workdir / "checkpoints", config.checkpoint.keep) as checkpoints:
        state, progress = begin(run, checkpoints)
        with metrics.MetricsLog(workdir, progress.step, writes=processes.is_lead()) as log:
            state, progress = train(run, state, progress, checkpoints, log)
    return conclude(run, state, progress, workdir)


@dataclasses.dataclass(frozen=True)
class Run:
    """What stays the same from the first step to the last."""

    config: ConfigDict
    plan: configuration.Plan
    training: sources.Source
    validation: sources.Source
    mesh: Mesh
    preprocessing: Preprocessing
    steps: Steps
    train_step: Callable
    evaluation_step: Callable


@dataclasses.dataclass
class Progress:
    """How far a run is; saved as JSON beside each checkpoint.

    `seconds` counts this command and those it went on from; `training` and `validation` are the
    newest results of each split.
    """

    step: int = 0
    seconds: float = 0.0
    training: dict = dataclasses.field(default_factory=dict)
    validation: dict = dataclasses.field(default_factory=dict)


def prepare(config: ConfigDict, workdir: pathlib.Path) -> Run:
    """Check everything, open the data, measure its statistics and compile both steps."""
    architecture = configuration.architecture_of(config)
    configuration.check(config, architecture, jax.device_count())
    data = config.data
    training, validation = sources.open_splits(
        data.source,
        data.path,
        data.validation,
        data.size,
        architecture.channels,
        data.records,
        config.model.classes,
    )
    plan = configuration.plan(config, architecture, len(training), len(training.classes))
    mesh = meshes.make_mesh(config.parallel.model)
    say(summary.table(architecture, plan.classes))
    say(
        f"{len(training):,} training and {len(validation):,} validation images; "
        f"{plan.steps:,} steps of {config.batch} images are "
        f"{plan.steps / plan.steps_per_epoch:.4g} epochs; "
        f"{mesh.size} device(s), data x model = {mesh.devices.shape[0]} x {mesh.devices.shape[1]}"
    )
    workdir.mkdir(parents=True, exist_ok=True)
    measured = measure_statistics(training, workdir / "statistics.npz", plan.workers)
    preprocessing = Preprocessing(
        mean=np.float32(data.channel_mean)
        if data.mean == "channel"
        else augment.mean_view(measured.mean_image, architecture.input_size),
        directions=augment.scaled_directions(measured),
    )
    steps = Steps(
        architecture=architecture,
        classes=plan.classes,
        optimizer=optimizer.momentum_sgd(plan.groups, config.optimizer.momentum, plan.schedule),
        augmentation=plan.augmentation,
        mesh=mesh,
        seed=config.seed,
        dtype=jnp.dtype(config.model.dtype),
        compute_dtype=jnp.dtype(config.model.compute_dtype),
    )
    preprocessing = meshes.put_replicated(mesh, preprocessing)
    compiled = compile_steps(steps, config.batch, data.size, preprocessing)
    return Run(config, plan, training, validation, mesh, preprocessing, steps, *compiled)


def measure_statistics(
    source: sources.Source, path: pathlib.Path, workers: int
) -> statistics.Statistics:
    """Mean image and colours of the training set, from `path` if they were measured before.

    The processes of a run share the work. UserError if `path` belongs to other data.
    """
    found = processes.sum_over_processes(np.int64(path.exists()))
    if found == jax.process_count():
        measured = statistics.Statistics.load(path)
        if measured.fingerprint != source.fingerprint:
            raise UserError(
                f"{path.parent} was made from other training data than this config gives: "
                "choose another --workdir, or the data it was started with."
            )
        return measured
    own = np.arange(jax.process_index(), len(source), jax.process_count())
    report = metrics.ProgressLine("mean image and colours", say)
    own_sums = statistics.sum_images(source, own, workers, report)
    sums = statistics.Sums(*map(processes.sum_over_processes, dataclasses.astuple(own_sums)))
    measured = statistics.from_sums(sums, source.fingerprint)
    if processes.is_lead():
        measured.save(path)
    return measured


def compile_steps(
    steps: Steps, batch: int, size: int, preprocessing: Preprocessing
) -> tuple[Callable, Callable]:
    """Compile both steps before the first batch is read, and say what a step costs."""
    began = time.perf_counter()
    state, (images, labels) = steps.state_shapes(), steps.batch_shapes(batch, size)
    lowered = steps.training().lower(state, images, labels, preprocessing)
    train_step = lowered.compile()
    evaluation_step = steps.evaluation().lower(state.parameters, images, labels, preprocessing)
    evaluation_step = evaluation_step.compile()
    memory = train_step.memory_analysis()
    needed = memory.argument_size_in_bytes + memory.temp_size_in_bytes
    say(
        f"Compiled in {time.perf_counter() - began:.1f} s; on each device a training step costs "
        f"{train_step.cost_analysis()['flops'] / 1e9:,.1f} GFLOP and {needed / 2**30:.2f} GiB."
    )
    return train_step, evaluation_step


def begin(run: Run, checkpoints: Checkpoints) -> tuple[TrainState, Progress]:
    """A fresh state, or the newest checkpoint's."""
    step = checkpoints.latest()
    if step is None:
        return run.steps.initial_state(), Progress()
    state, facts = checkpoints.restore(step, run.steps.state_shapes())
    say(f"Going on from step {step:,} of {run.plan.steps:,}.")
    return state, Progress(**facts)


def train(
    run: Run,
    state: TrainState,
    progress: Progress,
    checkpoints: Checkpoints,
    log: metrics.MetricsLog,
) -> tuple[TrainState, Progress]:
    """The loop: step after step, with a line, an evaluation and a checkpoint now and then."""
    plan, running = run.plan, collections.deque()
    began = time.perf_counter() - progress.seconds
    rate = metrics.Rate()
    for step, batch in enumerate(device_batches(run, progress.step), start=progress.step + 1):
        state, loss = run.train_step(state, *batch, run.preprocessing)
        running.append(loss)
        if len(running) > IN_FLIGHT:  # bounds the batches that wait on the device
            running.popleft().block_until_ready()

        last = step == plan.steps
        if last or step % plan.log_every == 0:
            sums, state = jax.device_get(state.scores), run.steps.with_scores_reset(state)
            progress.training = log_training(run, log, step, sums, rate)
        if last or (plan.evaluate_every and step % plan.evaluate_every == 0):
            with rate.paused():
                progress.validation = evaluate_split(run, state)
                log_validation(run, log, step, progress.validation)
        if last or (plan.checkpoint_every and step % plan.checkpoint_every == 0):
            with rate.paused():
                progress.step, progress.seconds = step, time.perf_counter() - began
                checkpoints.save(step, state, dataclasses.asdict(progress))
    return state, progress


def device_batches(run: Run, first_step: int) -> Iterator[tuple[jax.Array, jax.Array]]:
    """Global batches of images and labels from `first_step` to the end of the run."""
    batch, rows = run.config.batch, meshes.process_rows(run.mesh, run.config.batch)
    for arrays in stream.training_batches(
        run.training,
        run.config.seed,
        batch,
        rows,
        first_step,
        run.plan.steps,
        run.plan.workers,
        run.config.data.ahead,
    ):
        yield tuple(meshes.put_rows(run.mesh, batch, rows, array) for array in arrays)


def evaluate_split(run: Run, state: TrainState) -> dict[str, float]:
    """Loss and errors of the centre view over the validation split."""
    return evaluate(
        run.evaluation_step,
        state.parameters,
        run.preprocessing,
        run.validation,
        run.config.batch,
        run.mesh,
        run.plan.workers,
        run.config.data.ahead,
    )


def log_training(
    run: Run, log: metrics.MetricsLog, step: int, sums: dict, rate: metrics.Rate
) -> dict:
    """Write the means since the last line; returns them with the rate of images."""
    means = scores.means([sums])
    speed = rate.take(means["images"])
    epoch = step / run.plan.steps_per_epoch
    left = (run.plan.steps - step) * run.config.batch / speed
    record = {"step": step, "epoch": epoch, "split": "train", **means,
              "learning_rate": optimizer.rates_at(run.plan.groups, run.plan.schedule, step - 1),
              "images_per_second": speed}  # fmt: skip
    line = (
        f"step {step:,}/{run.plan.steps:,}  epoch {epoch:.2f}  loss {means['loss']:.4f}  "
        f"top-1 error {means['top1_error']:.1%}  {speed:,.0f} images/s  "
        f"{metrics.duration(left)} left"
    )
    log.write(record, line)
    return means | {"images_per_second": speed}


def log_validation(run: Run, log: metrics.MetricsLog, step: int, means: dict) -> None:
    """Write the results of an evaluation."""
    epoch = step / run.plan.steps_per_epoch
    line = (
        f"  validation at epoch {epoch:.2f}: loss {means['loss']:.4f}  top-1 error "
        f"{means['top1_error']:.2%}  top-5 error {means['top5_error']:.2%}"
    )
    log.write({"step": step, "epoch": epoch, "split": "val", **means}, line)


def conclude(run: Run, state: TrainState, progress: Progress, workdir: pathlib.Path) -> dict:
    """Write summary.json and say what was reached, where it lies and what to try next."""
    result = {
        "name": run.config.name,
        "steps": progress.step,
        "epochs": progress.step / run.plan.steps_per_epoch,
        "seconds": round(progress.seconds, 1),
        "validation": progress.validation,
        "training": progress.training,
        "parameters_sha256": parameters_sha256(state.parameters),
        "config": json.loads(run.config.to_json_best_effort()),
        **provenance(),
    }
    if processes.is_lead():
        metrics.write_json(workdir / "summary.json", result)
    reached = progress.validation
    say(
        f"Done: {progress.step:,} steps in {metrics.duration(progress.seconds)}. Of "
        f"{len(run.validation):,} held-out images {1 - reached['top1_error']:.2%} are named right "
        f"(top-1 error {reached['top1_error']:.2%}, top-5 error {reached['top5_error']:.2%}).\n"
        f"parameters_sha256 {result['parameters_sha256']}\n"
        f"In {workdir}: summary.json, metrics.jsonl, checkpoints/ and tensorboard/.\n"
        f"Next: look at the curves with tensorboard --logdir={workdir}/tensorboard; train longer "
        "by the same command with more --config.epochs; or train the 2012 network on ImageNet with "
        "--config=configs/imagenet.py --config.data.path=DIR."
    )
    return result


def say(text: str) -> None:
    """Print on the lead process alone."""
    if processes.is_lead():
        print(text, flush=True)
