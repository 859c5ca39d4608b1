"""The story of a training run, from a config to summary.json."""

import pathlib
import time
from collections.abc import Iterator

import jax
import numpy as np
from ml_collections import ConfigDict

from alexnet_jax.data import stream
from alexnet_jax.model.layers import Convolution
from alexnet_jax.parallel import mesh as meshes
from alexnet_jax.parallel import processes
from alexnet_jax.parallel.preemption import PreemptionGuard
from alexnet_jax.runtime import json_files
from alexnet_jax.runtime.errors import Diverged
from alexnet_jax.runtime.terminal import Terminal
from alexnet_jax.runtime.watchdog import Watchdog
from alexnet_jax.training import divergence, metric_writers, metrics, pictures, report
from alexnet_jax.training.checkpoint import Checkpoints, parameters_sha256
from alexnet_jax.training.evaluation import RunContext, evaluate_and_save
from alexnet_jax.training.initial_parameters import load_parameters
from alexnet_jax.training.progress import (
    Progress,
    learning_rates,
    raise_if_diverged,
    rate_factor,
    warn_of_training,
)
from alexnet_jax.training.setup import Run, ensure_workdir, set_up
from alexnet_jax.training.throughput import Stopwatch
from alexnet_jax.training.train_state import TrainState

VIEWS_SHOWN = 32


def train_and_evaluate(config: ConfigDict, workdir: pathlib.Path) -> dict:
    """Train as the config says, going on from WORKDIR's newest checkpoint; returns the summary.

    UserError where the config, the data or the workdir cannot be used.
    """
    with ensure_workdir(workdir), Terminal(speaks=processes.is_lead()) as terminal:
        run, policy = set_up(config, workdir, terminal), config.checkpoint
        with PreemptionGuard() as notice:
            with (
                Watchdog(config.guards.watchdog_minutes) as watchdog,
                Checkpoints(
                    workdir / "checkpoints",
                    policy.keep,
                    policy.keep_best,
                    run.plan.keep_for_good.due,
                ) as checkpoints,
            ):
                about = RunContext(workdir, terminal, checkpoints, notice, watchdog)
                state, progress = reach_the_end(run, about)
            return conclude(run, state, progress, workdir, terminal)


def reach_the_end(run: Run, about: RunContext) -> tuple[TrainState, Progress]:
    """Train from the newest checkpoint on, and again from there with lower rates if that diverges.

    Killed at any moment, the same command takes the same steps again and diverges where it did.
    """
    rollbacks = 0
    while True:
        state, progress = begin(run, about.checkpoints, about.terminal)
        progress.rollbacks = max(progress.rollbacks, rollbacks)
        state = run.steps.with_rate_factor(state, rate_factor(run, progress))
        try:
            with metric_writers.MetricsLog(
                about.workdir, progress.step, processes.is_lead(), about.terminal.info
            ) as log:
                return train(run, state, progress, about, log), progress
        except Diverged as fault:
            if progress.rollbacks >= run.plan.rollbacks:
                advice = divergence.advice(run.plan.skip_bad, run.plan.rollbacks)
                raise Diverged(f"{fault} {advice}") from None
            rollbacks = progress.rollbacks + 1
            about.terminal.info(
                f"warning: {fault} Back to the newest checkpoint, with all learning rates divided "
                f"by {run.plan.rollback_factor:g} ({rollbacks} of {run.plan.rollbacks})."
            )


def begin(run: Run, checkpoints: Checkpoints, terminal: Terminal) -> tuple[TrainState, Progress]:
    """The newest checkpoint's state, or a fresh one, perhaps with another run's parameters."""
    step = checkpoints.latest()
    if step is not None:
        state, facts = checkpoints.restore(step, run.steps.state_shapes())
        if not run.plan.skip_bad:  # what the command before this one skipped ruined nothing
            state = state._replace(bad_step=meshes.put_replicated(run.mesh, np.int32(0)))
        terminal.info(f"Going on from step {step:,} of {run.plan.steps:,}.")
        return state, Progress(**facts["progress"])
    state, source = run.steps.initial_state(), run.config.init.from_run
    if source is not None:
        shapes = run.steps.state_shapes().parameters
        parameters, where = load_parameters(
            pathlib.Path(source), shapes, run.plan.init_layers, run.plan.init_skip
        )
        terminal.info(f"Starting with {', '.join(parameters)} from {where}.")
        state = state.starting_with(parameters)
    return state, Progress()


