"""The records of a run: each step once, files whole, durations readable."""

import json

import pytest

from alexnet_jax.training import metrics


def record(step, split="train"):
    return {"step": step, "split": split, "loss": step / 10, "learning_rate": {"weights": 0.1}}


def lines(path):
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


def test_a_resumed_log_holds_each_step_once(tmp_path, capsys):
    with metrics.MetricsLog(tmp_path, 0, writes=True) as log:
        for step in (10, 20, 30):
            log.write(record(step), f"step {step}")
        log.write(record(30, "val"), "validation")
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 40, "spl')  # killed while writing
    with metrics.MetricsLog(tmp_path, 20, writes=True) as log:
        log.write(record(30), "step 30")
    assert [r["step"] for r in lines(tmp_path)] == [10, 20, 30]
    assert capsys.readouterr().out.count("step 30") == 2


def test_tensorboard_gets_the_numbers_under_their_split(tmp_path):
    with metrics.MetricsLog(tmp_path, 0, writes=True) as log:
        log.write(record(10), "")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "tensorboard"), size_guidance={"tensors": 0})
    events.Reload()
    assert set(events.Tags()["tensors"]) == {"train/loss", "train/learning_rate/weights"}
    assert events.Tensors("train/loss")[0].step == 10


def test_other_processes_write_nothing(tmp_path, capsys):
    with metrics.MetricsLog(tmp_path, 0, writes=False) as log:
        log.write(record(10), "step 10")
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0s"), (59.6, "1m00s"), (220, "3m40s"), (18430, "5h07m")]
)
def test_durations(seconds, text):
    assert metrics.duration(seconds) == text


def test_progress_is_said_at_the_end_and_not_for_every_chunk():
    said = []
    progress = metrics.ProgressLine("counting", said.append)
    for done in range(1, 101):
        progress(done, 100)
    assert len(said) == 1
    assert said[0].startswith("counting: 100 of 100 images")
