"""The quickstart is the same run on any number of processes and devices, in every layout."""

import functools
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
from tests.agreeing import STEPS

ROOT = pathlib.Path(__file__).parent.parent
SHAPES = NETWORKS["quickstart"].parameter_shapes(10)
CASES = [
    (processes, devices, layout)
    for processes in (1, 2, 4)
    for devices in (1, 2)
    for layout in ("data", "towers", "hybrid")
    if (processes, devices, layout) not in [(1, 1, "data"), (1, 1, "towers")]
]


# Where the checkpoint of eight devices goes on: processes, devices of each, layout.
ELSEWHERE = {
    "8 devices": (1, 8, "hybrid"),
    "2 devices": (1, 2, "data"),
    "1x2": (1, 2, "towers"),
    "two processes": (2, 1, "hybrid"),
}


def launch(processes, devices, *words, **environment):
    """Run a command in some processes with some devices each."""
    done = subprocess.run(
        [ROOT / "launch/local.sh", str(processes), sys.executable, *words],
        cwd=ROOT, env=os.environ | {"JAX_NUM_CPU_DEVICES": str(devices)} | environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """(processes, devices of each) -> the folder with a run in each layout; started when asked."""

    @functools.cache
    def run(processes, devices):
        folder = tmp_path_factory.mktemp(f"{processes}x{devices}")
        launch(processes, devices, "-m", "tests.agreeing", folder)
        return folder

    return run


def records(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def parameters(workdir, dtype="float64", steps=10):
    """Every parameter as one vector of float64."""
    own = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    with jax.enable_x64(True):
        shapes = {
            layer: {
                kind: jax.ShapeDtypeStruct(shape, np.dtype(dtype), sharding=own)
                for kind, shape in kinds.items()
            }
            for layer, kinds in SHAPES.items()
        }
        found = checkpoint.parameters_at(workdir / "checkpoints", steps, shapes)
        return np.concatenate(
            [np.ravel(leaf).astype(np.float64) for leaf in jax.tree.leaves(found)]
        )


@pytest.mark.slow
@pytest.mark.parametrize("dtype", STEPS)
@pytest.mark.parametrize(("processes", "devices", "layout"), CASES)
def test_quickstart_agrees_with_one_device(runs, processes, devices, layout, dtype):
    one = runs(1, 1) / f"data-{dtype}"
    ours = runs(processes, devices) / f"{layout}-{dtype}"
    bound = {"float64": 1e-11, "float32": 1e-6}[dtype]
    for a, b in zip(records(ours), records(one), strict=True):
        assert (a["step"], a["split"], a["images"]) == (b["step"], b["split"], b["images"])
        np.testing.assert_allclose(a["loss"], b["loss"], rtol=bound)
        if dtype == "float64" or a["split"] == "train":  # else a near tie of two classes may flip
            assert (a["top1_error"], a["top5_error"]) == (b["top1_error"], b["top5_error"])
    assert records(ours)[-1]["images"] == 359
    expected, found = (parameters(run, dtype, STEPS[dtype]) for run in (one, ours))
    assert np.linalg.norm(found - expected) <= bound * np.linalg.norm(expected)
    start = STEPS[dtype] > 1  # that ten steps moved them at all
    assert not start or records(one)[0]["loss"] != records(one)[-2]["loss"]


@pytest.fixture(scope="module")
def gone_on(tmp_path_factory):
    """{where: folder} of a run of five steps on 8 devices, and five more on each of ELSEWHERE."""

    def go_on(folder, processes, devices, layout, steps):
        launch(
            processes, devices, "-m", "alexnet_jax.main", "--config=configs/quickstart.py:smoke",
            f"--workdir={folder}", f"--config.steps={steps}", f"--config.parallel.layout={layout}",
            "--config.model.dtype=float64", "--config.model.compute_dtype=float64",
            JAX_ENABLE_X64="1",
        )  # fmt: skip

    root = tmp_path_factory.mktemp("gone-on")
    go_on(root / "start", 1, 8, "data", 5)
    for where, mesh in ELSEWHERE.items():
        shutil.copytree(root / "start", root / where)
        go_on(root / where, *mesh, 10)
    return root


@pytest.mark.slow
@pytest.mark.parametrize("where", list(ELSEWHERE)[1:])
def test_a_checkpoint_of_eight_devices_goes_on_elsewhere(gone_on, where):
    expected, found = parameters(gone_on / "8 devices"), parameters(gone_on / where)
    assert np.linalg.norm(found - expected) <= 1e-11 * np.linalg.norm(expected)
    moved = np.linalg.norm(expected - parameters(gone_on / "start", steps=5))
    assert moved > 1e-5 * np.linalg.norm(expected)
    for ours, theirs in zip(records(gone_on / where), records(gone_on / "8 devices"), strict=True):
        assert (ours["step"], ours["images"]) == (theirs["step"], theirs["images"])
        assert ours["top1_error"] == theirs["top1_error"]
        np.testing.assert_allclose(ours["loss"], theirs["loss"], rtol=1e-11)
