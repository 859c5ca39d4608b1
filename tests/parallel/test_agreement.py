"""The quickstart is the same run on any number of processes and devices, in every layout."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest

from alexnet_jax.model.networks import NETWORKS
from alexnet_jax.training import checkpoint
from alexnet_jax.training.layouts import LAYOUTS
from tests.support import commands
from tests.support.agreeing import STEPS, WIDTH

ROOT = pathlib.Path(__file__).parent.parent.parent
SHAPES = NETWORKS["quickstart"].with_width(WIDTH).parameter_shapes(10)
# (processes, devices of each). Two devices in one process: training/test_train_step.py.
STARTS = [(1, 1), (2, 2)]

# Where the checkpoint of eight devices goes on: processes, devices of each, layout.
ELSEWHERE = {
    "8 devices": (1, 8, "hybrid"),
    "2 devices": (1, 2, "data"),
    "1x2": (1, 2, "towers"),
    "two processes": (2, 1, "hybrid"),
}


def launch(processes, devices, *words, **environment):
    """Run a command in some processes with some devices each."""
    ours = commands.DOUBLE_PRECISION | {"JAX_NUM_CPU_DEVICES": str(devices)}
    done = subprocess.run(
        [ROOT / "launch/local.sh", str(processes), sys.executable, *words],
        cwd=ROOT, env=os.environ | ours | environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """The folder of the runs on one device, on which towers can't be apart."""
    return started(tmp_path_factory.mktemp("one"), 1, 1)


def started(folder, processes, devices):
    """The folder, with the runs of so many processes with so many devices each."""
    launch(processes, devices, "-m", "tests.support.agreeing", folder)
    return folder


def records(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def parameters(workdir, dtype="float64", steps=10):
    """Every parameter as one vector of float64."""
    one_device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    with jax.enable_x64(True):
        shapes = {
            layer: {
                kind: jax.ShapeDtypeStruct(shape, np.dtype(dtype), sharding=one_device)
                for kind, shape in kinds.items()
            }
            for layer, kinds in SHAPES.items()
        }
        loaded = checkpoint.parameters_at(workdir / "checkpoints", steps, shapes)
        return np.concatenate(
            [np.ravel(leaf).astype(np.float64) for leaf in jax.tree.leaves(loaded)]
        )


# All layouts in one test, since one start runs them all.
@pytest.mark.slow
@pytest.mark.parametrize(("processes", "devices"), STARTS)
def test_quickstart_agrees_with_one_device(one, tmp_path, processes, devices):
    ours = one if processes == devices == 1 else started(tmp_path, processes, devices)
    for layout in ("hybrid",) if ours == one else LAYOUTS:
        for dtype in STEPS:
            assert_agree(ours / f"{layout}-{dtype}", one / f"data-{dtype}", dtype)


def assert_agree(run, expected, dtype):
    """That two runs have the same records, and up to rounding the same losses and parameters."""
    bound = {"float64": 1e-11, "float32": 1e-6}[dtype]
    for a, b in zip(records(run), records(expected), strict=True):
        assert (a["step"], a["split"], a["images"]) == (b["step"], b["split"], b["images"])
        assert dtype == "float32" or a.get("learning_rate") == b.get("learning_rate")
        np.testing.assert_allclose(a["loss"], b["loss"], rtol=bound)
        if dtype == "float64" or a["split"] == "train":  # else a near tie of two classes may flip
            assert (a["top1_error"], a["top5_error"]) == (b["top1_error"], b["top5_error"])
    assert records(run)[-1]["images"] == 359
    actual, reference = (parameters(folder, dtype, STEPS[dtype]) for folder in (run, expected))
    assert np.linalg.norm(actual - reference) <= bound * np.linalg.norm(reference), run
    if STEPS[dtype] > 1:
        last = records(expected)[-2]
        assert records(expected)[0]["loss"] != last["loss"], "ten steps moved nothing"
        assert last["learning_rate"]["weights"] < 0.005, "the plateau rule had nothing to do"
        assert list((run / "tensorboard").rglob("events*"))


@pytest.mark.slow
def test_a_checkpoint_of_eight_devices_goes_on_elsewhere(tmp_path):
    """Five steps on 8 devices, and five more in each way of ELSEWHERE, the first of which is 8."""

    def go_on(folder, processes, devices, layout, steps):
        launch(
            processes, devices, "-m", "alexnet_jax.main", "--config=configs/quickstart.py:smoke",
            f"--workdir={folder}", f"--config.num_steps={steps}",
            f"--config.parallel.layout={layout}", f"--config.model.width={WIDTH}",
            "--config.model.param_dtype=float64", "--config.model.dtype=float64",
            JAX_ENABLE_X64="1",
        )  # fmt: skip
        return folder

    start = go_on(tmp_path / "start", 1, 8, "data", 5)
    first, *others = (
        go_on(shutil.copytree(start, tmp_path / where), *mesh, 10)
        for where, mesh in ELSEWHERE.items()
    )
    expected = parameters(first)
    moved = np.linalg.norm(expected - parameters(start, steps=5))
    assert moved > 1e-5 * np.linalg.norm(expected)
    for other in others:
        actual = parameters(other)
        assert np.linalg.norm(actual - expected) <= 1e-11 * np.linalg.norm(expected), other
        for ours, theirs in zip(records(other), records(first), strict=True):
            assert (ours["step"], ours["images"]) == (theirs["step"], theirs["images"])
            assert ours["top1_error"] == theirs["top1_error"]
            np.testing.assert_allclose(ours["loss"], theirs["loss"], rtol=1e-11)
