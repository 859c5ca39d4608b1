"""Checkpoints of cuda-convnet with random weights, and what their networks say, by PyTorch.

The layers are those of the 2012 release for a list of ours; `logits` runs a checkpoint layer by
layer from its own fields and knows nothing of our lists.
"""

import numpy as np

from alexnet_jax.model import layers as kinds
from alexnet_jax.model.layers import Convolution, Dense, LocallyConnected, Output


def checkpoint(architecture, classes=10, seed=0):
    """{"model_state": {"layers": {name: layer}}, "op": ...} as layer.py makes it."""
    draw, layers, towers = Draw(seed), {}, architecture.towers
    letters = "ab"[:towers] if towers > 1 else [""]
    here, joined, count = ["data"] * towers, False, {}
    layers["data"] = {"name": "data", "type": "data", "dataIdx": 0, "outputs": 0}
    layers["labels"] = {"name": "labels", "type": "data", "dataIdx": 1, "outputs": 0}
    if any(getattr(layer, "low_resolution", None) for layer in architecture.layers):
        add(layers, "blur0", "blur", ["data"], filterSize=9, stdev=4.0)
        add(layers, "nails0", "nailbed", ["blur0"], stride=4, start=2)
    for layer, shape in architecture.shapes():
        if isinstance(layer, kinds.Exchange):
            joined = True
            continue
        number = count[type(layer)] = count.get(type(layer), 0) + 1
        if isinstance(layer, Output):
            halved = architecture.name == "net146_2011"
            add_softmax(layers, draw, here, int(np.prod(shape)), classes, halved)
            continue
        before = list(here)
        for tower, letter in enumerate(letters):
            own = [before[tower]]
            if joined and towers > 1:
                own = before if tower == 0 or number == 1 else before[::-1]  # as hs1b, hs1a
            if isinstance(layer, Convolution | LocallyConnected | Dense):
                name, kind, fields = weighted(layer, shape, towers, len(own), number, draw)
            else:
                name, kind, fields = unweighted(layer, number, before[0])
            if getattr(layer, "low_resolution", None):
                own = ["nails0", *own]
            add(layers, name + letter, kind, own, **fields)
            here[tower] = name + letter
        if isinstance(layer, Convolution | LocallyConnected | Dense):
            joined = False
    return {
        "model_state": {"epoch": 91, "layers": layers, "train_outputs": [({"logprob": [1.5]}, 128)]}
    }


class Draw:
    """Random weights, in the order in which they are asked for."""

    def __init__(self, seed):
        self._random = np.random.default_rng(seed)

    def matrix(self, rows, units):
        return np.float32(self._random.normal(scale=(2 / rows) ** 0.5, size=(rows, units)))

    def biases(self, *shape):
        return np.float32(self._random.normal(scale=0.3, size=shape))


def weighted(layer, shape, towers, inputs, number, draw):
    """(name, type, fields) of a layer with weights in one tower that sees `inputs` layers."""
    maps = shape[-1] // inputs
    match layer:
        case Convolution():
            filters = layer.filters // towers
            sides, strides, pads = [layer.size], [layer.stride], [layer.padding]
            sides, strides, pads = (value * inputs for value in (sides, strides, pads))
            weights = [draw.matrix(maps * layer.size**2, filters) for _ in range(inputs)]
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
            w = draw.matrix(maps * layer.size**2, modules * filters)
            w = w.reshape(-1, modules, filters).swapaxes(0, 1).reshape(-1, filters)
            return f"local{number}", "local", {
                "filterSize": [layer.size], "stride": [1], "filters": filters,
                "padding": [-layer.padding], "weights": [np.ascontiguousarray(w)],
                "biases": draw.biases(modules * filters, 1),
            }  # fmt: skip
        case Dense():
            units, rows = layer.units // towers, int(np.prod(shape)) // inputs
            weights = [np.asfortranarray(draw.matrix(rows, units)) for _ in range(inputs)]
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


