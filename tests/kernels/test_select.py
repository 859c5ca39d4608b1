"""Every choice of kernels computes the same network and gradients, on one device and two."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import pytest

from alexnet_jax import kernels
from alexnet_jax.kernels import config
from alexnet_jax.model import alexnet, layers
from alexnet_jax.model.architecture import Architecture
from alexnet_jax.model.ops import REFERENCE
from alexnet_jax.parallel import mesh as meshes
from alexnet_jax.runtime.errors import UserError
from tests.support import miniature
from tests.support.kernel_checks import (
    BATCH,
    CLASSES,
    SEPARATE,
    SIDE,
    assert_equal,
    computed,
    narrow,
    tuned,
)

ALL = "tuned,space_to_depth,-narrow_conv,-winograd,-tower_dense,banded_norm,batched_towers"
CHOICES = {
    "reference": "reference",
    "space to depth": "tuned,space_to_depth",
    "banded": "tuned,banded_norm",
    "shifts": "tuned,-padded_norm",
    "separate": SEPARATE,
    "batched": "tuned,batched_towers",
    "automatic": "tuned,-closed_gradients",
    "tuned": "tuned",
    "narrow as others": "tuned,-narrow_conv",
    "all": ALL,
}
# Different strides, paddings and norms, and a second view of the image in net 137.
ONE_TOWER, TWO_TOWERS = (
    ("zfnet", "one_weird_trick"),
    ("net145", "bvlc_alexnet", "caffenet", "net137", "net147"),
)
QUICK = [
    ("net145", "reference", 1),
    ("quickstart", "all", 2),
    ("cifar_towers", "tuned", 2),
    ("cifar_towers", "narrow as others", 2),
    ("lenet5", "narrow as others", 1),
]
SLOW = [
    *(
        ("net145", choice, 1)
        for choice in ("space to depth", "shifts", "banded", "batched", "automatic")
    ),
    *((name, "all", 1) for name in ONE_TOWER + TWO_TOWERS),
    *((name, "separate", 1) for name in TWO_TOWERS),
    *((name, "all", 2) for name in TWO_TOWERS),
    *((name, "reference", 2) for name in ("net137", "cifar_towers")),
    ("bvlc_alexnet", "reference", 1),
]


@pytest.mark.parametrize(
    ("name", "choice", "model"),
    [*QUICK, *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW)],
)
def test_a_choice_equals_the_tuned_network(float64, name, choice, model):
    assert_equal(computed(name, CHOICES[choice], model), tuned(name), 1e-11)


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("quickstart", 2),
        pytest.param("bvlc_alexnet", 1, marks=pytest.mark.slow),
        pytest.param("net145", 1, marks=pytest.mark.slow),
        pytest.param("bvlc_alexnet", 2, marks=pytest.mark.slow),
    ],
)
def test_what_a_gpu_computes_equals_the_network_of_a_cpu(float64, monkeypatch, name, model):
    """Its forms, computed here: folded strides, shifted sums, norms that keep no denominator."""
    expected = tuned(name)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert_equal(computed(name, "tuned", model), expected, 1e-11)


@pytest.mark.parametrize("backend", ["cpu", "gpu", "tpu"])
def test_the_reference_has_no_kernel(backend):
    assert kernels.select("reference", backend) == REFERENCE
    assert kernels.select("", backend) == REFERENCE


def test_a_choice_is_a_preset_with_names_added_and_left_out():
    assert config.parse("reference") == frozenset()
    assert config.parse("tuned") == frozenset(config.TUNED)
    assert config.parse("winograd, relu") == {"winograd", "relu"}
    assert config.parse("tuned,-winograd") == frozenset(config.TUNED) - {"winograd"}
    assert config.parse("reference,relu,-relu") == frozenset()


@pytest.mark.parametrize(
    ("name", "replaced"),
    [
        ("space_to_depth", "space_to_depth_gpu"),
        ("batched_towers", "joined_towers"),
        ("banded_norm", "padded_norm"),
    ],
)
def test_a_kernel_replaces_the_other_one_of_its_kind(name, replaced):
    chosen = config.parse(f"tuned,{name}")
    assert name in chosen
    assert replaced not in chosen
    assert config.parse(f"tuned,{name},{replaced}") == frozenset(config.TUNED)


@pytest.mark.parametrize("choice", ["fast", "tuned,fast", "tuned,-fast", "winograd,tuned"])
def test_an_unknown_kernel_is_refused(choice):
    with pytest.raises(UserError, match="there is no kernel '(fast|tuned)': expected tuned"):
        kernels.select(choice, "cpu")


def test_equal_choices_are_one_object():
    """Else each would compile a network anew."""
    assert kernels.select("tuned", "cpu") is kernels.select("tuned", "cpu")


def test_only_convolutions_of_few_channels_are_folded_on_a_gpu():
    def strides(channels):
        layer = layers.Convolution("conv", filters=8, size=5, stride=2)
        params = {"kernel": jnp.ones((5, 5, channels, 8)), "bias": jnp.zeros(8)}
        run = lambda x: layer(x, params, x, kernels.select("tuned", "gpu"))  # noqa: E731
        return "stride = [2, 2]" in jax.jit(run).lower(jnp.ones((1, 9, 9, channels))).as_text()

    assert (strides(3), strides(8)) == (False, True)


@pytest.mark.slow
@pytest.mark.parametrize(("data", "model", "split_dense"), [(2, 1, True), (2, 2, False)])
def test_the_step_is_the_same_in_every_layout(float64, data, model, split_dense):
    """All at once, with dense layers split over devices, or towers and examples."""

    def gradients(data, model, split_dense, choice):
        steps = miniature.make_steps("quickstart", data, model, "float64", split_dense=split_dense)
        operations = kernels.select(choice, "cpu")
        steps = dataclasses.replace(steps, operations=operations)
        preprocessing = meshes.put_replicated(steps.mesh, miniature.preprocessing_of("quickstart"))
        batch = miniature.put(steps, *miniature.batch_of("quickstart", 0))
        return jax.device_get(steps.gradients()(steps.initial_state(), *batch, preprocessing)[0])

    ours = gradients(data, model, split_dense, ALL)
    assert_equal(ours, gradients(1, 1, False, "tuned"), 1e-11)


@pytest.mark.parametrize("choice", ["tuned", "batched"])
@pytest.mark.parametrize("name", ["net145", "net137", "bvlc_alexnet"])
def test_no_choice_has_grouped_convolutions(name, choice):
    architecture = narrow(name)
    names = CHOICES[choice] + ",-narrow_conv,-winograd,-tower_dense"
    graph = miniature.graph_of(architecture, CLASSES, choice=names)
    shapes = jax.tree.map(
        lambda shape: jax.ShapeDtypeStruct(shape, jnp.float32),
        architecture.parameter_shapes(CLASSES), is_leaf=lambda leaf: isinstance(leaf, tuple),
    )  # fmt: skip

    def loss(parameters, images):
        return alexnet.apply(graph, parameters, images).sum()

    images = jax.ShapeDtypeStruct((BATCH, SIDE, SIDE, 3), jnp.float32)
    text = jax.jit(jax.grad(loss)).lower(shapes, images).as_text()
    assert set(re.findall(r"(?:feature|batch)_group_count = (\d+)", text)) == {"1"}
    convolutions = len(re.findall(r"stablehlo.convolution\(", text))
    # One for conv1 and conv3, else two or none; twice as many backward, but once for conv1's
    # kernel. conv2's kernels of the second view of the image are four more in net 137.
    expected = {"tuned": 8 + 15 + (4 if name == "net137" else 0), "batched": 2 + 3}
    assert convolutions == expected[choice]


def lowered(choice, channels, size, filters, side=6):
    """A convolution and a softmax layer, as the network has them: the program of its logits."""
    architecture = Architecture(
        name="one", input_size=side, channels=channels, towers=1, num_classes=5,
        layers=(layers.Convolution("conv1", filters, size, padding=1), layers.Output("fc2")),
    )  # fmt: skip
    graph = miniature.graph_of(architecture, 5, choice=choice)
    shapes = jax.tree.map(
        lambda shape: jax.ShapeDtypeStruct(shape, jnp.float32),
        architecture.parameter_shapes(5), is_leaf=lambda leaf: isinstance(leaf, tuple),
    )  # fmt: skip
    images = jax.ShapeDtypeStruct((BATCH, side, side, channels), jnp.float32)
    return miniature.compiled(graph).lower(shapes, images).as_text()


def test_narrow_and_small_windows_have_kernels_of_their_own_on_a_cpu():
    """Else their tests would say nothing of the network."""

    def convolutions(choice, *sizes):
        return lowered(choice, *sizes).count("stablehlo.convolution(")

    # Eight points: six results of a column by windows of three, four by windows of five.
    assert convolutions("tuned", 32, 3, 48) == convolutions("tuned", 12, 3, 48, 12) == 8
    assert convolutions("tuned", 24, 3, 48) == convolutions("tuned", 11, 3, 48, 12) == 1
    assert convolutions("tuned", 32, 5, 32) == convolutions("tuned", 32, 5, 12, 14) == 8
    assert convolutions("tuned", 32, 5, 16) == convolutions("tuned", 32, 5, 11, 14) == 1
    assert convolutions("tuned", 64, 7, 64) == 1
    assert convolutions("tuned,-winograd", 64, 3, 64) == 1
    # With the fewest channels four windows of five pixels are one of eight, written out.
    assert convolutions("tuned", 5, 5, 64) == 0
    written_out = "tensor<120x16xf32>"
    assert written_out in lowered("tuned", 3, 5, 4)
    assert written_out not in lowered("tuned,-narrow_conv", 3, 5, 4)
    # Windows of five pixels with three more after them are two blocks of four.
    assert "tensor<5x2x24x16xf32>" in lowered("tuned", 6, 5, 4)
    assert "tensor<5x3x16x32xf32>" in lowered("tuned", 8, 5, 16)
    assert "tensor<1x3x24x32xf32>" in lowered("tuned", 12, 5, 16, 14)
    assert "tensor<1x5x12x32xf32>" in lowered("tuned", 12, 5, 32, 14)


def test_dense_layers_of_small_batches_have_forms_of_their_own_on_a_cpu():
    def program(towers, batch, choice="tuned", dtype=jnp.float32):
        x, kernel = jnp.ones((batch, 2, 8, 8), dtype), jnp.ones((towers, 128, 6), dtype)
        params = {"kernel": kernel, "bias": jnp.ones((towers, 6), dtype)}
        ops = kernels.select(choice, "cpu")
        run = lambda params: ops.dense_of_towers([x] * towers, params)  # noqa: E731
        return jax.jit(run).lower(params).as_text()

    one, blocks = "stablehlo.convolution", "4x32x64xf32"  # of one tower, of two
    assert one in program(1, 32)
    assert blocks in program(2, 32)
    assert one not in program(1, 33)
    assert blocks.replace("32x", "33x") not in program(2, 33)
    assert program(2, 33).count("dot_general") == 1
    for choice in ("tuned,-tower_dense", SEPARATE, "reference"):
        assert program(2, 32, choice).count("dot_general") == 2
    assert program(2, 32, dtype=jnp.bfloat16).count("dot_general") == 2
