"""The command `benchmark train`: the loop with its data against the step alone, and its start.

The loop is a run's: its stream, its copies to the device, its compiled step and its stopwatch.
Nothing is logged, evaluated or saved.
"""

import argparse
import os
import pathlib
import tempfile
import time
from collections.abc import Iterator
from statistics import median
from typing import Any

from ml_collections import ConfigDict

from alexnet_jax.benchmark import json_output
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.runtime.terminal import ProgressLine, Terminal

TURNS = 5


def run_train(flags: argparse.Namespace, began: float) -> None:
    """Measure, print and write. `began` is when the command began, by time.perf_counter.

    UserError for any mistake in a flag.
    """
    config = with_data(flags.config, flags.path)
    if flags.steps < 1:
        raise UserError(f"--steps={flags.steps} must be at least 1.")
    path = json_output.check_json(flags.json) if flags.json else None
    with Terminal() as terminal:
        result = measure_loop(config, flags.steps, terminal, began)
        terminal.info(loop_table(result))
        if path:
            json_output.write_json(path, flags.run, result, terminal)


def with_data(config: ConfigDict, path: str | None) -> ConfigDict:
    """The config with the data of `path`: a folder or "synthetic"; None leaves it as it is."""
    if path == "synthetic":
        config.data.source = "synthetic"
    elif path:
        config.data.source, config.data.path = "folder", path
    return config


class _Phases:
    """How long each part of the way to the first step took."""

    def __init__(self, began: float):
        self.seconds: dict[str, float] = {}
        self._since = began

    def done(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name] = now - self._since
        self._since = now


def measure_loop(
    config: ConfigDict, steps: int, terminal: Terminal, began: float
) -> dict[str, Any]:
    """Images a second of the loop and of its step alone, `steps` of each in every of TURNS turns.

    In a turn as many steps as batches may be waiting do not count.
    """
    phases = _Phases(began)
    import jax

    from alexnet_jax.runtime.provenance import provenance
    from alexnet_jax.training import loop as training_loop
    from alexnet_jax.training import setup
    from alexnet_jax.training.throughput import Stopwatch

    phases.done("imports")
    with tempfile.TemporaryDirectory() as folder:
        waiting = config.data.prefetch + (config.data.num_workers or os.cpu_count() or 1)
        config.num_steps = 1 + TURNS * (waiting + steps)
        run = setup.set_up(config, pathlib.Path(folder), terminal)
        phases.done("data opened, statistics, both steps compiled")
        state = run.steps.initial_state()
        jax.block_until_ready(state)
        phases.done("parameters drawn")
        turns, batch_size = [], config.batch_size
        with Stopwatch() as stopwatch:
            batches = stopwatch.batches(training_loop.device_batches(run, 0))
            loop = _Loop(run, state, stopwatch, batches)
            loop.fetch()
            phases.done("first batch")
            loop.step()
            jax.block_until_ready(loop.state)
            phases.done("first step")
            what = f"{config.model.network}, the loop and its step"
            report = ProgressLine(what, terminal, "turns")
            for turn in range(TURNS):
                loop.take(waiting)
                stopwatch.rates(batch_size)
                loop.take(steps)
                rates = stopwatch.rates(batch_size)
                with stopwatch.paused():
                    seconds = loop.time_steps(steps)
                turns.append(rates | {"step_alone_images_per_second": batch_size * steps / seconds})
                report(turn + 1, TURNS)
    return {
        "benchmark": "train",
        "network": config.model.network,
        "batch": batch_size,
        "data": config.data.path or config.data.source,
        "steps": steps,
        "turns": turns,
        "seconds_to_first_step": phases.seconds,
        **provenance(),
    }


class _Loop:
    """Steps on the stream's batches, as in training.loop."""

    def __init__(self, run, state, stopwatch, batches: Iterator):
        self.run, self.state, self.stopwatch, self.batches = run, state, stopwatch, batches
        self.images = self.labels = None

    def fetch(self) -> None:
        self.images, self.labels = next(self.batches)[:2]

    def step(self) -> None:
        self.stopwatch.started(self._dispatch())

    def take(self, count: int) -> None:
        for _ in range(count):
            self.fetch()
            self.step()

    def time_steps(self, count: int) -> float:
        """Seconds of so many steps on the last batch."""
        import jax

        began = time.perf_counter()
        for _ in range(count):
            loss = self._dispatch()
        jax.block_until_ready((self.state, loss))
        return time.perf_counter() - began

    def _dispatch(self):
        """Start a step; returns its loss."""
        run = self.run
        self.state, loss = run.train_step(self.state, self.images, self.labels, run.preprocessing)
        return loss


def loop_table(result: dict[str, Any]) -> str:
    """Medians over the turns, the loop's share of its step's speed, and the phases."""
    turns, alone = result["turns"], "step_alone_images_per_second"
    loop_speed = median(turn["images_per_second"] for turn in turns)
    step_speed = median(turn[alone] for turn in turns)
    waiting = median(turn["waiting_for_data"] for turn in turns)
    share = median(turn["images_per_second"] / turn[alone] for turn in turns)
    phases = result["seconds_to_first_step"]
    lines = [
        f"{result['network']}, batch {result['batch']}, data {result['data']}",
        f"the loop {loop_speed:,.0f} images/s, its step alone {step_speed:,.0f}: the loop reaches "
        f"{share:.1%}",
        f"the device waits for data {waiting:.1%} of the time",
        f"to the end of the first step {sum(phases.values()):.1f} s:",
    ]
    lines += [f"  {name:<46}{seconds:>7.1f} s" for name, seconds in phases.items()]
    return "\n".join(lines)
