"""The layers once more, as float64 NumPy loops written from the formulas, to compare with."""

import numpy as np


def convolve(x, kernel, bias, stride, padding):
    """x [n, h, w, c], kernel [k, k, c, f]; windows from -padding on, zeros outside the image."""
    n, height, width, _ = x.shape
    k, filters = kernel.shape[0], kernel.shape[3]
    rows, columns = (1 + int(np.ceil((2 * padding + s - k) / stride)) for s in (height, width))
    y = np.zeros((n, rows, columns, filters))
    for i in range(rows):
        for j in range(columns):
            for a in range(k):
                for b in range(k):
                    p, q = i * stride - padding + a, j * stride - padding + b
                    if 0 <= p < height and 0 <= q < width:
                        y[:, i, j] += x[:, p, q] @ kernel[a, b]
    return y + bias


def across_maps(x, n, k, alpha, beta):
    """Each map over its n neighbours, cut at the edges."""
    maps = x.shape[3]
    y = np.empty_like(x)
    for i in range(maps):
        low, high = max(0, i - n // 2), min(maps - 1, i - n // 2 + n - 1)
        y[..., i] = x[..., i] / (k + alpha * (x[..., low : high + 1] ** 2).sum(-1)) ** beta
    return y


def within_map(x, n, k, alpha, beta):
    """Each pixel over its n x n neighbours in the same map, cut at the edges."""
    y = np.empty_like(x)
    for i in range(x.shape[1]):
        for j in range(x.shape[2]):
            top, left = i - n // 2, j - n // 2
            window = x[:, max(0, top) : top + n, max(0, left) : left + n]
            y[:, i, j] = x[:, i, j] / (k + alpha * (window**2).sum((1, 2))) ** beta
    return y


def pool(x, size, stride, reduce):
    """`reduce` over windows clipped at the edge; 1 + ceil((length - size) / stride) a side."""
    rows, columns = (1 + int(np.ceil((s - size) / stride)) for s in x.shape[1:3])
    y = np.empty((x.shape[0], rows, columns, x.shape[3]))
    for i in range(rows):
        for j in range(columns):
            window = x[:, i * stride : i * stride + size, j * stride : j * stride + size]
            y[:, i, j] = reduce(window, axis=(1, 2))
    return y


def net145(parameters, images, keep):
    """Net 145 in both towers at test time, layer by layer as layers-145.cfg has them."""

    def conv(name, inputs, stride=1, padding=0):
        kernels, biases = parameters[name]["kernel"], parameters[name]["bias"]
        return [
            convolve(x, k, b, stride, padding)
            for x, k, b in zip(inputs, kernels, biases, strict=True)
        ]

    def dense(name, inputs):
        joined = np.concatenate(inputs, axis=-1).reshape(len(images), -1)
        layer = parameters[name]
        return [joined @ k + b for k, b in zip(layer["kernel"], layer["bias"], strict=True)]

    def each(function, inputs, *numbers):
        return [function(x, *numbers) for x in inputs]

    def relu(inputs):
        return [np.maximum(x, 0) for x in inputs]

    def both(inputs):
        return [np.concatenate(inputs, axis=-1)] * 2

    maps = conv("conv1", [images, images], stride=4)
    maps = each(across_maps, maps, 5, 2.0, 1e-4 / 5, 0.75)
    maps = relu(each(pool, maps, 3, 2, np.max))
    maps = relu(conv("conv2", maps, padding=2))
    maps = each(across_maps, maps, 5, 2.0, 1e-4 / 5, 0.75)
    maps = each(within_map, maps, 5, 1.0, 0.001 / 25, 0.75)
    maps = each(pool, maps, 3, 2, np.max)
    maps = relu(conv("conv3", both(maps), padding=1))
    maps = relu(conv("conv4", maps, padding=1))
    maps = relu(conv("conv5", maps, padding=1))
    maps = each(pool, maps, 3, 2, np.max)
    units = [keep * x for x in relu(dense("fc6", maps))]
    units = [keep * x for x in relu(dense("fc7", units))]
    joined = np.concatenate(units, axis=-1)
    last = parameters["fc8"]
    return joined @ last["kernel"].reshape(joined.shape[1], -1) + last["bias"]
