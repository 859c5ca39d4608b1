"""What stands beside the arrays in a file of weights: network, classes and pixels, as JSON."""

import dataclasses
import json
import math

import numpy as np

from alexnet_jax.errors import UserError
from alexnet_jax.model.networks import Variant
from alexnet_jax.weights.trained import Pixels, Trained

FORMAT = "alexnet_jax 1"
FIELDS = ("network", "classes", "pixels")


def header_of(trained: Trained) -> dict[str, str]:
    """The texts of a header; `about` is for people."""
    pixels = trained.pixels
    numbers = {"size": pixels.size, "mean_at_crop": pixels.mean_at_crop, "warp": pixels.warp}
    return {
        "format": FORMAT,
        "about": f"{trained.variant.network} for images of {pixels.size} pixels, RGB in grey "
        "levels of 0 to 255, minus pixels.mean, divided by pixels.divisor",
        "network": json.dumps(dataclasses.asdict(trained.variant)),
        "classes": json.dumps(trained.classes),
        "pixels": json.dumps(numbers),
    }


def read_header(header: dict[str, str], name: str) -> tuple[Variant, tuple[str, ...], dict]:
    """Network, classes and the numbers of Pixels; UserError where they are not those of a file."""
    try:
        fields = {field: json.loads(header[field]) for field in FIELDS}
        variant = Variant(**fields["network"])
        classes = tuple(map(str, fields["classes"]))
        size, at_crop, warp = (fields["pixels"][key] for key in ("size", "mean_at_crop", "warp"))
        numbers = {"size": int(size), "mean_at_crop": bool(at_crop), "warp": bool(warp)}
        architecture = variant.architecture()
    except (KeyError, ValueError, TypeError, UserError) as error:
        raise UserError(
            f"{name} has a damaged header ({error}): convert the weights anew."
        ) from error
    if not classes or numbers["size"] < architecture.input_size:
        raise UserError(f"{name} has a header without sense: convert the weights anew.")
    return variant, classes, numbers


def trained_from(
    name: str,
    variant: Variant,
    classes: tuple[str, ...],
    parameters: dict,
    numbers: dict,
    mean: np.ndarray,
    divisor: np.ndarray,
) -> Trained:
    """A Trained of the parts of a file; UserError where arrays do not have the right shapes."""
    architecture = variant.architecture()
    wanted = architecture.parameter_shapes(len(classes))
    found = {layer: {kind: a.shape for kind, a in kinds.items()}
             for layer, kinds in parameters.items()}  # fmt: skip
    if found != wanted:
        differing = [layer for layer in {*found, *wanted} if found.get(layer) != wanted.get(layer)]
        raise UserError(
            f"{name} does not hold the weights of {variant.network} with {len(classes):,} classes: "
            f"{min(differing)} differs. Convert the weights anew."
        )
    crop, channels = architecture.input_size, architecture.channels
    side = numbers["size"] if numbers["mean_at_crop"] else crop
    shapes = {(), (channels,), (side, side, channels)}
    if mean.shape not in shapes or math.prod(divisor.shape) not in (1, channels):
        raise UserError(f"{name} holds a mean or divisor of another shape: convert anew.")
    return Trained(
        name=name,
        variant=variant,
        classes=classes,
        parameters=parameters,
        pixels=Pixels(mean=mean, divisor=divisor, **numbers),
    )
