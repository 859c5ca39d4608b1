"""Evaluation of a whole split, each image counted exactly once, and the save that follows it."""

import collections
import dataclasses
import pathlib
from collections.abc import Callable, Iterator

import jax
import numpy as np
from jax.sharding import Mesh

from alexnet_jax.data import stream
from alexnet_jax.data.sources import Source
from alexnet_jax.model.architecture import Parameters
from alexnet_jax.parallel import mesh as meshes
from alexnet_jax.parallel import processes
from alexnet_jax.parallel.preemption import PreemptionGuard
from alexnet_jax.runtime import json_files
from alexnet_jax.runtime.terminal import Terminal
from alexnet_jax.runtime.watchdog import Watchdog
from alexnet_jax.training import metrics, optimizer
from alexnet_jax.training.checkpoint import Checkpoints
from alexnet_jax.training.preprocessing import Preprocessing
from alexnet_jax.training.progress import Progress, rate_factor
from alexnet_jax.training.report import Reporter
from alexnet_jax.training.setup import Run
from alexnet_jax.training.throughput import IN_FLIGHT
from alexnet_jax.training.train_state import TrainState

# Sums of scores, log-probabilities and labels of a batch.
EvaluatedBatch = tuple[metrics.Sums, jax.Array, jax.Array]


@dataclasses.dataclass(frozen=True)
class RunContext:
    """Where a run lives, prints and saves, and what may end it."""

    workdir: pathlib.Path
    terminal: Terminal
    checkpoints: Checkpoints
    guard: PreemptionGuard
    watchdog: Watchdog


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """One compiled evaluation step on one split, for any number of parameters.

    `step` is that of `Steps.evaluation`; images come `batch_size` at a time, `num_workers` batches
    are decoded at once and at most `prefetch` wait. An image that can't be read counts as wrong and
    is named through `warn`, or raises BadImage.
    """

    step: Callable
    preprocessing: Preprocessing
    source: Source
    batch_size: int
    mesh: Mesh
    num_workers: int
    prefetch: int
    warn: Callable[[str], None]
    count_bad_as_wrong: bool = False

    def measure(
        self, parameters: Parameters, stopping: Callable[[], bool] = lambda: False
    ) -> dict[str, float] | None:
        """Mean log loss, top-1 and top-5 error and the number of images.

        `stopping` is asked after every batch but the last; if it says so there is no result.
        """
        sums = []
        for batch_sums, _, _ in self._batches(parameters):
            sums.append(batch_sums)
            if len(sums) * self.batch_size < len(self.source) and stopping():
                return None
        return self._means(sums)

    def predict(
        self, parameters: Parameters, progress: Callable[[int, int], None]
    ) -> tuple[dict[str, float], np.ndarray, np.ndarray]:
        """Means, log-probabilities float32 [images, classes] and labels int32 [images].

        Both arrays are in stored order and whole on the lead process, on the others empty.
        `progress(done, total)` is called after each batch. All processes of a run call it.
        """
        sums, predictions, labels = [], [], []
        for batch_sums, log_probabilities, batch_labels in self._batches(parameters):
            sums.append(batch_sums)
            host_predictions = processes.to_host(log_probabilities).astype(np.float32)
            host_labels = processes.to_host(batch_labels)
            is_image = host_labels != stream.PADDING_LABEL
            if processes.is_lead():
                predictions.append(host_predictions[is_image])
                labels.append(host_labels[is_image])
            progress(min(len(sums) * self.batch_size, len(self.source)), len(self.source))
        if not processes.is_lead():
            return self._means(sums), np.empty((0, 0), np.float32), np.empty(0, np.int32)
        return self._means(sums), np.concatenate(predictions), np.concatenate(labels)

    def _batches(self, parameters: Parameters) -> Iterator[EvaluatedBatch]:
        """Scores, log-probabilities and labels of each batch, as soon as they are there."""
        indices = meshes.local_batch_indices(self.mesh, self.batch_size)
        running: collections.deque[EvaluatedBatch] = collections.deque()
        for host in stream.evaluation_batches(
            self.source,
            batch_size=self.batch_size,
            indices=indices,
            num_workers=self.num_workers,
            prefetch=self.prefetch,
            count_bad_as_wrong=self.count_bad_as_wrong,
        ):
            for record, _ in host.bad:
                self.warn(f"{self.source.name(record)} can't be read and counts as wrong")
            images, labels = (
                meshes.put_batch(self.mesh, self.batch_size, indices, array) for array in host[:2]
            )
            sums, predictions = self.step(parameters, images, labels, self.preprocessing)
            running.append((sums, predictions, labels))
            if len(running) > IN_FLIGHT:
                running[0][1].block_until_ready()
                yield running.popleft()
        yield from running

    def _means(self, sums: list[metrics.Sums]) -> dict[str, float]:
        means = metrics.means(jax.device_get(sums))
        if means["images"] != len(self.source):
            raise RuntimeError(
                f"Evaluated {means['images']} images of a split of {len(self.source)}."
            )
        return means


