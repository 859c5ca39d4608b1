"""Every config takes its steps, in this process, from end to end."""

import json

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
    if config.model.network == "net145":
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
        {"data.shared_by": 32},
        {"data.colour_noise_steps": 1, "steps": 2},
        {"evaluate.every_epochs": None, "checkpoint.every_epochs": None},
    ],
)
def test_every_choice_takes_a_step(tmp_path, change):
    config = load("quickstart", "smoke")
    config.steps = 1
    config.update_from_flattened_dict(change)
    assert train_and_evaluate(config, tmp_path)["steps"] >= 1
