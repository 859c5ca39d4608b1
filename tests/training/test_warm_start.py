"""Fine-tuning: what is taken from a run, what stands still, and at which rates the rest learns."""

import dataclasses
import json
import pathlib
import shutil
import types

import jax
import numpy as np
import pytest

from alexnet_jax import kernels
from alexnet_jax.data import sources
from alexnet_jax.data.statistics import Statistics
from alexnet_jax.parallel import mesh as meshes
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.runtime.terminal import Terminal
from alexnet_jax.training import (
    checkpoint,
    optimizer,
    schedules,
    setup,
    warm_start,
)
from alexnet_jax.training import plan as configuration
from alexnet_jax.training.loop import restore_or_initialize, train_and_evaluate
from tests.data.test_sources import make_folder
from tests.support import miniature
from tests.support.evaluated import RUNS
from tests.test_main import assert_one_sentence
from tests.test_main import run as main
from tests.training.test_plan import load

STEPS = 4
FROZEN = ("conv1", "conv2")


def from_run(path, argument="smoke", **fields):
    config = load("finetune", argument)
    config.init.from_run = str(path)
    config.update_from_flattened_dict(fields)
    return config


def groups_of(steps_per_epoch=1.0, **fields):
    """Groups of a fine-tuned quickstart network whose fc8 is new."""
    config = load("finetune")
    config.update_from_flattened_dict(fields)
    architecture = miniature.NARROW["quickstart"]
    return schedules.groups(
        config.optimizer, architecture, unit=steps_per_epoch, num_steps=30, new_layers=("fc8",)
    )


def trained(frozen, groups, count, data=1, model=1):
    """The states before each of so many steps on random images, and after the last."""
    steps = miniature.make_steps("quickstart", data, model)
    rule = optimizer.momentum_sgd(groups, 0.9)
    steps = dataclasses.replace(steps, optimizer=rule, frozen=frozen)
    state, train = steps.initial_state(), steps.training()
    preprocessing = meshes.put_replicated(
        steps.mesh, miniature.preprocessing_of("quickstart")
    )._replace(divisor=np.float32(16))
    states = [jax.device_get(state)]
    for step in range(count):
        batch = miniature.put(steps, *miniature.batch_of("quickstart", step))
        state, _ = train(state, *batch, preprocessing)
        states.append(jax.device_get(state))
    return states


def velocities(state):
    """{layer} of every array of the optimiser that belongs to a parameter."""
    paths = jax.tree_util.tree_flatten_with_path(state.optimizer_state)[0]
    return {
        key.key
        for path, leaf in paths
        if np.ndim(leaf)
        for key in path
        if isinstance(key, jax.tree_util.DictKey) and key.key in state.parameters
    }


def frozen_groups():
    """Groups with FROZEN frozen, and how `optimizer` names these."""
    groups = groups_of(**{"optimizer.freeze": ("conv1,conv2",), "optimizer.weight_decay": 0.01})
    shapes = miniature.NARROW["quickstart"].parameter_shapes(10)
    return groups, optimizer.frozen_layers(groups, shapes)


@pytest.mark.parametrize(("data", "model"), [(1, 1), pytest.param(2, 2, marks=pytest.mark.slow)])
def test_frozen_layers_stand_still_to_the_bit(data, model):
    groups, frozen = frozen_groups()
    assert frozen == set(FROZEN)
    states = trained(frozen, groups, STEPS, data, model)
    for before, after in zip(states, states[1:], strict=False):
        for layer, kinds in before.parameters.items():
            for kind, array in kinds.items():
                same = array.tobytes() == after.parameters[layer][kind].tobytes()
                assert same == (layer in FROZEN), (layer, kind)
    assert velocities(states[-1]) == set(states[-1].parameters) - set(FROZEN)


@pytest.mark.slow
@pytest.mark.parametrize(("data", "model"), [(1, 1), (2, 2)])
def test_the_others_go_the_same_way_as_if_all_gradients_were_computed(data, model):
    groups, frozen = frozen_groups()
    without, computed = (
        trained(names, groups, STEPS, data, model)[-1].parameters for names in (frozen, frozenset())
    )
    for layer, kinds in without.items():
        for kind, array in kinds.items():
            np.testing.assert_allclose(array, computed[layer][kind], rtol=1e-4, atol=1e-6)