def add_softmax(layers, draw, inputs, rows, classes, halved):
    """The last layer and the cost; `halved` has half of the classes on each GPU."""
    inputs = list(inputs)
    weights = [np.asfortranarray(draw.matrix(rows, classes)) for _ in inputs]
    bias, last = draw.biases(1, classes), [f"fc{classes}"]
    if halved:
        halves, last = (slice(classes // 2), slice(classes // 2, None)), ["concat"]
        for letter, half in zip("ab", halves, strict=True):
            own = [np.asfortranarray(w[:, half]) for w in weights]
            add(layers, f"fc1000{letter}", "fc", inputs, weights=own, biases=bias[:, half])
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
    """What fc... says of a channel-major image [1, 3, side, side], in float64."""
    import torch
    from torch.nn import functional

    def tensor(array):
        return torch.tensor(np.ascontiguousarray(array), dtype=torch.float64)

    def convolution(x, w, size, stride, pad, filters):
        kernel = tensor(w).T.reshape(filters, -1, size, size)
        length = x.shape[-1]
        count = 1 - (-(2 * pad + length - size) // stride)
        more = (count - 1) * stride + size - pad - length
        return functional.conv2d(functional.pad(x, (pad, more, pad, more)), kernel, stride=stride)

    def local(x, w, size, pad, filters):
        patches = functional.unfold(x, size, padding=pad)[0]  # [channels x pixels, modules]
        weights = tensor(w).reshape(patches.shape[1], -1, filters)
        found = torch.einsum("cm,mcf->fm", patches, weights)
        return found.reshape(1, filters, *[int(patches.shape[1] ** 0.5)] * 2)

    def within(x, n):
        return functional.avg_pool2d(x, n, 1, n // 2, count_include_pad=True) * n**2

    found = {"data": tensor(image)}

    def value(name):
        if name in found:
            return found[name]
        layer = layers[name]
        x, *rest = [value(source) for source in layer["inputs"]]
        match layer["type"]:
            case "conv":
                y = sum(
                    convolution(source, *each, layer["filters"])
                    for source, *each in zip(
                        [x, *rest], layer["weights"], layer["filterSize"], layer["stride"],
                        [-pad for pad in layer["padding"]], strict=True,
                    )
                )  # fmt: skip
                y = y + tensor(layer["biases"]).reshape(1, -1, 1, 1)
            case "local":
                size, pad = layer["filterSize"][0], -layer["padding"][0]
                y = local(x, layer["weights"][0], size, pad, layer["filters"])
                y = y + tensor(layer["biases"]).reshape(y.shape)
            case "fc":
                y = tensor(layer["biases"]) + sum(
                    source.flatten(1) @ tensor(w)
                    for source, w in zip([x, *rest], layer["weights"], strict=True)
                )
            case "cmrnorm":
                n = layer["size"]
                scaled = layer["scale"] * n
                y = functional.local_response_norm(x, n, scaled, layer["pow"], layer["minDiv"])
            case "rnorm":
                y = x / (1 + layer["scale"] * within(x**2, layer["size"])) ** layer["pow"]
            case "cnorm":
                n = layer["size"]
                mean = within(x, n) / within(torch.ones_like(x), n)
                y = x / (1 + layer["scale"] * within((x - mean) ** 2, n)) ** layer["pow"]
            case "pool" if layer["pool"] == "max":
                y = functional.max_pool2d(x, layer["sizeX"], layer["stride"], ceil_mode=True)
            case "pool":
                y = functional.avg_pool2d(
                    x, layer["sizeX"], layer["stride"], ceil_mode=True, count_include_pad=False
                )
            case "neuron":
                y = x.relu()
            case "hs":
                y = x * layer["keep"]
            case "concat":
                y = torch.cat([x, *rest], dim=1)
            case "blur":
                taps = np.exp(-(np.arange(-4, 5) ** 2) / 32.0)
                kernel = tensor(np.outer(taps, taps) / taps.sum() ** 2).expand(3, 1, 9, 9)
                y = functional.conv2d(x, kernel, padding=4, groups=3)
            case "nailbed":
                y = x[:, :, 2::4, 2::4]
        found[name] = y
        return y

    last = next(layer for layer in layers.values() if layer["type"] == "softmax")["inputs"][0]
    return value(last).numpy()
