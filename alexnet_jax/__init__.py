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

from typing import TYPE_CHECKING

from alexnet_jax.runtime.errors import UserError

if TYPE_CHECKING:
    from alexnet_jax.model.alexnet import AlexNet
    from alexnet_jax.tools.pretrained import Pretrained, load

__version__ = "0.1.0"
__all__ = ["AlexNet", "Pretrained", "UserError", "__version__", "load", "networks"]


def networks() -> list[str]:
    """The names of all networks of the project, sorted; `AlexNet` takes them."""
    from alexnet_jax.model.networks import NETWORKS

    return sorted(NETWORKS)


def __getattr__(name: str):
    if name == "AlexNet":
        from alexnet_jax.model.alexnet import AlexNet

        return AlexNet
    if name in ("Pretrained", "load"):
        from alexnet_jax.tools import pretrained

        return getattr(pretrained, name)
    raise AttributeError(f"module 'alexnet_jax' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
