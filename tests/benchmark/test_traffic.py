"""What a step sends by the list of layers: numbers worked out by hand, and XLA's own text."""

import collections
import dataclasses
import math
import re

import jax.numpy as jnp
import pytest

from alexnet_jax.benchmark import traffic
from alexnet_jax.model.networks import NETWORKS
from alexnet_jax.runtime.errors import UserError
from tests.model import test_collectives
from tests.support import miniature

NET145 = NETWORKS["net145"]
# Parameters of net 145 by layer, from the kernels of the paper's Figure 2 with one bias a filter.
PARAMETERS = {
    "conv1": 11 * 11 * 3 * 96 + 96,
    "conv2": 2 * (5 * 5 * 48 * 128) + 256,
    "conv3": 3 * 3 * 256 * 384 + 384,
    "conv4": 2 * (3 * 3 * 192 * 192) + 384,
    "conv5": 2 * (3 * 3 * 192 * 128) + 256,
    "fc6": 9216 * 4096 + 4096,
    "fc7": 4096 * 4096 + 4096,
    "fc8": 4096 * 1000,
}
GATHERED = [13 * 13 * 256, 6 * 6 * 256, 4096]  # an image, before conv3, fc6 and fc7


def chosen(found, **fields):
    return [one for one in found if all(getattr(one, name) == fields[name] for name in fields)]


def sizes(found, **fields):
    return [one.values for one in chosen(found, **fields)]


def gradients(found):
    return {one.name.removeprefix("gradients of "): one.values
            for one in found if one.name.startswith("gradients of ")}  # fmt: skip


def test_data_parallel_net145_sends_each_parameter_once():
    found = traffic.transfers(NET145, 1000, "data", data=4, model=1, batch_size=512)
    assert {(one.kind, one.axis, one.phase) for one in found} == {
        ("all-reduce", "data", "gradient")
    }
    assert gradients(found) == PARAMETERS
    assert sum(sizes(found)) == 60_965_224 + 4
    order = [one.layer for one in found]
    assert order[:3] == ["fc8"] * 3
    assert order[3:] == ["fc7", "fc6", "conv5", "conv4", "conv3", "conv2", "conv1"]


