"""The story of a training run, from a config to summary.json."""

import dataclasses
import pathlib
import time
from collections.abc import Callable, Iterator

import jax
import numpy as np
from ml_collections import ConfigDict

from alexnet_jax.data import stream
from alexnet_jax.evaluate.split import Evaluator
from alexnet_jax.model.weighted import Convolution
from alexnet_jax.parallel import mesh as meshes
from alexnet_jax.parallel import processes
from alexnet_jax.parallel.preemption import Notice
from alexnet_jax.run import Run, claimed, prepare
from alexnet_jax.terminal import Terminal
from alexnet_jax.training import metrics, optimizer, pictures, report, scores
from alexnet_jax.training.checkpoint import Checkpoints, load_parameters, parameters_sha256
from alexnet_jax.training.step import TrainState
from alexnet_jax.training.stopwatch import Stopwatch
from alexnet_jax.training.watchdog import Watchdog

VIEWS_SHOWN = 32


def train_and_evaluate(config: ConfigDict, workdir: pathlib.Path) -> dict:
    """Train as the config says, going on from WORKDIR's newest checkpoint; returns the summary.

    UserError where the config, the data or the workdir cannot be used.
    """
    lead = processes.is_lead()
    with claimed(workdir), Terminal(speaks=lead) as terminal:
        run = prepare(config, workdir, terminal)
        with Notice() as notice:
            minutes = config.guards.watchdog_minutes
            with Watchdog(minutes) as watchdog, checkpoints_of(run, workdir) as checkpoints:
                state, progress = begin(run, checkpoints, terminal)
                with metrics.MetricsLog(workdir, progress.step, lead, terminal.say) as log:
                    telling = told(run, terminal, log)
                    state = train(run, state, progress, checkpoints, telling, notice, watchdog)
            return conclude(run, state, progress, workdir, terminal)


@dataclasses.dataclass
class Progress:
    """How far a run is; saved as JSON beside each checkpoint.

    `seconds` counts this command and those it went on from; `training` and `validation` are the
    newest results of each split, `best` is the step and the error of the best evaluation;
    `replaced` counts images that stood in for unreadable ones since the last line, in all
    processes, as far as `gather_replaced` was told of them. `unevaluated` says that the evaluation
    which is due at this step was broken off.
    """

    step: int = 0
    seconds: float = 0.0
    training: dict = dataclasses.field(default_factory=dict)
    validation: dict = dataclasses.field(default_factory=dict)
    best: dict = dataclasses.field(default_factory=dict)
    plateau: dict = dataclasses.field(default_factory=dict)
    replaced: int = 0
    unevaluated: bool = False

    def gather_replaced(self, own: int) -> None:
        """Add what each process has replaced since the last call; all of them call it."""
        self.replaced += int(processes.sum_over_processes(np.int64(own)))


def checkpoints_of(run: Run, workdir: pathlib.Path) -> Checkpoints:
    """The run's checkpoints, as many as its config keeps."""
    policy = run.config.checkpoint
    return Checkpoints(
        workdir / "checkpoints", policy.keep, policy.keep_best, run.plan.keep_for_good.due
    )


def told(run: Run, terminal: Terminal, log: metrics.MetricsLog) -> report.Report:
    """Where the run's numbers go; its config is written there."""
    log.write_config(*described(run))
    return report.Report(run.plan.steps, run.plan.steps_per_epoch, run.config.batch, terminal, log)


def begin(run: Run, checkpoints: Checkpoints, terminal: Terminal) -> tuple[TrainState, Progress]:
    """The newest checkpoint's state, or a fresh one, perhaps with another run's parameters."""
    step = checkpoints.latest()
    if step is not None:
        state, facts = checkpoints.restore(step, run.steps.state_shapes())
        terminal.say(f"Going on from step {step:,} of {run.plan.steps:,}.")
        return state, Progress(**facts["progress"])
    state, source = run.steps.initial_state(), run.config.init.from_run
    if source is not None:
        shapes = run.steps.state_shapes().parameters
        parameters, where = load_parameters(pathlib.Path(source), shapes, run.plan.init_layers)
        terminal.say(f"Starting with {', '.join(parameters)} from {where}.")
        state = state._replace(parameters=state.parameters | parameters)
    return state, Progress()


