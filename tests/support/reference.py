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


def across_channels(x, n, k, alpha, beta):
    """Each channel over its n neighbors, cut at the edges."""
    channels = x.shape[3]
    y = np.empty_like(x)
    for i in range(channels):
        low, high = max(0, i - n // 2), min(channels - 1, i - n // 2 + n - 1)
        y[..., i] = x[..., i] / (k + alpha * (x[..., low : high + 1] ** 2).sum(-1)) ** beta
    return y


def within_channel(x, n, k, alpha, beta):
    """Each pixel over its n x n neighbors in the same channel, cut at the edges."""
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


def average_to(x, side):
    """Means over side x side regions, which overlap where the sides are no multiple."""
    n, height, width, channels = x.shape
    y = np.empty((n, side, side, channels))
    for i in range(side):
        for j in range(side):
            top, left = i * height // side, j * width // side
            bottom, right = -(-(i + 1) * height // side), -(-(j + 1) * width // side)
            y[:, i, j] = x[:, top:bottom, left:right].mean(axis=(1, 2))
    return y


def net145(parameters, images, keep):
    """Net 145 in both towers at test time, layer by layer as layers-145.cfg has them.

    Images of another size than 224 are averaged to 6 x 6 before fc6. Returns {name of a layer: what
    comes out of it, tower 1 before tower 2}.
    """
    outputs = {}

    def see(name, inputs):
        outputs[name] = np.concatenate(inputs, axis=-1)
        return inputs

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

    x = see("conv1", conv("conv1", [images, images], stride=4))
    x = see("conv1.norm", each(across_channels, x, 5, 2.0, 1e-4 / 5, 0.75))
    x = see("conv1.pool", each(pool, x, 3, 2, np.max))
    x = see("conv1.relu", relu(x))
    x = see("conv2.linear", conv("conv2", x, padding=2))
    x = see("conv2", relu(x))
    x = see("conv2.norm", each(across_channels, x, 5, 2.0, 1e-4 / 5, 0.75))
    x = see("conv2.spatial_norm", each(within_channel, x, 5, 1.0, 0.001 / 25, 0.75))
    x = see("conv2.pool", each(pool, x, 3, 2, np.max))
    x = see("conv3.linear", conv("conv3", both(x), padding=1))
    x = see("conv3", relu(x))
    x = see("conv4.linear", conv("conv4", x, padding=1))
    x = see("conv4", relu(x))
    x = see("conv5", conv("conv5", x, padding=1))
    x = see("conv5.pool", each(pool, x, 3, 2, np.max))
    x = see("conv5.relu", relu(x))
    units = see("fc6.linear", dense("fc6", each(average_to, x, 6)))
    units = see("fc6", relu(units))
    units = see("fc6.dropout", [keep * x for x in units])
    units = see("fc7.linear", dense("fc7", units))
    units = see("fc7", relu(units))
    units = see("fc7.dropout", [keep * x for x in units])
    joined = np.concatenate(units, axis=-1)
    last = parameters["fc8"]
    outputs["fc8"] = joined @ last["kernel"].reshape(joined.shape[1], -1) + last["bias"]
    return outputs


def contrast(x, n, k, alpha, beta):
    """Like `within_channel`, with differences from the mean of the pixels of the window."""
    low, (_, height, width, _) = n // 2, x.shape
    differences = np.empty_like(x)

    def window(at, row, column):
        rows = slice(max(0, row - low), min(height, row - low + n))
        columns = slice(max(0, column - low), min(width, column - low + n))
        return at[:, rows, columns]

    for row, column in np.ndindex(height, width):
        mean = window(x, row, column).mean(axis=(1, 2))
        differences[:, row, column] = x[:, row, column] - mean
    y = np.empty_like(x)
    for row, column in np.ndindex(height, width):
        squares = (window(differences, row, column) ** 2).sum(axis=(1, 2))
        y[:, row, column] = x[:, row, column] / (k + alpha * squares) ** beta
    return y


def max_pool_gradient(x, gradient, size, stride):
    """Each window's gradient goes to its first maximum, row by row."""
    result = np.zeros(x.shape)
    for image, row, column, channel in np.ndindex(gradient.shape):
        top, left = row * stride, column * stride
        window = x[image, top : top + size, left : left + size, channel]
        i, j = np.unravel_index(window.argmax(), window.shape)
        result[image, top + i, left + j, channel] += gradient[image, row, column, channel]
    return result


def average_pool_gradient(shape, gradient, size, stride):
    """Each window's gradient goes in equal shares to its pixels that lie in the image."""
    result = np.zeros(shape)
    for row, column in np.ndindex(gradient.shape[1:3]):
        top, left = row * stride, column * stride
        window = result[:, top : top + size, left : left + size]
        window += gradient[:, row, column][:, None, None] / np.prod(window.shape[1:3])
    return result


def locally_connected(x, kernel, bias, size, padding):
    """kernel [rows, columns, channels * size * size, filters]: a channel after the other."""
    padded = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    y = np.empty((len(x), *kernel.shape[:2], kernel.shape[3]))
    for row, column in np.ndindex(kernel.shape[:2]):
        patch = padded[:, row : row + size, column : column + size]
        flat = np.moveaxis(patch, 3, 1).reshape(len(x), -1)
        y[:, row, column] = flat @ kernel[row, column] + bias[row, column]
    return y


def blurred(image, taps, deviation):
    """Gaussian blur with zero beyond the edge."""
    half = taps // 2
    offsets = np.arange(-half, half + 1)
    weights = np.exp(-(offsets**2) / (2 * deviation**2))
    weights /= weights.sum()
    result = np.zeros_like(image)
    for row, column in np.ndindex(image.shape[1:3]):
        for i, j in np.ndindex(taps, taps):
            r, c = row + i - half, column + j - half
            if 0 <= r < image.shape[1] and 0 <= c < image.shape[2]:
                result[:, row, column] += weights[i] * weights[j] * image[:, r, c]
    return result
