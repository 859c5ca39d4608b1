"""Numbers of a run on their way to a person and to files: one line and one record each."""

import dataclasses
import math
from collections.abc import Iterable

from alexnet_jax.runtime.terminal import Terminal, duration
from alexnet_jax.training.metric_writers import MetricsLog

WORTH_SAYING = 0.02  # share of time waiting for data from which a line mentions it


@dataclasses.dataclass
class Reporter:
    """Says and writes how a run of `steps` steps of `batch` images goes."""

    steps: int
    steps_per_epoch: float
    batch: int
    terminal: Terminal
    log: MetricsLog
    _means: dict = dataclasses.field(default_factory=dict)
    _named: set[str] = dataclasses.field(default_factory=set)

    def training(self, step: int, means: dict, learning_rates: dict[str, float]) -> None:
        """Means since the last report, with `images_per_second` and `waiting_for_data`."""
        self._means = means
        self.log.write(self._record(step, "train") | means | {"learning_rate": learning_rates})
        self.terminal.live(self._line(step))

    def redraw(self, step: int) -> None:
        """Move the live line on to `step`; costs nothing unless it is time."""
        if self._means and self.terminal.wants_redraw():
            self.terminal.live(self._line(step))

    def replaced(self, step: int, pairs: Iterable[tuple[str, str]]) -> None:
        """Name images of this process's batch that can't be read, once, and what stood in."""
        for name, instead in pairs:
            if name not in self._named:
                self._named.add(name)
                self.terminal.warn(
                    f"the image {name} can't be read: in step {step:,} {instead} stands in for it"
                )

    def skipped(self, step: int, count: int, first: int, images: str) -> None:
        """So many steps up to `step` changed nothing; `first` is one of them, with its `images`."""
        self.terminal.info(
            f"warning: {count:,} of the steps up to {step:,} had a loss or gradient that is not "
            f"finite and changed no parameter; the first is step {first:,}, with {images}"
        )

    def validation(self, step: int, means: dict, is_best: bool) -> None:
        """The result of an evaluation."""
        self.log.write(self._record(step, "val") | means)
        self.terminal.info(
            f"  validation at epoch {step / self.steps_per_epoch:.2f}: loss {means['loss']:.4f}  "
            f"top-1 error {means['top1_error']:.2%}  top-5 error {means['top5_error']:.2%}"
            f"{'  (best so far)' if is_best else ''}"
        )

    def _record(self, step: int, split: str) -> dict:
        return {"step": step, "epoch": step / self.steps_per_epoch, "split": split}

    def _line(self, step: int) -> str:
        means = self._means
        speed, waiting = means["images_per_second"], means["waiting_for_data"]
        left = (self.steps - step) * self.batch / speed
        return (
            f"step {step:,}/{self.steps:,}  epoch {step / self.steps_per_epoch:.2f}  "
            f"loss {means['loss']:.4f}  top-1 error {means['top1_error']:.1%}  "
            f"{speed:,.0f} images/s  {duration(left)} left"
            f"{f'  {waiting:.0%} waiting for data' if waiting > WORTH_SAYING else ''}"
        )


def summary_table(
    *, steps: int, epochs: float, seconds: float, training: dict, validation: dict, best: dict
) -> str:
    """What a run reached, as a table; `best` has the step and the error of its best evaluation."""
    lines = [
        f"Done: {steps:,} steps, {epochs:.4g} epochs, in {duration(seconds)}.",
        f"{'':<12}{'images':>12}{'loss':>10}{'top-1 error':>14}{'top-5 error':>14}",
    ]
    for name, means in (("training", training), ("validation", validation)):
        lines.append(
            f"{name:<12}{means['images']:>12,}{_number(means['loss']):>10.4f}"
            f"{_number(means['top1_error']):>14.2%}{_number(means['top5_error']):>14.2%}"
        )
    lines.append(
        "Training: the mean since the line before the last, as the network was trained. Best "
        f"validation top-1 error: {best['top1_error']:.2%}, at step {best['step']:,}."
    )
    return "\n".join(lines)


def _number(value: float | None) -> float:
    """A number that may come from JSON, where one that is not finite is null."""
    return math.nan if value is None else value
