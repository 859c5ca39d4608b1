"""How a run is doing: how far it is, at which learning rates, and whether training goes well."""

import dataclasses

import numpy as np

from alexnet_jax.data.sources import Source
from alexnet_jax.parallel import processes
from alexnet_jax.runtime.errors import Diverged
from alexnet_jax.training import divergence, optimizer
from alexnet_jax.training.plan import Plan
from alexnet_jax.training.report import Reporter
from alexnet_jax.training.train_state import TrainState
from alexnet_jax.training.train_step import Steps


@dataclasses.dataclass
class Progress:
    """How far a run is; saved as JSON beside each checkpoint.

    `seconds` counts this command and those it went on from; `training` and `validation` are the
    newest results of each split, `best` is the step and the error of the best evaluation;
    `replaced` counts images that stood in for unreadable ones since the last log line, in all
    processes, as of the last `gather_replaced`. `unevaluated` says that the evaluation of this step
    is still due, `rollbacks` how often the run went back with lower rates, `flat_steps` for how
    many steps the loss has been that of guessing.
    """

    step: int = 0
    seconds: float = 0.0
    training: dict = dataclasses.field(default_factory=dict)
    validation: dict = dataclasses.field(default_factory=dict)
    best: dict = dataclasses.field(default_factory=dict)
    plateau: dict = dataclasses.field(default_factory=dict)
    replaced: int = 0
    unevaluated: bool = False
    rollbacks: int = 0
    flat_steps: int = 0

    def gather_replaced(self, local_count: int) -> None:
        """Add what each process has replaced since the last call; all of them call it."""
        self.replaced += int(processes.sum_over_processes(np.asarray(local_count, np.int64)))


def learning_rates(plan: Plan, progress: Progress, step: int) -> dict[str, float]:
    """The learning rate of each group in step number `step`, counted from 1."""
    factor = rate_factor(plan, progress)
    return optimizer.learning_rates_at(plan.groups, plan.schedule, step - 1, factor)


def rate_factor(plan: Plan, progress: Progress) -> float:
    """What the plateau rule and rollbacks multiply all learning rates by."""
    observed = optimizer.PlateauState(**progress.plateau)
    lowered = plan.plateau.rate_factor(observed) if plan.plateau else 1.0
    return lowered / plan.rollback_factor**progress.rollbacks


def raise_if_diverged(steps: Steps, state: TrainState, plan: Plan, training: Source) -> None:
    """Raise Diverged if a step left the state unusable; all processes find the same."""
    step = steps.diverged_at(state)
    if step:
        images = divergence.images_of(step, training, plan.seed, plan.batch_size)
        raise Diverged(
            f"In step {step:,} the loss, a gradient or a parameter is not a finite number; its "
            f"images are {images}."
        )


def warn_of_trouble(
    plan: Plan,
    progress: Progress,
    training: Source,
    reporter: Reporter,
    *,
    step: int,
    bad_step: int,
) -> None:
    """Warn of steps up to `step` that were skipped, `bad_step` first, and of a constant loss."""
    means = progress.training
    if bad_step:
        images = divergence.images_of(bad_step, training, plan.seed, plan.batch_size)
        reporter.skipped(step, means["skipped_steps"], bad_step, images)
    before = progress.flat_steps
    progress.flat_steps = divergence.flat_steps(
        before, means["images"] // plan.batch_size, means["loss"], plan.num_classes
    )
    if before < plan.stall_steps <= progress.flat_steps:
        warning = divergence.stall_warning(progress.flat_steps, plan.num_classes)
        reporter.terminal.info(f"warning: {warning}")
