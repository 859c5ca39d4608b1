"""Checkpoints of cuda-convnet with random weights, and their logits, computed by PyTorch.

The layers are those of the 2012 release for an architecture of ours; `logits` runs a checkpoint
layer by layer from its fields alone, independently of our architectures.
"""

import numpy as np

from alexnet_jax.model import layers as kinds
from alexnet_jax.model.layers import Convolution, Dense, LocallyConnected, Output


def checkpoint(architecture, num_classes=10, seed=0):
    """{"model_state": {"layers": {name: layer}}} as layer.py of the 2012 release makes it."""
    draw, layers, towers = Draw(seed), {}, architecture.towers
    letters = "ab"[:towers] if towers > 1 else [""]
    current, sees_all_towers, count = ["data"] * towers, False, {}
    layers["data"] = {"name": "data", "type": "data", "dataIdx": 0, "outputs": 0}
    layers["labels"] = {"name": "labels", "type": "data", "dataIdx": 1, "outputs": 0}
    if any(getattr(layer, "low_resolution", None) for layer in architecture.layers):
        add(layers, "blur0", "blur", ["data"], filterSize=9, stdev=4.0)
        add(layers, "nails0", "nailbed", ["blur0"], stride=4, start=2)
    for layer, shape in architecture.shapes():
        if isinstance(layer, kinds.Exchange):
            sees_all_towers = True
            continue
        number = count[type(layer)] = count.get(type(layer), 0) + 1
        if isinstance(layer, Output):
            halved = architecture.name == "net146_2011"
            size = int(np.prod(shape))
            add_softmax(layers, draw, current, size=size, num_classes=num_classes, halved=halved)
            continue
        before = list(current)
        for tower, letter in enumerate(letters):
            inputs = [before[tower]]
            if sees_all_towers and towers > 1:
                inputs = before if tower == 0 or number == 1 else before[::-1]  # as hs1b, hs1a
            if isinstance(layer, Convolution | LocallyConnected | Dense):
                name, kind, fields = weighted(
                    layer, shape, draw, towers=towers, num_inputs=len(inputs), number=number
                )
            else:
                name, kind, fields = unweighted(layer, number, before[0])
            if getattr(layer, "low_resolution", None):
                inputs = ["nails0", *inputs]
            add(layers, name + letter, kind, inputs, **fields)
            current[tower] = name + letter
        if isinstance(layer, Convolution | LocallyConnected | Dense):
            sees_all_towers = False
    return {
        "model_state": {"epoch": 91, "layers": layers, "train_outputs": [({"logprob": [1.5]}, 128)]}
    }


class Draw:
    """Random weights, in the order in which they are asked for."""

    def __init__(self, seed):
        self._random = np.random.default_rng(seed)

    def matrix(self, inputs, units):
        return np.float32(self._random.normal(scale=(2 / inputs) ** 0.5, size=(inputs, units)))

    def biases(self, *shape):
        return np.float32(self._random.normal(scale=0.3, size=shape))


