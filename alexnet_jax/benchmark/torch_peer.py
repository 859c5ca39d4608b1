"""The same network, update rule and precision in plain PyTorch, built from the same list of layers.

Towers are groups of a convolution, as in Caffe and in every PyTorch version of this network; one
module serves training and evaluation. Its weights are laid out as in weights/standard.py.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from alexnet_jax.benchmark.step_time import GROUPS, MOMENTUM
from alexnet_jax.model import layers as kinds
from alexnet_jax.model.architecture import Architecture
from alexnet_jax.model.layers import Convolution, Dense, Output
from alexnet_jax.model.ops import conv_output_length
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.runtime.optional_imports import require_package
from alexnet_jax.weights import standard

LAYOUTS = ("NCHW", "channels_last")


@dataclasses.dataclass
class Peer:
    """A torch module with its update rule; it maps [batch, channels, height, width] to logits."""

    module: Any
    optimizer: Any
    layout: str
    device: str

    def put(self, images: np.ndarray, labels: np.ndarray) -> tuple:
        """Floats [batch, side, side, channels] and labels as tensors on the device."""
        import torch

        pixels = torch.tensor(images.transpose(0, 3, 1, 2).copy(), device=self.device)
        pixels = pixels.contiguous(memory_format=_memory_format(self.layout))
        return pixels, torch.tensor(labels, dtype=torch.int64, device=self.device)

    def weights(self) -> standard.StandardWeights:
        """{layer: (kernel, bias)} on the host."""
        return {
            name: (_to_numpy(layer.weight), _to_numpy(layer.bias))
            for name, layer in self.module.named_children()
        }


def make_peer(
    architecture: Architecture, weights: standard.StandardWeights, layout: str, device: str = "cpu"
) -> Peer:
    """The network with these weights, in their type, and SGD by the rule of step_time.GROUPS.

    UserError where PyTorch's ordinary layers can't make the network, or PyTorch is missing.
    """
    check_has_peer(architecture)
    with require_package("torch", "The comparison with PyTorch"):
        import torch
    module = _module(architecture, weights)
    module = module.to(device=device, memory_format=_memory_format(layout))
    groups = [
        {
            "params": [value for name, value in module.named_parameters() if name.endswith(kind)],
            "lr": GROUPS[group].learning_rates[0][1],
            "weight_decay": GROUPS[group].weight_decay,
        }
        for kind, group in ((".weight", "weights"), (".bias", "biases"))
    ]
    return Peer(module, torch.optim.SGD(groups, momentum=MOMENTUM, fused=True), layout, device)


def check_has_peer(architecture: Architecture) -> None:
    """UserError, one sentence, for a network that has no ordinary counterpart in PyTorch."""
    reason = standard.unsupported_reason(architecture)
    for layer in architecture.layers:
        if isinstance(layer, kinds.ContrastNorm) and not reason:
            reason = "it has contrast norms"
        if isinstance(layer, kinds.SpatialNorm) and layer.n % 2 == 0 and not reason:
            reason = "it has norms over windows of an even side"
    if reason:
        raise UserError(f"{architecture.name} is not compared with PyTorch: {reason}.")


def training_step(
    peer: Peer, images, labels, dtype: str, compiled: Callable = lambda function: function
) -> Callable:
    """() -> loss: forward, backward and update of one batch; `compiled` is eager or torch.compile.

    bfloat16 is autocast, so parameters stay float32, as here.
    """
    import torch

    def loss_of(images, labels):
        with _precision(peer.device, dtype):
            logits = peer.module(images)
        return torch.nn.functional.cross_entropy(logits.to(peer_type), labels)

    peer_type = next(peer.module.parameters()).dtype
    loss_of = compiled(loss_of)
    peer.module.train()

    def step():
        peer.optimizer.zero_grad(set_to_none=True)
        loss = loss_of(images, labels)
        loss.backward()
        peer.optimizer.step()
        return loss.detach()

    return step


def forward_pass(
    peer: Peer, images, dtype: str, compiled: Callable = lambda function: function
) -> Callable:
    """() -> logits at evaluation, without gradients."""
    import torch

    def logits_of(images):
        with _precision(peer.device, dtype):
            return peer.module(images)

    logits_of = compiled(logits_of)
    peer.module.train(False)

    def forward():
        with torch.inference_mode():
            return logits_of(images)

    return forward


def _to_numpy(tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()


def _precision(device: str, dtype: str):
    import torch

    return torch.autocast(device, dtype=torch.bfloat16, enabled=dtype == "bfloat16")


def _memory_format(layout: str):
    import torch

    return torch.channels_last if layout == "channels_last" else torch.contiguous_format


def _module(architecture: Architecture, weights: standard.StandardWeights):
    """A torch module that walks the list of layers."""
    import torch

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            for name, (kernel, bias) in weights.items():
                layer = torch.nn.Module()
                layer.weight = torch.nn.Parameter(torch.tensor(kernel))
                layer.bias = torch.nn.Parameter(torch.tensor(bias))
                self.add_module(name, layer)

        def forward(self, x):
            towers, joined = architecture.towers, True
            for layer, shape in architecture.shapes():
                params = getattr(self, getattr(layer, "name", ""), None)
                groups = 1 if joined else towers
                x = _apply(
                    layer, x, params, shape, groups=groups, towers=towers, training=self.training
                )
                if isinstance(layer, kinds.Exchange):
                    joined = True
                elif params is not None:
                    joined = False
            return x

    return Network()


def _apply(layer, x, params, shape, *, groups: int, towers: int, training: bool):
    """One layer on the channels of all towers, [batch, channels, height, width] or [batch, units].

    `shape` is that of a tower's input here; where the towers have just met, `groups` is 1.
    """
    import torch
    from torch.nn import functional

    match layer:
        case Convolution():
            size, stride, padding = layer.size, layer.stride, layer.padding
            counts = [
                conv_output_length(length, size, stride=stride, padding=padding, floor=layer.floor)
                for length in shape[:2]
            ]
            more = [
                (count - 1) * stride + size - 2 * padding - length
                for count, length in zip(counts, shape[:2], strict=True)
            ]
            if max(more) > 0:  # the ceiling's windows hang over the bottom and the right
                x = functional.pad(x, (0, more[1], 0, more[0]))
            return functional.conv2d(
                x, params.weight, params.bias, layer.stride, layer.padding, groups=groups
            )
        case Dense() | Output():
            return functional.linear(x.flatten(1), params.weight, params.bias)
        case kinds.ResponseNorm():
            parts = [x] if layer.across_towers or towers == 1 else x.chunk(towers, dim=1)
            n, alpha = layer.n, layer.alpha * layer.n
            parts = [
                functional.local_response_norm(part, n, alpha, layer.beta, layer.k)
                for part in parts
            ]
            return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
        case kinds.SpatialNorm():
            squares = functional.avg_pool2d(x * x, layer.n, 1, layer.n // 2) * layer.n**2
            return x * (layer.k + layer.alpha * squares) ** -layer.beta
        case kinds.MaxPool():
            return functional.max_pool2d(x, layer.size, layer.stride, ceil_mode=True)
        case kinds.AveragePool():
            return functional.avg_pool2d(
                x, layer.size, layer.stride, ceil_mode=True, count_include_pad=False
            )
        case kinds.Dropout():
            x = functional.dropout(x, 1 - layer.keep, training)
            return x if layer.scale_in_training else x * layer.keep
        case kinds.ReLU():
            return functional.relu(x, inplace=True)
        case kinds.Tanh():
            return layer.outer * torch.tanh(layer.inner * x)
        case kinds.Sigmoid():
            return torch.sigmoid(x)
        case kinds.Exchange():
            return x
    raise ValueError(f"PyTorch's peer has no {type(layer).__name__}.")
