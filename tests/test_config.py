"""Configs: their derived numbers, their smoke versions, and what is refused."""

import importlib
import pathlib

import pytest

from alexnet_jax import config as configuration
from alexnet_jax.errors import UserError
from configs import default, imagenet

ROOT = pathlib.Path(__file__).parent.parent
NAMES = sorted(
    path.stem
    for path in (ROOT / "configs").glob("*.py")
    if path.stem not in ("__init__", "default")
)
IMAGENET_IMAGES = 1_281_167


def load(name, argument=""):
    return importlib.import_module(f"configs.{name}").get_config(argument)


def plan_of(config, records=IMAGENET_IMAGES, classes=1000):
    architecture = configuration.architecture_of(config)
    configuration.check(config, architecture, devices=1)
    return configuration.plan(config, architecture, records, classes)


def step_after(epochs):
    """The first step whose first image comes after so many epochs of ImageNet."""
    return -(-epochs * IMAGENET_IMAGES // 128)


def test_imagenet_has_net_145s_own_schedule():
    plan = plan_of(load("imagenet"))
    assert plan.steps == step_after(91) == 910_830
    drops = [step_after(epoch) for epoch in (25, 51, 79)]
    assert plan.rates["weights"] == tuple(zip([0, *drops], (1e-2, 1e-3, 1e-4, 1e-5), strict=True))
    assert plan.rates["biases"] == ((0, 0.02),)
    conv1 = [step_after(epoch) for epoch in (25, 51, 67, 72)]
    rates = (1e-2, 1e-3, 1e-4, 1e-5, 0.0)
    assert plan.rates["conv1.weights"] == tuple(zip([0, *conv1], rates, strict=True))
    assert plan.rates["conv1.biases"] == ((0, 0.02), (step_after(72), 0.0))
    assert plan.augmentation.noise == 0.1
    assert plan.augmentation.noise_end == step_after(67)
    assert plan.augmentation.shared_by == 32
    assert (plan.augmentation.crop, plan.classes) == (224, 1000)
    config = load("imagenet")
    assert (config.batch, config.optimizer.momentum, config.optimizer.weight_decay) == (
        128, 0.9, 0.0005,
    )  # fmt: skip


def test_the_papers_text_has_equal_rates_and_three_drops():
    plan = plan_of(load("imagenet", "paper"))
    assert set(plan.rates) == {"weights", "biases"}
    assert plan.rates["weights"] == plan.rates["biases"]
    values = [rate for _, rate in plan.rates["weights"]]
    assert values == [0.01, 0.001, 0.0001, 0.00001]


@pytest.mark.parametrize("name", NAMES)
def test_every_config_has_a_smoke_version_and_a_command(name):
    config = load(name, "smoke")
    assert config.name == f"{name}-smoke"
    assert config.steps <= 5
    assert config.batch % 8 == 0
    assert config.data.source in ("synthetic", "digits")
    plan_of(config, records=config.data.records, classes=10)
    text = importlib.import_module(f"configs.{name}").__doc__
    assert f"python -m alexnet_jax.main --config=configs/{name}.py" in text


def test_every_variant_of_a_config_is_sound():
    for name, argument in (("imagenet", "paper"), ("imagenet", "paper,smoke"), ("lenet5", "relu")):
        plan_of(load(name, argument), records=1000, classes=10)


def test_an_unknown_option_names_those_that_exist():
    with pytest.raises(ValueError, match="unknown option 'smok'.*paper, smoke"):
        load("imagenet", "smok")


def test_steps_win_over_epochs():
    config = imagenet.get_config()
    config.steps = 20
    config.evaluate.every_steps = 7
    plan = plan_of(config)
    assert (plan.steps, plan.evaluate_every) == (20, 7)


def test_rates_in_steps():
    config = default.get_config()
    config.optimizer.unit = "steps"
    config.optimizer.weights = ((0, 0.1), (33, 0.01))
    assert plan_of(config).rates["weights"] == ((0, 0.1), (33, 0.01))


def test_classes_follow_the_data_unless_set():
    config = default.get_config()
    assert plan_of(config, classes=64).classes == 64
    config.model.classes = 100
    assert plan_of(config, classes=64).classes == 100


def set_field(config, dotted, value):
    *path, last = dotted.split(".")
    for part in path:
        config = config[part]
    config[last] = value


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("model.network", "net154", "'net154': expected one of net145"),
        ("model.towers", 3, "leave it unset, or set 1"),
        ("model.width", 0.0, "must be above 0"),
        ("model.classes", 10, "the data has 1000 classes"),
        ("model.compute_dtype", "float16", "expected float32 or bfloat16"),
        ("data.mean", "pixel", "expected image or channel"),
        ("data.channel_mean", (117.0,), "has 1 numbers, but net145 sees 3 channel"),
        ("data.size", 200, "smaller than the 224 pixels"),
        ("parallel.model", 3, "use 1 or 2"),
        ("parallel.model", 2, "does not divide the 1 device"),
        ("batch", 0, "must be at least 1"),
        ("steps", 0, "steps=0"),
        ("optimizer.unit", "hours", "expected epochs or steps"),
        ("optimizer.weights", ((5, 0.1),), "the first from 0"),
        ("optimizer.weights", ((0, 0.1), (9, 0.01), (3, 0.1)), "ascending order"),
        ("optimizer.biases", (0.1,), "expected pairs"),
        ("optimizer.layers.conv9", {"weights": ((0, 0.1),)}, "no such layer"),
    ],
)
def test_impossible_configs_are_refused_with_a_sentence(field, value, sentence):
    config = default.get_config()
    with config.unlocked():
        set_field(config, field, value)
    if field == "data.channel_mean":
        config.data.mean = "channel"
    with pytest.raises(UserError, match=sentence):
        plan_of(config)


def test_a_batch_that_devices_cannot_share_is_refused():
    config = default.get_config()
    config.batch = 12
    with pytest.raises(UserError, match="batch=12 is not divisible by the 8 groups"):
        configuration.check(config, configuration.architecture_of(config), devices=8)