def test_no_backward_pass_reaches_below_the_lowest_layer_that_learns():
    """A convolution's gradient is two convolutions; conv1 needs no second one of its input."""
    steps = miniature.make_steps("quickstart", 1, 1)
    # The miniature's few channels would be products.
    plain = kernels.select("tuned,-joined_towers,-narrow_conv", jax.default_backend())
    steps = dataclasses.replace(steps, operations=plain)

    def convolutions(frozen):
        made = dataclasses.replace(steps, frozen=frozenset(frozen))
        state, batch = made.state_shapes(), made.batch_shapes(miniature.BATCH, 32)
        preprocessing = miniature.preprocessing_of("quickstart")
        text = made.gradients().lower(state, *batch, preprocessing).as_text()
        return text.count("stablehlo.convolution")

    towers, everything = 2, convolutions(())
    assert everything - convolutions(("conv1",)) == 2 * towers  # its kernel's, conv2's input's
    assert everything - convolutions(("conv1", "conv2", "conv3")) == 5 * towers
    assert everything - convolutions(("conv2",)) == towers  # what lies below still learns


def test_layers_learn_at_their_own_rates_as_in_a_numpy_loop(float64):
    """v <- 0.9 v - decay * rate * w - rate * gradient; w <- w + v, with rates typed by hand."""
    groups = groups_of(2.0, **{"optimizer.freeze": ("conv2",), "optimizer.layers": {
        "conv1": {"factor": 0.5, "weight_decay": 0.004},
        "fc6": {"learning_rate": ((0, 0.003), (5, 0.0)), "factor": 2}}})  # fmt: skip
    drop = 40  # epoch 20 at two steps an epoch
    by_hand = {  # rate before and after the drop, decay
        ("conv1", "kernel"): (0.0005, 0.00005, 0.004),
        ("conv1", "bias"): (0.001, 0.0001, 0.0),
        ("conv2", "kernel"): (0.0, 0.0, 0.0005),
        ("conv2", "bias"): (0.0, 0.0, 0.0),
        ("conv3", "kernel"): (0.001, 0.0001, 0.0005),
        ("conv3", "bias"): (0.002, 0.0002, 0.0),
        ("fc6", "kernel"): (0.006, 0.006, 0.0005),
        ("fc6", "bias"): (0.004, 0.0004, 0.0),
        ("fc8", "kernel"): (0.01, 0.001, 0.0005),
        ("fc8", "bias"): (0.02, 0.002, 0.0),
    }
    random = np.random.default_rng(3)

    def draw():
        found = {layer: {} for layer, _ in by_hand}
        for layer, kind in by_hand:
            found[layer][kind] = random.normal(size=(2, 3))
        return found

    parameters, gradients = draw(), [draw() for _ in range(44)]
    rule = optimizer.momentum_sgd(groups, 0.9)
    state, update, ours = rule.init(parameters), jax.jit(rule.update), parameters
    for gradient in gradients:
        updates, state = update(gradient, state, ours)
        ours = jax.tree.map(np.add, ours, updates)
    for (layer, kind), (rate, later, decay) in by_hand.items():
        w, v = parameters[layer][kind], 0.0
        for step, gradient in enumerate(gradients):
            now = rate if step < drop else later
            if layer == "fc6" and kind == "kernel" and step >= 10:  # frozen from epoch 5 on
                now = 0.0
            if now:
                v = 0.9 * v - decay * now * w - now * gradient[layer][kind]
                w = w + v
        np.testing.assert_allclose(ours[layer][kind], w, rtol=1e-9, err_msg=f"{layer}.{kind}")


