"""Each kernel equals the reference operation that it replaces, in values and gradients."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alexnet_jax import kernels
from alexnet_jax.kernels.config import KERNELS
from alexnet_jax.model.layers import Convolution
from alexnet_jax.model.low_resolution import LowResolution
from alexnet_jax.model.ops import REFERENCE

# The largest relative error of a kernel, {kernel: (in float64, in float32)}, in the length of each
# array: of the result, and of its gradient by each argument.
BOUNDS = {
    "space_to_depth": (2e-15, 1e-6),
    "space_to_depth_gpu": (2e-15, 1e-6),
    "narrow_conv": (4e-15, 2e-6),
    "winograd": (1e-14, 5e-6),
    "joined_towers": (2e-15, 1e-6),
    "batched_towers": (3e-15, 1e-6),
    "tower_dense": (2e-15, 1e-6),
    "padded_norm": (1e-15, 5e-7),
    "banded_norm": (1e-15, 5e-7),
    "closed_gradients": (1e-15, 5e-7),
    "add_bias": (2e-15, 5e-7),
    "relu": (0, 0),
    "finite_check": (0, 0),
    "materialize": (0, 0),
}
BACKENDS = ("cpu", "gpu")
RANDOM = np.random.default_rng(0)
FIELDS = [field.name for field in dataclasses.fields(REFERENCE)]


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """A call of one field of Operations: function(operations, *arrays), with arrays of float64."""

    field: str
    function: Callable
    arrays: tuple


def normal(*shape, scale=1.0):
    return RANDOM.normal(scale=scale, size=shape)


def convolution(x, kernel, **numbers):
    function = lambda ops, x, kernel: ops.convolve(x, kernel, **numbers)  # noqa: E731
    return Case("convolve", function, (normal(*x), normal(*kernel)))


def norm(field):
    def function(ops, x):
        return getattr(ops, field)(x, 5, k=2.0, alpha=1e-3, beta=0.75)

    return Case(field, function, (normal(2, 5, 6, 7, scale=30),))


def response_norm(towers):
    def function(ops, *arrays):
        return list(ops.response_norm(list(arrays), 5, k=2.0, alpha=1e-3, beta=0.75))

    return Case(
        "response_norm", function, tuple(normal(2, 3, 3, 8, scale=30) for _ in range(towers))
    )


def pool(field, size, stride):
    function = lambda ops, x: getattr(ops, field)(x, size, stride)  # noqa: E731
    return Case(field, function, (normal(2, 9, 8, 3),))


def of_towers(towers_alike):
    """A convolution of two towers, with a coarse view of the image too."""
    layer = Convolution("conv", 8, size=3, padding=1, low_resolution=LowResolution(channels=3))

    def function(ops, x, other, kernel, bias, low_kernel, image):
        params = {"kernel": kernel, "bias": bias, "low_kernel": low_kernel}
        towers = [x, x if towers_alike else other]
        results = ops.convolution_of_towers(layer, towers, params, image, ops)
        return jnp.concatenate(results, axis=-1)

    shapes = [(2, 11, 11, 3)] * 2 + [(2, 3, 3, 3, 4), (2, 4), (2, 5, 5, 3, 4), (2, 96, 96, 3)]
    return Case("convolution_of_towers", function, tuple(normal(*shape) for shape in shapes))


def dense(batch):
    def function(ops, x, other, kernel, bias):
        return list(ops.dense_of_towers([x, other], {"kernel": kernel, "bias": bias}))

    shapes = [(batch, 2, 8, 8)] * 2 + [(2, 128, 6), (2, 6)]
    return Case("dense_of_towers", function, tuple(normal(*shape) for shape in shapes))


def logits():
    function = lambda ops, x, other, kernel: ops.logits_of_towers([x, other], kernel)  # noqa: E731
    return Case("logits_of_towers", function, (normal(3, 8), normal(3, 8), normal(2, 8, 5)))


def has_nonfinite(*places):
    """Of an array with these numbers in it."""
    x = normal(5, 6)
    x.flat[: len(places)] = places
    return Case("has_nonfinite", lambda ops, x: ops.has_nonfinite(x), (x,))


NORMS = [response_norm(1), response_norm(2)]
CASES = {
    "space_to_depth": [
        convolution((2, 15, 15, 3), (5, 5, 3, 8), stride=4),
        convolution((2, 12, 9, 9), (3, 3, 9, 8), stride=2, padding=1, floor=True),
    ],
    "space_to_depth_gpu": [convolution((2, 15, 15, 3), (11, 11, 3, 8), stride=4)],
    "narrow_conv": [
        convolution((2, 9, 9, 3), (5, 5, 3, 16), padding=2),
        convolution((2, 8, 9, 7), (3, 3, 7, 16), padding=1),
        convolution((2, 8, 9, 12), (5, 5, 12, 32), padding=0),
    ],
    "winograd": [
        convolution((2, 13, 13, 32), (3, 3, 32, 48), padding=1),
        convolution((2, 14, 14, 16), (5, 5, 16, 16), padding=2),
    ],
    "joined_towers": [of_towers(True), of_towers(False), logits()],
    "batched_towers": [of_towers(True), of_towers(False), dense(3), logits()],
    "tower_dense": [dense(3), dense(40), dense(70)],
    "padded_norm": NORMS,
    "banded_norm": NORMS,
    "closed_gradients": [
        *NORMS, norm("spatial_norm"), norm("contrast_norm"),
        pool("max_pool", 3, 2), pool("max_pool", 2, 2), pool("max_pool", 3, 1),
        pool("average_pool", 3, 2), pool("average_pool", 2, 2),
    ],
    "add_bias": [Case("add_bias", lambda ops, y, bias: ops.add_bias(y, bias),
                      (normal(4, 8, 6, 5), normal(5)))],
    "relu": [Case("relu", lambda ops, x: ops.relu(x),
                  (np.concatenate([normal(60), np.zeros(4)]).reshape(4, 16),))],
    "finite_check": [has_nonfinite(), has_nonfinite(np.nan), has_nonfinite(-np.inf, np.inf)],
    "materialize": [Case("materialize", lambda ops, x: ops.materialize({"x": x})["x"],
                         (normal(3, 4),))],
}  # fmt: skip


def replaced_fields(kernel):
    """The fields of Operations that a kernel alone replaces on some backend."""
    chosen = [kernels.select(kernel, backend) for backend in BACKENDS]
    return {
        field for field in FIELDS for ops in chosen
        if getattr(ops, field) is not getattr(REFERENCE, field)
    }  # fmt: skip


def test_every_kernel_has_a_bound_and_a_case_for_all_that_it_replaces():
    assert list(BOUNDS) == list(CASES) == list(KERNELS)
    for kernel, cases in CASES.items():
        assert {case.field for case in cases} == replaced_fields(kernel), kernel
    assert {case.field for cases in CASES.values() for case in cases} == set(FIELDS)


def value_and_pull(case, ops, arrays):
    """The result, and the gradient of a weighted sum of it by each array."""
    result, pull = jax.vjp(lambda *arrays: case.function(ops, *arrays), *arrays)
    random = np.random.default_rng(1)
    weights = jax.tree.map(lambda x: random.normal(size=x.shape).astype(x.dtype), result)
    return result, pull(weights)


def with_gradients(case, ops, arrays):
    if case.field == "has_nonfinite":  # a boolean
        return jax.jit(lambda x: case.function(ops, x))(*arrays)
    return jax.device_get(jax.jit(lambda *arrays: value_and_pull(case, ops, arrays))(*arrays))


@functools.cache
def expected(case, dtype):
    return with_gradients(case, REFERENCE, [array.astype(dtype) for array in case.arrays])


# Kernels with a form for GPUs, which is computed here too; the others fall back to the reference.
FORMS = [(kernel, "cpu") for kernel in KERNELS if kernel != "space_to_depth_gpu"] + [
    (kernel, "gpu")
    for kernel in ("space_to_depth_gpu", "padded_norm", "closed_gradients", "add_bias")
]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("kernel", "backend"), FORMS)
def test_a_kernel_equals_its_reference_operation(monkeypatch, kernel, backend, dtype):
    bound = BOUNDS[kernel][dtype == "float32"]
    with jax.enable_x64(True):
        for case in CASES[kernel]:
            theirs = expected(case, dtype)
            arrays = [array.astype(dtype) for array in case.arrays]
            with monkeypatch.context() as patch:
                patch.setattr(jax, "default_backend", lambda: backend)
                ours = with_gradients(case, kernels.select(kernel, backend), arrays)
            for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
                assert (a.dtype, a.shape) == (b.dtype, b.shape)
                a, b = np.float64(a).ravel(), np.float64(b).ravel()
                error, length = np.linalg.norm(a - b), np.linalg.norm(b)
                assert error <= bound * length, f"{case.field}: {error / length:.1e}"


@pytest.mark.parametrize(("kernel", "backend"), FORMS)
def test_the_cases_of_a_kernel_take_it(monkeypatch, kernel, backend):
    """Else their equality would say nothing."""
    monkeypatch.setattr(jax, "default_backend", lambda: backend)

    def program(case, ops):
        arrays = [array.astype("float32") for array in case.arrays]
        if case.field == "has_nonfinite":
            return str(jax.make_jaxpr(lambda x: case.function(ops, x))(*arrays))
        return str(jax.make_jaxpr(lambda *arrays: value_and_pull(case, ops, arrays))(*arrays))

    ops = kernels.select(kernel, backend)
    taken = {case.field for case in CASES[kernel] if program(case, ops) != program(case, REFERENCE)}
    assert taken == {case.field for case in CASES[kernel]}
