"""Which pixels of the image a unit of a layer can see."""

from alexnet_jax.model.architecture import Architecture
from alexnet_jax.model.layers import (
    Activation,
    AveragePool,
    ContrastNorm,
    Convolution,
    Dense,
    Dropout,
    Exchange,
    LocallyConnected,
    MaxPool,
    Output,
    ResponseNorm,
    SpatialNorm,
)


def receptive_field(architecture: Architecture, index: int, place: int) -> tuple[int, int]:
    """First and last pixel along one side that unit `place` of layer number `index` can see."""
    whole = 0, architecture.input_size - 1
    first = last = place
    for layer in reversed(architecture.layers[: index + 1]):
        match layer:
            case Dense() | Output():
                return whole
            case Convolution() if layer.low_resolution:
                return whole
            case Convolution() | LocallyConnected():
                first = first * layer.stride - layer.padding
                last = last * layer.stride - layer.padding + layer.size - 1
            case MaxPool() | AveragePool():
                first, last = first * layer.stride, last * layer.stride + layer.size - 1
            case Exchange() | Dropout() | Activation() | ResponseNorm():
                pass  # one place sees itself
            case SpatialNorm():  # the local means of a ContrastNorm have windows of their own
                reach = layer.n // 2 * (2 if isinstance(layer, ContrastNorm) else 1)
                first, last = first - reach, last + reach
            case _:  # of one's own: unknown
                return whole
    return max(first, whole[0]), min(last, whole[1])
