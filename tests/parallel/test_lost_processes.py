"""A run of real processes ends everywhere when one is killed, stopped or fails, and says which."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from alexnet_jax.runtime.errors import EXIT_PEER_LOST, EXIT_PREEMPTED
from tests.support.launchers import free_ports

ROOT = pathlib.Path(__file__).parent.parent.parent
WITHIN = 120  # seconds in which every process has to end by itself
OPTIONS = [
    "--config=configs/quickstart.py", "--config.model.width=0.25",
    "--config.checkpoint.every_steps=20",
    "--config.log.every_steps=10", "--config.evaluate.every_epochs=20.0",
]  # fmt: skip
# TensorFlow and clu, which write for TensorBoard alone, take several seconds to import.
WITHOUT_TENSORFLOW = """
import sys
sys.modules.update(tensorflow=None, clu=None)
"""
MAIN = """
from alexnet_jax.main import main
main()
"""
# A process that is silent is lost after 20 seconds, not after 60.
IMPATIENT = """
import functools
from alexnet_jax.parallel import processes
processes.Peers = functools.partial(processes.Peers, silence_seconds=20)
"""
# Process 1 alone fails, in the midst of training.
FAILING = (
    """
from alexnet_jax.data import stream
whole = stream.record_ids
def record_ids(num_records, *, step, **rest):
    if step == 30:
        raise ValueError("no such record")
    return whole(num_records, step=step, **rest)
stream.record_ids = record_ids
"""
    + MAIN
)


class Processes:
    """`count` processes of one run, without a launcher; their output lies in files.

    `programs` has what some of them run, by rank, in place of alexnet_jax.main.
    """

    def __init__(self, folder, count, options=(), programs=None):
        self.folder, self.workdir, address = folder, folder / "run", f"127.0.0.1:{free_ports()}"
        programs = programs or {}
        self.all = []
        for rank in range(count):
            program = WITHOUT_TENSORFLOW + programs.get(rank, MAIN)
            command = [sys.executable, "-c", program, *OPTIONS, *options]
            command.append(f"--workdir={self.workdir}")
            variables = {"COORDINATOR_ADDRESS": address, "NUM_PROCESSES": str(count),
                   "PROCESS_ID": str(rank), "JAX_NUM_CPU_DEVICES": "1"}  # fmt: skip
            with (folder / f"{rank}").open("w") as file:
                self.all.append(
                    subprocess.Popen(
                        command, cwd=ROOT, env=os.environ | variables, stdout=file, stderr=file
                    )
                )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.all:
            process.kill()
            process.wait()

    def wait_for_training(self):
        metrics = self.workdir / "metrics.jsonl"
        while not (metrics.exists() and metrics.read_text().count("\n")):
            assert self.all[0].poll() is None, self.output(0)
            time.sleep(0.1)

    def output(self, rank):
        return (self.folder / f"{rank}").read_text()

    def end(self, rank):
        """Its exit code; fails if it is still there after WITHIN seconds."""
        return self.all[rank].wait(timeout=WITHIN)


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_killed_or_stopped_process_ends_the_other(tmp_path, number, lost):
    with Processes(tmp_path, 2, programs=dict.fromkeys(range(2), IMPATIENT + MAIN)) as processes:
        processes.wait_for_training()
        processes.all[lost].send_signal(number)
        code, output = processes.end(1 - lost), processes.output(1 - lost)
    if number == signal.SIGKILL and lost == 0 and code == -signal.SIGABRT:
        # jax's runtime may be the first to see this; then only a launcher can name the process.
        assert "leader task" in output
        return
    assert code == EXIT_PEER_LOST, output
    assert f"error: Process {lost} of 2" in output
    reason = {signal.SIGKILL: "was lost: ", signal.SIGSTOP: "was lost: it has been silent"}[number]
    assert reason in output
    assert "the same command goes on from the last checkpoint" in output


@pytest.mark.slow
def test_an_exception_in_one_process_ends_all_and_is_told(tmp_path):
    options = ["--config.batch_size=48"]
    with Processes(tmp_path, 3, options, programs={1: FAILING}) as processes:
        assert processes.end(1) == 1
        assert "ValueError" in processes.output(1)
        assert "Traceback" in processes.output(1)
        for rank in (0, 2):
            assert processes.end(rank) == EXIT_PEER_LOST
            assert "error: Process 1 of 3" in processes.output(rank)
            assert "it failed: " in processes.output(rank)
            assert "no such record" in processes.output(rank)


@pytest.mark.slow
def test_the_launcher_names_a_killed_coordinator(tmp_path):
    command = [ROOT / "launch/local.sh", "2", sys.executable, "-m", "alexnet_jax.main", *OPTIONS]
    command.append(f"--workdir={tmp_path}")
    with subprocess.Popen(
        command, cwd=ROOT, env=os.environ | {"JAX_NUM_CPU_DEVICES": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as launcher:  # fmt: skip
        for line in launcher.stdout:
            if "step 20" in line:
                break
        kill_rank(launcher.pid, 0)
        output = launcher.communicate(timeout=WITHIN)[0]
    assert launcher.returncode != 0
    assert "local.sh: process 0 was killed by signal 9" in output


def kill_rank(launcher, rank):
    """SIGKILL to the child of a launcher that has this PROCESS_ID."""
    for path in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            variables = (path / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if parent == launcher and f"PROCESS_ID={rank}".encode() in variables:
            os.kill(int(path.name), signal.SIGKILL)
            return
    raise AssertionError("there is no such process")


@pytest.mark.slow
def test_sigterm_saves_and_the_same_command_ends_as_an_undisturbed_run(tmp_path):
    """Two processes; training/test_resume.py stops one."""
    results = {}
    for name in ("undisturbed", "stopped"):
        folder = tmp_path / name
        folder.mkdir()
        options = ["--config.num_epochs=8.0", "--config.checkpoint.every_steps=1000"]
        if name == "stopped":
            with Processes(folder, 2, options) as processes:
                processes.wait_for_training()
                processes.all[-1].terminate()
                assert [processes.end(rank) for rank in range(2)] == [EXIT_PREEMPTED] * 2
                assert "Stopped by SIGTERM after step" in processes.output(0)
            assert len(list((folder / "run/checkpoints").glob("[0-9]*"))) == 1
        with Processes(folder, 2, options) as processes:
            assert [processes.end(rank) for rank in range(2)] == [0] * 2
            assert ("Going on from step" in processes.output(0)) == (name == "stopped")
        results[name] = json.loads((folder / "run/summary.json").read_text())
    stopped, undisturbed = results["stopped"], results["undisturbed"]
    assert stopped["parameters_sha256"] == undisturbed["parameters_sha256"]
    assert stopped["validation"] == undisturbed["validation"]
