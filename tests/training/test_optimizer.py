"""The 2012 update rule against a NumPy loop, over a whole miniature of net 145's schedule."""

import math

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest

from alexnet_jax.training import optimizer

# Net 145's schedule at two steps an epoch: drops at 25, 51, 79; conv1 lowered at 67, frozen at 72.
RATES = {
    "weights": ((0, 0.01), (50, 0.001), (102, 0.0001), (158, 0.00001)),
    "biases": ((0, 0.02),),
    "conv1.weights": ((0, 0.01), (50, 0.001), (102, 0.0001), (134, 0.00001), (144, 0.0)),
    "conv1.biases": ((0, 0.02), (144, 0.0)),
    "fc8.weights": ((0, 0.01), (50, 0.001), (102, 0.0001), (158, 0.00001)),
}
DECAYS = {"weights": 0.0005, "conv1.weights": 0.0005, "fc8.weights": 1.0}
GROUPS = {name: optimizer.Group(rates, DECAYS.get(name, 0.0)) for name, rates in RATES.items()}
STEPS = 182


def reference_rate(group, step):
    return [rate for start, rate in RATES[group] if start <= step][-1]


def reference_run(parameters, gradients):
    """weights.cu, as section 4 of its description has it: V, then W, nothing at rate 0."""
    parameters = {name: dict(kinds) for name, kinds in parameters.items()}
    velocity = {name: dict.fromkeys(kinds, 0.0) for name, kinds in parameters.items()}
    history = []
    for step in range(STEPS):
        for layer, kinds in parameters.items():
            for kind in kinds:
                group = "biases" if kind == "bias" else "weights"
                own = f"{layer}.{group}" if f"{layer}.{group}" in RATES else group
                rate = reference_rate(own, step)
                if rate == 0:
                    continue
                v = 0.9 * velocity[layer][kind] - rate * gradients[step][layer][kind]
                if kind == "kernel":
                    v = v - DECAYS[own] * rate * kinds[kind]
                velocity[layer][kind] = v
                kinds[kind] = kinds[kind] + v
        history.append({name: dict(kinds) for name, kinds in parameters.items()})
    return history


def test_the_rule_equals_a_numpy_loop_over_net_145s_schedule(float64):
    random = np.random.default_rng(0)

    def draw(scale):
        return {
            layer: {"kernel": scale * random.normal(size=(2, 5, 3)),
                    "bias": scale * random.normal(size=(2, 3))}
            for layer in ("conv1", "conv2", "fc8")
        }  # fmt: skip

    start, gradients = draw(1.0), [draw(100.0) for _ in range(STEPS)]
    expected = reference_run(start, gradients)
    rule = optimizer.momentum_sgd(GROUPS, momentum=0.9)
    parameters = jax.tree.map(jnp.asarray, start)
    state = rule.init(parameters)
    update = jax.jit(rule.update)
    for step in range(STEPS):
        updates, state = update(gradients[step], state, parameters)
        parameters = jax.tree.map(jnp.add, parameters, updates)
        for layer, kinds in expected[step].items():
            for kind, value in kinds.items():
                error = np.linalg.norm(parameters[layer][kind] - value)
                assert error < 1e-12 * np.linalg.norm(value), (step, layer, kind)
    # Frozen means frozen: conv1 ended where it was at step 144, while conv2's biases went on.
    np.testing.assert_array_equal(expected[143]["conv1"]["kernel"], expected[-1]["conv1"]["kernel"])
    assert not np.array_equal(expected[143]["conv2"]["bias"], expected[-1]["conv2"]["bias"])


