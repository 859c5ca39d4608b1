"""Killed at any instant, the same command ends where an undisturbed run ends."""

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from alexnet_jax.data import stream
from alexnet_jax.errors import EXIT_PREEMPTED
from tests.test_lost_processes import Processes

ROOT = pathlib.Path(__file__).parent.parent


def start(workdir):
    """A short quickstart that saves and evaluates often."""
    left_out = ("XLA_FLAGS", "JAX_NUM_CPU_DEVICES", "JAX_COMPILATION_CACHE_DIR")
    clean = {name: value for name, value in os.environ.items() if name not in left_out}
    command = [
        sys.executable, "-m", "alexnet_jax.main", "--config=configs/quickstart.py",
        f"--workdir={workdir}", "--config.epochs=8.0", "--config.checkpoint.every_steps=20",
        "--config.evaluate.every_steps=30", "--config.log.every_steps=10",
    ]  # fmt: skip
    return subprocess.Popen(
        command, cwd=ROOT, env=clean, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(workdir):
    with start(workdir) as process:
        output = process.stdout.read()
    assert process.returncode == 0, output
    records = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    for record in records:
        for name in ("images_per_second", "waiting_for_data"):  # differ from run to run
            record.pop(name, None)
    return json.loads((workdir / "summary.json").read_text()), records


@pytest.mark.slow
def test_a_run_killed_again_and_again_ends_as_an_undisturbed_one(tmp_path):
    undisturbed, records = finish(tmp_path / "undisturbed")
    workdir, instants = tmp_path / "killed", random.Random(0)
    reached = 0
    for _ in range(4):
        with start(workdir) as process:
            for line in process.stdout:
                if line.startswith("step "):
                    time.sleep(instants.uniform(0, 3))  # while stepping, evaluating or saving
                    break
            process.send_signal(signal.SIGKILL)
            reached += process.wait() == -signal.SIGKILL
    assert reached, "no kill hit a running command"
    result, ours = finish(workdir)
    assert result["parameters_sha256"] == undisturbed["parameters_sha256"]
    assert result["validation"] == undisturbed["validation"]
    assert ours == records


# Every tenth of the 1,438 training images can't be read.
UNREADABLE = """
from alexnet_jax.data import sources
from alexnet_jax.data.images import BadImage
whole = sources.Digits.load
def load(self, ids, into=None):
    if len(self) == 1438 and any(record % 10 == 3 for record in ids):
        raise BadImage("unreadable")
    return whole(self, ids, into)
sources.Digits.load = load
from alexnet_jax.main import main
main()
"""


@pytest.mark.slow
def test_replaced_images_are_counted_over_processes_and_over_a_stop(tmp_path):
    options = ["--config.epochs=8.0", "--config.log.every_steps=50",
               "--config.checkpoint.every_epochs=100.0"]  # fmt: skip
    programs = dict.fromkeys(range(2), UNREADABLE)
    with Processes(tmp_path, 2, options, programs) as processes:
        processes.wait_for_training()
        processes.all[0].terminate()
        assert [processes.end(rank) for rank in range(2)] == [EXIT_PREEMPTED] * 2
    with Processes(tmp_path, 2, options, programs) as processes:
        assert [processes.end(rank) for rank in range(2)] == [0] * 2
        assert "Going on from step" in processes.output(0)
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    told = {line["step"]: line["replaced_images"] for line in lines if line["split"] == "train"}
    orders = [stream.record_ids(1438, 0, step, 64, np.arange(64)) for step in range(180)]
    bad = [int((order % 10 == 3).sum()) for order in orders]
    assert told == {
        50: sum(bad[:50]), 100: sum(bad[50:100]), 150: sum(bad[100:150]), 180: sum(bad[150:]),
    }  # fmt: skip
