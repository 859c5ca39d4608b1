"""The story of a training run, from a config to summary.json."""

import pathlib
import time
from collections.abc import Iterator

import jax
import numpy as np
from ml_collections import ConfigDict

from alexnet_jax.data import stream
from alexnet_jax.parallel import mesh as meshes
from alexnet_jax.parallel import processes
from alexnet_jax.parallel.preemption import PreemptionGuard
from alexnet_jax.runtime import json_files
from alexnet_jax.runtime.errors import Diverged
from alexnet_jax.runtime.terminal import Terminal
from alexnet_jax.runtime.watchdog import Watchdog
from alexnet_jax.training import divergence, metrics, report
from alexnet_jax.training.checkpoint import Checkpoints
from alexnet_jax.training.evaluation import RunContext, evaluate_and_save
from alexnet_jax.training.metric_writers import MetricsLog
from alexnet_jax.training.progress import (
    Progress,
    learning_rates,
    raise_if_diverged,
    rate_factor,
    warn_of_trouble,
)
from alexnet_jax.training.run_folder import ensure_workdir
from alexnet_jax.training.run_pictures import log_pictures
from alexnet_jax.training.setup import Run, set_up
from alexnet_jax.training.throughput import Stopwatch
from alexnet_jax.training.train_state import TrainState, parameters_sha256
from alexnet_jax.training.warm_start import load_parameters


def train_and_evaluate(config: ConfigDict, workdir: pathlib.Path) -> dict:
    """Train as the config says, going on from WORKDIR's newest checkpoint; returns the summary.

    UserError where the config, the data or the workdir cannot be used.
    """
    with ensure_workdir(workdir), Terminal(speaks=processes.is_lead()) as terminal:
        run = set_up(config, workdir, terminal)
        with PreemptionGuard() as guard:
            with (
                Watchdog(run.plan.watchdog_minutes) as watchdog,
                Checkpoints(
                    workdir / "checkpoints",
                    keep=run.plan.keep,
                    keep_best=run.plan.keep_best,
                    keep_for_good=run.plan.keep_for_good.due,
                ) as checkpoints,
            ):
                ctx = RunContext(workdir, terminal, checkpoints, guard, watchdog)
                state, progress = train_with_rollbacks(run, ctx)
            return summarize(run, state, progress, workdir, terminal)


def train_with_rollbacks(run: Run, ctx: RunContext) -> tuple[TrainState, Progress]:
    """Train from the newest checkpoint on, and again from there with lower rates if that diverges.

    Killed at any moment, the same command takes the same steps again and diverges where it did.
    """
    plan, rollbacks = run.plan, 0
    while True:
        state, progress = restore_or_initialize(run, ctx.checkpoints, ctx.terminal)
        progress.rollbacks = max(progress.rollbacks, rollbacks)
        state = run.steps.with_rate_factor(state, rate_factor(plan, progress))
        try:
            with MetricsLog(
                ctx.workdir, progress.step, processes.is_lead(), ctx.terminal.info
            ) as log:
                return train(run, state, progress, ctx, log), progress
        except Diverged as error:
            if progress.rollbacks >= plan.max_rollbacks:
                advice = divergence.advice(plan.skip_bad_steps, plan.max_rollbacks)
                raise Diverged(f"{error} {advice}") from None
            rollbacks = progress.rollbacks + 1
            ctx.terminal.info(
                f"warning: {error} Back to the newest checkpoint, with all learning rates divided "
                f"by {plan.rollback_factor:g} ({rollbacks} of {plan.max_rollbacks})."
            )


def restore_or_initialize(
    run: Run, checkpoints: Checkpoints, terminal: Terminal
) -> tuple[TrainState, Progress]:
    """The newest checkpoint's state, or a fresh one, perhaps with another run's parameters."""
    plan, step = run.plan, checkpoints.latest()
    if step is not None:
        state, facts = checkpoints.restore(step, run.steps.state_shapes())
        if not plan.skip_bad_steps:  # steps that an earlier command skipped did no harm
            state = state._replace(bad_step=meshes.put_replicated(run.mesh, np.int32(0)))
        terminal.info(f"Going on from step {step:,} of {plan.num_steps:,}.")
        return state, Progress(**facts["progress"])
    state = run.steps.initial_state()
    if plan.init_run is not None:
        shapes = run.steps.state_shapes().parameters
        parameters, origin = load_parameters(
            plan.init_run, shapes, layers=plan.init_layers, skip=plan.init_skip
        )
        terminal.info(f"Starting with {', '.join(parameters)} from {origin}.")
        state = state.starting_with(parameters)
    return state, Progress()


