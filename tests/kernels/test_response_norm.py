"""The sums of norms across channels, and what a GPU keeps and rounds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alexnet_jax.kernels import response_norm
from tests.support import reference


def test_a_gpus_norms_keep_their_input_alone(monkeypatch):
    """In bfloat16 no array of float32 lies between the passes, however XLA fuses them."""
    x = jnp.ones((2, 3, 3, 8), jnp.bfloat16)

    def kept(x):
        _, backward = jax.vjp(
            lambda x: response_norm.response_norm([x], 5, k=2.0, alpha=1e-4, beta=0.75), x
        )
        return {str(leaf.dtype) for leaf in jax.tree.leaves(backward) if leaf.size > 1}

    assert kept(x) == {"bfloat16", "float32"}
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert kept(x) == {"bfloat16"}


def test_a_gpus_norms_round_the_gradient_little_in_bfloat16(monkeypatch):
    """Sums are of numbers with eight bits, as the gradients that come in and go out have."""
    random = np.random.default_rng(0)
    x, weights = (random.normal(scale=s, size=(4, 9, 9, 32)).astype(np.float32) for s in (60, 1))

    def gradient(dtype):
        def loss(x):
            y = response_norm.response_norm([x.astype(dtype)], 5, k=2.0, alpha=1e-4, beta=0.75)
            return (weights.astype(dtype) * y[0]).sum(dtype=jnp.float32)

        return np.asarray(jax.jit(jax.grad(loss))(x))

    def error():
        return np.linalg.norm(gradient(jnp.bfloat16) - exact) / np.linalg.norm(exact)

    exact = gradient(jnp.float32)
    kept = error()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert 0 < error() < 1.5 * kept


@pytest.mark.parametrize("towers", [1, 2, 4])
@pytest.mark.parametrize("n", [3, 4, 5, 9])
def test_all_sums_of_norms_equal_loops_and_have_one_gradient(float64, n, towers):
    """Windows of nine reach through a tower of two channels into the one behind it."""
    random = np.random.default_rng(0)
    x, weights = 30 * random.normal(size=(2, 3, 3, 8)), random.normal(size=(2, 3, 3, 8))

    def loss(x, form):
        arrays = jnp.split(x, towers, axis=-1)
        y = response_norm.response_norm(arrays, n, k=2.0, alpha=1e-3, beta=0.75, sums=form)
        y = jnp.concatenate(y, axis=-1)
        return (weights * y).sum(), y

    expected = reference.across_channels(x, n, 2.0, 1e-3, 0.75)
    forms = ("padded", "shifts", "banded")
    gradient = jax.grad(loss, has_aux=True)
    results = jax.jit(lambda x: [gradient(x, form) for form in forms])(x)
    for gradient, result in results:
        np.testing.assert_allclose(result, expected, rtol=1e-13)
        np.testing.assert_allclose(gradient, results[0][0], rtol=1e-11, atol=1e-14)
