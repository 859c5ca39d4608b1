"""The notebook, run from its first cell to its last."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parent.parent.parent
NOTEBOOK = ROOT / "docs/alexnet.ipynb"


@pytest.mark.slow
def test_the_notebook_runs_and_its_network_learns(tmp_path, monkeypatch):
    why = "is not installed: tests/requirements-peers.txt"
    nbclient = pytest.importorskip("nbclient", reason=f"nbclient {why}")
    nbformat = pytest.importorskip("nbformat", reason=f"nbformat {why}")
    pytest.importorskip("ipykernel", reason=f"ipykernel {why}")
    for name in ("XLA_FLAGS", "JAX_NUM_CPU_DEVICES"):  # it trains for long: as users run it
        monkeypatch.delenv(name)
    for name in ("alexnet_jax", "configs"):
        (tmp_path / name).symlink_to(ROOT / name)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    resources = {"metadata": {"path": tmp_path}}
    nbclient.NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources=resources
    ).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    printed = "".join(output["text"] for output in outputs if "text" in output)
    wrong = re.search(r"center: (\d+) of 359 wrong", printed)
    assert int(wrong[1]) <= 11  # 97% right, which the quickstart promises
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 7
    assert (tmp_path / "runs/notebook/summary.json").exists()