def train(
    run: Run,
    state: TrainState,
    progress: Progress,
    checkpoints: Checkpoints,
    telling: report.Report,
    notice: Notice,
    watchdog: Watchdog,
) -> TrainState:
    """The loop: step after step, with a line, an evaluation and a checkpoint now and then.

    Raises Stopped at the step where `notice` wants it, which is saved then.
    """
    plan, batch_size = run.plan, run.config.batch
    began, replaced = time.perf_counter() - progress.seconds, 0
    if progress.unevaluated:
        state = evaluate_and_save(run, state, progress, checkpoints, telling, notice, watchdog)
    with Stopwatch(alive=watchdog.alive) as watch:
        batches = watch.batches(device_batches(run, progress.step))
        for step, (images, labels, bad) in enumerate(batches, start=progress.step + 1):
            state, loss = run.train_step(state, images, labels, run.preprocessing)
            watch.started(loss)
            telling.redraw(step)
            if len(bad):
                replaced += len(bad)
                telling.replaced(step, [map(run.training.name, pair) for pair in bad])

            last = step == plan.steps
            if last or plan.log.due(step):
                sums, state = jax.device_get(state.scores), run.steps.with_scores_reset(state)
                progress.gather_replaced(replaced)
                counts = {"replaced_images": progress.replaced}
                progress.training = scores.means([sums]) | watch.rates(batch_size) | counts
                progress.replaced = replaced = 0
                telling.training(step, progress.training, rates_of(run, progress, step))
                checkpoints.check()
            if plan.pictures.due(step) or plan.histograms.due(step):
                with watch.paused():
                    show(run, telling.log, state, step, images)
            evaluating = last or plan.evaluation.due(step)
            stopping = not evaluating and notice.reached()
            if evaluating or stopping or plan.checkpoint.due(step) or plan.keep_for_good.due(step):
                with watch.paused():
                    progress.gather_replaced(replaced)
                    replaced = 0
                    progress.step, progress.seconds = step, time.perf_counter() - began
                    progress.unevaluated = evaluating
                    state = evaluate_and_save(
                        run, state, progress, checkpoints, telling, notice, watchdog
                    )
            if stopping:
                raise notice.stopped(f"after step {step:,} of {plan.steps:,}, which is saved")
    return state


def evaluate_and_save(
    run: Run,
    state: TrainState,
    progress: Progress,
    checkpoints: Checkpoints,
    telling: report.Report,
    notice: Notice,
    watchdog: Watchdog,
) -> TrainState:
    """Evaluate if that is due, and save; where the evaluation has to stop, Stopped is raised.

    Then the step is saved without it, and who goes on from there begins with it.
    """

    def stopping() -> bool:
        watchdog.alive()
        return notice.reached()

    step, error, evaluating = progress.step, None, progress.unevaluated
    if evaluating:
        state, error = evaluate_split(run, state, progress, telling, stopping)
        progress.unevaluated = error is None
    facts = run.facts | {"progress": dataclasses.asdict(progress)}
    checkpoints.save(step, state, facts, error)
    if progress.unevaluated:
        raise notice.stopped(
            f"while step {step:,} of {run.plan.steps:,} was evaluated, which is saved"
        )
    return state


def device_batches(run: Run, first_step: int) -> Iterator[stream.Batch]:
    """Global batches of images and labels from `first_step` to the end of the run.

    Their `bad` is of this process alone.
    """
    batch, rows = run.config.batch, meshes.process_rows(run.mesh, run.config.batch)
    for host in stream.training_batches(
        run.training,
        run.config.seed,
        batch,
        rows,
        first_step,
        run.plan.steps,
        run.plan.workers,
        run.config.data.ahead,
        run.plan.replace_bad,
    ):
        images, labels = (meshes.put_rows(run.mesh, batch, rows, array) for array in host[:2])
        yield stream.Batch(images, labels, host.bad)


