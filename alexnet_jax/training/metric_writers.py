"""What a run writes down: metrics.jsonl, TensorBoard and summary.json."""

import json
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from alexnet_jax.runtime.json_files import as_json, flatten, replace_file
from alexnet_jax.runtime.optional_imports import import_tensorflow

# TensorBoard shows tags by what stands before their slash, in alphabetical order.
CHAPTERS = {
    "loss and error": ("loss", "top1_error", "top5_error"),
    "optimizer": ("gradient_norm", "learning_rate", "skipped_steps"),
    "data": ("replaced_images",),
    "speed": ("images_per_second", "waiting_for_data"),
}
# A split is a run of its own, so that both curves share a chart; the rest lies above them.
WHOLE, SPLITS = "", ("train", "val")


class MetricsLog:
    """Writes the records of a run to WORKDIR/metrics.jsonl and to WORKDIR/tensorboard.

    The latter needs clu and TensorFlow.

    Only the lead process has a log that writes. What is later than `first_step` is dropped from
    existing files: the run goes on from there and writes it again. What can't be written is said
    once, through `warn`, and the run goes on.
    """

    def __init__(
        self, workdir: pathlib.Path, first_step: int, writes: bool, warn: Callable[[str], None]
    ):
        self._warn = warn
        self._writers: dict[str, Any] = {}  # clu's SummaryWriter of each split
        self._path = workdir / "metrics.jsonl" if writes else None
        self._line_is_cut = self._complained = False
        if writes:
            self._attempt(_cut_back_lines, self._path, first_step)
            self._attempt(self._open_tensorboard, workdir / "tensorboard", first_step)

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, *_) -> None:
        for writer in self._writers.values():
            self._attempt(writer.close)

    def write(self, record: dict) -> None:
        """One record with `step`, `split` and numbers, which may lie in nested dicts."""
        if self._path is None:
            return
        self._attempt(self._append, self._path, as_json(record))
        scalars = {
            f"{chapter}/{name}": value
            for chapter, members in CHAPTERS.items()
            for name, value in flatten({key: record[key] for key in members if key in record})
        }
        self._to_tensorboard("write_scalars", record["split"], record["step"], scalars)

    def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Pictures uint8 [height, width, 1 or 3], by name."""
        batches = {f"pictures/{name}": image[None] for name, image in images.items()}
        self._to_tensorboard("write_images", "train", step, batches)

    def write_histograms(self, step: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Distributions of the numbers in arrays, by name."""
        named = {f"weights/{name}": array for name, array in arrays.items()}
        self._to_tensorboard("write_histograms", "train", step, named)

    def write_config(self, text: str, hyper_parameters: Mapping[str, object]) -> None:
        """The config as text and the few numbers by which runs are compared."""
        self._to_tensorboard("write_texts", WHOLE, 0, {"config": text})
        self._to_tensorboard("write_hparams", WHOLE, hyper_parameters)

    def _append(self, path: pathlib.Path, line: str) -> None:
        cut, self._line_is_cut = self._line_is_cut, True
        with path.open("a") as file:
            file.write("\n" * cut + line + "\n")
        self._line_is_cut = False

    def _open_tensorboard(self, folder: pathlib.Path, first_step: int) -> None:
        try:
            import_tensorflow()
            from clu.metric_writers import SummaryWriter
        except ModuleNotFoundError as error:
            self._warn(
                "warning: nothing is written for TensorBoard, since there is no module "
                f"{error.name}; metrics.jsonl has all numbers."
            )
            return
        _cut_back_events(folder, first_step)
        self._writers = {part: SummaryWriter(str(folder / part)) for part in (WHOLE, *SPLITS)}

    def _to_tensorboard(self, method: str, split: str, *what) -> None:
        if split in self._writers:
            self._attempt(getattr(self._writers[split], method), *what)
            self._attempt(self._writers[split].flush)

    def _attempt(self, action: Callable, *arguments) -> None:
        try:
            action(*arguments)
        except Exception as error:  # TensorFlow raises errors of its own kinds
            if not self._complained:
                self._warn(f"warning: metrics can't be written, the run goes on without: {error}")
            self._complained = True


def _cut_back_lines(path: pathlib.Path, step: int) -> None:
    """Keep the records up to `step`; a line cut short by a kill is dropped."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except (ValueError, KeyError, TypeError):
            continue
    replace_file(path, "".join(kept).encode())


def _cut_back_events(folder: pathlib.Path, step: int) -> None:
    """Keep the splits' events up to `step`; the config's are dropped and written anew."""
    for path in folder.glob("events.out.tfevents.*"):
        path.unlink()
    paths = sorted(folder.glob("*/events.out.tfevents.*"))
    if not paths:
        return
    from tensorboard.summary.writer.record_writer import RecordWriter

    for path in paths:
        partial = path.with_name("partial." + path.name.replace("tfevents", "unfinished"))
        with partial.open("wb") as file:
            writer = RecordWriter(file)
            for event in _events(path):
                if event.step <= step:
                    writer.write(event.SerializeToString())
        os.replace(partial, path)


def _events(path: pathlib.Path) -> Iterator:
    """Events of a file, as far as it is whole."""
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    try:
        yield from LegacyEventFileLoader(str(path)).Load()
    except Exception:  # the end was cut off by a kill
        return