@pytest.mark.parametrize("name", RUNS)
def test_network_and_pixels_are_those_of_the_run(trained_runs, name):
    config = from_run(trained_runs / name, **{"data.flip": True})
    found, theirs = warm_start.complete_config(config, None), load(name, "smoke")
    assert config.model.network is None  # a copy
    assert found.model.network == theirs.model.network
    assert (found.data.image_size, found.data.scale) == (theirs.data.image_size, theirs.data.scale)
    assert (found.data.mean, found.data.channel_mean) == (RUNS[name], ())
    assert (found.data.flip, theirs.data.flip) == (True, False)  # what is set is left alone
    assert found.model.num_classes is None
    assert warm_start.pixel_differences(found) == []
    found.data.scale = 2.0
    assert warm_start.pixel_differences(found) == [
        f"data.scale is 2.0 here and {theirs.data.scale} there"
    ]


def test_what_goes_on_takes_them_from_its_own_checkpoint():
    config = from_run("taken/away")
    found = warm_start.complete_config(config, {"config": load("lenet5").to_dict()})
    assert found.model.network == "lenet5"


def test_towers_and_activation_come_with_the_network_alone(trained_runs):
    theirs = load("quickstart")
    theirs.model.towers, theirs.model.activation = 1, "tanh"
    facts = {"config": theirs.to_dict()}
    found = warm_start.complete_config(load("finetune"), facts).model
    assert (found.network, found.towers, found.activation) == ("quickstart", 1, "tanh")
    config = load("finetune")
    config.model.network = "net145"
    found = warm_start.complete_config(config, facts).model
    assert (found.network, found.towers, found.activation) == ("net145", None, None)


def statistics_used(config, workdir, training):
    """As setup.set_up gets them, of a network of three channels."""
    config = warm_start.complete_config(config, None)
    plan = configuration.make_plan(
        config,
        configuration.architecture_of(config),
        num_images=len(training),
        data_classes=len(training.classes),
    )
    with Terminal(speaks=False) as terminal:
        found = setup.run_statistics(
            config, plan, training, workdir / "statistics.npz", False, terminal
        )
    np.testing.assert_array_equal(
        Statistics.load(workdir / "statistics.npz").mean_image, found.mean_image
    )
    return found.mean_image


def test_the_mean_image_is_that_of_the_run_unless_the_new_sets_is_wanted(trained_runs, tmp_path):
    """A run of digits that goes on with synthetic images; both means once more by NumPy."""
    training = sources.Synthetic("train", num_records=16, num_classes=3, size=32, channels=3)
    config = from_run(trained_runs / "quickstart")
    theirs = sources.Digits("train", 32, 3).images.mean(axis=0)
    np.testing.assert_allclose(statistics_used(config, tmp_path, training), theirs, rtol=1e-5)
    config.init.statistics = False
    ours = training.load(range(16))[0].mean(axis=0)
    np.testing.assert_allclose(statistics_used(config, tmp_path, training), ours, rtol=1e-5)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"init.from_run": None}, "model.network is unset, since this config takes it from a"),
        ({"init.from_run": None, "model.network": "lenet5"}, "model.dropout is unset"),
        ({"init.skip": ("fc9",)}, "init.skip names fc9, but the networks have the layers conv1"),
        ({"init.softmax": True, "model.num_classes": 12}, "--config.init.skip=fc8"),
        ({"init.layers": ("conv1", "fc8")}, "left out by init.skip or init.softmax=False"),
        ({"optimizer.freeze": ("conv9",)}, "optimizer.freeze=conv9: the network has no such"),
        (
            {"data.image_size": 40},
            "whose side is 32 pixels, but data.image_size=40: set one of them",
        ),
        ({"optimizer.new_layers_factor": 0.0}, "layer fc8 is 0.0: expected a number above 0"),
    ],
)
def test_mistakes_get_a_sentence(trained_runs, tmp_path, fields, sentence):
    with pytest.raises(UserError, match=sentence):
        train_and_evaluate(from_run(trained_runs / "quickstart", **fields), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def parameters_of(workdir, step=None):
    folder = workdir / "checkpoints"
    folder, step = warm_start.find_checkpoint(folder / str(step) if step is not None else workdir)
    metadata = checkpoint.shapes_at(folder, step)
    return checkpoint.parameters_at(folder, step, jax.tree.map(warm_start._as_stored, metadata))


def assert_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(a), jax.device_get(b))