def rates_of(run: Run, progress: Progress, step: int) -> dict[str, float]:
    """The learning rate of each group in step number `step`."""
    factor = rate_factor(run, optimizer.PlateauState(**progress.plateau))
    return optimizer.rates_at(run.plan.groups, run.plan.schedule, step - 1, factor)


def rate_factor(run: Run, seen: optimizer.PlateauState) -> float:
    """What the plateau rule multiplies all rates by; 1 without that rule."""
    return run.plan.plateau.rate_factor(seen) if run.plan.plateau else 1.0


def evaluate_split(
    run: Run,
    state: TrainState,
    progress: Progress,
    telling: report.Report,
    stopping: Callable[[], bool],
) -> tuple[TrainState, float | None]:
    """Evaluate the validation split and note it in `progress`; the plateau rule may lower rates.

    Returns the top-1 error too, None if `stopping` said so before it was known.
    """
    step = progress.step
    evaluator = Evaluator(
        run.evaluation_step,
        run.preprocessing,
        run.validation,
        run.config.batch,
        run.mesh,
        run.plan.workers,
        run.config.data.ahead,
        telling.terminal.warn,
        run.plan.replace_bad,
    )
    means = evaluator.measure(state.parameters, stopping)
    if means is None:
        return state, None
    progress.validation, error = means, means["top1_error"]
    is_best = not progress.best or error < progress.best["top1_error"]
    if is_best:
        progress.best = {"step": step, "top1_error": error}
    telling.validation(step, means, is_best)
    if run.plan.plateau and run.plan.evaluation.due(step):
        before = optimizer.PlateauState(**progress.plateau)
        seen = run.plan.plateau.observe(before, error)
        progress.plateau = dataclasses.asdict(seen)
        if seen.drops > before.drops:
            telling.terminal.say(
                f"  no better for {run.plan.plateau.patience} evaluations: all learning rates are "
                f"divided by {run.plan.plateau.factor:g} ({seen.drops} of {run.plan.plateau.times})"
            )
            state = run.steps.with_rate_factor(state, rate_factor(run, seen))
    return state, error


def show(run: Run, log: metrics.MetricsLog, state: TrainState, step: int, images) -> None:
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
    fields = metrics.flatten(config.to_dict(), separator=".")
    text = "\n".join(f"    {name} = {value}" for name, value in fields)
    return text, {
        "network": config.model.network,
        "epochs": run.plan.steps / run.plan.steps_per_epoch,
        "batch": config.batch,
        "seed": config.seed,
        "learning_rate": float(rules.weights[0][1]),
        "schedule": rules.schedule,
        "momentum": rules.momentum,
        "weight_decay": rules.weight_decay,
        "dropout": config.model.dropout,
        "colour_noise": config.data.colour_noise,
        "compute_dtype": config.model.compute_dtype,
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
        "training": progress.training,
        "parameters_sha256": parameters_sha256(state.parameters),
        **{name: value for name, value in run.facts.items() if name != "identity"},
    }
    if processes.is_lead():
        try:
            metrics.write_json(workdir / "summary.json", result)
        except OSError as error:
            terminal.say(f"warning: summary.json can't be written: {error}")
    reached = report.summary(
        progress.step, epochs, progress.seconds, progress.training, progress.validation,
        progress.best,
    )  # fmt: skip
    terminal.say(
        f"{reached}\n"
        f"parameters_sha256 {result['parameters_sha256']}\n"
        f"In {workdir}: summary.json, metrics.jsonl, checkpoints/ and tensorboard/.\n"
        f"Next: look at the curves with tensorboard --logdir={workdir}/tensorboard, or train "
        "longer by the same command with more --config.epochs."
    )
    if run.config.data.source == "digits":
        terminal.say(
            "The 2012 network on ImageNet: --config=configs/imagenet.py --config.data.path=DIR."
        )
    return result
