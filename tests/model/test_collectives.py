"""What the compiled training step sends between devices, read from XLA's own text."""

import collections
import dataclasses
import math
import re

import jax
import numpy as np
import pytest

from alexnet_jax.model.alexnet import graph_of
from alexnet_jax.model.networks import NETWORKS
from alexnet_jax.parallel import mesh as meshes
from alexnet_jax.training import grad_accum
from alexnet_jax.training.preprocessing import Augmentation, Preprocessing
from alexnet_jax.training.train_step import Steps
from tests.support import miniature

BATCH, CLASSES = 8, 1000
KINDS = "all-reduce|all-gather|reduce-scatter|collective-permute|all-to-all|collective-broadcast"
OPERATION = re.compile(rf"= (.+?) ({KINDS})(?:-start)?\((.*?)\), channel_id=.*")
GROUPS = re.compile(
    r"replica_groups=(\{\{.*?\}\}|\[[\d,]+\]<=\[[\d,]+\](?:T\([\d,]+\))?|mesh\[.*?\] \{.*?\})"
)
ARRAY = re.compile(r"(?:f|s|u|bf|pred)\d*\[([\d,]*)\]")


def net145_steps(data, model, split_dense=False):
    """Full-size net 145; compiling it runs nothing."""
    steps = miniature.make_steps("net145", data, model, architecture=NETWORKS["net145"])
    kept = ("architecture", "optimizer", "mesh", "seed", "operations")
    return Steps(**{field: getattr(steps, field) for field in kept},
                 num_classes=CLASSES, augmentation=Augmentation(crop=224),
                 split_dense=split_dense)  # fmt: skip


def operations(steps, size):
    """Matches of OPERATION in the text of the compiled training step."""
    values = Preprocessing(np.zeros(3, np.float32), np.eye(3, dtype=np.float32), np.float32(1))
    preprocessing = meshes.put_replicated(steps.mesh, values)
    text = (
        steps.training()
        .lower(steps.state_shapes(), *steps.batch_shapes(BATCH, size), preprocessing)
        .compile()
        .as_text()
    )
    found = list(OPERATION.finditer(text))
    assert text.count("channel_id=") == len(found), "an operation was overlooked"
    return found


def collectives(steps, size):
    """[(kind, group of device 0, array sizes of the result)] of the compiled training step."""
    found = []
    for match in operations(steps, size):
        arrays = [
            math.prod(int(n) for n in filter(None, dims.split(",")))
            for dims in ARRAY.findall(match[1])
        ]
        group = first_group(GROUPS.search(match[0])[1])
        if len(group) > 1:
            found.append((match[2], group, arrays))
    return found


def first_group(text):
    """Devices of the first replica group, in XLA's list form, its iota form or that of a mesh."""
    if text.startswith("mesh"):
        sizes, axes = text.split("]")
        mesh = {name: int(size) for name, size in re.findall(r"'(\w+)'=(\d+)", sizes)}
        devices = np.arange(math.prod(mesh.values())).reshape(list(mesh.values()))
        chosen = re.findall(r"'(\w+)'", axes)
        return tuple(
            devices[tuple(slice(None) if n in chosen else 0 for n in mesh)].ravel().tolist()
        )
    if text.startswith("{{"):
        return tuple(int(n) for n in text[2:].split("}")[0].split(","))
    shape, rest = text[1:].split("]<=[")
    dims, _, order = rest.partition("]T(")
    dims = [int(n) for n in dims.rstrip("]").split(",")]
    devices = np.arange(math.prod(dims)).reshape(dims)
    if order:
        devices = devices.transpose([int(n) for n in order.rstrip(")").split(",")])
    return tuple(devices.reshape([int(n) for n in shape.split(",")])[0].tolist())


def by_axis(found, data, model):
    """{axis: {kind: Counter of array sizes}}."""
    grid = np.arange(data * model).reshape(data, model)
    groups = {tuple(grid[:, 0].tolist()): "data", tuple(grid[0].tolist()): "model"}
    result = collections.defaultdict(lambda: collections.defaultdict(collections.Counter))
    for kind, group, arrays in found:
        result[groups[group]][kind].update(arrays)
    return result


def own_sizes(steps, model):
    """Sizes of the parameters that one device holds."""
    shapes = steps.state_shapes().parameters
    return collections.Counter(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) for leaf in jax.tree.leaves(shapes)
    )


