"""Rules of optax by name, and the clipping of gradients, against NumPy and optax on plain trees."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from alexnet_jax.runtime.errors import UserError
from alexnet_jax.training import custom_optimizers, optimizer
from alexnet_jax.training.config_check import check_config
from alexnet_jax.training.plan import architecture_of
from tests.support import miniature
from tests.training.test_plan import load

GROUPS = {
    "weights": optimizer.Group(((0, 0.01), (4, 0.001)), 0.1),
    "biases": optimizer.Group(((0, 0.02),)),
    "conv1.weights": optimizer.Group(((0, 0.01), (3, 0.0)), 0.1),
    "conv1.biases": optimizer.Group(((0, 0.02), (3, 0.0))),
}
STEPS = 6


def tree(seed):
    random = np.random.default_rng(seed)
    return {layer: {"kernel": random.normal(size=(2, 3, 4)), "bias": random.normal(size=(2, 4))}
            for layer in ("conv1", "fc2")}  # fmt: skip


def rate(layer, kind, step):
    name = "biases" if kind == "bias" else "weights"
    group = GROUPS.get(f"{layer}.{name}", GROUPS[name])
    return [rate for start, rate in group.learning_rates if start <= step][-1]


def run(rule):
    """The parameters after each step, with a rate factor of one half."""
    parameters = jax.tree.map(jnp.asarray, tree(0))
    state, history = rule.init(parameters), []
    for step in range(STEPS):
        updates, state = rule.update(tree(step + 1), state, parameters, rate_factor=0.5)
        parameters = optax.apply_updates(parameters, updates)
        history.append(jax.device_get(parameters))
    return history


def test_adamw_equals_a_numpy_loop_with_its_groups_rates_and_decays(float64):
    ours = run(optimizer.named_rule("adamw", GROUPS, 0.9, arguments={"b1": 0.8, "b2": 0.95}))
    w = tree(0)
    m, v = ({layer: {k: np.zeros_like(x) for k, x in kinds.items()} for layer, kinds in w.items()}
            for _ in range(2))  # fmt: skip
    for step in range(STEPS):
        gradients = tree(step + 1)
        for layer, kinds in w.items():
            for kind in kinds:
                eta = rate(layer, kind, step)
                if not eta:
                    continue
                g = gradients[layer][kind]
                m[layer][kind] = 0.8 * m[layer][kind] + 0.2 * g
                v[layer][kind] = 0.95 * v[layer][kind] + 0.05 * g**2
                direction = m[layer][kind] / (1 - 0.8 ** (step + 1))
                direction /= np.sqrt(v[layer][kind] / (1 - 0.95 ** (step + 1))) + 1e-8
                decay = 0.1 if kind == "kernel" else 0.0
                kinds[kind] = kinds[kind] - 0.5 * eta * (direction + decay * kinds[kind])
                np.testing.assert_allclose(ours[step][layer][kind], kinds[kind], rtol=1e-12)
    np.testing.assert_array_equal(ours[-1]["conv1"]["bias"], ours[2]["conv1"]["bias"])


def test_optaxs_sgd_by_name_is_the_rule_of_2012_while_rates_stand_still(float64):
    """Where they change, 2012 keeps velocities that have the old rate in them."""
    groups = {name: optimizer.Group(group.learning_rates[:1], group.weight_decay)
              for name, group in GROUPS.items()}  # fmt: skip
    ours = run(optimizer.named_rule("sgd", groups, 0.9))
    theirs = run(optimizer.momentum_sgd(groups, 0.9))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), ours, theirs)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(custom_optimizers.names()) - {"momentum", "lars"}))
def test_every_rule_of_optax_takes_steps(name):
    rule = optimizer.named_rule(name, GROUPS, 0.9)
    history = run(rule)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(history[-1]))
    assert not np.array_equal(history[-1]["fc2"]["kernel"], history[-2]["fc2"]["kernel"])
    np.testing.assert_array_equal(history[-1]["conv1"]["bias"], history[2]["conv1"]["bias"])


def test_lengths_and_rules_that_dont_exist_are_not_listed():
    names = custom_optimizers.names()
    assert {"momentum", "lars", "sgd", "adam", "adamw", "lion", "lamb"} <= set(names)
    assert not {"lbfgs", "scale_by_rprop", "clip", "ema"} & set(names)


@pytest.mark.parametrize("split_dense", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_clipping_on_four_devices_is_that_of_optax_on_one(float64, split_dense):
    """Of gradients of which towers or dense layers lie on several devices."""
    data, model = (4, 1) if split_dense else (2, 2)
    (plain,) = miniature.run("tiny", 1, 1, 1, "float64")
    norm = float(plain["scores"]["gradient_norm"])
    clipped = {"clip_norm": norm / 3, "optimizer": optax.with_extra_args_support(optax.sgd(1.0))}
    unclipped = clipped | {"clip_norm": norm * 3}
    before = jax.device_get(miniature.make_steps("tiny", 1, 1, "float64").initial_state())
    ours = []
    for choice in (clipped, unclipped):
        (after,) = miniature.run("tiny", data, model, 1, "float64", split_dense, **choice)
        ours.append(jax.tree.map(lambda a, b: a - b, before.parameters, after["parameters"]))
    expected, _ = optax.clip_by_global_norm(norm / 3).update(ours[1], optax.EmptyState())
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-15),
                 ours[0], jax.device_get(expected))  # fmt: skip
    assert np.sqrt(sum((x**2).sum() for x in jax.tree.leaves(ours[1]))) == pytest.approx(norm)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"rule": "adamx"},
            "optimizer.rule is 'adamx': did you mean adamax. Expected one of .*lion",
        ),
        ({"rule": "lbfgs"}, "optimizer.rule is 'lbfgs'"),
        ({"clip_norm": 0.0}, "optimizer.clip_norm=0 must be above 0"),
        (
            {"rule": "adam", "velocity_dtype": "bfloat16"},
            "velocity_dtype is for the rules momentum",
        ),
        ({"arguments": {"b1": 0.9}}, "optimizer.arguments={'b1': 0.9} are for rules of optax"),
        ({"rule": "lamb", "layout": "towers"}, "rule=lamb measures whole arrays"),
    ],
)
def test_what_cant_be_is_refused(changes, sentence):
    config = load("quickstart", "smoke")
    config.parallel.layout = changes.pop("layout", "data") if "layout" in changes else "data"
    for name, value in changes.items():
        config.optimizer[name] = value
    with pytest.raises(UserError, match=sentence):
        check_config(config, architecture_of(config), 2)


def test_arguments_that_a_rule_does_not_take_are_answered_with_those_that_it_takes():
    with pytest.raises(UserError, match="rule=adamw can't be made .* expected some of .*b2"):
        optimizer.named_rule("adamw", GROUPS, 0.9, arguments={"beta2": 0.9})


def test_names_of_rules_are_taken_once():
    for name in ("momentum", "adamw"):
        with pytest.raises(UserError, match="exists already"):
            custom_optimizers.register_optimizer(name)
