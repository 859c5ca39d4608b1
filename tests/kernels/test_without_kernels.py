"""The network trains in plain operations where the room of the kernels is missing."""

import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parent.parent.parent

# As if the folder were not there: neither the package nor a module of it can be imported.
# TensorFlow and clu are missing too, since their import would take as long as the rest.
PROGRAM = """
import runpy, sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.startswith("alexnet_jax.kernels"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
sys.modules.update(tensorflow=None, clu=None)
try:
    import alexnet_jax.kernels
except ModuleNotFoundError:
    print("the kernels are hidden")
sys.argv[0] = "main.py"
runpy.run_module("alexnet_jax.main", run_name="__main__", alter_sys=False)
"""


def test_the_reference_trains_without_kernels_and_without_tensorflow(tmp_path):
    command = [
        sys.executable, "-c", PROGRAM, "--config=configs/quickstart.py:smoke",
        "--config.kernels=reference", f"--workdir={tmp_path / 'run'}",
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"JAX_NUM_CPU_DEVICES": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert len(summary["parameters_sha256"]) == 64
    assert "the kernels are hidden" in done.stdout
