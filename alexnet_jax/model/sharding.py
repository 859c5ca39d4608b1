"""How the parameters of a network lie on the mesh ("data", "model")."""

from jax.sharding import PartitionSpec

from alexnet_jax.model.architecture import Architecture
from alexnet_jax.model.layers import Convolution, Dense, LocallyConnected, Output
from alexnet_jax.parallel.axes import DATA_AXIS, MODEL_AXIS

ParameterSpecs = dict[str, dict[str, PartitionSpec]]


def partition_specs(
    architecture: Architecture, split_towers: bool, split_dense: bool = False
) -> ParameterSpecs:
    """How parameters lie on a mesh, {layer: {kind: PartitionSpec}}.

    The tower axis lies over "model" if towers are split. If dense layers are, their units lie over
    "data", and so do the inputs of the softmax layer. All else is on every device.
    """
    model = MODEL_AXIS if split_towers else None
    shapes = architecture.parameter_shapes(architecture.num_classes)
    specs: dict[str, dict[str, tuple[str | None, ...]]] = {}
    for layer in architecture.layers:
        match layer:
            case Dense() if split_dense:
                units = {"kernel": (model, None, DATA_AXIS), "bias": (model, DATA_AXIS)}
                specs[layer.name] = units
            case Output():
                inputs = DATA_AXIS if split_dense else None
                specs[layer.name] = {"kernel": (model, inputs), "bias": ()}
            case Convolution() | LocallyConnected() | Dense():
                specs[layer.name] = dict.fromkeys(shapes[layer.name], (model,))
    return {
        layer: {kind: _spec(axes) for kind, axes in kinds.items()} for layer, kinds in specs.items()
    }


def _spec(axes: tuple[str | None, ...]) -> PartitionSpec:
    while axes and axes[-1] is None:
        axes = axes[:-1]
    return PartitionSpec(*axes)
