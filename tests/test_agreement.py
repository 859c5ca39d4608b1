"""The quickstart is the same run on any number of processes and devices, in every layout."""

import functools
import json
import os
import pathlib
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


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """(processes, devices of each) -> the folder with a run in each layout; started when asked."""

    @functools.cache
    def run(processes, devices):
        folder = tmp_path_factory.mktemp(f"{processes}x{devices}")
        program = [sys.executable, "-m", "tests.agreeing", folder]
        done = subprocess.run(
            [ROOT / "launch/local.sh", str(processes), *program],
            cwd=ROOT, env=os.environ | {"JAX_NUM_CPU_DEVICES": str(devices)},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        return folder

    return run


def records(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def parameters(workdir, dtype):
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
        found = checkpoint.parameters_at(workdir / "checkpoints", STEPS[dtype], shapes)
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
    expected, found = parameters(one, dtype), parameters(ours, dtype)
    assert np.linalg.norm(found - expected) <= bound * np.linalg.norm(expected)
    start = STEPS[dtype] > 1  # that ten steps moved them at all
    assert not start or records(one)[0]["loss"] != records(one)[-2]["loss"]
