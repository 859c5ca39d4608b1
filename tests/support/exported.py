"""Networks, images and their logits for the tests of written files of weights."""

import dataclasses

import jax
import numpy as np

from alexnet_jax.model.networks import NETWORKS
from alexnet_jax.tools import inference
from tests.support import weighted

# Grey levels are divided by about 1, so that the squares in the norms are as large as in 2012.
DIVISOR = np.float32([0.8, 1.0, 1.25])


def network(name, width=1 / 16, **changes):
    channels = NETWORKS[name].channels
    return weighted.trained(name, width=width, **{"divisor": DIVISOR[:channels]} | changes)


def images_for(trained, batch=2):
    """Stored pixels [batch, size, size, channels], blocks of one color with some noise."""
    random = np.random.default_rng(3)
    size, channels = trained.pixels.size, trained.architecture.channels
    blocks = random.integers(0, 256, (batch, 4, 4, channels)).repeat(-(-size // 4), 1)
    blocks = blocks.repeat(-(-size // 4), 2)[:, :size, :size]
    noisy = blocks + random.normal(scale=20, size=blocks.shape)
    return noisy.clip(0, 255).astype(np.uint8)


def logits_of(trained, images):
    """The logits [batch, classes] by this project, of center crops."""
    last = trained.architecture.layers[-1].name
    return np.asarray(inference.activations_of(trained, (last,))(trained.parameters, images)[last])


def softmax(logits):
    powers = np.exp(np.float64(logits) - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def assert_same(one, other):
    """The same network, weights and pixels, to the bit."""
    assert (one.variant, one.classes) == (other.variant, other.classes)
    for part in (lambda t: t.parameters, lambda t: dataclasses.asdict(t.pixels)):
        ours, theirs = (jax.tree_util.tree_leaves_with_path(part(t)) for t in (one, other))
        assert [path for path, _ in ours] == [path for path, _ in theirs]
        for (path, a), (_, b) in zip(ours, theirs, strict=True):
            a, b = np.asarray(a), np.asarray(b)
            assert (a.shape, a.dtype, a.tobytes()) == (b.shape, b.dtype, b.tobytes()), path
