"""A network of Caffe as its deploy file, for programs that read a .caffemodel with one."""

from alexnet_jax.model import layers
from alexnet_jax.model.architecture import Architecture
from alexnet_jax.model.layers import Convolution, Dense, Output


def deploy(architecture: Architecture, classes: int) -> str:
    """The text; two towers are `group: 2` where a convolution sees its own tower alone."""
    side, channels = architecture.input_size, architecture.channels
    lines = [
        'input: "data"',
        f"input_shape {{ dim: 1 dim: {channels} dim: {side} dim: {side} }}",
    ]
    bottom, joined = "data", True
    for index, layer in enumerate(architecture.layers):
        in_place = False
        match layer:
            case layers.Exchange():
                joined = True
                continue
            case Convolution():
                group = 1 if joined else architecture.towers
                kind, name, joined = "Convolution", layer.name, False
                numbers = (
                    f"convolution_param {{ num_output: {layer.filters} kernel_size: {layer.size} "
                    f"stride: {layer.stride} pad: {layer.padding} group: {group} }}"
                )
            case Dense() | Output():
                units = layer.units if isinstance(layer, Dense) else classes
                kind, name, joined = "InnerProduct", layer.name, False
                numbers = f"inner_product_param {{ num_output: {units} }}"
            case layers.ResponseNorm():
                kind, name = "LRN", f"norm{index}"
                numbers = (
                    f"lrn_param {{ local_size: {layer.n} alpha: {layer.alpha * layer.n} "
                    f"beta: {layer.beta} k: {layer.k} }}"
                )
            case layers.MaxPool():
                kind, name = "Pooling", f"pool{index}"
                numbers = (
                    f"pooling_param {{ pool: MAX kernel_size: {layer.size} "
                    f"stride: {layer.stride} }}"
                )
            case layers.ReLU():
                kind, name, numbers, in_place = "ReLU", f"relu{index}", "", True
            case _:
                continue  # dropout, which says nothing here
        top = bottom if in_place else name
        lines.append(
            f'layer {{ name: "{name}" type: "{kind}" bottom: "{bottom}" top: "{top}" {numbers} }}'
        )
        bottom = top
    return "\n".join(lines) + "\n"
