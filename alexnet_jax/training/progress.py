"""How a run is doing: how far it is, at which rates, and whether training still goes well."""

import dataclasses

import numpy as np

from alexnet_jax.parallel import processes
from alexnet_jax.runtime.errors import Diverged
from alexnet_jax.training import divergence, optimizer, report
from alexnet_jax.training.setup import Run
from alexnet_jax.training.train_state import TrainState


@dataclasses.dataclass
class Progress:
    """How far a run is; saved as JSON beside each checkpoint.

    `seconds` counts this command and those it went on from; `training` and `validation` are the
    newest results of each split, `best` is the step and the error of the best evaluation;
    `replaced` counts images that stood in for unreadable ones since the last line, in all
    processes, as far as `gather_replaced` was told of them. `unevaluated` says that the evaluation
    of this step is still due, `rollbacks` how often the run went back with lower rates,
    `flat_steps` for how many steps the loss has been that of guessing.
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

    def gather_replaced(self, own: int) -> None:
        """Add what each process has replaced since the last call; all of them call it."""
        self.replaced += int(processes.sum_over_processes(np.int64(own)))


def learning_rates(run: Run, progress: Progress, step: int) -> dict[str, float]:
    """The learning rate of each group in step number `step`."""
    factor = rate_factor(run, progress)
    return optimizer.rates_at(run.plan.groups, run.plan.schedule, step - 1, factor)


def rate_factor(run: Run, progress: Progress) -> float:
    """What the plateau rule and rollbacks multiply all rates by."""
    rule, seen = run.plan.plateau, optimizer.PlateauState(**progress.plateau)
    lowered = rule.rate_factor(seen) if rule else 1.0
    return lowered / run.plan.rollback_factor**progress.rollbacks


def raise_if_diverged(run: Run, state: TrainState) -> None:
    """Diverged if a step left the state unusable; all processes find the same."""
    step = run.steps.ruined_at(state)
    if step:
        raise Diverged(
            f"In step {step:,} the loss, a gradient or a parameter is not a finite number; its "
            f"images are {images_of(run, step)}."
        )


def images_of(run: Run, step: int) -> str:
    """Names of images of a training step."""
    return divergence.images_of(step, run.training, run.config.seed, run.config.batch_size)


def warn_of_training(
    run: Run, progress: Progress, step: int, bad_step: int, telling: report.Reporter
) -> None:
    """Warn of steps that were skipped, `bad_step` first, and of a loss that does not move."""
    means = progress.training
    if bad_step:
        telling.skipped(step, means["skipped_steps"], bad_step, images_of(run, bad_step))
    before = progress.flat_steps
    progress.flat_steps = divergence.flat_steps(
        before, means["images"] // run.config.batch_size, means["loss"], run.plan.classes
    )
    if before < run.plan.stalled <= progress.flat_steps:
        stalled = divergence.stalled(progress.flat_steps, run.plan.classes)
        telling.terminal.info(f"warning: {stalled}")