def values(sizes):
    """How many numbers arrays of these sizes hold together."""
    return sum(size * count for size, count in sizes.items())


SCORES = collections.Counter({1: 4})
GRADIENT = collections.Counter({2: 1})  # its length, now and then, and whether it is finite


def test_net145_on_2x2_sends_only_what_the_two_gpus_did():
    steps = net145_steps(2, 2)
    axes = by_axis(collectives(steps, 256), 2, 2)
    assert set(axes) == {"data", "model"}
    # Over data: the gradients of a device's own parameters and the four sums of the scores.
    assert set(axes["data"]) == {"all-reduce"}
    assert axes["data"]["all-reduce"] == own_sizes(steps, 2) + SCORES
    # Between towers, for the BATCH / 2 images of a device: pool2, pool3 and fc6 of both towers
    # are gathered, partial logits are summed; backward only the gathers' reverses.
    images = BATCH // 2
    gathered = [13 * 13 * 256, 6 * 6 * 256, 4096]
    assert set(axes["model"]) == {"all-gather", "all-reduce", "reduce-scatter"}
    assert axes["model"]["all-gather"] == collections.Counter(images * n for n in gathered)
    assert axes["model"]["all-reduce"] == collections.Counter([images * CLASSES]) + GRADIENT
    assert axes["model"]["reduce-scatter"] == collections.Counter(images * n // 2 for n in gathered)
    # A gather's result is what both towers sent together; each tower sends its partial logits.
    assert sum(gathered) + 2 * CLASSES == 58_576


@pytest.mark.slow
def test_net145_in_the_hybrid_layout_never_sends_a_dense_gradient():
    steps = net145_steps(4, 1, split_dense=True)
    axes = by_axis(collectives(steps, 256), 4, 1)
    assert set(axes) == {"data"}
    assert set(axes["data"]) == {"all-gather", "reduce-scatter", "all-reduce"}
    # The input of fc6, one for both towers, and fc6 of each tower, of the images of all devices;
    # back, the gradient of all logits.
    gathered = [BATCH * 6 * 6 * 256, BATCH * 2048, BATCH * 2048]
    assert axes["data"]["all-gather"] == collections.Counter([*gathered, BATCH * CLASSES])
    # What is scattered: the partial logits, and back the gradients of what was gathered.
    scattered = [n // 4 for n in (BATCH * CLASSES, *gathered)]
    assert axes["data"]["reduce-scatter"] == collections.Counter(scattered)
    # Weights and biases of conv1 to conv5, 3% of all, and the biases of the softmax.
    convolutions = 34_944 + 307_456 + 885_120 + 663_936 + 442_624
    reduced = values(axes["data"]["all-reduce"])
    assert reduced == convolutions + CLASSES + values(SCORES) + values(GRADIENT)


@pytest.mark.parametrize("name", [pytest.param("net145", marks=pytest.mark.slow), "tiny"])
def test_data_parallel_meshes_send_gradients_and_scores_alone(name):
    steps = miniature.make_steps(name, 4, 1)
    axes = by_axis(collectives(steps, miniature.STORED[name]), 4, 1)
    assert set(axes) == {"data"}
    assert set(axes["data"]) == {"all-reduce"}
    # XLA may sum a parameter's two towers apart, so values are counted and not arrays.
    assert values(axes["data"]["all-reduce"]) == values(own_sizes(steps, 1) + SCORES)


def test_a_step_in_parts_sends_gradients_once(monkeypatch):
    """Between towers every part meets, but only the last one's sums go over data."""
    monkeypatch.setattr(grad_accum, "is_unrolled", lambda: False)
    steps = dataclasses.replace(miniature.make_steps("tiny", 2, 2), grad_accum_steps=2)
    found = operations(steps, miniature.STORED["tiny"])
    in_every_part = {first_group(GROUPS.search(m[0])[1]) for m in found if "/while/body/" in m[0]}
    assert in_every_part == {(0, 1)}
    assert (0, 2) in {first_group(GROUPS.search(m[0])[1]) for m in found}


def test_one_device_sends_nothing():
    assert collectives(miniature.make_steps("tiny", 1, 1), 32) == []


def test_graph_definitions_of_equal_networks_are_equal():
    """Else every call of the step would compile anew."""
    architecture = miniature.NARROW["quickstart"]
    assert hash(graph_of(architecture, 10)) == hash(graph_of(architecture, 10))
