"""SIGTERM and Ctrl-C: signals for real, to this process and to commands."""

import contextlib
import gc
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from alexnet_jax.data import stream
from alexnet_jax.parallel.preemption import PreemptionGuard, raise_on_signal
from alexnet_jax.runtime.errors import EXIT_PREEMPTED, Stopped
from alexnet_jax.training.loop import train_and_evaluate
from tests.training.test_loop import load, records

ROOT = pathlib.Path(__file__).parent.parent.parent
KINDS = pytest.mark.parametrize(
    ("number", "name", "code"),
    [(signal.SIGTERM, "SIGTERM", EXIT_PREEMPTED), (signal.SIGINT, "Ctrl-C", 0)],
)


@KINDS
def test_a_signal_is_noted_and_a_second_one_ends_at_once(number, name, code, capfd):
    before = signal.getsignal(number)
    with PreemptionGuard() as notice:
        assert not notice.reached()
        os.kill(os.getpid(), number)
        assert notice.reached()
        assert signal.getsignal(number) == signal.SIG_DFL
        stop = notice.stopped("after step 7")
    assert signal.getsignal(number) == before
    assert (str(stop), stop.code) == (
        f"Stopped by {name} after step 7: the same command goes on.",
        code,
    )
    assert ("once more leaves at once" in capfd.readouterr().err) == (number == signal.SIGINT)


@KINDS
def test_before_the_first_step_a_signal_ends_at_once(number, name, code):
    before = signal.getsignal(number)
    said = f"Stopped by {name} before a step was taken"
    with pytest.raises(Stopped, match=said) as caught, raise_on_signal():
        os.kill(os.getpid(), number)
    assert caught.value.code == code
    assert signal.getsignal(number) == before


@KINDS
def test_a_signal_that_a_callback_swallows_comes_again(number, name, code):
    def work():
        with contextlib.suppress(Stopped):
            os.kill(os.getpid(), number)
        time.sleep(60)

    with pytest.raises(Stopped, match=f"Stopped by {name} before") as caught, raise_on_signal():
        work()
    assert caught.value.code == code


@KINDS
def test_what_a_callback_of_python_drops_is_not_printed(number, name, code, monkeypatch):
    def callback(phase, _):
        if phase == "start":
            gc.callbacks.remove(callback)
            os.kill(os.getpid(), number)
            time.sleep(0.1)  # so that it is raised here

    def work():
        gc.collect()
        time.sleep(60)

    printed = []
    monkeypatch.setattr(sys, "unraisablehook", printed.append)
    gc.callbacks.append(callback)
    with pytest.raises(Stopped, match=f"Stopped by {name} before") as caught, raise_on_signal():
        work()
    assert caught.value.code == code
    assert not printed


class Signals:
    """Sends `number` when batch `batch` of evaluation `evaluation` is asked for."""

    def __init__(self, number, evaluation, batch):
        self.number, self.evaluation, self.batch = number, evaluation, batch
        self.evaluations, self.whole = 0, stream.evaluation_batches

    def __call__(self, *arguments, **options):
        self.evaluations += 1
        for index, host in enumerate(self.whole(*arguments, **options)):
            if (self.evaluations, index) == (self.evaluation, self.batch):
                os.kill(os.getpid(), self.number)
            yield host


def small_run(**changed):
    config = load("lenet5", "smoke")
    config.num_steps = 4
    config.data.source = "synthetic"
    config.data.records = 32  # four batches to evaluate
    config.evaluate.every_steps = 2
    config.checkpoint.keep = 1
    config.update_from_flattened_dict(changed)
    return config


def without_times(lines):
    return [{k: v for k, v in r.items() if k not in ("images_per_second", "waiting_for_data")}
            for r in lines]  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("undisturbed")
    return train_and_evaluate(small_run(), workdir), without_times(records(workdir))