def evaluate_and_save(
    run: Run, state: TrainState, progress: Progress, ctx: RunContext, reporter: Reporter
) -> TrainState:
    """Evaluate if `progress` says that it is due, and save.

    If the run is asked to end meanwhile, raises Stopped: the step is saved without the evaluation,
    and the command that goes on from there begins with it.
    """

    def stopping() -> bool:
        ctx.watchdog.alive()
        return ctx.guard.reached()

    error = None
    if progress.unevaluated:
        state, error = evaluate_validation(run, state, progress, reporter, stopping)
        progress.unevaluated = error is None
    facts = run.facts | {"progress": json_files.finite(dataclasses.asdict(progress))}
    ctx.checkpoints.save(progress.step, state, facts, error)
    if progress.unevaluated:
        raise ctx.guard.stopped(
            f"while step {progress.step:,} of {run.plan.num_steps:,} was evaluated, which is saved"
        )
    return state


def evaluate_validation(
    run: Run,
    state: TrainState,
    progress: Progress,
    reporter: Reporter,
    stopping: Callable[[], bool],
) -> tuple[TrainState, float | None]:
    """Evaluate the validation split and note it in `progress`; the plateau rule may lower rates.

    Returns the top-1 error too, None if `stopping` said so before it was known.
    """
    plan, step = run.plan, progress.step
    evaluator = Evaluator(
        step=run.evaluation_step,
        preprocessing=run.preprocessing,
        source=run.validation,
        batch_size=plan.batch_size,
        mesh=run.mesh,
        num_workers=plan.num_workers,
        prefetch=plan.prefetch,
        warn=reporter.terminal.warn,
        count_bad_as_wrong=plan.replace_bad_images,
    )
    means = evaluator.measure(state.for_use, stopping)
    if means is None:
        return state, None
    progress.validation, error = means, means["top1_error"]
    is_best = not progress.best or error < progress.best["top1_error"]
    if is_best:
        progress.best = {"step": step, "top1_error": error}
    reporter.validation(step, means, is_best)
    if plan.plateau and plan.evaluation.due(step):
        state = _observe_plateau(run, state, progress, error, reporter.terminal)
    return state, error


def _observe_plateau(
    run: Run, state: TrainState, progress: Progress, error: float, terminal: Terminal
) -> TrainState:
    """Tell the plateau rule of an evaluation; it may divide all learning rates."""
    rule = run.plan.plateau
    assert rule is not None
    before = optimizer.PlateauState(**progress.plateau)
    after = rule.observe(before, error)
    progress.plateau = dataclasses.asdict(after)
    if after.drops == before.drops:
        return state
    terminal.info(
        f"  no better for {rule.patience} evaluations: all learning rates are divided by "
        f"{rule.factor:g} ({after.drops} of {rule.times})"
    )
    return run.steps.with_rate_factor(state, rate_factor(run.plan, progress))
