"""The reference AlexNet in JAX: the 2012 network, its two towers, its data and its update rule.

    import alexnet_jax as ax

    ax.networks()                                    # the names of all networks
    model = ax.AlexNet("net145", rngs=nnx.Rngs(0))   # a flax.nnx.Module like any other
    net = ax.load("alexnet.pth")                     # a run's folder, or a file of weights
    net.predict("cat.jpg")                           # its likeliest classes
    net.features(images, layers=("conv5", "fc7"))    # differentiable, {layer: activations}

Importing this imports neither jax nor TensorFlow: what is used imports it. A mistake raises
`UserError` with one sentence.
"""

import importlib
from typing import TYPE_CHECKING

from alexnet_jax.runtime.errors import UserError

if TYPE_CHECKING:
    from alexnet_jax.data.custom_sources import ArraySource, register_source
    from alexnet_jax.model.alexnet import AlexNet
    from alexnet_jax.model.network_json import register_layer
    from alexnet_jax.tools.pretrained import Pretrained, load
    from alexnet_jax.training.custom_optimizers import register_optimizer

__version__ = "0.1.0"
__all__ = [
    "AlexNet", "ArraySource", "Pretrained", "UserError", "__version__", "load", "networks",
    "register_layer", "register_optimizer", "register_source",
]  # fmt: skip
# Where each name is that is imported when it is used.
_MODULES = {
    "AlexNet": "alexnet_jax.model.alexnet",
    "ArraySource": "alexnet_jax.data.custom_sources",
    "Pretrained": "alexnet_jax.tools.pretrained",
    "load": "alexnet_jax.tools.pretrained",
    "register_layer": "alexnet_jax.model.network_json",
    "register_optimizer": "alexnet_jax.training.custom_optimizers",
    "register_source": "alexnet_jax.data.custom_sources",
}


def networks() -> list[str]:
    """The names of all networks of the project, sorted; `AlexNet` takes them."""
    from alexnet_jax.model.networks import NETWORKS

    return sorted(NETWORKS)


def __getattr__(name: str):
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'alexnet_jax' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