@pytest.mark.parametrize("evaluation", [1, 2])
def test_an_evaluation_is_broken_off_and_made_up_for(
    tmp_path, monkeypatch, undisturbed, evaluation
):
    """Also that of the last step; the checkpoint is then saved again, with what was found."""
    step = 2 * evaluation
    with monkeypatch.context() as patch:
        signals = Signals(signal.SIGTERM, evaluation, 1)
        patch.setattr(stream, "evaluation_batches", signals)
        with pytest.raises(Stopped, match=f"while step {step} of 4 was evaluated, which is saved"):
            train_and_evaluate(small_run(), tmp_path)
    assert max(path.name for path in (tmp_path / "checkpoints").iterdir()) == str(step)
    assert without_times(records(tmp_path))[-1]["split"] == "train"
    result, lines = train_and_evaluate(small_run(), tmp_path), without_times(records(tmp_path))
    assert result["parameters_sha256"] == undisturbed[0]["parameters_sha256"]
    assert result["best"] == undisturbed[0]["best"]
    assert lines == undisturbed[1]
    kept = {path.name: path for path in (tmp_path / "checkpoints").iterdir()}
    assert set(kept) == {"4", str(result["best"]["step"])}
    for path in kept.values():
        assert not json.loads((path / "facts/facts.json").read_text())["progress"]["unevaluated"]


def start(workdir, *options):
    command = [
        sys.executable, "-m", "alexnet_jax.main", f"--workdir={workdir}",
        "--config.num_epochs=60.0", "--config.log.every_steps=10", *options,
    ]  # fmt: skip
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def wait_for(process, text):
    for line in process.stdout:
        if text in line:
            return
    raise AssertionError(f"the command ended without '{text}'")


@pytest.mark.slow
@KINDS
def test_a_command_that_is_asked_to_end_while_it_compiles_leaves_nothing(
    tmp_path, number, name, code
):
    with start(tmp_path / "run") as process:
        wait_for(process, "training and")
        process.send_signal(number)
        said = process.stdout.read()
    assert process.returncode == code, said
    assert f"Stopped by {name} before a step was taken" in said
    assert "Traceback" not in said
    assert not list((tmp_path / "run").rglob("checkpoints/*"))


@pytest.mark.slow
def test_ctrl_c_saves_and_ends_well_and_twice_ends_at_once(tmp_path):
    with start(tmp_path) as process:
        wait_for(process, "step 10/")
        process.send_signal(signal.SIGINT)
        said = process.stdout.read()
    assert process.returncode == 0, said
    assert "Stopped by Ctrl-C after step" in said
    step = max(int(path.name) for path in (tmp_path / "checkpoints").iterdir())
    # All views of a large split take long: there the second one comes.
    options = ("--config.evaluate.every_steps=1", "--config.evaluate.views=all")
    with start(tmp_path, *options) as process:
        wait_for(process, f"Going on from step {step}")
        process.send_signal(signal.SIGINT)
        wait_for(process, "once more leaves at once")
        process.send_signal(signal.SIGINT)
        said = process.stdout.read()
    assert process.returncode == -signal.SIGINT, said
    assert "Stopped by" not in said


@pytest.mark.slow
def test_ctrl_c_to_one_of_two_processes_ends_both_well(tmp_path):
    from tests.parallel.test_lost_processes import Processes

    with Processes(tmp_path, 2, ["--config.num_epochs=60.0"]) as processes:
        processes.wait_for_training()
        processes.all[1].send_signal(signal.SIGINT)
        assert [processes.end(rank) for rank in (0, 1)] == [0, 0], processes.output(0)
        for rank in (0, 1):
            assert "Stopped by Ctrl-C after step" in processes.output(rank)


@pytest.mark.slow
def test_sigterm_to_one_of_two_processes_breaks_off_the_evaluation_of_both(tmp_path):
    from tests.parallel.test_lost_processes import Processes

    options = ["--config.num_epochs=60.0", "--config.evaluate.every_steps=30",
               "--config.batch_size=4", "--config.evaluate.views=all"]  # fmt: skip
    with Processes(tmp_path, 2, options, programs={1: SIGNALLING}) as processes:
        assert [processes.end(rank) for rank in (0, 1)] == [EXIT_PREEMPTED] * 2
        for rank in (0, 1):
            assert "Stopped by SIGTERM while step 30 of" in processes.output(rank)
    assert (tmp_path / "run/checkpoints/30").is_dir()


# Process 1 gets the signal when it reads the third batch of an evaluation.
SIGNALLING = """
import signal
from alexnet_jax.data import stream
from tests.parallel.test_preemption import Signals
stream.evaluation_batches = Signals(signal.SIGTERM, 1, 2)
from alexnet_jax.main import main
main()
"""
