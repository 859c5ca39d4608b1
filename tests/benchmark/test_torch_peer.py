"""The network in PyTorch beside which the benchmark measures: it must be the same one."""

import dataclasses
import functools
import multiprocessing
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alexnet_jax.benchmark import step_time, torch_contest, torch_peer, torch_process
from alexnet_jax.model import alexnet
from alexnet_jax.model.networks import NETWORKS
from alexnet_jax.runtime import malloc
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.training.preprocessing import Augmentation
from alexnet_jax.weights import standard
from tests.support.weighted import trained

CLASSES, BATCH = 10, 2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bvlc_alexnet", "caffenet", "net145"])
def test_logits_loss_and_one_update_agree(float64, name):
    """A step without dropout and augmentation, in float64: what PyTorch makes of the weights."""
    pytest.importorskip("torch", reason="PyTorch is not installed")
    architecture = NETWORKS[name].with_width(1 / 12).without_dropout()
    architecture = dataclasses.replace(architecture, num_classes=CLASSES)
    parameters = jax.tree.map(jnp.float64, trained(name, CLASSES, width=1 / 12).parameters)
    double, side = jnp.dtype("float64"), architecture.input_size
    plain = Augmentation(crop=side, random_crop=False, flip=False, noise=0.0)
    changes = {"param_dtype": double, "augmentation": plain}
    ready = step_time.compile_step(architecture, batch_size=BATCH, dtype="float64", **changes)
    ready.state = ready.state._replace(parameters=parameters)
    before = standard.to_standard(architecture, parameters)
    ready.preprocessing = ready.preprocessing._replace(divisor=np.float32(50))
    views = np.asarray(ready.steps.augmented()(np.int32(0), ready.images, ready.preprocessing))
    operations = ready.steps.operations
    graph = alexnet.graph_of(architecture, CLASSES, double, operations)
    ours = jax.jit(functools.partial(alexnet.apply, graph))(parameters, views)
    ready(1)

    for layout in torch_peer.LAYOUTS:
        peer = torch_peer.make_peer(architecture, before, layout)
        images, labels = peer.put(views, np.asarray(ready.labels))
        theirs = torch_peer.forward_pass(peer, images, "float64")().numpy()
        assert theirs.std() > 1e-2, "these logits say nothing"
        np.testing.assert_allclose(ours, theirs, rtol=1e-9)
        loss = torch_peer.training_step(peer, images, labels, "float64")()
        np.testing.assert_allclose(ready.loss, loss.item(), rtol=1e-9)
        after = peer.weights()
        for layer, parts in standard.to_standard(architecture, ready.state.parameters).items():
            for kind, mine in enumerate(parts):
                moved = mine - before[layer][kind]
                assert np.abs(moved).max() > 1e-6, f"{layer} did not move"
                np.testing.assert_allclose(
                    moved, after[layer][kind] - before[layer][kind], atol=1e-9 * np.abs(moved).max()
                )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lenet5", "cifar_18pct", "quickstart"])
def test_a_network_is_proved_before_it_is_timed(name, monkeypatch):
    """Pooling by means, scaled tanh, towers; and one that differs is refused."""
    pytest.importorskip("torch", reason="PyTorch is not installed")
    assert torch_contest.check_equal(NETWORKS[name], "cpu")["logits"] < 1e-5
    make = torch_peer.make_peer

    def wrong(architecture, weights, layout, device):
        weights = {layer: (kernel * 1.001, bias) for layer, (kernel, bias) in weights.items()}
        return make(architecture, weights, layout, device)

    monkeypatch.setattr(torch_peer, "make_peer", wrong)
    with pytest.raises(UserError, match=f"PyTorch's {name} is not timed, since its logits differ"):
        torch_contest.check_equal(NETWORKS[name], "cpu")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("net120_2012", "layer conv2 also sees a low-resolution copy of the image"),
        ("cifar_13pct", "layer local3 has weights of its own at every position"),
        ("net150", "layer fc6 is dense within each tower"),
    ],
)
def test_what_pytorch_has_no_layers_for_is_said(name, reason):
    with pytest.raises(UserError, match=f"{name} is not compared with PyTorch: its {reason}"):
        torch_peer.check_has_peer(NETWORKS[name])


def test_pytorch_has_the_memory_of_its_users(monkeypatch):
    """Not what a command set for itself, but what the user set for both."""
    for value, left in ((malloc.TUNABLES, None), ("glibc.malloc.arena_max=1",) * 2):
        monkeypatch.setenv(malloc.VARIABLE, value)
        with torch_process._memory_of_users():
            assert os.environ.get(malloc.VARIABLE) == left
        assert os.environ[malloc.VARIABLE] == value


def test_a_process_that_ends_is_told_in_a_sentence():
    ours, theirs = multiprocessing.Pipe()
    theirs.close()
    with pytest.raises(UserError, match="PyTorch's process has ended"):
        torch_process._ask(ours, "torch eager, NCHW", 1)