@pytest.mark.slow
def test_a_folder_is_learned_by_the_command_and_goes_on_without_the_first_run(tmp_path):
    first, second, images = (tmp_path / name for name in ("first", "second", "images"))
    done = main("--config=configs/quickstart.py:smoke", f"--workdir={first}")
    assert done.returncode == 0, done.stderr
    make_folder(images, np.random.default_rng(4), (".",), ("ant", "bee", "cat"), each=10)
    words = ["--config=configs/finetune.py", f"--config.init.from_run={first}",
             f"--config.data.path={images}", f"--workdir={second}", "--config.batch_size=8",
             "--config.optimizer.freeze=conv1"]  # fmt: skip
    assert_one_sentence(main(*words), "hold images of DIR/CLASS/ out with --config.data.hold_out=5")
    words.append("--config.data.hold_out=5")
    done = main(*words, "--config.num_steps=2")
    assert done.returncode == 0, done.stderr
    assert "Starting with conv1, conv2, conv3, fc6, fc7 from " in done.stdout
    assert "24 training and 6 validation images" in done.stdout
    assert "may lose their meaning" not in done.stdout
    before, after = parameters_of(first), parameters_of(second)
    assert_equal(before["conv1"], after["conv1"])
    assert not np.array_equal(before["conv2"]["kernel"], after["conv2"]["kernel"])
    assert after["fc8"]["bias"].shape == (3,)
    assert (first / "statistics.npz").read_bytes() != b""
    assert_equal(*(Statistics.load(w / "statistics.npz").mean_image for w in (first, second)))
    shutil.rmtree(first)
    done = main(*words, "--config.num_steps=3")
    assert "Going on from step 2 of 3." in done.stdout, done.stderr
    assert json.loads((second / "summary.json").read_text())["validation"]["images"] == 6
    other = main(*words, "--config.init.skip=fc7")
    assert_one_sentence(other, "init.skip is [] there and ['fc7'] here")


@pytest.mark.slow
def test_the_chain_that_pretrained_net_146_runs_from_end_to_end(tmp_path):
    """Each link narrow, on a few classes: what it takes is equal before its first step."""
    convolutions = [f"conv{i}" for i in range(1, 7)]
    links = [
        ("imagenet", "smoke", 8, []),
        ("net146", "2009,smoke", 11, convolutions[:5]),
        ("net146", "2011,smoke", 13, convolutions),
        ("net146", "smoke", 8, [*convolutions, "fc6", "fc7"]),
    ]
    before = None
    for number, (name, argument, classes, taken) in enumerate(links):
        config, workdir = load(name, argument), tmp_path / str(number)
        config.update_from_flattened_dict(
            {"model.width": 1 / 32, "model.num_classes": classes, "data.records": 16,
             "seed": number, "num_steps": 1, "init.from_run": before}
        )  # fmt: skip
        if before is not None:
            start = start_of(config, workdir)
            theirs = parameters_of(pathlib.Path(before))
            for layer in start:
                if layer in taken:
                    assert_equal(start[layer], theirs[layer])
                elif layer in theirs and start[layer]["kernel"].shape == (
                    theirs[layer]["kernel"].shape
                ):
                    assert not np.array_equal(start[layer]["kernel"], theirs[layer]["kernel"])
            assert set(taken) < set(start)
        assert train_and_evaluate(config, workdir)["steps"] == 1
        before = str(workdir)


def start_of(config, workdir):
    """Parameters before the first step, without compiling the steps."""
    architecture = configuration.architecture_of(config)
    plan = configuration.make_plan(
        config,
        architecture,
        num_images=config.data.records,
        data_classes=config.model.num_classes,
    )
    steps = setup.make_steps(config, plan, architecture, miniature.make_mesh(1, 1))
    parts = types.SimpleNamespace(plan=plan, steps=steps)
    with (
        Terminal(speaks=False) as terminal,
        checkpoint.Checkpoints(workdir / "none", keep=1) as none,
    ):
        return restore_or_initialize(parts, none, terminal)[0].parameters
