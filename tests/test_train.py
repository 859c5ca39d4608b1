"""Every config takes its steps, in this process, from end to end."""

import json

import numpy as np
import pytest

from alexnet_jax.train import train_and_evaluate
from tests.test_config import NAMES, load

CASES = [(name, "smoke") for name in NAMES] + [
    ("imagenet", "paper,smoke"),
    ("imagenet", "2013,smoke"),
    ("cifar10", "short,smoke"),
    ("lenet5", "relu,smoke"),
]


@pytest.mark.parametrize(("name", "argument"), CASES)
def test_every_config_takes_a_step(tmp_path, name, argument):
    config = load(name, argument)
    config.steps = 1
    if config.data.size == 256:
        config.model.width = 1 / 16
    result = train_and_evaluate(config, tmp_path)
    assert result["steps"] == 1
    assert result["validation"]["images"] in (16, 359)
    assert json.loads((tmp_path / "summary.json").read_text()) == result


@pytest.mark.parametrize(
    "change",
    [
        {"parallel.model": 2},
        {"model.towers": 1},
        {"model.compute_dtype": "bfloat16"},
        {"data.mean": "channel"},
        {"data.units": "min_max", "data.mean": "none", "data.scale": 1.0},
        {"data.units": "standardise", "data.mean": "channel", "data.scale": 1.0},
        {"model.activation": "tanh", "model.dropout_scales": "training", "data.mean_at": "crop"},
        {"data.shared_by": 32, "evaluate.views": "ten"},
        {"data.colour_noise_steps": 1, "steps": 2},
        {"evaluate.every_epochs": None, "checkpoint.every_epochs": None},
    ],
)
def test_every_choice_takes_a_step(tmp_path, change):
    config = load("quickstart", "smoke")
    config.steps = 1
    config.update_from_flattened_dict(change)
    assert train_and_evaluate(config, tmp_path)["steps"] >= 1


def records(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_the_plateau_rule_lowers_all_rates_and_goes_on_after_a_restart(tmp_path):
    """With next to no rate nothing improves: each evaluation after the first one divides."""

    def train(name, steps):
        config = load("lenet5", "smoke")
        config.steps = steps
        config.evaluate.every_steps = 2
        config.optimizer.schedule = "plateau"
        config.optimizer.plateau.patience = 1
        config.optimizer.weights = ((0, 1e-9),)
        config.optimizer.biases = ((0, 2e-9),)
        return train_and_evaluate(config, tmp_path / name)

    whole = train("whole", 14)
    rates = [r["learning_rate"] for r in records(tmp_path / "whole") if r["split"] == "train"]
    drops = [0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 3, 3, 3, 3]
    np.testing.assert_allclose([r["weights"] for r in rates], [1e-9 / 10**d for d in drops])
    np.testing.assert_allclose([r["biases"] for r in rates], [2e-9 / 10**d for d in drops])
    train("parts", 6)
    parts = train("parts", 14)
    assert parts["parameters_sha256"] == whole["parameters_sha256"]
    for ours, theirs in zip(records(tmp_path / "parts"), records(tmp_path / "whole"), strict=True):
        assert ours.get("learning_rate") == theirs.get("learning_rate")


def test_a_run_ends_well_where_nothing_can_be_written_down(tmp_path, capsys):
    """Folders and files of the same names are in the way; checkpoints alone have to work."""
    for name in ("metrics.jsonl", "summary.json"):
        (tmp_path / name / "x").mkdir(parents=True)
    (tmp_path / "tensorboard").write_text("")
    config = load("lenet5", "smoke")
    config.log.pictures_every_steps = config.log.histograms_every_steps = 1
    assert train_and_evaluate(config, tmp_path)["steps"] == 3
    output = capsys.readouterr().out
    assert output.count("warning: metrics can't be written, the run goes on without") == 1
    assert output.count("warning: summary.json can't be written") == 1
    assert (tmp_path / "checkpoints/3").is_dir()
