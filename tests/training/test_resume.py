"""Killed or stopped at any instant, the same command ends where an undisturbed run ends."""

import json
import shutil

import numpy as np
import pytest

from alexnet_jax.data import stream
from alexnet_jax.runtime import json_files
from alexnet_jax.runtime.errors import EXIT_PREEMPTED
from alexnet_jax.training import metric_writers
from tests.parallel.test_lost_processes import Processes
from tests.support.killing import kill_again_and_again
from tests.support.leftovers import differences, left_by


@pytest.mark.slow
def test_a_run_killed_again_and_again_ends_as_an_undisturbed_one(tmp_path):
    """python -m tests.support.killing kills more often, and two processes too."""
    hits, found = kill_again_and_again(tmp_path, times=5, seed=0)
    assert found == []
    assert len(hits) >= 3, "all kills hit the same"


def a_run(workdir):
    """What a short run leaves, without the run."""
    with metric_writers.MetricsLog(workdir, 0, writes=True, warn=print) as log:
        log.write_config("batch: 1", {"batch": 1})
        for step in (10, 20):
            log.write({"step": step, "split": "train", "loss": 1 / step, "images_per_second": 9.0})
            log.write_images(step, {"filters": np.full((4, 4, 3), step, np.uint8)})
    training = {"images_per_second": 8.0, "waiting_for_data": 0.0, "loss": 0.05}
    json_files.write_json(workdir / "summary.json", {"seconds": 1.5, "training": training})


def twice(path):
    with metric_writers.MetricsLog(path, 20, writes=True, warn=print) as log:
        log.write_config("batch: 1", {"batch": 1})
        log.write_images(20, {"filters": np.full((4, 4, 3), 20, np.uint8)})


def damage(path, old, new):
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda path: None, None),
        (twice, "tensorboard train pictures/filters has step 20 2 times"),
        (lambda path: damage(path / "metrics.jsonl", b'0.05', b'0.06'),
         "metrics.jsonl train differs first at step 20: {'split': 'train', 'loss': 0.06} "
         "instead of {'split': 'train', 'loss': 0.05}"),
        (lambda path: damage(path / "summary.json", b"0.05", b"0.5"),
         "summary.json training differs first at step 0: {'loss': 0.5} instead of {'loss': 0.05}"),
        (lambda path: (path / "summary.json.partial").touch(),
         "file summary.json.partial is left over"),
        (lambda path: shutil.rmtree(path / "tensorboard/val"), "file tensorboard/val is missing"),
    ],
)  # fmt: skip
def test_what_a_kill_changes_is_found(tmp_path, change, sentence):
    for name in ("ours", "theirs"):
        (tmp_path / name).mkdir()
        a_run(tmp_path / name)
    change(tmp_path / "ours")
    found = differences(left_by(tmp_path / "ours"), left_by(tmp_path / "theirs"))
    assert (sentence in found) if sentence else found == []


# Every tenth of the 1,438 training images can't be read.
UNREADABLE = """
from alexnet_jax.data import sources
from alexnet_jax.data.images import BadImage
whole = sources.Digits.load
def load(self, ids, into=None):
    if len(self) == 1438 and any(record % 10 == 3 for record in ids):
        raise BadImage("unreadable")
    return whole(self, ids, into)
sources.Digits.load = load
from alexnet_jax.main import main
main()
"""


@pytest.mark.slow
def test_replaced_images_are_counted_over_processes_and_over_a_stop(tmp_path):
    options = ["--config.num_epochs=8.0", "--config.log.every_steps=50",
               "--config.checkpoint.every_epochs=100.0"]  # fmt: skip
    programs = dict.fromkeys(range(2), UNREADABLE)
    with Processes(tmp_path, 2, options, programs) as processes:
        processes.wait_for_training()
        processes.all[0].terminate()
        assert [processes.end(rank) for rank in range(2)] == [EXIT_PREEMPTED] * 2
    with Processes(tmp_path, 2, options, programs) as processes:
        assert [processes.end(rank) for rank in range(2)] == [0] * 2
        assert "Going on from step" in processes.output(0)
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    told = {line["step"]: line["replaced_images"] for line in lines if line["split"] == "train"}
    orders = [
        stream.record_ids(1438, seed=0, step=step, batch_size=64, indices=np.arange(64))
        for step in range(180)
    ]
    bad = [int((order % 10 == 3).sum()) for order in orders]
    assert told == {
        50: sum(bad[:50]), 100: sum(bad[50:100]), 150: sum(bad[100:150]), 180: sum(bad[150:]),
    }  # fmt: skip
