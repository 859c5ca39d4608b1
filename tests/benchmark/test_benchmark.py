"""The benchmark of the input: every contestant runs on true records, and the table adds up."""

import json
import pathlib
import subprocess
import sys

import pytest

from alexnet_jax.benchmark import host_input
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.runtime.terminal import Terminal
from tests.support import layouts
from tests.support.preparing import make

ROOT = pathlib.Path(__file__).parent.parent.parent
SILENT = Terminal(speaks=False)


@pytest.fixture(scope="module")
def sets(data, tmp_path_factory):
    """The same small set as JPEG and as raw pixels."""
    root = tmp_path_factory.mktemp("sets")
    source = layouts.folder(root / "files", data)
    for name in ("jpeg", "raw"):
        make(source, root / name, format=name)
    return root / "jpeg", root / "raw"


def measure(folders, turns):
    return host_input.measure_input(
        folders, batch_size=4, num_workers=1, seconds=0.02, turns=turns, terminal=SILENT
    )


def test_contestants_take_turns(sets, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    found = measure(list(sets), turns=3)
    jpeg, raw = (found["images_per_second"][str(folder)] for folder in sets)
    assert list(jpeg) == ["stream, JPEG", "bare libjpeg-turbo, 1 threads", "copy in memory, 1 threads"]  # noqa: E501  # fmt: skip
    assert list(raw) == ["stream, raw", "copy in memory, 1 threads"]
    for speeds in (*jpeg.values(), *raw.values()):
        assert len(speeds) == 3
        assert min(speeds) > 0
    assert jpeg["copy in memory, 1 threads"][0] > jpeg["bare libjpeg-turbo, 1 threads"][0]


def test_the_table_has_medians_and_ratios_within_a_turn():
    speeds = {"stream": [10.0, 20.0, 30.0], "other": [20.0, 80.0, 30.0]}
    found = {"batch": 4, "workers": 2, "images_per_second": {"set": speeds}}
    lines = [line.split() for line in host_input.input_table(found).splitlines()[2:]]
    assert lines == [["stream", "20", "10", "30", "1.00"], ["other", "30", "20", "80", "0.50"]]


def test_a_folder_that_is_no_prepared_set_is_refused(tmp_path):
    with pytest.raises(UserError, match="is no prepared set: name one with --path=DIR"):
        measure([tmp_path], turns=1)


@pytest.mark.slow
def test_the_command_measures_data_loaders_too(sets, tmp_path):
    pytest.importorskip("torch", reason="PyTorch is not installed: its DataLoader is not measured")
    words = ["input", f"--path={sets[0]},{sets[1]}", "--batch_size=4", "--seconds=0.1", "--turns=1"]
    file = tmp_path / "found.json"
    done = subprocess.run(
        [sys.executable, "-m", "alexnet_jax", "benchmark", *words, f"--json={file}"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    contestants = json.loads(file.read_text())["images_per_second"][str(sets[0])]
    assert sum("DataLoader" in name for name in contestants) == 2
    assert "DataLoader, Pillow" in done.stdout
