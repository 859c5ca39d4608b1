"""Error and loss of runs against epochs, and the paper's Figure 1."""

import dataclasses
import json
import math
import pathlib
from collections.abc import Sequence

import numpy as np

from alexnet_jax.runtime.errors import UserError
from alexnet_jax.tools.visualize import figure

COLOURS = ("#1f6fb2", "#c0504d", "#3a8f3a", "#8064a2", "#d98a1f", "#4b4b4b", "#12a0a0", "#b0348b")
DASHES = ("-", (0, (5, 3)), (0, (1, 2)), (0, (6, 2, 1, 2)))
SPLITS = {"train": "training", "val": "validation"}


@dataclasses.dataclass(frozen=True)
class Curves:
    """The records of a run's metrics.jsonl, with a name for people."""

    name: str
    records: tuple[dict, ...]

    def series(self, split: str, field: str) -> tuple[np.ndarray, np.ndarray]:
        """Epochs and values of a field, NaN where it was not finite; float64 [records]."""
        records = [
            record for record in self.records if record["split"] == split and field in record
        ]
        epochs = np.array([record["epoch"] for record in records], np.float64)
        values = [math.nan if record[field] is None else record[field] for record in records]
        return epochs, np.array(values, np.float64)

    def rate_drops(self) -> list[tuple[float, float]]:
        """(epoch, new rate) of each time that the rate of the weights fell after standing still.

        The epoch is the middle between the last record with the old rate and the first with the
        new one. A rate that falls steadily (cosine) has no drops.
        """
        records = [record for record in self.records if "learning_rate" in record]
        rates = [record["learning_rate"]["weights"] for record in records]
        drops = []
        for index in range(1, len(records)):
            stood = index == 1 or rates[index - 2] == rates[index - 1]
            if stood and rates[index] < rates[index - 1]:
                middle = (records[index - 1]["epoch"] + records[index]["epoch"]) / 2
                drops.append((middle, rates[index]))
        return drops


def read_curves(workdirs: Sequence[str]) -> list[Curves]:
    """The curves of some runs, named by their folders; UserError where a run has none."""
    names = [pathlib.Path(workdir).resolve().name for workdir in workdirs]
    if len(set(names)) < len(names):
        names = list(workdirs)
    return [
        Curves(name, tuple(_records(pathlib.Path(workdir))))
        for name, workdir in zip(names, workdirs, strict=True)
    ]


def _records(workdir: pathlib.Path) -> list[dict]:
    """All whole lines with a split; a line that a kill cut short is left out."""
    path = workdir / "metrics.jsonl"
    if not path.is_file():
        raise UserError(
            f"There is no file {path}: expected the folder of a training run, which writes one."
        )
    records = []
    for line in path.read_text(errors="replace").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and {"split", "epoch", "step"} <= set(record):
            records.append(record)
    if not records:
        raise UserError(f"{path} holds no measurement yet: wait for the first log line of the run.")
    return sorted(records, key=lambda record: record["step"])


def epochs_to_reach(epochs: np.ndarray, values: np.ndarray, level: float) -> float | None:
    """The epoch at which the values first come down to `level`, straight between two of them.

    None where they never do.
    """
    below = np.flatnonzero(values <= level)
    if not len(below):
        return None
    first = below[0]
    if first == 0 or math.isnan(values[first - 1]):
        return float(epochs[first])
    (before, after), (high, low) = epochs[first - 1 : first + 1], values[first - 1 : first + 1]
    return float(before + (after - before) * (high - level) / (high - low))


def epochs_comparison(runs: Sequence[Curves], level: float) -> str:
    """A line for each run: epochs until its training error is `level`, against the quickest."""
    reached = [epochs_to_reach(*run.series("train", "top1_error"), level) for run in runs]
    quickest = min((epochs for epochs in reached if epochs is not None), default=None)
    width, lines = max(len(run.name) for run in runs), []
    for run, epochs in zip(runs, reached, strict=True):
        line = f"{run.name:<{width}}  "
        if epochs is None:
            lines.append(f"{line}never has a training error of {level:.1%}")
            continue
        line += f"a training error of {level:.1%} after {epochs:.2f} epochs"
        times = epochs / quickest if quickest else 1.0
        lines.append(line + (f", {times:.1f} times as many as the quickest" if times > 1 else ""))
    return "\n".join(lines)


def draw_curves(runs: Sequence[Curves], error: str):
    """The figure: error (`error` is top1_error or top5_error) beside loss, both splits."""
    drawn = figure.blank(12, 5.4)
    left, right = drawn.subplots(1, 2)
    for run, colour in zip(runs, _colours(runs), strict=True):
        for split, style in (("train", {"lw": 1.2, "ls": DASHES[1]}),
                             ("val", {"lw": 2.2, "marker": "o", "ms": 4})):  # fmt: skip
            label = f"{run.name}, {SPLITS[split]}"
            epochs, errors = run.series(split, error)
            left.plot(epochs, 100 * errors, color=colour, label=label, **style)
            right.plot(*run.series(split, "loss"), color=colour, **style)
    left.set_ylabel(f"{error[:3]}-{error[3]} error in %", fontsize=13)
    right.set_ylabel("loss", fontsize=13)
    for axes in (left, right):
        _furnish(axes)
    _mark_drops((left, right), runs)
    columns = 2 if len(runs) == 1 else len(runs) if len(runs) <= 5 else -(-len(runs) // 2)
    drawn.legend(loc="outside lower center", ncols=columns, fontsize=11)
    return drawn


def draw_figure1(runs: Sequence[Curves], level: float):
    """The figure: training error rate of runs overlaid, solid, dashed, ..., as in Figure 1."""
    drawn = figure.blank(7, 5)
    axes = drawn.subplots()
    for index, run in enumerate(runs):
        style = {"color": "black" if len(runs) <= len(DASHES) else _colours(runs)[index],
                 "ls": DASHES[index % len(DASHES)], "lw": 2}  # fmt: skip
        axes.plot(*run.series("train", "top1_error"), label=run.name, **style)
        epochs = epochs_to_reach(*run.series("train", "top1_error"), level)
        if epochs is not None:
            axes.plot([epochs], [level], "o", color="#c0504d", ms=7, zorder=3)
            axes.annotate(f"{epochs:.1f}", (epochs, level), (6, 6), textcoords="offset points",
                          color="#c0504d", fontsize=12)  # fmt: skip
    axes.axhline(level, color="#c0504d", lw=1, ls=":")
    _furnish(axes)
    axes.set_ylabel("training error rate", fontsize=13)
    axes.legend(fontsize=12)
    return drawn


def _colours(runs: Sequence[Curves]) -> list[str]:
    return [COLOURS[index % len(COLOURS)] for index in range(len(runs))]


def _furnish(axes) -> None:
    axes.set_xlabel("epochs", fontsize=13)
    axes.tick_params(labelsize=11)
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def _mark_drops(panels: Sequence, runs: Sequence[Curves]) -> None:
    """Vertical lines where rates fell; those that several runs share are drawn once, in grey."""
    colours: dict[tuple[float, float], str] = {}
    for run, colour in zip(runs, _colours(runs), strict=True):
        for epoch, rate in run.rate_drops():
            where = (round(epoch, 1), rate)
            colours[where] = "#777777" if len(runs) == 1 or where in colours else colour
    for (epoch, rate), colour in colours.items():
        for axes in panels:
            axes.axvline(epoch, color=colour, lw=1, ls=":")
            axes.text(epoch, 0.98, f"rate {rate:g} ", rotation=90, ha="right", va="top",
                      color=colour, fontsize=10, transform=axes.get_xaxis_transform())  # fmt: skip
