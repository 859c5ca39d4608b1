"""What is done at some steps of a run: the validation split is evaluated and a checkpoint saved."""

import dataclasses
import pathlib
from collections.abc import Callable

from alexnet_jax.parallel.preemption import PreemptionGuard
from alexnet_jax.runtime import json_files
from alexnet_jax.runtime.terminal import Terminal
from alexnet_jax.runtime.watchdog import Watchdog
from alexnet_jax.training import optimizer, report
from alexnet_jax.training.checkpoint import Checkpoints
from alexnet_jax.training.evaluator import Evaluator
from alexnet_jax.training.progress import Progress, rate_factor
from alexnet_jax.training.setup import Run
from alexnet_jax.training.train_state import TrainState


@dataclasses.dataclass(frozen=True)
class RunContext:
    """What is about a run: where it lives, speaks and saves, and what may end it."""

    workdir: pathlib.Path
    terminal: Terminal
    checkpoints: Checkpoints
    notice: PreemptionGuard
    watchdog: Watchdog


def evaluate_and_save(
    run: Run, state: TrainState, progress: Progress, about: RunContext, telling: report.Reporter
) -> TrainState:
    """Evaluate if `progress` wants it, and save; if the evaluation has to stop, raises Stopped.

    Then the step is saved without it, and who goes on from there begins with it.
    """

    def stopping() -> bool:
        about.watchdog.alive()
        return about.notice.reached()

    step, error = progress.step, None
    if progress.unevaluated:
        state, error = evaluate_split(run, state, progress, telling, stopping)
        progress.unevaluated = error is None
    facts = run.facts | {"progress": json_files.finite(dataclasses.asdict(progress))}
    about.checkpoints.save(step, state, facts, error)
    if progress.unevaluated:
        raise about.notice.stopped(
            f"while step {step:,} of {run.plan.steps:,} was evaluated, which is saved"
        )
    return state


def evaluate_split(
    run: Run,
    state: TrainState,
    progress: Progress,
    telling: report.Reporter,
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
        run.config.batch_size,
        run.mesh,
        run.plan.workers,
        run.config.data.prefetch,
        telling.terminal.warn,
        run.plan.replace_bad,
    )
    means = evaluator.measure(state.for_use, stopping)
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
            telling.terminal.info(
                f"  no better for {run.plan.plateau.patience} evaluations: all learning rates are "
                f"divided by {run.plan.plateau.factor:g} ({seen.drops} of {run.plan.plateau.times})"
            )
            state = run.steps.with_rate_factor(state, rate_factor(run, progress))
    return state, error
