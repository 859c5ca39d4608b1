"""Every formulation computes the plain network, its gradients included, on one device and two."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alexnet_jax.kernels import (
    convolution,
    dispatch,
    materialize,
    narrow_conv,
    response_norm,
    tower_dense,
    winograd,
)
from alexnet_jax.kernels.config import PLAIN, Formulation
from alexnet_jax.model import alexnet, layers, ops, sharding
from alexnet_jax.model import architecture as model_architecture
from alexnet_jax.model.networks import NETWORKS
from alexnet_jax.parallel import mesh as meshes
from alexnet_jax.training import plan as configuration
from alexnet_jax.training import setup
from tests.support import miniature, reference
from tests.training.test_plan import load

CLASSES, ROWS, SIDE = 7, 2, 98
FORMULATIONS = {
    "space to depth": Formulation(strided="space_to_depth"),
    "banded": Formulation(norm_sums="banded"),
    "shifts": Formulation(norm_sums="shifts"),
    "separate": Formulation(towers="separate"),
    "batched": Formulation(towers="batched"),
    "automatic": Formulation(gradients="automatic"),
    "as it trains": PLAIN,
    "few as others": Formulation(few_maps="windows"),
    "dense as such": Formulation(dense="products"),
    "all": Formulation("space_to_depth", "windows", "windows", "products", "banded", "batched"),
}
# Different strides, paddings and norms, and a second view of the image in net 137.
ONE_TOWER, TWO_TOWERS = (
    ("zfnet", "one_weird_trick"),
    ("net145", "bvlc_alexnet", "caffenet", "net137", "net147"),
)
QUICK = [
    ("net145", "all", 1),
    ("net145", "automatic", 1),
    ("bvlc_alexnet", "separate", 1),
    ("quickstart", "all", 2),
    ("cifar_towers", "as it trains", 2),
    ("cifar_towers", "few as others", 2),
    ("lenet5", "few as others", 1),
]
SLOW = [
    *(
        ("net145", formulation, 1)
        for formulation in ("space to depth", "shifts", "banded", "batched")
    ),
    *((name, "all", 1) for name in ONE_TOWER + TWO_TOWERS[1:]),
    *((name, "separate", 1) for name in ("net145", *TWO_TOWERS[2:])),
    *((name, "all", 2) for name in TWO_TOWERS),
]


def narrow(name):
    """Few pixels, so many that conv1's last windows hang over the edge where the ceiling rules."""
    return dataclasses.replace(NETWORKS[name].with_width(1 / 16), input_size=SIDE)


@functools.cache
def given(name):
    """Images and parameters large enough for norms, ReLUs and towers to matter, in float64."""
    random = np.random.default_rng(0)
    architecture = narrow(name)

    def draw(shape, kind):
        inputs = 10 if kind == "bias" else np.prod(shape[1:-1])
        return random.normal(scale=(2 / inputs) ** 0.5, size=shape)

    parameters = {
        layer: {kind: draw(shape, kind) for kind, shape in kinds.items()}
        for layer, kinds in architecture.parameter_shapes(CLASSES).items()
    }
    side = architecture.input_size
    return random.normal(scale=50, size=(ROWS, side, side, architecture.channels)), parameters


def computed(name, formulation, model=1):
    """Logits in training, and the gradients of a weighted sum of them by parameters and images."""
    architecture = narrow(name)
    graph = alexnet.graph_of(architecture, CLASSES)
    images, parameters = given(name)
    keys = jax.random.split(jax.random.key(3), ROWS)
    weights = np.random.default_rng(1).normal(size=(ROWS, CLASSES))

    def loss(parameters, images, keys):
        logits = alexnet.apply(graph, parameters, images, keys, jnp.float64, formulation)
        return (weights * logits).sum(), logits

    function = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)
    if model > 1:
        spec, whole = sharding.partition_specs(architecture, True), jax.sharding.PartitionSpec()
        function = jax.shard_map(
            function, mesh=miniature.make_mesh(1, model), in_specs=(spec, whole, whole),
            out_specs=((whole, whole), (spec, whole)),
        )  # fmt: skip
    return jax.device_get(jax.jit(function)(parameters, images, keys))


plain = functools.cache(functools.partial(computed, formulation=PLAIN))