def weighted(layer, shape, draw, *, towers, num_inputs, number):
    """(name, type, fields) of a layer with weights in one tower that has `num_inputs` inputs."""
    channels = shape[-1] // num_inputs
    match layer:
        case Convolution():
            filters = layer.filters // towers
            sides, strides, pads = [layer.size], [layer.stride], [layer.padding]
            sides, strides, pads = (value * num_inputs for value in (sides, strides, pads))
            weights = [draw.matrix(channels * layer.size**2, filters) for _ in range(num_inputs)]
            if layer.low_resolution:
                sides, strides, pads = [5, *sides], [2, *strides], [0, *pads]
                weights = [draw.matrix(3 * 25, filters), *weights]
            return f"conv{number}", "conv", {
                "filterSize": sides, "stride": strides, "padding": [-pad for pad in pads],
                "filters": filters, "weights": weights,
                "weightsInc": [0 * w for w in weights], "biases": draw.biases(filters, 1),
            }  # fmt: skip
        case LocallyConnected():
            filters = layer.filters // towers
            modules = int(np.prod(layer.output(shape, towers)[:2]))
            w = draw.matrix(channels * layer.size**2, modules * filters)
            w = w.reshape(-1, modules, filters).swapaxes(0, 1).reshape(-1, filters)
            return f"local{number}", "local", {
                "filterSize": [layer.size], "stride": [1], "filters": filters,
                "padding": [-layer.padding], "weights": [np.ascontiguousarray(w)],
                "biases": draw.biases(modules * filters, 1),
            }  # fmt: skip
        case Dense():
            units, size = layer.units // towers, int(np.prod(shape)) // num_inputs
            weights = [np.asfortranarray(draw.matrix(size, units)) for _ in range(num_inputs)]
            fields = {"weights": weights, "biases": draw.biases(1, units)}
            return f"fc{units}" + ("b" if number > 1 else ""), "fc", fields


def unweighted(layer, number, before):
    """(name, type, fields) of a layer without weights after tower 1's layer `before`."""
    match layer:
        case kinds.ResponseNorm():
            return f"rnorm{number}", "cmrnorm", norm(layer) | {"minDiv": float(layer.k)}
        case kinds.ContrastNorm():
            return f"cnorm{number}", "cnorm", norm(layer)
        case kinds.SpatialNorm():
            return f"norm{number}", "rnorm", norm(layer)
        case kinds.MaxPool() | kinds.AveragePool():
            pool = "max" if isinstance(layer, kinds.MaxPool) else "avg"
            fields = {"pool": pool, "sizeX": layer.size, "stride": layer.stride, "start": 0}
            return f"pool{type(layer).__name__}{number}", "pool", fields
        case kinds.ReLU():
            neuron = {"neuron": {"type": "relu", "params": {}}}
            return f"{before.rstrip('ab')}_neuron{number}", "neuron", neuron
        case kinds.Dropout():
            return f"hs{number}", "hs", {"keep": layer.keep, "enable": True}