def train(
    run: Run, state: TrainState, progress: Progress, ctx: RunContext, log: MetricsLog
) -> TrainState:
    """The loop: step after step, with a log line, an evaluation and a checkpoint now and then.

    Raises Stopped after the step at which the run is asked to end, which is saved then; and
    Diverged.
    """
    plan, began = run.plan, time.perf_counter() - progress.seconds
    reporter = report.Reporter(
        plan.num_steps, plan.steps_per_epoch, plan.batch_size, ctx.terminal, log
    )
    log.write_config(_config_text(run), run.hyperparameters)
    if progress.unevaluated:
        state = evaluate_and_save(run, state, progress, ctx, reporter)
    num_replaced = 0
    with Stopwatch(alive=ctx.watchdog.alive) as stopwatch:
        batches = stopwatch.batches(device_batches(run, progress.step))
        for step, (images, labels, bad) in enumerate(batches, start=progress.step + 1):
            state, loss = run.train_step(state, images, labels, run.preprocessing)
            stopwatch.started(loss)
            reporter.redraw(step)
            if len(bad):
                num_replaced += len(bad)
                reporter.replaced(
                    step,
                    [
                        (run.training.name(record), run.training.name(other))
                        for record, other in bad
                    ],
                )

            last = step == plan.num_steps
            log_due = last or plan.log.due(step)
            evaluation_due = last or plan.evaluation.due(step)
            pictures_due = plan.pictures.due(step) or plan.histograms.due(step)
            stopping = not evaluation_due and ctx.guard.reached()
            checkpoint_due = plan.checkpoint.due(step) or plan.keep_for_good.due(step)
            save_due = checkpoint_due or evaluation_due or stopping
            if log_due or save_due or pictures_due:
                raise_if_diverged(run.steps, state, plan, run.training)
            if log_due or save_due:
                progress.gather_replaced(num_replaced)
                num_replaced = 0
            if log_due:
                state = log_training(run, state, progress, stopwatch, reporter, step)
                ctx.checkpoints.check()
            if pictures_due:
                with stopwatch.paused():
                    log_pictures(run, state, images, step, log)
            if save_due:
                with stopwatch.paused():
                    progress.step, progress.seconds = step, time.perf_counter() - began
                    progress.unevaluated = evaluation_due
                    state = evaluate_and_save(run, state, progress, ctx, reporter)
            if stopping:
                raise ctx.guard.stopped(
                    f"after step {step:,} of {plan.num_steps:,}, which is saved"
                )
    return state


def device_batches(run: Run, first_step: int) -> Iterator[tuple[jax.Array, jax.Array, np.ndarray]]:
    """Global batches from `first_step` to the end of the run: images, labels and `bad`.

    The latter is stream.Batch.bad of this process alone.
    """
    plan, indices = run.plan, meshes.local_batch_indices(run.mesh, run.plan.batch_size)
    for host in stream.training_batches(
        run.training,
        seed=plan.seed,
        batch_size=plan.batch_size,
        indices=indices,
        first_step=first_step,
        last_step=plan.num_steps,
        num_workers=plan.num_workers,
        prefetch=plan.prefetch,
        replace_bad=plan.replace_bad_images,
    ):
        images, labels = (
            meshes.put_batch(run.mesh, plan.batch_size, indices, array) for array in host[:2]
        )
        yield images, labels, host.bad


def log_training(
    run: Run,
    state: TrainState,
    progress: Progress,
    stopwatch: Stopwatch,
    reporter: report.Reporter,
    step: int,
) -> TrainState:
    """Report the means since the last report; returns the state with its sums reset."""
    plan = run.plan
    sums, bad_step = jax.device_get((state.scores, state.bad_step))
    state = run.steps.with_scores_reset(state)
    counts = {"replaced_images": progress.replaced}
    progress.training = metrics.means([sums]) | stopwatch.rates(plan.batch_size) | counts
    progress.replaced = 0
    reporter.training(step, progress.training, learning_rates(plan, progress, step))
    warn_of_trouble(plan, progress, run.training, reporter, step=step, bad_step=int(bad_step))
    return state


def summarize(
    run: Run, state: TrainState, progress: Progress, workdir: pathlib.Path, terminal: Terminal
) -> dict:
    """Write summary.json and say what was reached, where it lies and what to try next."""
    epochs = progress.step / run.plan.steps_per_epoch
    result = {
        "name": run.plan.name,
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
    table = report.summary_table(
        steps=progress.step,
        epochs=epochs,
        seconds=progress.seconds,
        training=progress.training,
        validation=progress.validation,
        best=progress.best,
    )
    terminal.info(
        f"{table}\n"
        f"parameters_sha256 {result['parameters_sha256']}\n"
        f"In {workdir}: summary.json, metrics.jsonl, checkpoints/ and tensorboard/.\n"
        f"Next: look at the curves with tensorboard --logdir={workdir}/tensorboard, or train "
        "longer by the same command with more --config.num_epochs."
    )
    if run.facts["config"]["data"]["source"] == "digits":
        terminal.info(
            "The 2012 network on ImageNet: --config=configs/imagenet.py --config.data.path=DIR."
        )
    return result


def _config_text(run: Run) -> str:
    """The config for TensorBoard, a field a line."""
    fields = json_files.flatten(run.facts["config"], separator=".")
    return "\n".join(f"    {name} = {value}" for name, value in fields)
