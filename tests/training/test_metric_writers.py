"""The records of a run: each step once in every file, files whole, no failure stops a run."""

import json
import sys

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

from alexnet_jax.runtime import json_files
from alexnet_jax.training import metric_writers


def record(step, split="train"):
    return {"step": step, "split": split, "loss": step / 10, "learning_rate": {"weights": 0.1}}


def lines(path):
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


def open_log(path, first_step, writes=True, said=None):
    return metric_writers.MetricsLog(
        path, first_step, writes, [].append if said is None else said.append
    )


def events(path, split):
    """All events as they stand in the files; purging would hide what was written twice."""
    found = EventAccumulator(
        str(path / "tensorboard" / split),
        size_guidance={"tensors": 0},
        purge_orphaned_data=False,
    )
    return found.Reload()


def steps_of(found, tag):
    # Logs of one process in one second have files whose names may not sort as they were made.
    return [event.step for event in sorted(found.Tensors(tag), key=lambda one: one.wall_time)]


def test_without_clu_the_numbers_are_written_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "clu.metric_writers", None)
    said = []
    with open_log(tmp_path, 0, said=said) as log:
        log.write_config("batch: 1", {"batch": 1})
        log.write(record(10))
        log.write_images(10, {"filters": np.zeros((4, 4, 3), np.uint8)})
    assert [r["step"] for r in lines(tmp_path)] == [10]
    assert said == [
        "warning: nothing is written for TensorBoard, since there is no module clu.metric_writers; "
        "metrics.jsonl has all numbers."
    ]


def test_a_resumed_log_holds_each_step_once(tmp_path):
    picture = np.zeros((4, 4, 3), np.uint8)
    with open_log(tmp_path, 0) as log:
        log.write_config("batch: 1", {"batch": 1})
        for step in (10, 20, 30):
            log.write(record(step))
            log.write_images(step, {"filters": picture})
        log.write(record(30, "val"))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 40, "spl')  # killed while writing
    for path in (tmp_path / "tensorboard/train").iterdir():
        path.write_bytes(path.read_bytes()[:-7])  # here too
    for _ in range(2):
        with open_log(tmp_path, 20) as log:
            log.write_config("batch: 2", {"batch": 2})
            log.write(record(30))
    assert [r["step"] for r in lines(tmp_path)] == [10, 20, 30]
    train = events(tmp_path, "train")
    assert steps_of(train, "loss and error/loss") == [10, 20, 30]
    assert steps_of(train, "pictures/filters") == [10, 20]
    assert steps_of(events(tmp_path, "."), "config") == [0]
    assert events(tmp_path, "val").Tags()["tensors"] == []


def test_a_run_without_a_checkpoint_starts_its_files_anew(tmp_path):
    for _ in range(2):
        with open_log(tmp_path, 0) as log:
            log.write(record(10))
    assert [r["step"] for r in lines(tmp_path)] == [10]
    assert steps_of(events(tmp_path, "train"), "loss and error/loss") == [10]


def test_both_splits_share_their_tags_and_texts_are_there(tmp_path):
    with open_log(tmp_path, 0) as log:
        log.write_config("batch: 1", {"batch": 1, "network": "net145"})
        log.write(record(10))
        log.write(record(10, "val"))
        log.write_histograms(10, {"conv1/kernel": np.arange(12.0)})
    train = events(tmp_path, "train")
    assert set(train.Tags()["tensors"]) == {
        "loss and error/loss", "optimizer/learning_rate/weights", "weights/conv1/kernel",
    }  # fmt: skip
    whole = events(tmp_path, ".")
    assert set(whole.Tags()["tensors"]) == {"config", "_hparams_/session_start_info"}
    assert b"batch: 1" in whole.Tensors("config")[0].tensor_proto.string_val[0]
    assert "loss and error/loss" in events(tmp_path, "val").Tags()["tensors"]


def test_other_processes_write_nothing(tmp_path):
    with open_log(tmp_path, 0, writes=False) as log:
        log.write_config("", {})
        log.write(record(10))
        log.write_images(10, {"filters": np.zeros((4, 4, 3), np.uint8)})
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_is_said_once_and_the_run_goes_on(tmp_path):
    said = []
    (tmp_path / "tensorboard").write_text("in the way of the folder")
    (tmp_path / "metrics.jsonl").mkdir()
    with open_log(tmp_path, 0, said=said) as log:
        log.write(record(10))
        log.write(record(20))
    assert len(said) == 1
    assert said[0].startswith("warning: metrics can't be written")


def test_a_line_cut_by_a_full_disk_does_not_spoil_the_next(tmp_path, monkeypatch):
    said = []
    with open_log(tmp_path, 0, said=said) as log:
        log.write(record(10))
        with monkeypatch.context() as patch:
            patch.setattr(log, "_path", FullDisk(tmp_path / "metrics.jsonl"))
            log.write(record(20))
        log.write(record(30))
    assert len(said) == 1
    text = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(text[0])["step"] == 10
    assert json.loads(text[2])["step"] == 30


class FullDisk:
    """A path whose file takes ten letters and then refuses."""

    def __init__(self, path):
        self.path = path

    def open(self, mode):
        self.file = self.path.open(mode)
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def write(self, text):
        self.file.write(text[:10])
        raise OSError(28, "No space left on device")


def test_what_is_not_finite_is_null_in_json_and_shown_as_it_is_in_tensorboard(tmp_path):
    with open_log(tmp_path, 0) as log:
        log.write(record(10) | {"loss": np.nan, "learning_rate": {"weights": np.inf}, "images": 1})
    assert lines(tmp_path) == [record(10) | {"loss": None, "learning_rate": {"weights": None},
                                             "images": 1}]  # fmt: skip
    json_files.write_json(tmp_path / "some.json", {"all": [(1.5, -np.inf), None, "NaN"]})
    assert json.loads((tmp_path / "some.json").read_text()) == {"all": [[1.5, None], None, "NaN"]}
    [loss] = events(tmp_path, "train").Tensors("loss and error/loss")
    assert np.isnan(make_ndarray(loss.tensor_proto))


def test_json_appears_whole(tmp_path):
    json_files.write_json(tmp_path / "summary.json", {"a": 1})
    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"]
    with pytest.raises(TypeError):
        json_files.write_json(tmp_path / "summary.json", {"a": object()})
    assert json.loads((tmp_path / "summary.json").read_text()) == {"a": 1}