def test_lars_equals_optaxs_own_with_each_tower_as_a_layer(float64):
    """Equal rates of weights and biases, which optax.lars leaves out by its masks."""
    groups = {"weights": optimizer.Group(((0, 0.3),), 0.01), "biases": optimizer.Group(((0, 0.3),))}
    rule = optimizer.momentum_sgd(groups, 0.9, trust_coefficient=0.02)
    random = np.random.default_rng(1)

    def draw(scale):
        shapes = {"conv1": {"kernel": (2, 5, 3), "bias": (2, 3)},
                  "fc8": {"kernel": (2, 4, 7), "bias": (7,)}}  # fmt: skip
        # The second tower has other lengths than the first, so one ratio for both would be seen.
        return {layer: {kind: scale * random.normal(size=shape) * (1 + 3 * np.arange(shape[0]))
                        .reshape(-1, *[1] * (len(shape) - 1)) for kind, shape in kinds.items()}
                for layer, kinds in shapes.items()}  # fmt: skip

    def apart(parameters):
        return {layer: {"kernel": list(kinds["kernel"]), "bias": kinds["bias"]}
                for layer, kinds in parameters.items()}  # fmt: skip

    ours = jax.tree.map(jnp.asarray, draw(1.0))
    theirs = apart(ours)
    weights = {layer: {"kernel": True, "bias": False} for layer in ours}
    reference = optax.lars(0.3, 0.01, weights, trust_coefficient=0.02, trust_ratio_mask=weights)
    state, their_state = rule.init(ours), reference.init(theirs)
    update, their_update = jax.jit(rule.update), jax.jit(reference.update)
    for _ in range(20):
        gradients = draw(100.0)
        updates, state = update(gradients, state, ours)
        ours = optax.apply_updates(ours, updates)
        updates, their_state = their_update(apart(gradients), their_state, theirs)
        theirs = optax.apply_updates(theirs, updates)
    for a, b in zip(jax.tree.leaves(apart(ours)), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


@pytest.mark.parametrize("step", [0, 49, 50, 133, 134, 143, 144, 10_000])
def test_logged_rates_are_the_ones_in_use(step):
    for group, rate in optimizer.learning_rates_at(GROUPS, optimizer.Schedule(), step).items():
        assert rate == reference_rate(group, step)
        assert float(optimizer.stepped(RATES[group])(step)) == np.float32(rate)


def test_velocity_lies_as_its_parameter_does():
    rule = optimizer.momentum_sgd(GROUPS, 0.9)
    spec = jax.sharding.PartitionSpec("model")
    specs = {"conv1": {"kernel": spec, "bias": spec}, "fc8": {"kernel": spec, "bias": spec}}
    parameters = {name: {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(2)} for name in specs}
    state = jax.eval_shape(rule.init, parameters)
    laid = optimizer.state_specs(state, specs)
    leaves = list(zip(jax.tree.leaves(state), jax.tree.leaves(laid), strict=True))
    assert sum(leaf.ndim > 0 for leaf, _ in leaves) == 4  # a velocity for each parameter
    for leaf, found in leaves:
        assert found == (spec if leaf.ndim else jax.sharding.PartitionSpec())


def moved(schedule, rate_factor=1.0, steps=40):
    """Where one weight goes under a gradient of 1."""
    groups = {
        "weights": optimizer.Group(((0, 0.1),), 0.01),
        "biases": optimizer.Group(((0, 0.1),)),
    }
    rule = optimizer.momentum_sgd(groups, 0.9, schedule=schedule)
    parameters = {"fc": {"kernel": jnp.ones(()), "bias": jnp.ones(())}}
    state, update, path = rule.init(parameters), jax.jit(rule.update), []
    for _ in range(steps):
        ones = jax.tree.map(jnp.ones_like, parameters)
        updates, state = update(ones, state, parameters, rate_factor=rate_factor)
        parameters = jax.tree.map(jnp.add, parameters, updates)
        path.append(float(parameters["fc"]["kernel"]))
    return path


def loop(factors):
    """The same by the formula, with these factors on the rate."""
    w, v, path = 1.0, 0.0, []
    for factor in factors:
        v = 0.9 * v - 0.01 * 0.1 * factor * w - 0.1 * factor
        w += v
        path.append(w)
    return path


SCHEDULES = {
    "warm-up": (optimizer.Schedule(warmup=10), lambda t: min(1, (t + 1) / 10)),
    "one step of warm-up": (optimizer.Schedule(warmup=1), lambda t: 1.0),
    "cosine": (optimizer.Schedule(cosine=40), lambda t: (1 + math.cos(math.pi * t / 40)) / 2),
    "both": (
        optimizer.Schedule(warmup=8, cosine=40),
        lambda t: (t + 1) / 8 if t < 8 else (1 + math.cos(math.pi * (t - 8) / 32)) / 2,
    ),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_warm_up_and_cosine_move_weights_as_a_loop_does(float64, name):
    schedule, factor = SCHEDULES[name]
    # optax computes a schedule's factor in float32.
    np.testing.assert_allclose(moved(schedule), loop(map(factor, range(40))), rtol=1e-5, atol=1e-6)
    groups = {"weights": optimizer.Group(((0, 0.1),))}
    for step in (0, 7, 8, 39):
        logged = optimizer.learning_rates_at(groups, schedule, step)["weights"]
        assert logged == pytest.approx(0.1 * factor(step), rel=1e-6)


def test_the_plateau_factor_scales_rate_and_decay(float64):
    np.testing.assert_allclose(moved(optimizer.Schedule(), 0.01), loop([0.01] * 40), rtol=1e-9)


def test_the_plateau_rule_divides_when_the_error_stops_improving():
    rule, seen, drops = (
        optimizer.Plateau(patience=2, factor=10, times=3),
        optimizer.PlateauState(),
        [],
    )
    better, worse_and_equal, better_again = [0.9, 0.8, 0.7], [0.75, 0.7], [0.6]
    never_better = [0.61, 0.62, 0.6, 0.65, 0.7, 0.8]
    for error in better + worse_and_equal + better_again + never_better:
        seen = rule.observe(seen, error)
        drops.append(seen.drops)
    assert drops == [0, 0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 3]
    assert rule.rate_factor(seen) == pytest.approx(1e-3)
    assert seen.best == 0.6


def test_a_bfloat16_velocity_equals_a_numpy_loop():
    """Momentum and sum in float32; the step is the sum, and what is kept is rounded."""
    random = np.random.default_rng(0)
    gradients = random.normal(size=(60, 200)).astype(np.float32)
    w, v = random.normal(size=200).astype(np.float32), np.zeros(200, ml_dtypes.bfloat16)
    groups = {"weights": optimizer.Group(((0, 0.25),), 0.5), "biases": optimizer.Group(((0, 1.0),))}
    rule = optimizer.momentum_sgd(groups, 0.9, velocity_dtype="bfloat16")
    parameters = {"fc": {"kernel": jnp.asarray(w)}}
    state, update = rule.init(parameters), jax.jit(rule.update)
    for gradient in gradients:
        updates, state = update({"fc": {"kernel": gradient}}, state, parameters)
        parameters = jax.tree.map(jnp.add, parameters, updates)
        sums = np.float32(-0.25) * (gradient + np.float32(0.5) * w) + np.float32(0.9) * np.float32(
            v
        )
        v, w = sums.astype(ml_dtypes.bfloat16), w + sums
    kept = [leaf for leaf in jax.tree.leaves(state) if leaf.dtype == jnp.bfloat16]
    assert [leaf.shape for leaf in kept] == [(200,)]
    np.testing.assert_allclose(parameters["fc"]["kernel"], w, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(np.float32(kept[0]), np.float32(v), rtol=2**-7)
