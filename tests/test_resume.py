"""Killed at any instant, the same command ends where an undisturbed run ends."""

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest

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
