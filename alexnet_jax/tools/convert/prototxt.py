"""The deploy file of a network of Caffe, for programs that need one beside a .caffemodel."""

from alexnet_jax.model import layers
from alexnet_jax.model.architecture import Architecture
from alexnet_jax.model.layers import Convolution, Dense, Output


def deploy_prototxt(architecture: Architecture, num_classes: int) -> str:
    """The text of the file; two towers are `group: 2` where a convolution sees its own tower."""
    side, channels = architecture.input_size, architecture.channels
    lines = [
        'input: "data"',
        f"input_shape {{ dim: 1 dim: {channels} dim: {side} dim: {side} }}",
    ]
    bottom, sees_all_towers = "data", True
    for index, layer in enumerate(architecture.layers):
        in_place = False
        match layer:
            case layers.Exchange():
                sees_all_towers = True
                continue
            case Convolution():
                group = 1 if sees_all_towers else architecture.towers
                kind, name, sees_all_towers = "Convolution", layer.name, False
                numbers = (
                    f"convolution_param {{ num_output: {layer.filters} kernel_size: {layer.size} "
                    f"stride: {layer.stride} pad: {layer.padding} group: {group} }}"
                )
            case Dense() | Output():
                units = layer.units if isinstance(layer, Dense) else num_classes
                kind, name, sees_all_towers = "InnerProduct", layer.name, False
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
                continue  # dropout, which does nothing in a test
        top = bottom if in_place else name
        lines.append(
            f'layer {{ name: "{name}" type: "{kind}" bottom: "{bottom}" top: "{top}" {numbers} }}'
        )
        bottom = top
    return "\n".join(lines) + "\n"