def train(
    run: Run,
    state: TrainState,
    progress: Progress,
    about: RunContext,
    log: metric_writers.MetricsLog,
) -> TrainState:
    """The loop: step after step, with a line, an evaluation and a checkpoint now and then.

    Raises Stopped at the step where the notice wants it, which is saved then, and Diverged.
    """
    plan, batch_size = run.plan, run.config.batch_size
    telling = report.Reporter(plan.steps, plan.steps_per_epoch, batch_size, about.terminal, log)
    log.write_config(*described(run))
    began, replaced = time.perf_counter() - progress.seconds, 0
    if progress.unevaluated:
        state = evaluate_and_save(run, state, progress, about, telling)
    with Stopwatch(alive=about.watchdog.alive) as watch:
        batches = watch.batches(device_batches(run, progress.step))
        for step, (images, labels, bad) in enumerate(batches, start=progress.step + 1):
            state, loss = run.train_step(state, images, labels, run.preprocessing)
            watch.started(loss)
            telling.redraw(step)
            if len(bad):
                replaced += len(bad)
                telling.replaced(step, [map(run.training.name, pair) for pair in bad])

            last = step == plan.steps
            logged, evaluating = last or plan.log.due(step), last or plan.evaluation.due(step)
            stopping = not evaluating and about.notice.reached()
            saved = plan.checkpoint.due(step) or plan.keep_for_good.due(step)
            saved = saved or evaluating or stopping
            shown = plan.pictures.due(step) or plan.histograms.due(step)
            if logged or saved or shown:
                raise_if_diverged(run, state)
            if logged or saved:
                progress.gather_replaced(replaced)
                replaced = 0
            if logged:
                sums, bad_step = jax.device_get((state.scores, state.bad_step))
                state = run.steps.with_scores_reset(state)
                counts = {"replaced_images": progress.replaced}
                progress.training = metrics.means([sums]) | watch.rates(batch_size) | counts
                progress.replaced = 0
                telling.training(step, progress.training, learning_rates(run, progress, step))
                warn_of_training(run, progress, step, int(bad_step), telling)
                about.checkpoints.check()
            if shown:
                with watch.paused():
                    show(run, log, state, step, images)
            if saved:
                with watch.paused():
                    progress.step, progress.seconds = step, time.perf_counter() - began
                    progress.unevaluated = evaluating
                    state = evaluate_and_save(run, state, progress, about, telling)
            if stopping:
                raise about.notice.stopped(f"after step {step:,} of {plan.steps:,}, which is saved")
    return state


def device_batches(run: Run, first_step: int) -> Iterator[stream.Batch]:
    """Global batches of images and labels from `first_step` to the end of the run.

    Their `bad` is of this process alone.
    """
    batch_size = run.config.batch_size
    indices = meshes.local_batch_indices(run.mesh, batch_size)
    for host in stream.training_batches(
        run.training,
        seed=run.config.seed,
        batch_size=batch_size,
        indices=indices,
        first_step=first_step,
        last_step=run.plan.steps,
        num_workers=run.plan.workers,
        prefetch=run.config.data.prefetch,
        replace_bad=run.plan.replace_bad,
    ):
        images, labels = (
            meshes.put_batch(run.mesh, batch_size, indices, array) for array in host[:2]
        )
        yield stream.Batch(images, labels, host.bad)


def show(run: Run, log: metric_writers.MetricsLog, state: TrainState, step: int, images) -> None:
    """Pictures of the first layer and of a training batch, and histograms of all weights."""
    if run.plan.pictures.due(step):
        layers = run.steps.architecture.layers
        first = next(layer.name for layer in layers if isinstance(layer, Convolution))
        kernel = processes.to_host(state.parameters[first]["kernel"])
        seen = run.views(np.int32(step - 1), images, run.preprocessing)
        seen = np.asarray(seen.addressable_shards[0].data)[:VIEWS_SHOWN]
        scale = np.asarray(run.preprocessing.divisor.addressable_shards[0].data)
        zero = 0 if run.config.data.mean == "none" else pictures.GREY
        shown = {
            f"filters of {first}": pictures.filters(kernel),
            "training images as the network sees them": pictures.views(seen, scale, zero),
        }
        log.write_images(step, shown)
    if run.plan.histograms.due(step):
        arrays = {
            f"{layer}/{kind}": processes.to_host(array)
            for layer, kinds in state.parameters.items()
            for kind, array in kinds.items()
        }
        log.write_histograms(step, arrays)


def described(run: Run) -> tuple[str, dict]:
    """The config as text for TensorBoard, and the few numbers by which runs are compared."""
    config, rules = run.config, run.config.optimizer
    fields = json_files.flatten(config.to_dict(), separator=".")
    text = "\n".join(f"    {name} = {value}" for name, value in fields)
    return text, {
        "network": config.model.network,
        "epochs": run.plan.steps / run.plan.steps_per_epoch,
        "batch": config.batch_size,
        "seed": config.seed,
        "learning_rate": float(rules.learning_rate[0][1]),
        "schedule": rules.schedule,
        "momentum": rules.momentum,
        "weight_decay": rules.weight_decay,
        "dropout": config.model.dropout,
        "colour_noise": config.data.colour_noise,
        "compute_dtype": config.model.dtype,
    }


def conclude(
    run: Run, state: TrainState, progress: Progress, workdir: pathlib.Path, terminal: Terminal
) -> dict:
    """Write summary.json and say what was reached, where it lies and what to try next."""
    epochs = progress.step / run.plan.steps_per_epoch
    result = {
        "name": run.config.name,
        "steps": progress.step,
        "epochs": epochs,
        "seconds": round(progress.seconds, 1),
        "validation": progress.validation,
        "best": progress.best,
        "rollbacks": progress.rollbacks,
        "training": progress.training,
        "parameters_sha256": parameters_sha256(state.for_use),
        **{name: value for name, value in run.facts.items() if name != "identity"},
    }
    if processes.is_lead():
        try:
            json_files.write_json(workdir / "summary.json", result)
        except OSError as error:
            terminal.info(f"warning: summary.json can't be written: {error}")
    reached = report.summary(
        progress.step, epochs, progress.seconds, progress.training, progress.validation,
        progress.best,
    )  # fmt: skip
    terminal.info(
        f"{reached}\n"
        f"parameters_sha256 {result['parameters_sha256']}\n"
        f"In {workdir}: summary.json, metrics.jsonl, checkpoints/ and tensorboard/.\n"
        f"Next: look at the curves with tensorboard --logdir={workdir}/tensorboard, or train "
        "longer by the same command with more --config.num_epochs."
    )
    if run.config.data.source == "digits":
        terminal.info(
            "The 2012 network on ImageNet: --config=configs/imagenet.py --config.data.path=DIR."
        )
    return result
