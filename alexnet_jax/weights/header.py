"""What stands beside the arrays in a file of weights: network, classes and pixels, as JSON."""

import contextlib
import dataclasses
import json
import pathlib
from collections.abc import Iterator

import numpy as np

from alexnet_jax.model.architecture import Architecture
from alexnet_jax.model.networks import Variant
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.weights import atomic_write
from alexnet_jax.weights.trained import Pixels, Trained

FORMAT = "alexnet_jax 1"
FIELDS = ("network", "classes", "pixels")
KINDS = {"size": int, "mean_at_crop": bool, "warp": bool}  # the numbers of Pixels


def build_header(trained: Trained) -> dict[str, str]:
    """The texts of a header; `about` is for people."""
    pixels = trained.pixels
    colours = "grey" if trained.architecture.channels == 1 else "RGB"
    return {
        "format": FORMAT,
        "about": f"{trained.variant.network} for images of {pixels.size} pixels, {colours} in grey "
        "levels of 0 to 255, minus pixels.mean, divided by pixels.divisor",
        "network": json.dumps(dataclasses.asdict(trained.variant)),
        "classes": json.dumps(trained.classes, ensure_ascii=False),
        "pixels": json.dumps({name: getattr(pixels, name) for name in KINDS}),
    }


@contextlib.contextmanager
def write_with_description(path: pathlib.Path, trained: Trained) -> Iterator[pathlib.Path]:
    """A name to write `path` to, as writing.whole, with a description in FILE.json beside it.

    That has the fields of the header, and `mean` and `divisor` as lists. Both appear, or neither.
    """
    about = build_header(trained)
    about = {name: json.loads(text) if name in FIELDS else text for name, text in about.items()}
    about |= {name: getattr(trained.pixels, name).tolist() for name in ("mean", "divisor")}
    lines = [
        f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}"
        for key, value in about.items()
    ]
    with (
        atomic_write.atomic_path(description_path(path)) as partial,
        atomic_write.atomic_path(path) as own,
    ):
        partial.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
        yield own


def description_path(path: pathlib.Path) -> pathlib.Path:
    """Where the description of a file of weights stands that can't hold it itself."""
    return path.with_name(path.name + ".json")


def check_format(header: dict[str, str], name: str) -> None:
    """UserError where a header is not one of this program."""
    if header.get("format") != FORMAT:
        raise UserError(
            f"{name} is not a file of weights of this program, or one of a newer version: expected "
            f"the format {FORMAT} in its header, found {header.get('format', 'none')}."
        )


def read_header(header: dict[str, str], name: str) -> tuple[Variant, tuple[str, ...], dict]:
    """Network, classes and the numbers of Pixels; UserError where they are not those of a file."""
    try:
        fields = {field: json.loads(header[field]) for field in FIELDS}
        variant = Variant(**fields["network"])
        classes, numbers = fields["classes"], fields["pixels"]
        architecture = variant.architecture()
    except KeyError as error:
        raise _damaged(name, f"it has no {error}") from error
    except (ValueError, TypeError, OverflowError, RecursionError, UserError) as error:
        raise _damaged(name, str(error).rstrip(".")) from error
    names = isinstance(classes, list) and all(isinstance(each, str) for each in classes)
    if not names or not classes:
        raise _damaged(name, "its classes are not a list of names")
    kinds = isinstance(numbers, dict) and {key: type(numbers[key]) for key in numbers}
    if kinds != KINDS or numbers["size"] < architecture.input_size:
        raise _damaged(name, f"its pixels are {numbers}")
    return variant, tuple(classes), numbers


def trained_from(
    name: str,
    variant: Variant,
    classes: tuple[str, ...],
    parameters: dict[str, dict[str, np.ndarray]],
    numbers: dict,
    mean: np.ndarray,
    divisor: np.ndarray,
) -> Trained:
    """A Trained of the parts of a file; UserError for an array of another shape or type."""
    architecture = variant.architecture()
    _check_parameters(name, variant.network, architecture.parameter_shapes(len(classes)),
                      parameters)  # fmt: skip
    _check_pixels(name, architecture, numbers, {"mean": mean, "divisor": divisor})
    return Trained(
        name=name,
        variant=variant,
        classes=classes,
        parameters=parameters,
        pixels=Pixels(mean=mean, divisor=divisor, **numbers),
    )


def _check_parameters(name: str, network: str, wanted: dict, parameters: dict) -> None:
    """UserError for the first array that is missing, too many, or of another shape or type."""
    shapes = {f"{layer}.{kind}": list(shape) for layer, kinds in wanted.items()
              for kind, shape in kinds.items()}  # fmt: skip
    found = {f"{layer}.{kind}": array for layer, kinds in parameters.items()
             for kind, array in kinds.items()}  # fmt: skip
    for array in [*shapes, *found]:
        if array not in found:
            reason = f"it lacks {array}"
        elif array not in shapes:
            reason = f"it also holds {array}"
        elif list(found[array].shape) != shapes[array]:
            reason = f"{array} is {list(found[array].shape)}, expected {shapes[array]}"
        elif found[array].dtype != np.float32:
            reason = f"{array} is {found[array].dtype}, expected float32"
        else:
            continue
        raise UserError(
            f"{name} does not hold the weights of {network} that its header speaks of ({reason}): "
            "convert them anew."
        )


def _check_pixels(name: str, architecture: Architecture, numbers: dict, arrays: dict) -> None:
    crop, channels = architecture.input_size, architecture.channels
    side = numbers["size"] if numbers["mean_at_crop"] else crop
    shapes = {"mean": [(), (channels,), (side, side, channels)], "divisor": [(), (channels,)]}
    for kind, array in arrays.items():
        if array.shape not in shapes[kind] or array.dtype != np.float32:
            expected = " or ".join(str(list(shape)) for shape in shapes[kind])
            raise UserError(
                f"{name} holds a pixels.{kind} of {array.dtype} {list(array.shape)}, expected "
                f"float32 {expected}: convert the weights anew."
            )


def _damaged(name: str, reason: str) -> UserError:
    return UserError(f"{name} has a damaged header ({reason}): convert the weights anew.")