def assert_equal(ours, theirs, bound):
    pairs = zip(jax.tree_util.tree_leaves_with_path(ours), jax.tree.leaves(theirs), strict=True)
    for (path, a), b in pairs:
        assert np.linalg.norm(b) > 0, path
        assert np.linalg.norm(a - b) <= bound * np.linalg.norm(b), jax.tree_util.keystr(path)


@pytest.mark.parametrize(
    ("name", "formulation", "model"),
    [*QUICK, *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW)],
)
def test_a_formulation_equals_the_plain_network(float64, name, formulation, model):
    assert_equal(computed(name, FORMULATIONS[formulation], model), plain(name), 1e-11)


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("bvlc_alexnet", 1),
        ("quickstart", 2),
        pytest.param("net145", 1, marks=pytest.mark.slow),
        pytest.param("bvlc_alexnet", 2, marks=pytest.mark.slow),
    ],
)
def test_what_a_gpu_computes_equals_the_plain_network(float64, monkeypatch, name, model):
    """Its forms, computed here: folded strides, shifted sums, norms that keep no denominator."""
    expected = plain(name)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert_equal(computed(name, PLAIN, model), expected, 1e-11)


def test_a_gpus_norms_keep_their_maps_alone(monkeypatch):
    """In bfloat16 no array of float32 lies between the passes, however XLA fuses them."""
    x = jnp.ones((2, 3, 3, 8), jnp.bfloat16)

    def kept(x):
        _, backward = jax.vjp(lambda x: response_norm.response_norm([x], 5, 2.0, 1e-4, 0.75), x)
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
            y = response_norm.response_norm([x.astype(dtype)], 5, 2.0, 1e-4, 0.75)
            return (weights.astype(dtype) * y[0]).sum(dtype=jnp.float32)

        return np.asarray(jax.grad(loss)(jnp.asarray(x)))

    def error():
        return np.linalg.norm(gradient(jnp.bfloat16) - exact) / np.linalg.norm(exact)

    exact = gradient(jnp.float32)
    kept = error()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert 0 < error() < 1.5 * kept


