"""The page of train: the loop with its data against the step alone, and the way to the first step.

The loop is the run's: its stream, its copies to the device, its compiled step and its stopwatch.
Nothing is logged, evaluated or saved.
"""

import argparse
import json
import os
import pathlib
import tempfile
import time
from collections.abc import Iterator

from absl import flags
from ml_collections import ConfigDict, config_flags

from alexnet_jax.runtime import cli
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.runtime.terminal import ProgressLine, Terminal

CONFIGS = pathlib.Path(__file__).parent.parent.parent / "configs"
TURNS = 5


def config_of(words: list[str], path: str | None) -> ConfigDict:
    """The config that --config and its fields' flags make; UserError for any mistake.

    Without --config it is the quickstart's, or with a `path` that of net 145 on ImageNet.
    """
    default = CONFIGS / ("imagenet.py" if path else "quickstart.py")

    def define() -> None:
        config_flags.DEFINE_config_file("config", str(default), "Config file.")

    cli.parse(["train", *words], __doc__, define)
    config = flags.FLAGS.config
    if path == "synthetic":
        config.data.source = "synthetic"
    elif path:
        config.data.source, config.data.path = "folder", path
    return config


def run(given: argparse.Namespace, words: list[str], began: float) -> None:
    """Answer the flags of the page; `began` is when the command did, by time.perf_counter."""
    config = config_of(words, given.path)
    if given.steps < 1:
        raise UserError(f"--steps={given.steps} must be at least 1.")
    cli.check_output("json", given.json)
    with Terminal() as terminal:
        found = measure(config, given.steps, terminal, began)
        terminal.info(table(found))
        if given.json:
            pathlib.Path(given.json).write_text(json.dumps(found, indent=1))
            terminal.info(f"In {given.json}: all numbers.")


class _Phases:
    """How long each part of the way to the first step took."""

    def __init__(self, began: float):
        self.seconds: dict[str, float] = {}
        self._since = began

    def done(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name] = now - self._since
        self._since = now


def measure(config: ConfigDict, steps: int, terminal: Terminal, began: float) -> dict:
    """Images a second of the loop and of its step alone, `steps` of each in every of TURNS turns.

    In a turn as many steps as batches may be waiting do not count.
    """
    phases = _Phases(began)
    import jax

    from alexnet_jax.runtime.provenance import provenance
    from alexnet_jax.training import loop as training_loop
    from alexnet_jax.training import setup as runs
    from alexnet_jax.training.throughput import Stopwatch

    phases.done("imports")
    with tempfile.TemporaryDirectory() as folder:
        waiting = config.data.prefetch + (config.data.num_workers or os.cpu_count() or 1)
        config.num_steps = 1 + TURNS * (waiting + steps)
        prepared = runs.set_up(config, pathlib.Path(folder), terminal)
        phases.done("data opened, statistics, both steps compiled")
        state = prepared.steps.initial_state()
        jax.block_until_ready(state)
        phases.done("parameters drawn")
        turns, batch = [], config.batch_size
        with Stopwatch() as watch:
            batches = watch.batches(training_loop.device_batches(prepared, 0))
            loop = _Loop(prepared, state, watch, batches)
            loop.fetch()
            phases.done("first batch")
            loop.step()
            jax.block_until_ready(loop.state)
            phases.done("first step")
            report = ProgressLine(
                f"{config.model.network}, the loop and its step", terminal, "turns"
            )
            for turn in range(TURNS):
                loop.take(waiting)
                watch.rates(batch)
                loop.take(steps)
                rates = watch.rates(batch)
                with watch.paused():
                    alone = loop.alone(steps)
                turns.append(rates | {"step_alone_images_per_second": batch * steps / alone})
                report(turn + 1, TURNS)
    return {
        "page": "train",
        "network": config.model.network,
        "batch": batch,
        "data": config.data.path or config.data.source,
        "steps": steps,
        "turns": turns,
        "seconds_to_first_step": phases.seconds,
        **provenance(),
    }


class _Loop:
    """Steps on the stream's batches, as in train.train."""

    def __init__(self, run, state, watch, batches: Iterator):
        self.run, self.state, self.watch, self.batches = run, state, watch, batches
        self.batch = None

    def fetch(self) -> None:
        self.batch = next(self.batches)[:2]

    def step(self) -> None:
        self.state, loss = self.run.train_step(self.state, *self.batch, self.run.preprocessing)
        self.watch.started(loss)

    def take(self, count: int) -> None:
        for _ in range(count):
            self.fetch()
            self.step()

    def alone(self, count: int) -> float:
        """Seconds of so many steps on the last batch."""
        import jax

        began = time.perf_counter()
        for _ in range(count):
            self.state, loss = self.run.train_step(self.state, *self.batch, self.run.preprocessing)
        jax.block_until_ready((self.state, loss))
        return time.perf_counter() - began


def table(found: dict) -> str:
    """Medians over the turns, the loop's share of its step's speed, and the phases."""
    from statistics import median

    loop = median(turn["images_per_second"] for turn in found["turns"])
    alone = median(turn["step_alone_images_per_second"] for turn in found["turns"])
    waiting = median(turn["waiting_for_data"] for turn in found["turns"])
    share = median(
        turn["images_per_second"] / turn["step_alone_images_per_second"] for turn in found["turns"]
    )
    lines = [
        f"{found['network']}, batch {found['batch']}, data {found['data']}",
        f"the loop {loop:,.0f} images/s, its step alone {alone:,.0f}: the loop reaches {share:.1%}",
        f"the device waits for data {waiting:.1%} of the time",
        f"to the end of the first step {sum(found['seconds_to_first_step'].values()):.1f} s:",
    ]
    for name, seconds in found["seconds_to_first_step"].items():
        lines.append(f"  {name:<46}{seconds:>7.1f} s")
    return "\n".join(lines)
