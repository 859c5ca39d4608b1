"""Full and read-only disks for real: small file systems that only the command sees."""

import json
import pathlib
import shutil
import subprocess
import sys

import pytest

from alexnet_jax.runtime.errors import EXIT_USER_ERROR

ROOT = pathlib.Path(__file__).parent.parent.parent
COMMAND = [
    sys.executable, "-m", "alexnet_jax.main", "--config=configs/quickstart.py",
    "--config.num_epochs=4.0", "--config.checkpoint.every_steps=20", "--config.checkpoint.keep=5",
    "--config.evaluate.every_epochs=100.0",
]  # fmt: skip


def alone(script):
    """Run a shell script that may mount what it likes and is seen by nobody else."""
    words = ["unshare", "--map-root-user", "--mount", "bash", "-euc", script]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)


@pytest.fixture(scope="module", autouse=True)
def _can_mount(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mount")
    if not shutil.which("unshare") or alone(f"mount -t tmpfs none {folder}").returncode:
        pytest.skip("This machine lets nobody mount a file system of his own.")


def train(workdir):
    run = subprocess.run(
        [*COMMAND, f"--workdir={workdir}"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return json.loads((workdir / "summary.json").read_text())["parameters_sha256"], run.stdout


def steps_in(workdir):
    return sorted(path.name for path in (workdir / "checkpoints").iterdir())


@pytest.mark.slow
def test_a_full_disk_stops_the_run_and_it_goes_on_where_there_is_room(tmp_path):
    undisturbed, _ = train(tmp_path / "undisturbed")
    small, room = tmp_path / "small", tmp_path / "room"
    small.mkdir()
    run = alone(
        f"mount -t tmpfs -o size=4m none {small}\n"
        f"code=0; {' '.join(COMMAND)} --workdir={small}/run || code=$?\n"
        f"cp -r {small}/run {room}; exit $code"
    )
    assert run.returncode == EXIT_USER_ERROR, run.stdout + run.stderr
    assert run.stderr.count("\n") == 1, run.stderr
    assert run.stderr.startswith(
        f"error: The disk of {small}/run/checkpoints is full: a checkpoint"
    )
    newest = steps_in(room)[-1]
    result, said = train(room)
    assert f"Going on from step {newest} of" in said
    assert result == undisturbed


@pytest.mark.slow
def test_a_read_only_folder_of_checkpoints_stops_the_run(tmp_path):
    folder = tmp_path / "run/checkpoints"
    folder.mkdir(parents=True)
    run = alone(
        f"mount --bind {folder} {folder}; mount -o remount,bind,ro {folder}\n"
        f"exec {' '.join(COMMAND)} --workdir={tmp_path}/run"
    )
    assert run.returncode == EXIT_USER_ERROR, run.stdout + run.stderr
    assert run.stderr.count("\n") == 1, run.stderr
    assert run.stderr.startswith(f"error: Checkpoints can't be written to {folder} (Read-only file")
    assert list(folder.iterdir()) == []


@pytest.mark.slow
def test_a_disk_that_fills_up_while_a_checkpoint_is_written(tmp_path):
    """Here a limit on the size of files, of which there is room enough beforehand."""
    run = subprocess.run(
        ["bash", "-c", f"ulimit -f 500; exec {' '.join(COMMAND)} --workdir={tmp_path}"],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert run.returncode == EXIT_USER_ERROR, run.stdout + run.stderr
    assert run.stderr.count("\n") == 1, run.stderr
    assert run.stderr.startswith(
        f"error: Checkpoints can't be written to {tmp_path}/checkpoints (F"
    )
    assert steps_in(tmp_path) == []