def test_only_convolutions_of_few_maps_are_folded_on_a_gpu(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")

    def strides(maps):
        layer = layers.Convolution("conv", filters=8, size=5, stride=2)
        own = {"kernel": jnp.ones((5, 5, maps, 8)), "bias": jnp.zeros(8)}
        form = dispatch._form(layer, PLAIN)
        run = lambda x: layer(x, own, x, convolve=form)  # noqa: E731
        return "stride = [2, 2]" in jax.jit(setup).lower(jnp.ones((1, 9, 9, maps))).as_text()

    assert (strides(3), strides(8)) == (False, True)


@pytest.mark.slow
@pytest.mark.parametrize(("data", "model", "split_dense"), [(2, 1, True), (2, 2, False)])
def test_the_step_is_the_same_in_every_layout(float64, data, model, split_dense):
    """All at once, with dense layers split over devices, or towers and rows."""

    def gradients(data, model, split_dense, formulation):
        steps = miniature.make_steps("quickstart", data, model, "float64", split_dense=split_dense)
        steps = dataclasses.replace(steps, formulation=formulation)
        preprocessing = meshes.put_replicated(steps.mesh, miniature.preprocessing_of("quickstart"))
        batch = miniature.put(steps, *miniature.batch_of("quickstart", 0))
        return jax.device_get(steps.gradients()(steps.initial_state(), *batch, preprocessing)[0])

    ours = gradients(data, model, split_dense, FORMULATIONS["all"])
    assert_equal(ours, gradients(1, 1, False, PLAIN), 1e-11)


def test_winograds_columns_give_the_gradients_of_windows_on_two_devices(float64):
    """At full width, since narrower networks are computed as others."""

    def gradients(data, formulation):
        architecture = NETWORKS["cifar_18pct"]
        steps = miniature.make_steps("", data, 1, "float64", architecture=architecture)
        steps = dataclasses.replace(steps, formulation=formulation)
        preprocessing = miniature.plain_preprocessing(steps)
        batch = miniature.put(steps, *miniature.batch_of("quickstart", 0))
        return jax.device_get(steps.gradients()(steps.initial_state(), *batch, preprocessing)[0])

    windows = gradients(1, Formulation(small_windows="windows"))
    assert_equal(gradients(2, PLAIN), windows, 1e-11)


@pytest.mark.parametrize("formulation", ["plain", "batched"])
@pytest.mark.parametrize("name", ["net145", "net137", "bvlc_alexnet"])
def test_no_formulation_has_grouped_convolutions(name, formulation):
    architecture = narrow(name)
    graph = alexnet.graph_of(architecture, CLASSES)
    shapes = jax.tree.map(
        lambda shape: jax.ShapeDtypeStruct(shape, jnp.float32),
        architecture.parameter_shapes(CLASSES), is_leaf=lambda leaf: isinstance(leaf, tuple),
    )  # fmt: skip

    def loss(parameters, images):
        how = {"plain": PLAIN, **FORMULATIONS}[formulation]
        how = dataclasses.replace(
            how, few_maps="windows", small_windows="windows", dense="products"
        )
        return alexnet.apply(graph, parameters, images, formulation=how).sum()

    images = jax.ShapeDtypeStruct((ROWS, SIDE, SIDE, 3), jnp.float32)
    text = jax.jit(jax.grad(loss)).lower(shapes, images).as_text()
    assert set(re.findall(r"(?:feature|batch)_group_count = (\d+)", text)) == {"1"}
    convolutions = len(re.findall(r"stablehlo.convolution\(", text))
    # One for conv1 and conv3, else two or none; twice as many backward, but once for conv1's
    # kernel. conv2's kernels of the second view of the image are four more in net 137.
    expected = {"plain": 8 + 15 + (4 if name == "net137" else 0), "batched": 2 + 3}
    assert convolutions == expected[formulation]


@pytest.mark.parametrize("form", [convolution.convolve_folded, convolution.convolve_patches])
@pytest.mark.parametrize("floor", [False, True])
@pytest.mark.parametrize(
    ("length", "size", "stride", "padding"),
    [(15, 5, 4, 0), (9, 5, 2, 2), (12, 11, 4, 1), (10, 4, 2, 0), (11, 2, 3, 0), (7, 3, 1, 1)],
)
def test_a_form_of_a_convolution_equals_loops(float64, form, floor, length, size, stride, padding):
    random = np.random.default_rng(0)
    x, kernel = random.normal(size=(2, length, length, 3)), random.normal(size=(size, size, 3, 4))
    ours = jax.jit(form, static_argnums=(2, 3, 4))(x, kernel, stride, padding, floor)
    expected = reference.convolve(x, kernel, np.zeros(4), stride, padding)
    expected = expected[:, : ours.shape[1], : ours.shape[2]]  # the loops take the ceiling
    counted = ops.conv_output_length(length, size, stride, padding, floor)
    assert ours.shape == expected.shape == (2, counted, counted, 4)
    np.testing.assert_allclose(ours, expected, rtol=1e-12, atol=1e-12)


def assert_equals_loops(convolve, x_shape, kernel_shape, padding):
    """Values, and gradients: those of a linear function are its weighted results of unit inputs."""
    random = np.random.default_rng(0)
    x, kernel = random.normal(size=x_shape), random.normal(size=kernel_shape)

    def loops(x, kernel):
        return reference.convolve(x, kernel, np.zeros(kernel_shape[-1]), 1, padding)

    expected = loops(x, kernel)
    weights = random.normal(size=expected.shape)

    @jax.jit
    def results(x, kernel, weights):
        y, pull = jax.vjp(lambda x, kernel: convolve(x, kernel, padding), x, kernel)
        return y, *pull(weights)

    y, by_x, by_kernel = jax.device_get(results(x, kernel, weights))
    np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-12)
    for place in random.integers(0, x.size, 10):
        one = np.eye(1, x.size, place).reshape(x_shape)
        expected = (weights * loops(one, kernel)).sum()
        np.testing.assert_allclose(by_x.flat[place], expected, rtol=1e-11, atol=1e-11)
    for place in random.integers(0, kernel.size, 10):
        one = np.eye(1, kernel.size, place).reshape(kernel_shape)
        expected = (weights * loops(x, one)).sum()
        np.testing.assert_allclose(by_kernel.flat[place], expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("filters", [4, 16, 32])  # four windows at once, or two; many filters
@pytest.mark.parametrize(
    ("height", "width", "size", "padding", "maps"),
    [(9, 9, 5, 2, 3), (12, 16, 5, 0, 1), (6, 7, 3, 1, 7), (5, 5, 5, 0, 6), (8, 10, 1, 0, 2),
     (5, 9, 5, 2, 14), (4, 6, 3, 2, 20)],
)  # fmt: skip
def test_a_convolution_of_few_maps_equals_loops(
    float64, height, width, size, padding, maps, filters
):
    shapes = (2, height, width, maps), (size, size, maps, filters)
    assert_equals_loops(narrow_conv.convolve, *shapes, padding)


def test_an_odd_number_of_rows_has_no_halves(float64):
    assert_equals_loops(narrow_conv.convolve, (3, 9, 10, 3), (5, 5, 3, 4), 2)


@pytest.mark.parametrize(
    ("height", "width", "size", "padding"),
    [(13, 13, 3, 1), (6, 8, 3, 0), (5, 4, 3, 2), (3, 3, 3, 0), (4, 27, 3, 1), (2, 1, 3, 4),
     (9, 9, 5, 2), (5, 12, 5, 0), (7, 6, 5, 4)],
)  # fmt: skip
@pytest.mark.parametrize("filters", [4, 32])  # two windows at once, or one
def test_winograds_convolution_equals_loops(float64, height, width, size, padding, filters):
    shapes = (2, height, width, 3), (size, size, 3, filters)
    assert_equals_loops(winograd.convolve, *shapes, padding)


@pytest.mark.parametrize(("size", "side"), [(3, 13), (5, 27)])
def test_winograds_rounding_is_within_ten_times_that_of_windows(size, side):
    """In float32, by the root of the mean square, at sizes of conv2 and conv3."""
    random = np.random.default_rng(0)
    x = random.normal(size=(2, side, side, 64)).clip(0).astype(np.float32)
    kernel = random.normal(size=(size, size, 64, 96)).astype(np.float32)
    weights = random.normal(size=(2, side, side, 96)).astype(np.float32)
    padding = size // 2

    def windows(x, kernel, padding):
        return ops.convolve(x, kernel, 1, padding, True)

    @functools.partial(jax.jit, static_argnums=0)
    def results(convolve, x, kernel, weights):
        y, pull = jax.vjp(lambda x, kernel: convolve(x, kernel, padding), x, kernel)
        return y, *pull(weights)

    with jax.enable_x64(True):
        exact = jax.device_get(
            results(windows, *(a.astype(np.float64) for a in (x, kernel, weights)))
        )

    def errors(convolve):
        ours = jax.device_get(results(convolve, x, kernel, weights))
        return [np.sqrt(((a - b) ** 2).mean()) for a, b in zip(ours, exact, strict=True)]

    for ours, plain in zip(errors(winograd.convolve), errors(windows), strict=True):
        assert ours < 10 * plain


@pytest.mark.parametrize("rows", [3, 40, 65])  # few; few in the backward pass alone; many
@pytest.mark.parametrize(  # of several towers, few rows take blocks of 64 inputs, or them all
    ("towers", "inputs", "units"), [(1, 12, 5), (2, 128, 5), (2, 30, 4), (3, 64, 2)]
)
def test_a_dense_product_equals_numpys(float64, rows, towers, inputs, units):
    random = np.random.default_rng(0)
    x, kernel = (
        random.normal(size=(towers, *shape)) for shape in ((rows, inputs), (inputs, units))
    )
    weights = random.normal(size=(towers, rows, units))

    @jax.jit
    def results(x, kernel, weights):
        y, pull = jax.vjp(tower_dense.product, x, kernel)
        return y, *pull(weights)

    y, by_x, by_kernel = jax.device_get(results(x, kernel, weights))
    for tower in range(towers):
        np.testing.assert_allclose(y[tower], x[tower] @ kernel[tower], rtol=1e-11, atol=1e-11)
        expected = weights[tower] @ kernel[tower].T
        np.testing.assert_allclose(by_x[tower], expected, rtol=1e-11, atol=1e-11)
        expected = x[tower].T @ weights[tower]
        np.testing.assert_allclose(by_kernel[tower], expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("rows", [3, 65])
@pytest.mark.parametrize("asked", ["x", "kernel"])
def test_a_dense_layer_computes_the_gradients_that_are_asked_for(rows, asked):
    """Frozen layers need none for their kernels, nor does the lowest that learns for its input."""
    x, kernel, weights = jnp.ones((2, rows, 128)), jnp.ones((2, 128, 6)), jnp.ones((2, rows, 6))

    def gradient(x, kernel):
        fixed = {"x": lambda x: (x, kernel), "kernel": lambda kernel: (x, kernel)}[asked]
        _, pull = jax.vjp(
            lambda one: tower_dense.product(*fixed(one)), {"x": x, "kernel": kernel}[asked]
        )
        return pull(weights)

    # The backward pass alone, since nothing reads the result.
    assert jax.jit(gradient).lower(x, kernel).as_text().count("dot_general") == 1


def lowered(formulation, channels, size, filters, side=6):
    """A convolution and a softmax layer, as the network has them: the program of its logits."""
    architecture = model_architecture.Architecture(
        name="one", input_size=side, channels=channels, towers=1, classes=5,
        layers=(layers.Convolution("conv1", filters, size, padding=1), layers.Output("fc2")),
    )  # fmt: skip
    graph = alexnet.graph_of(architecture, 5)
    shapes = jax.tree.map(
        lambda shape: jax.ShapeDtypeStruct(shape, jnp.float32),
        architecture.parameter_shapes(5), is_leaf=lambda leaf: isinstance(leaf, tuple),
    )  # fmt: skip
    images = jax.ShapeDtypeStruct((ROWS, side, side, channels), jnp.float32)
    program = jax.jit(lambda p, x: alexnet.apply(graph, p, x, formulation=formulation))
    return program.lower(shapes, images).as_text()


def test_few_maps_and_small_windows_take_their_own_ways_on_a_cpu():
    """Else their tests would say nothing of the network."""

    def convolutions(formulation, *sizes):
        return lowered(formulation, *sizes).count("stablehlo.convolution(")

    # Eight points: six results of a column by windows of three, four by windows of five.
    assert convolutions(PLAIN, 32, 3, 48) == convolutions(PLAIN, 12, 3, 48, 12) == 8
    assert convolutions(PLAIN, 24, 3, 48) == convolutions(PLAIN, 11, 3, 48, 12) == 1
    assert convolutions(PLAIN, 32, 5, 32) == convolutions(PLAIN, 32, 5, 12, 14) == 8
    assert convolutions(PLAIN, 32, 5, 16) == convolutions(PLAIN, 32, 5, 11, 14) == 1
    assert convolutions(PLAIN, 64, 7, 64) == 1
    assert convolutions(Formulation(small_windows="windows"), 64, 3, 64) == 1
    # Of the fewest maps four windows of five pixels are one of eight, written out.
    assert convolutions(PLAIN, 5, 5, 64) == 0
    written_out = "tensor<120x16xf32>"
    assert written_out in lowered(PLAIN, 3, 5, 4)
    assert written_out not in lowered(Formulation(few_maps="windows"), 3, 5, 4)
    # Windows of five pixels with three more beside them are two blocks of four.
    assert "tensor<5x2x24x16xf32>" in lowered(PLAIN, 6, 5, 4)
    assert "tensor<5x3x16x32xf32>" in lowered(PLAIN, 8, 5, 16)
    assert "tensor<1x3x24x32xf32>" in lowered(PLAIN, 12, 5, 16, 14)
    assert "tensor<1x5x12x32xf32>" in lowered(PLAIN, 12, 5, 32, 14)


def test_dense_layers_of_few_rows_take_their_own_ways_on_a_cpu():
    def program(towers, rows, formulation=PLAIN, dtype=jnp.float32):
        layer = layers.Dense("fc1", units=6 * towers)
        maps, kernel = jnp.ones((rows, 2, 8, 8), dtype), jnp.ones((towers, 128, 6), dtype)
        own = {"kernel": kernel, "bias": jnp.ones((towers, 6), dtype)}
        run = lambda own: dispatch.weighted(layer, [maps] * towers, own, maps, formulation)  # noqa: E731
        return jax.jit(setup).lower(own).as_text()

    one, blocks = "stablehlo.convolution", "4x32x64xf32"  # of one tower, of two
    assert one in program(1, 32)
    assert blocks in program(2, 32)
    assert one not in program(1, 33)
    assert blocks.replace("32x", "33x") not in program(2, 33)
    assert program(2, 33).count("dot_general") == 1
    for as_such in (Formulation(dense="products"), Formulation(towers="separate")):
        assert program(2, 32, as_such).count("dot_general") == 2
    assert program(2, 32, dtype=jnp.bfloat16).count("dot_general") == 2


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
def test_a_network_fused_freely_equals_the_plain_network(float64, name):
    expected = plain(name)
    with materialize.fused_freely():
        assert_equal(computed(name, PLAIN), expected, 1e-12)


def test_what_is_written_passes_through_derivatives_and_devices(float64):
    x = jnp.arange(6.0).reshape(2, 3)
    function = lambda x: jnp.sin(materialize.materialize({"x": x})["x"]).sum()  # noqa: E731
    np.testing.assert_allclose(jax.grad(function)(x), np.cos(x))
    np.testing.assert_allclose(jax.vmap(function)(x), np.sin(x).sum(1))


def test_a_biass_gradient_is_the_sum_over_rows_and_pixels(float64):
    random = np.random.default_rng(0)
    y, weights = random.normal(size=(2, 3, 4, 5, 6))
    bias = random.normal(size=6)
    result, pull = jax.vjp(convolution.add_bias, y, bias)
    np.testing.assert_array_equal(result, y + bias)
    by_y, by_bias = pull(weights)
    np.testing.assert_array_equal(by_y, weights)
    np.testing.assert_allclose(by_bias, weights.sum((0, 1, 2)), rtol=1e-12)


def test_a_biass_gradient_is_summed_in_float32():
    """4,096 ones have a sum that bfloat16 would not reach by adding them up."""
    y, bias = jnp.zeros((4, 32, 32, 1), jnp.bfloat16), jnp.zeros(1, jnp.bfloat16)
    assert jax.vjp(convolution.add_bias, y, bias)[1](jnp.ones_like(y))[1] == 4096


@pytest.mark.parametrize("towers", [1, 2, 4])
@pytest.mark.parametrize("n", [3, 4, 5, 9])
def test_all_sums_of_norms_equal_loops_and_have_one_gradient(float64, n, towers):
    """Windows of nine reach through a tower of two maps into the one behind it."""
    random = np.random.default_rng(0)
    x, weights = 30 * random.normal(size=(2, 3, 3, 8)), random.normal(size=(2, 3, 3, 8))

    def loss(x, form):
        maps = jnp.split(x, towers, axis=-1)
        y = response_norm.response_norm(maps, n, 2.0, 1e-3, 0.75, form)
        y = jnp.concatenate(y, axis=-1)
        return (weights * y).sum(), y

    expected = reference.across_maps(x, n, 2.0, 1e-3, 0.75)
    forms = ("padded", "shifts", "banded")
    found = [jax.grad(loss, has_aux=True)(x, form) for form in forms]
    for gradient, result in found:
        np.testing.assert_allclose(result, expected, rtol=1e-13)
        np.testing.assert_allclose(gradient, found[0][0], rtol=1e-11, atol=1e-14)


def test_the_config_chooses_the_formulation_of_the_step():
    config = load("quickstart")
    config.formulation.update(
        strided="space_to_depth", few_maps="windows", small_windows="windows", dense="products",
        norm_sums="banded", towers="batched",
    )  # fmt: skip
    architecture = configuration.architecture_of(config)
    plan = configuration.make_plan(config, architecture, 100, 10)
    steps = setup.make_steps(config, plan, architecture, miniature.make_mesh(1, 1))
    assert steps.formulation == FORMULATIONS["all"]
    batch = steps.batch_shapes(4, config.data.image_size)
    preprocessing = miniature.plain_preprocessing(steps)
    chosen, usual = (
        each.training().lower(steps.state_shapes(), *batch, preprocessing).as_text()
        for each in (steps, dataclasses.replace(steps, formulation=PLAIN))
    )
    assert chosen.count("stablehlo.convolution(") < usual.count("stablehlo.convolution(")


def test_several_steps_of_one_program_equal_single_ones(float64):
    steps = miniature.make_steps("quickstart", 2, 2, "float64")
    preprocessing = meshes.put_replicated(steps.mesh, miniature.preprocessing_of("quickstart"))
    batches = [miniature.batch_of("quickstart", step) for step in range(3)]
    state, train, losses = steps.initial_state(), steps.training(), []
    for batch in batches:
        state, loss = train(state, *miniature.put(steps, *batch), preprocessing)
        losses.append(loss)
    images, labels = (np.stack(arrays) for arrays in zip(*batches, strict=True))
    together, their_losses = steps.several_trainings()(
        steps.initial_state(), images, labels, preprocessing
    )
    np.testing.assert_allclose(their_losses, losses, rtol=1e-12)
    state, together = jax.device_get((state, dispatch))
    assert int(dispatch.step) == 3
    assert_equal(dispatch.parameters, state.parameters, 1e-12)
    for ours, theirs in zip(jax.tree.leaves(dispatch), jax.tree.leaves(state), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)