def test_towers_of_net145_meet_as_on_the_two_gpus():
    found = traffic.transfers(NET145, 1000, "towers", data=3, model=2, batch_size=12)
    rows = 4
    forward = chosen(found, phase="forward")
    assert {one.axis for one in forward} == {"model"}
    assert sizes(forward, kind="all-gather") == [rows * n for n in GATHERED]
    assert sizes(forward, kind="all-reduce") == [rows * 1000]
    # As counted for the two GPUs of 2012: both towers' maps once, and partial logits of each.
    assert sum(sizes(forward)) + rows * 1000 == rows * 58_576
    back = chosen(found, phase="backward")
    assert {one.kind for one in back} == {"reduce-scatter"}
    assert sizes(back) == [rows * n for n in reversed(GATHERED)]
    assert [one.layer for one in back] == ["fc7", "fc6", "conv3"]
    halves = {layer: count // 2 for layer, count in PARAMETERS.items()}
    assert gradients(found) == halves
    assert sizes(found, name="gradient of fc8's bias") == [1000]


def test_hybrid_net145_sends_units_instead_of_dense_gradients():
    found = traffic.transfers(NET145, 1000, "hybrid", data=8, model=1, batch_size=24)
    assert {one.axis for one in found} == {"data"}
    forward = chosen(found, phase="forward")
    assert [(one.kind, one.values // 24, one.layer) for one in forward] == [
        ("all-gather", 9216, "fc6"),
        ("all-gather", 2048, "fc7"),
        ("all-gather", 2048, "fc7"),
        ("reduce-scatter", 1000, "fc8"),
    ]
    assert [(one.kind, one.values // 24, one.layer) for one in chosen(found, phase="backward")] == [
        ("all-gather", 1000, "fc8"),
        ("reduce-scatter", 2048, "fc7"),
        ("reduce-scatter", 2048, "fc7"),
        ("reduce-scatter", 9216, "fc6"),
    ]
    assert set(gradients(found)) == {"conv1", "conv2", "conv3", "conv4", "conv5"}
    assert sizes(found, name="gradient of fc8's bias") == [1000]


def test_towers_that_do_not_meet_before_a_dense_layer_send_their_inputs_apart():
    """Net 150's first dense layer sees its own tower alone."""
    net150 = NETWORKS["net150"]
    shape = next(shape for layer, shape in net150.shapes() if getattr(layer, "units", 0))
    found = traffic.transfers(net150, 1000, "hybrid", data=2, model=1, batch_size=2)
    height, width, maps = shape
    assert sizes(found, phase="forward")[:2] == [2 * height * width * maps] * 2


def test_a_norm_across_towers_gathers_its_input():
    found = traffic.transfers(
        NETWORKS["bvlc_alexnet"], 1000, "towers", data=1, model=2, batch_size=1
    )
    norms = [one for one in chosen(found, phase="forward") if "norm" in one.name]
    assert [one.values for one in norms] == [55 * 55 * 96, 27 * 27 * 256]
    assert [one.layer for one in norms] == ["conv2", "conv3"]
    back = [one for one in chosen(found, phase="backward") if "norm" in one.name]
    assert [one.kind for one in back] == ["reduce-scatter"] * 2


def test_half_precision_halves_all_but_the_logits():
    wide, narrow = (
        traffic.transfers(NET145, 1000, "hybrid", data=2, model=1, batch_size=2, width=width)
        for width in (4, 2)
    )  # fmt: skip
    for one, other in zip(wide, narrow, strict=True):
        logits = one.layer == "fc8" or one.values <= 2
        assert other.width == (4 if logits else 2), one.name
        assert other.values == one.values


@pytest.mark.parametrize("layout", ["data", "hybrid"])
def test_one_device_sends_nothing(layout):
    assert traffic.transfers(NET145, 1000, layout, data=1, model=1, batch_size=128) == ()


def test_one_pair_sums_no_gradients():
    found = traffic.transfers(NET145, 1000, "towers", data=1, model=2, batch_size=128)
    (last,) = chosen(found, phase="gradient")
    assert (last.name, last.values) == ("length and finiteness of the gradient", 2)


@pytest.mark.parametrize(
    ("name", "layout", "data", "model", "batch", "sentence"),
    [
        ("cifar_18pct", "hybrid", 2, 1, 2, "cifar_18pct has none: use layout data"),
        ("net145", "hybrid", 3, 1, 3, "The 2,048 units of fc6 in a tower cannot be split over 3"),
        ("zfnet", "towers", 2, 2, 2, "zfnet has 1 on 2: use layout data"),
        ("net145", "towers", 2, 1, 2, "has 2 on 1"),
        ("net145", "data", 2, 2, 2, "Layout data has one device along model, not 2"),
        ("net145", "data", 3, 1, 128, "128 images cannot be shared by 3 devices"),
        ("net145", "rows", 2, 1, 2, "There is no layout 'rows': use data, towers, hybrid"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_explained(name, layout, data, model, batch, sentence):
    with pytest.raises(UserError, match=sentence):
        traffic.transfers(NETWORKS[name], 1000, layout, data=data, model=model, batch_size=batch)


def in_the_program(steps, stored, data, model):
    """{(axis, kind): numbers in full arrays} of the compiled step, and the arrays gathered."""
    axes = test_collectives.by_axis(test_collectives.collectives(steps, stored), data, model)
    sums, gathered = collections.Counter(), collections.Counter()
    for axis, kinds in axes.items():
        for kind, arrays in kinds.items():
            # XLA's text has the result of a scatter, which is one device's part.
            parts = {"data": data, "model": model}[axis] if kind == "reduce-scatter" else 1
            sums[axis, kind] += parts * test_collectives.values(arrays)
            if kind == "all-gather":
                gathered += arrays
    return sums, gathered


def by_the_list(found):
    sums, gathered = collections.Counter(), collections.Counter()
    for one in found:
        sums[one.axis, one.kind] += one.values
        if one.kind == "all-gather":
            gathered[one.values] += 1
    return sums, gathered


@pytest.mark.parametrize(
    ("name", "layout", "data", "model"),
    [
        pytest.param("quickstart", "towers", 2, 2, marks=pytest.mark.slow),
        ("quickstart", "hybrid", 4, 1),
        pytest.param("net145", "hybrid", 2, 1, marks=pytest.mark.slow),
        pytest.param("net146_2011", "hybrid", 2, 1, marks=pytest.mark.slow),
        pytest.param("bvlc_alexnet", "hybrid", 4, 1, marks=pytest.mark.slow),
        pytest.param("net150", "hybrid", 4, 1, marks=pytest.mark.slow),
        pytest.param("zfnet", "hybrid", 2, 1, marks=pytest.mark.slow),
        pytest.param("net145", "data", 4, 1, marks=pytest.mark.slow),
        pytest.param("net145", "towers", 2, 2, marks=pytest.mark.slow),
        pytest.param("bvlc_alexnet", "towers", 2, 2, marks=pytest.mark.slow),
        pytest.param("net146_2011", "towers", 2, 2, marks=pytest.mark.slow),
        pytest.param("net150", "towers", 4, 2, marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_the_compiled_step_sends_exactly_this(name, layout, data, model):
    architecture = miniature.NARROW.get(name) or NETWORKS[name].with_width(1 / 32)
    steps = miniature.make_steps(
        name, data, model, architecture=architecture, split_dense=layout == "hybrid"
    )
    stored = architecture.input_size + 4
    batch = test_collectives.BATCH
    found = traffic.transfers(
        architecture, miniature.CLASSES, layout, data=data, model=model, batch_size=batch
    )
    assert by_the_list(found) == in_the_program(steps, stored, data, model)


OPERATION = re.compile(
    r'"stablehlo\.(all_reduce|all_gather|reduce_scatter)".*?(?:\}>|\}\)) : \((.*?)\) ->', re.S
)
ARRAY = re.compile(r"tensor<(?:([\dx]+)x)?(f32|bf16|i32)>")


def test_bfloat16_gradients_and_maps_are_sent_in_bfloat16():
    """Before XLA's CPU backend, which has no such sums, makes float32 of them."""
    steps = miniature.make_steps("quickstart", 2, 2)
    steps = dataclasses.replace(steps, dtype=jnp.dtype("bfloat16"))
    preprocessing = miniature.plain_preprocessing(steps)
    shapes = steps.batch_shapes(4, 32)
    text = steps.training().lower(steps.state_shapes(), *shapes, preprocessing).as_text()
    seen = collections.Counter()
    for kind, operands in OPERATION.findall(text):
        for shape, dtype in ARRAY.findall(operands):
            # The text has the operand of a gather, which is one device's part.
            parts = 2 if kind == "all_gather" else 1
            width = 2 if dtype == "bf16" else 4
            count = math.prod(int(n) for n in shape.split("x") if n)
            seen[kind.replace("_", "-"), width] += parts * count
    found = traffic.transfers(
        miniature.NARROW["quickstart"], 10, "towers", data=2, model=2, batch_size=4, width=2
    )
    listed = collections.Counter()
    for one in found:
        listed[one.kind, one.width] += one.values
    assert seen == listed
