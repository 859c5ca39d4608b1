"""The 2012 update rule against a NumPy loop, over a whole miniature of net 145's schedule."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alexnet_jax.training import optimizer

# Net 145's schedule at two steps an epoch: drops at 25, 51, 79; conv1 lowered at 67, frozen at 72.
RATES = {
    "weights": ((0, 0.01), (50, 0.001), (102, 0.0001), (158, 0.00001)),
    "biases": ((0, 0.02),),
    "conv1.weights": ((0, 0.01), (50, 0.001), (102, 0.0001), (134, 0.00001), (144, 0.0)),
    "conv1.biases": ((0, 0.02), (144, 0.0)),
}
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
                own = f"conv1.{group}" if layer == "conv1" else group
                rate = reference_rate(own, step)
                if rate == 0:
                    continue
                v = 0.9 * velocity[layer][kind] - rate * gradients[step][layer][kind]
                if kind == "kernel":
                    v = v - 0.0005 * rate * kinds[kind]
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
    rule = optimizer.momentum_sgd(RATES, momentum=0.9, weight_decay=0.0005)
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


@pytest.mark.parametrize("step", [0, 49, 50, 133, 134, 143, 144, 10_000])
def test_logged_rates_are_the_ones_in_use(step):
    for group, rate in optimizer.rates_at(RATES, step).items():
        assert rate == reference_rate(group, step)
        assert float(optimizer.stepped(RATES[group])(step)) == np.float32(rate)


def test_velocity_lies_as_its_parameter_does():
    rule = optimizer.momentum_sgd(RATES, 0.9, 0.0005)
    spec = jax.sharding.PartitionSpec("model")
    specs = {"conv1": {"kernel": spec, "bias": spec}, "fc8": {"kernel": spec, "bias": spec}}
    parameters = {name: {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(2)} for name in specs}
    state = jax.eval_shape(rule.init, parameters)
    laid = optimizer.state_specs(state, specs)
    leaves = list(zip(jax.tree.leaves(state), jax.tree.leaves(laid), strict=True))
    assert sum(leaf.ndim > 0 for leaf, _ in leaves) == 4
    for leaf, found in leaves:
        assert found == (spec if leaf.ndim else jax.sharding.PartitionSpec())
