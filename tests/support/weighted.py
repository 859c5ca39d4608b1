"""Narrow networks whose weights say something, for tests of what is done with them."""

import jax
import numpy as np

from alexnet_jax.model.networks import Variant
from alexnet_jax.weights.trained import Pixels, Trained


def trained(name, classes=10, width=1 / 12, size=None, seed=0, **pixels):
    """A network with random weights, wide enough for every layer to matter, and random pixels."""
    variant = Variant(name, width=width)
    architecture = variant.architecture()
    shapes = architecture.parameter_shapes(classes)
    parameters = {
        layer: {kind: jax.ShapeDtypeStruct(shape, np.float32) for kind, shape in kinds.items()}
        for layer, kinds in shapes.items()
    }
    random = np.random.default_rng(seed)

    def redraw(path, leaf):
        inputs = 10 if path[-1].key == "bias" else np.prod(leaf.shape[1:-1])
        return random.normal(scale=(2 / inputs) ** 0.5, size=leaf.shape).astype(np.float32)

    channels, crop = architecture.channels, architecture.input_size
    given = {"mean": random.uniform(90, 130, (crop, crop, channels)), "divisor": 40.0} | pixels
    return Trained(
        name=name,
        variant=variant,
        classes=tuple(f"class {label}" for label in range(classes)),
        parameters=jax.tree_util.tree_map_with_path(redraw, parameters),
        pixels=Pixels(
            size=size or crop + 4,
            **given | {key: np.asarray(given[key], np.float32) for key in ("mean", "divisor")},
        ),
    )


def photographs(folder, count, side=40, seed=0):
    """Smooth random images as PNG files of different shapes; their paths."""
    from PIL import Image

    random = np.random.default_rng(seed)
    files = []
    for index in range(count):
        small = random.integers(0, 256, (6, 6 + index % 3, 3), np.uint8)
        image = Image.fromarray(small).resize((side + 3 * index, side), Image.Resampling.BICUBIC)
        folder.mkdir(parents=True, exist_ok=True)
        files.append(folder / f"image{index}.png")
        image.save(files[-1])
    return files