def add_softmax(layers, draw, inputs, *, size, num_classes, halved):
    """Add the last layer and the cost; `halved` has half of the classes on each GPU.

    `size` is the number of units of each input.
    """
    inputs = list(inputs)
    weights = [np.asfortranarray(draw.matrix(size, num_classes)) for _ in inputs]
    bias, last = draw.biases(1, num_classes), [f"fc{num_classes}"]
    if halved:
        halves, last = (slice(num_classes // 2), slice(num_classes // 2, None)), ["concat"]
        for letter, half in zip("ab", halves, strict=True):
            parts = [np.asfortranarray(w[:, half]) for w in weights]
            add(layers, f"fc1000{letter}", "fc", inputs, weights=parts, biases=bias[:, half])
        add(layers, "concat", "concat", ["fc1000a", "fc1000b"])
    else:
        add(layers, *last, "fc", inputs, weights=weights, biases=bias)
    add(layers, "probs", "softmax", last)
    add(layers, "logprob", "cost.logreg", ["labels", "probs"])


def norm(layer):
    return {"size": layer.n, "scale": layer.alpha, "pow": layer.beta, "blocked": False}


def add(layers, name, kind, inputs, **fields):
    below = [layers[source] for source in inputs]
    layers[name] = {"name": name, "type": kind, "inputs": inputs, "inputLayers": below, **fields}


def logits(layers, image):
    """The logits [1, classes] of an image [1, 3, side, side], in float64 by PyTorch."""
    import torch

    values = {"data": _tensor(image)}

    def value(name):
        if name not in values:
            layer = layers[name]
            inputs = [value(source) for source in layer["inputs"]]
            compute = _with_weights if "weights" in layer else _without_weights
            values[name] = compute(layer, *inputs)
        return values[name]

    last = next(layer for layer in layers.values() if layer["type"] == "softmax")["inputs"][0]
    with torch.no_grad():
        return value(last).numpy()


def _tensor(array):
    import torch

    return torch.tensor(np.ascontiguousarray(array), dtype=torch.float64)


def _with_weights(layer, *inputs):
    """The output of a layer with weights."""
    biases = _tensor(layer["biases"])
    match layer["type"]:
        case "conv":
            y = sum(
                _convolve(x, *each, filters=layer["filters"])
                for x, *each in zip(
                    inputs, layer["weights"], layer["filterSize"], layer["stride"],
                    [-pad for pad in layer["padding"]], strict=True,
                )
            )  # fmt: skip
            return y + biases.reshape(1, -1, 1, 1)
        case "local":
            size, pad = layer["filterSize"][0], -layer["padding"][0]
            y = _convolve_local(*inputs, layer["weights"][0], size, pad, filters=layer["filters"])
            return y + biases.reshape(y.shape)
        case "fc":
            pairs = zip(inputs, layer["weights"], strict=True)
            return biases + sum(x.flatten(1) @ _tensor(weights) for x, weights in pairs)
    raise ValueError(layer["type"])


def _without_weights(layer, x, *others):
    """The output of a layer without weights."""
    import torch
    from torch.nn import functional

    match layer["type"]:
        case "cmrnorm":
            n = layer["size"]
            alpha = layer["scale"] * n
            return functional.local_response_norm(x, n, alpha, layer["pow"], layer["minDiv"])
        case "rnorm":
            return x / (1 + layer["scale"] * _window_sum(x**2, layer["size"])) ** layer["pow"]
        case "cnorm":
            n = layer["size"]
            mean = _window_sum(x, n) / _window_sum(torch.ones_like(x), n)
            return x / (1 + layer["scale"] * _window_sum((x - mean) ** 2, n)) ** layer["pow"]
        case "pool" if layer["pool"] == "max":
            return functional.max_pool2d(x, layer["sizeX"], layer["stride"], ceil_mode=True)
        case "pool":
            return functional.avg_pool2d(
                x, layer["sizeX"], layer["stride"], ceil_mode=True, count_include_pad=False
            )
        case "neuron":
            return x.relu()
        case "hs":
            return x * layer["keep"]
        case "concat":
            return torch.cat([x, *others], dim=1)
        case "blur":
            taps = np.exp(-(np.arange(-4, 5) ** 2) / 32.0)
            kernel = _tensor(np.outer(taps, taps) / taps.sum() ** 2).expand(3, 1, 9, 9)
            return functional.conv2d(x, kernel, padding=4, groups=3)
        case "nailbed":
            return x[:, :, 2::4, 2::4]
    raise ValueError(layer["type"])


def _convolve(x, weights, size, stride, pad, *, filters):
    """A convolution by cuda-convnet's ceil rule: zeros beyond the edge fill the last window."""
    from torch.nn import functional

    kernel = _tensor(weights).T.reshape(filters, -1, size, size)
    length = x.shape[-1]
    count = 1 - (-(2 * pad + length - size) // stride)
    more = (count - 1) * stride + size - pad - length
    return functional.conv2d(functional.pad(x, (pad, more, pad, more)), kernel, stride=stride)


def _convolve_local(x, weights, size, pad, *, filters):
    """A convolution with weights of its own at every position ("module")."""
    import torch
    from torch.nn import functional

    patches = functional.unfold(x, size, padding=pad)[0]  # [channels x pixels, modules]
    kernels = _tensor(weights).reshape(patches.shape[1], -1, filters)
    y = torch.einsum("cm,mcf->fm", patches, kernels)
    return y.reshape(1, filters, *[int(patches.shape[1] ** 0.5)] * 2)


def _window_sum(x, n):
    """The sum over an n x n window around each pixel."""
    from torch.nn import functional

    return functional.avg_pool2d(x, n, 1, n // 2, count_include_pad=True) * n**2
