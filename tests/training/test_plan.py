"""Configs: their derived numbers, their smoke versions, and what is refused."""

import importlib
import json
import pathlib

import pytest

from alexnet_jax.model.networks import named
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.training import (
    config_check,
    defaults,
    field_names,
    identity,
    layouts,
    run_folder,
    schedules,
    warm_start,
)
from alexnet_jax.training import plan as configuration
from alexnet_jax.training.optimizer import Group
from configs import imagenet

ROOT = pathlib.Path(__file__).parent.parent.parent
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
    config_check.check_config(config, architecture, num_devices=1)
    return configuration.make_plan(config, architecture, num_images=records, data_classes=classes)


def step_after(epochs):
    """The first step whose first image comes after so many epochs of ImageNet."""
    return -(-epochs * IMAGENET_IMAGES // 128)


def test_imagenet_has_net_145s_own_schedule():
    plan = plan_of(load("imagenet"))
    assert plan.num_steps == step_after(91) == 910_830
    drops = [step_after(epoch) for epoch in (25, 51, 79)]
    rates = {name: group.learning_rates for name, group in plan.groups.items()}
    assert rates["weights"] == tuple(zip([0, *drops], (1e-2, 1e-3, 1e-4, 1e-5), strict=True))
    assert rates["biases"] == ((0, 0.02),)
    conv1 = [step_after(epoch) for epoch in (25, 51, 67, 72)]
    values = (1e-2, 1e-3, 1e-4, 1e-5, 0.0)
    assert rates["conv1.weights"] == tuple(zip([0, *conv1], values, strict=True))
    assert rates["conv1.biases"] == ((0, 0.02), (step_after(72), 0.0))
    decays = {name: group.weight_decay for name, group in plan.groups.items()}
    assert decays == {"weights": 5e-4, "biases": 0, "conv1.weights": 5e-4, "conv1.biases": 0}
    assert plan.augmentation.noise == 0.1
    assert plan.augmentation.noise_end == step_after(67)
    assert plan.augmentation.group_size == 32
    assert (plan.augmentation.crop, plan.num_classes) == (224, 1000)
    config = load("imagenet")
    assert (config.batch_size, config.optimizer.momentum) == (128, 0.9)


def test_biases_are_decayed_on_request_alone():
    config = load("imagenet")
    config.optimizer.bias_decay = 0.0005
    decays = {name: group.weight_decay for name, group in plan_of(config).groups.items()}
    assert decays == dict.fromkeys(("weights", "biases", "conv1.weights", "conv1.biases"), 5e-4)


def test_the_papers_text_has_equal_rates_and_at_most_three_divisions():
    plan = plan_of(load("imagenet", "paper"))
    assert set(plan.groups) == {"weights", "biases"}
    assert (
        plan.groups["weights"].learning_rates
        == plan.groups["biases"].learning_rates
        == ((0, 0.01),)
    )
    assert (plan.plateau.factor, plan.plateau.times) == (10, 3)
    assert not plan.augmentation.noise_divides
    assert load("imagenet", "paper").data.colour_noise_by == "eigenvalues"
    assert plan_of(load("imagenet")).augmentation.noise_divides


def test_the_2013_schedule_has_four_and_two_rates_of_equal_length():
    """Net 170's numbers, 0.01 to 0.01 / 250 in four steps: cuda-convnet2's lr.cu by hand."""
    groups = plan_of(load("imagenet", "2013")).groups
    steps = step_after(95)
    starts, values = zip(*groups["weights"].learning_rates, strict=True)
    assert starts == tuple(-(-steps * i // 4) for i in range(4))
    assert values == pytest.approx([0.01, 0.01 / 250 ** (1 / 3), 0.01 / 250 ** (2 / 3), 4e-5])
    assert groups["biases"].learning_rates == ((0, 0.02), (-(-steps // 2), pytest.approx(0.002)))
    # 95 * 3 / 4 = 71.25: conv1 has its fourth rate for less than an epoch, then it is frozen.
    assert groups["conv1.weights"].learning_rates == (
        *groups["weights"].learning_rates,
        (step_after(72), 0.0),
    )


def test_cifar10_has_the_rates_and_decays_of_18pct():
    plan = plan_of(load("cifar10"), records=50_000, classes=10)
    assert plan.num_steps == 54_688  # 140 epochs
    epochs_120, epochs_130 = 46_875, 50_782
    weights = plan.groups["weights"].learning_rates
    assert weights == ((0, 1e-3), (epochs_120, 1e-4), (epochs_130, 1e-5))
    assert plan.groups["biases"].learning_rates == tuple(
        (start, 2 * rate) for start, rate in weights
    )
    assert plan.groups["fc10.weights"] == Group(weights, 1.0)
    assert (plan.groups["weights"].weight_decay, plan.groups["biases"].weight_decay) == (0.004, 0)


def test_large_batches_have_net_145s_schedule_with_rates_in_proportion():
    """Counted in epochs; after a warm-up of five."""
    reference, plan = plan_of(load("imagenet")), plan_of(load("imagenet_fast"))
    assert set(plan.groups) == set(reference.groups)
    for name, group in plan.groups.items():
        expected = [
            (-(-start // 8), 8 * rate) for start, rate in reference.groups[name].learning_rates
        ]
        assert group.learning_rates == tuple(expected)
    assert plan.schedule.warmup == -(-5 * IMAGENET_IMAGES // 1024)
    assert plan.num_steps == -(-91 * IMAGENET_IMAGES // 1024)
    lars = load("imagenet_fast", "4096,lars,average")
    assert (lars.batch_size, lars.optimizer.rule, lars.optimizer.ema_decay) == (
        4096,
        "lars",
        0.9984,
    )
    assert set(plan_of(lars).groups) == {"weights", "biases"}


def test_something_is_due_at_the_first_step_after_each_multiple():
    every = configuration.Every(2.5)
    assert [step for step in range(1, 11) if every.due(step)] == [3, 5, 8, 10]
    assert not any(configuration.Every(0).due(step) for step in range(1, 100))
    epoch = configuration.Every(IMAGENET_IMAGES / 128)
    due = [step for step in range(step_after(89) - 2, step_after(91) + 1) if epoch.due(step)]
    assert due == [step_after(89), step_after(90), step_after(91)]


def identity_of(config, fingerprint="abc"):
    return identity.run_identity(config, 1000, fingerprint)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seed", 1),
        ("batch_size", 64),
        ("model.network", "quickstart"),
        ("model.width", 0.5),
        ("model.dtype", "bfloat16"),
        ("optimizer.momentum", 0.8),
        ("optimizer.learning_rate", ((0, 0.02),)),
        ("optimizer.schedule", "cosine"),
        ("optimizer.rule", "lars"),
        ("optimizer.label_smoothing", 0.1),
        ("optimizer.ema_decay", 0.999),
        ("optimizer.velocity_dtype", "bfloat16"),
    ],
)
def test_another_run_is_refused_by_the_name_of_the_field(field, value):
    config = defaults.get_config()
    before = json.loads(json.dumps(identity_of(config)))
    set_field(config, field, value)
    with pytest.raises(UserError, match=f"{field} is ") as caught:
        identity.check_same_run(identity_of(config), before, pathlib.Path("runs/x"))
    assert "--config.init.from_run=runs/x" in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value", "difference"),
    [
        ("optimizer.rule", "lars", "optimizer.rule is momentum there and lars here"),
        ("init.first_weights", 255.0, "init.first_weights is 1.0 there and 255.0 here"),
    ],
)
def test_a_run_of_before_a_field_existed_does_not_go_on_with_it(field, value, difference):
    config = defaults.get_config()
    new = ("optimizer.rule", "optimizer.ema_decay", "init.first_weights")
    before = {name: value for name, value in identity_of(config).items() if name not in new}
    identity.check_same_run(identity_of(config), before, pathlib.Path("x"))
    set_field(config, field, value)
    with pytest.raises(UserError, match=difference):
        identity.check_same_run(identity_of(config), before, pathlib.Path("x"))


def test_other_data_is_refused():
    config = defaults.get_config()
    with pytest.raises(UserError, match="fingerprint of the training data is abc there and xyz"):
        identity.check_same_run(identity_of(config, "xyz"), identity_of(config), pathlib.Path("x"))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_epochs", 120.0),
        ("grad_accum_steps", 4),
        ("parallel.layout", "hybrid"),
        ("kernels", "tuned,space_to_depth"),
        ("data.path", "/elsewhere"),
        ("data.num_workers", 8),
        ("log.every_steps", 7),
        ("checkpoint.keep", 9),
        ("evaluate.every_epochs", 2.0),
        ("guards.on_divergence", "rollback"),
        ("name", "other"),
    ],
)
def test_mesh_paths_end_logging_and_checkpoints_may_change(field, value):
    config = defaults.get_config()
    before = json.loads(json.dumps(identity_of(config)))
    set_field(config, field, value)
    identity.check_same_run(identity_of(config), before, pathlib.Path("x"))


@pytest.mark.parametrize("name", NAMES)
def test_every_config_has_a_smoke_version_and_a_command(name):
    config = load(name, "smoke")
    assert config.name.endswith("-smoke")
    assert config.num_steps <= 5
    assert config.batch_size % 8 == 0
    assert config.data.source in ("synthetic", "digits")
    if name == "finetune":  # its network is that of a run
        config = warm_start.complete_config(config, {"config": load("quickstart").to_dict()})
    plan_of(config, records=config.data.records, classes=10)
    text = importlib.import_module(f"configs.{name}").__doc__
    assert f"python -m alexnet_jax.main --config=configs/{name}.py" in text


def test_every_variant_of_a_config_is_sound():
    variants = {"imagenet": ("paper", "paper,smoke", "2013"), "lenet5": ("relu",),
                "cifar10": ("short", "80sec", "13pct", "11pct"), "caffe": ("caffenet",),
                "figure1": ("tanh",), "net146": ("2009",),
                "imagenet_fast": ("2048", "lars", "smoothing", "average",
                                  "8192,lars,smoothing,average,smoke"),
                "ablations": ("half,towers1", "no_norm", "pool2", "paper,whole,no_dropout"),
                }  # fmt: skip
    for name, argument in ((n, a) for n, arguments in variants.items() for a in arguments):
        plan_of(load(name, argument), records=10_000, classes=10)


def test_an_unknown_option_names_those_that_exist():
    with pytest.raises(ValueError, match="unknown option 'smok'.*paper, 2013, smoke"):
        load("imagenet", "smok")


def test_steps_win_over_epochs():
    config = imagenet.get_config()
    config.num_steps = 20
    config.evaluate.every_steps = 7
    plan = plan_of(config)
    assert (plan.num_steps, plan.evaluation.steps) == (20, 7)


def test_rates_in_steps():
    config = defaults.get_config()
    config.optimizer.unit = "steps"
    config.optimizer.learning_rate = ((0, 0.1), (33, 0.01))
    assert plan_of(config).groups["weights"].learning_rates == ((0, 0.1), (33, 0.01))


def test_classes_follow_the_data_unless_set():
    config = defaults.get_config()
    assert plan_of(config, classes=64).num_classes == 64
    config.model.num_classes = 100
    assert plan_of(config, classes=64).num_classes == 100


def set_field(config, dotted, value):
    *path, last = dotted.split(".")
    for part in path:
        config = config[part]
    config[last] = value


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("model.network", "net154", "no network 'net154'.*did you mean net15"),
        ("model.towers", 3, "leave it unset, or set 1"),
        ("model.width", 0.0, "must be above 0"),
        ("model.num_classes", 10, "the data has 1000 classes"),
        ("model.dtype", "float16", "expected float32 or bfloat16"),
        ("data.mean", "pixel", "expected image or scalar or channel or none"),
        ("data.mean_at", "corner", "expected center or crop"),
        ("init.first_weights", 0.0, "init.first_weights=0 must be above 0"),
        ("data.units", "bits", "expected grey_levels or min_max or standardise"),
        ("data.units", "min_max", "goes with data.mean=none and data.scale=1, but they are image"),
        ("data.units", "standardise", "goes with data.mean=channel and data.scale=1"),
        ("data.scale", 0.0, "must be above 0"),
        ("data.colour_noise_by", "variances", "expected deviations or eigenvalues"),
        ("data.channel_mean", (117.0,), "has 1 numbers, but net145 sees 3 channel"),
        ("data.image_size", 200, "smaller than the 224 pixels"),
        ("evaluate.views", "five", "expected center or ten or all"),
        ("parallel.layout", "model", "expected data or towers or hybrid"),
        (
            "kernels",
            "fast",
            "no kernel 'fast': expected tuned, reference or some of space_to_depth",
        ),
        ("kernels", "tuned,-winogard", "no kernel 'winogard'"),
        ("optimizer.velocity_dtype", "float16", "expected bfloat16"),
        ("parallel.layout", "towers", "can't be shared by 2 towers: use 'data'"),
        ("batch_size", 0, "must be at least 1"),
        ("num_steps", 0, "num_steps=0"),
        ("grad_accum_steps", 0, "must be at least 1"),
        (
            "grad_accum_steps",
            3,
            "batch_size=128 is not divisible .* times grad_accum_steps=3 parts",
        ),
        ("optimizer.rule", "adamx", "did you mean adamax"),
        ("optimizer.trust_coefficient", 0.0, "must be above 0"),
        ("optimizer.label_smoothing", 1.0, "must be at least 0 and below 1"),
        ("optimizer.ema_decay", -0.1, "must be at least 0 and below 1"),
        ("optimizer.unit", "hours", "expected epochs or steps"),
        ("optimizer.learning_rate", ((5, 0.1),), "the first from 0"),
        ("optimizer.learning_rate", ((0, 0.1), (9, 0.01), (3, 0.1)), "ascending order"),
        ("optimizer.bias_learning_rate", (0.1,), "expected pairs"),
        ("optimizer.layers.conv9", {"learning_rate": ((0, 0.1),)}, "no such layer"),
        ("optimizer.layers.conv1", {"weight": ((0, 0.1),)}, "field 'weight'"),
        ("optimizer.layers.conv1", {"factor": 0}, "layer conv1 is 0: expected a number above 0"),
        ("optimizer.layers.conv1", {"factor": "ten"}, "layer conv1 is 'ten': expected a number"),
        ("optimizer.freeze", ("conv1,conv9",), "optimizer.freeze=conv9: the network has no such"),
        ("optimizer.schedule", "linear", "expected stepped or plateau or cosine or exponential"),
        ("optimizer.warmup_epochs", 90.0, "as long as the run"),
        ("checkpoint.keep", 0, "must be at least 1"),
        ("checkpoint.keep_best", -1, "must be at least 0"),
        ("guards.watchdog_minutes", -1.0, "must be at least 0"),
        ("guards.on_divergence", "ignore", "expected stop or rollback or skip"),
        ("guards.rollback_factor", 0.5, "must be at least 1"),
    ],
)
def test_impossible_configs_are_refused_with_a_sentence(field, value, sentence):
    config = defaults.get_config()
    with config.unlocked():
        set_field(config, field, value)
    if field == "data.channel_mean":
        config.data.mean = "channel"
    with pytest.raises(UserError, match=sentence):
        plan_of(config)


@pytest.mark.parametrize(
    ("layout", "network", "devices", "reason"),
    [
        ("data", "cifar_18pct", 3, ""),
        ("towers", "net145", 4, ""),
        ("towers", "net145", 3, "the 3 device(s) of this run can't be shared by 2 towers"),
        ("towers", "one_weird_trick", 2, "the network has one tower"),
        ("hybrid", "net145", 1024, ""),
        ("hybrid", "net145", 3, "the 2,048 units of a tower in fc6 are not divisible by the 3"),
        ("hybrid", "cifar_18pct", 2, "no dense layer before its softmax"),
    ],
)
def test_which_layout_fits_a_network_and_its_devices(layout, network, devices, reason):
    found = layouts.layout_conflict(layout, named(network), devices)
    assert reason in found
    assert bool(reason) == bool(found)


@pytest.mark.parametrize(
    ("schedule", "field", "value", "sentence"),
    [
        ("plateau", "evaluate.every_epochs", None, "never evaluates"),
        ("plateau", "optimizer.plateau.patience", 0, "patience=0"),
        ("plateau", "optimizer.learning_rate", ((0, 0.1), (5, 0.01)), "lowers the rates by itself"),
        (
            "cosine",
            "optimizer.bias_learning_rate",
            ((0, 0.1), (5, 0.01)),
            "optimizer.bias_learning_rate has steps",
        ),
        ("exponential", "optimizer.exponential.learning_rate", (250.0, 1), "at least two rates"),
        ("exponential", "optimizer.exponential.bias_learning_rate", (10.0,), "at least two rates"),
    ],
)
def test_impossible_schedules_are_refused_with_a_sentence(schedule, field, value, sentence):
    config = defaults.get_config()
    config.optimizer.schedule = schedule
    set_field(config, field, value)
    with pytest.raises(UserError, match=sentence):
        plan_of(config)


def test_first_weights_are_refused_where_two_layers_see_pixels():
    config = defaults.get_config()
    config.model.network, config.init.first_weights = "net135", 255.0
    with pytest.raises(UserError, match="net135 has two that see pixels"):
        plan_of(config)


@pytest.mark.parametrize(
    ("name", "value", "meant"),
    [
        ("lr", 0.1, "optimizer.learning_rate"),
        ("wd", 0.1, "optimizer.weight_decay"),
        ("batch", 64, "batch_size"),
        ("epochs", 3, "num_epochs"),
        ("num_workers", 4, "data.num_workers"),
        ("model.compute_dtype", "bfloat16", "model.dtype"),
        ("optimizer.lr", 0.1, "optimizer.learning_rate"),
        ("evaluate.view", "ten", "evaluate.views"),
    ],
)
def test_a_field_of_another_name_is_answered_with_the_one_that_is_meant(name, value, meant):
    """A config file may set any name; flags are refused by ml_collections."""
    config = defaults.get_config()
    with config.unlocked():
        set_field(config, name, value)
    with pytest.raises(UserError, match=f"'{name}' that is not known: did you mean {meant}"):
        plan_of(config)


def test_each_synonym_means_a_field_that_exists():
    config = defaults.get_config()
    for field in set(field_names.SYNONYMS.values()):
        section, _, name = field.rpartition(".")
        assert name in (config[section] if section else config), field


def test_a_checkpoint_with_a_field_that_is_not_known_is_refused_by_its_name():
    stored = defaults.get_config().to_dict()
    stored["optimizer"]["weights"] = stored["optimizer"].pop("learning_rate")
    with pytest.raises(UserError, match="checkpoint's config has a field 'optimizer.weights'"):
        run_folder.config_of({"config": stored})


def test_pairs_of_rates_behind_the_end_are_named():
    config = imagenet.get_config()
    unit = IMAGENET_IMAGES / 128
    assert schedules.late_pairs(config.optimizer, unit, step_after(91)) == []
    late = schedules.late_pairs(config.optimizer, unit, step_after(72))
    assert late == [
        "optimizer.learning_rate from 79 epochs",
        "optimizer.layers.conv1.learning_rate from 72 epochs",
        "optimizer.layers.conv1.bias_learning_rate from 72 epochs",
    ]


def test_lars_is_refused_where_weight_matrices_are_split():
    config = defaults.get_config()
    config.optimizer.rule, config.parallel.layout = "lars", "hybrid"
    with pytest.raises(UserError, match="hybrid splits those of dense layers"):
        plan_of(config)


def test_a_batch_that_devices_cannot_share_is_refused():
    config = defaults.get_config()
    config.batch_size = 12
    with pytest.raises(UserError, match="batch_size=12 is not divisible by the 8 groups"):
        config_check.check_config(config, configuration.architecture_of(config), num_devices=8)


# Epochs of the authors' changes by hand, typed from the comments of their layer-params files:
# drops of the weights' rate, slowed and frozen early layers, end of colour noise, end of the run.
BY_HAND = {
    "net120_2012": ((22, 49, 81), ("conv1", "conv2"), 66, 73, 66, 95),
    "net131": ((22, 46, 81), ("conv1", "conv2"), 66, 75, 66, 100),
    "net135": ((20, 47, 81), ("conv1", "conv2"), 66, 75, 66, 96),
    "net137": ((26, 50, 84), ("conv1", "conv2"), None, 75, 75, 99),
    "net145_2010": ((23, 51, 78), ("conv1",), 68, 72, 68, 93),
    "net148": ((22, 44, 86), ("conv1",), 69, 73, 69, 97),
    "net150": ((25, 49, 79), ("conv1",), 66, 72, 66, 92),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_the_networks_of_2012_have_their_own_schedules(name):
    drops, early, slowed, frozen, quiet, end = BY_HAND[name]
    plan = plan_of(load("net2012", name))
    assert plan.num_steps == step_after(end)
    assert plan.augmentation.noise_end == step_after(quiet)
    weights = {step_after(when): rate for when, rate in zip(drops, (1e-3, 1e-4, 1e-5), strict=True)}
    assert dict(plan.groups["weights"].learning_rates) == {0: 0.01} | weights
    for layer in early:
        pairs = dict(plan.groups[f"{layer}.weights"].learning_rates)
        assert pairs.pop(step_after(frozen)) == 0.0
        if slowed:
            assert pairs.pop(step_after(slowed)) == 1e-5
        assert pairs == {0: 0.01} | {s: r for s, r in weights.items() if s < step_after(frozen)}
        assert plan.groups[f"{layer}.biases"].learning_rates[-1] == (step_after(frozen), 0.0)
    assert "conv3.weights" not in plan.groups


def test_net146_is_fine_tuned_as_in_2012():
    config = load("net146")
    plan = plan_of(config)
    assert plan.num_steps == step_after(54)
    convolutions = tuple(f"conv{i}" for i in range(1, 7))
    assert plan.init_layers == (*convolutions, "fc6", "fc7")
    links = {"2009": ("runs/imagenet", convolutions[:5]),
             "2011": ("runs/net146-2009", convolutions)}  # fmt: skip
    for link, start in links.items():
        init = load("net146", link).init
        assert (init.from_run, init.layers) == start
    names = [load("net146", link).name for link in ("2009", "2011")]
    assert [f"runs/{name}" for name in names] == ["runs/net146-2009", config.init.from_run]
    assert load("imagenet").name == "imagenet"
    fc8 = plan.groups["fc8.weights"].learning_rates
    assert fc8[:3] == ((0, 1e-3), (2400, 1e-2), (step_after(9), 1e-3))  # 300 files of 1,024
    assert plan.groups["conv1.weights"].learning_rates[-1] == (step_after(7), 0.0)
    assert plan.groups["conv6.biases"].learning_rates == ((0, 0.002),)
    pretraining = load("net146", "2011")
    assert plan_of(pretraining, classes=21_841).num_classes == 21_843


def test_caffe_runs_450_000_steps():
    config = load("caffe", "caffenet")
    plan = plan_of(config)
    assert (config.model.network, config.batch_size, plan.num_steps) == ("caffenet", 256, 450_000)
    weights, biases = plan.groups["weights"].learning_rates, plan.groups["biases"].learning_rates
    assert [start for start, _ in weights] == [0, 100_000, 200_000, 300_000, 400_000]
    assert weights[-1][1] == pytest.approx(1e-6)
    assert [b / w for (_, b), (_, w) in zip(biases, weights, strict=True)] == pytest.approx([2] * 5)
    assert (config.data.resize, config.data.mean_at) == ("warp", "crop")


@pytest.mark.parametrize(
    ("net", "epochs", "decays"),
    [
        ("80sec", 10, {"weights": 0.004, "fc64.weights": 0.03, "fc10.weights": 0.03}),
        ("13pct", 520, {"weights": 0.0, "local3.weights": 0.004, "local4.weights": 0.004,
                        "fc10.weights": 0.004}),
        ("11pct", 520, {"weights": 0.0, "local3.weights": 0.004, "local4.weights": 0.004,
                        "fc10.weights": 0.01}),
    ],
)  # fmt: skip
def test_the_cifar_networks_have_their_own_decays(net, epochs, decays):
    plan = plan_of(load("cifar10", net), records=50_000, classes=10)
    assert plan.num_steps == epochs * 50_000 // 128 + (epochs * 50_000 % 128 > 0)
    found = {name: group.weight_decay for name, group in plan.groups.items() if name != "biases"}
    assert found == decays
