"""Arrays that are written to memory: once, with derivatives, on several devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alexnet_jax.kernels import materialize
from tests.support.kernel_checks import assert_equal, computed, tuned


def test_what_is_written_is_computed_apart_from_what_reads_it():
    """Else XLA puts it into what reads it, and computes it for each place that it is read at."""

    def three_times(x, keep):
        y = keep(jnp.sin(x) * x)
        return sum(jnp.pad(y, ((i, 2 - i), (0, 0))) for i in range(3))

    def is_one_part(keep):
        program = jax.jit(three_times, static_argnums=1).lower(jnp.ones((8, 8)), keep).compile()
        computations = program.as_text().split("\n\n")
        assert any(" sine(" in one for one in computations)
        return any(" sine(" in one and " pad(" in one for one in computations)

    assert not is_one_part(materialize.materialize)
    with materialize.fused_freely():
        assert is_one_part(lambda y: materialize.materialize(y))
    # What the function is for: jax's own barrier does not help on a CPU.
    assert is_one_part(lambda y: y)
    assert is_one_part(jax.lax.optimization_barrier)


@pytest.mark.parametrize("name", ["cifar_towers", "cifar_18pct"])
def test_a_network_fused_freely_equals_the_tuned_network(float64, name):
    expected = tuned(name)
    with materialize.fused_freely():
        assert_equal(computed(name, "tuned"), expected, 1e-12)


def test_what_is_written_passes_through_derivatives_and_devices(float64):
    x = jnp.arange(6.0).reshape(2, 3)
    function = lambda x: jnp.sin(materialize.materialize({"x": x})["x"]).sum()  # noqa: E731
    np.testing.assert_allclose(jax.grad(function)(x), np.cos(x))
    np.testing.assert_allclose(jax.vmap(function)(x), np.sin(x).sum(1))
