"""The command line: mistakes get one sentence and no traceback, and leave nothing behind."""

import json
import os
import pathlib
import subprocess
import sys

import pytest
from PIL import Image

ROOT = pathlib.Path(__file__).parent.parent


def run(*words, cwd=ROOT, **environment):
    """python -m alexnet_jax.main as a user starts it, with XLA's own defaults."""
    clean = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "JAX_NUM_CPU_DEVICES")}
    return subprocess.run(
        [sys.executable, "-m", "alexnet_jax.main", *words],
        cwd=cwd,
        env=clean | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--config=configs/imagnet.py"], "There is no config file 'configs/imagnet.py'"),
        (["--config=configs/imagenet.py:smok"], "unknown option 'smok'"),
        (["--config.bach=3"], 'Did you mean "batch"'),
        (["--config.data.pth=3"], 'Did you mean "path"'),
        (["--config.batch=many"], "--config.batch=many"),
        (["--confg=x"], "Did you mean: config"),
        (["quickstart"], "'quickstart' was not understood"),
        (["--processes=2"], "needs --coordinator"),
        (["--config=configs/imagenet.py"], "add --config.data.path=DIR"),
        (["--config=configs/imagenet.py", "--config.data.path=nowhere"], "nowhere/train is not a"),
        (["--config.parallel.model=2"], "parallel.model=2 does not divide the 1 device"),
        (["--config.model.dtype=float64"], "float64 needs JAX_ENABLE_X64=1"),
    ],
)
def test_a_mistake_gets_one_sentence(tmp_path, words, sentence):
    workdir = tmp_path / "run"
    done = run(*words, f"--workdir={workdir}")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr + done.stdout
    assert not workdir.exists()


def test_help_names_every_flag():
    done = run("--help")
    assert done.returncode == 0
    for flag in ("--config", "--workdir", "--coordinator", "--processes", "--process"):
        assert flag in done.stdout


def test_a_broken_image_ends_the_run_with_its_name(tmp_path):
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            folder = tmp_path / "data" / split / name
            folder.mkdir(parents=True)
            Image.new("RGB", (40, 40), "red").save(folder / "1.png")
    (tmp_path / "data/train/dog/2.jpg").write_bytes(b"rubbish")
    done = run("--config.data.source=folder", f"--config.data.path={tmp_path / 'data'}",
               f"--workdir={tmp_path / 'run'}")  # fmt: skip
    assert done.returncode == 2
    assert "train/dog/2.jpg could not be decoded" in done.stderr
    assert "Traceback" not in done.stderr


def records(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_a_run_writes_its_records_and_the_same_command_goes_on(tmp_path):
    """Three steps, then three more: the same records as six at once, and the same parameters."""
    common = ["--config=configs/quickstart.py:smoke", "--config.evaluate.every_steps=3"]
    parts, whole = tmp_path / "parts", tmp_path / "whole"
    first = run(*common, "--config.steps=3", f"--workdir={parts}")
    assert first.returncode == 0, first.stderr
    assert first.stderr == ""
    assert "step 3/3" in first.stdout
    second = run(*common, "--config.steps=6", f"--workdir={parts}")
    assert "Going on from step 3 of 6." in second.stdout
    at_once = run(*common, "--config.steps=6", f"--workdir={whole}")
    assert at_once.returncode == 0, at_once.stderr

    ours, theirs = records(parts), records(whole)
    assert [(r["step"], r["split"]) for r in ours] == [
        (1, "train"), (2, "train"), (3, "train"), (3, "val"),
        (4, "train"), (5, "train"), (6, "train"), (6, "val"),
    ]  # fmt: skip
    for a, b in zip(ours, theirs, strict=True):
        a.pop("images_per_second", None), b.pop("images_per_second", None)
        assert a == b
    assert set(ours[0]) == {"step", "epoch", "split", "loss", "top1_error", "top5_error",
                            "images", "learning_rate"}  # fmt: skip
    summaries = [json.loads((w / "summary.json").read_text()) for w in (parts, whole)]
    assert summaries[0]["parameters_sha256"] == summaries[1]["parameters_sha256"]
    assert summaries[0]["steps"] == 6
    assert summaries[0]["validation"]["images"] == 359
    assert {"seconds", "versions", "hardware", "git_commit"} <= set(summaries[0])

    again = run(*common, "--config.steps=6", f"--workdir={parts}")
    assert "Going on from step 6 of 6." in again.stdout
    after = json.loads((parts / "summary.json").read_text())
    assert after["parameters_sha256"] == summaries[0]["parameters_sha256"]

    other = run(*common, f"--workdir={parts}", "--config.data.size=36")
    assert other.returncode == 2
    assert "was made from other training data" in other.stderr
