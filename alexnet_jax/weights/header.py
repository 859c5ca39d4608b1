"""The description beside the arrays in a file of weights: network, classes and pixels, as JSON."""

import contextlib
import dataclasses
import json
import pathlib
from collections.abc import Iterator, Mapping

import numpy as np

from alexnet_jax.model.architecture import Architecture
from alexnet_jax.model.layers import Shape
from alexnet_jax.model.networks import Variant
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.weights import atomic_write
from alexnet_jax.weights.trained import HostParameters, Pixels, Trained

FORMAT = "alexnet_jax 1"
FIELDS = ("network", "classes", "pixels")
PIXEL_TYPES = {"size": int, "mean_at_crop": bool, "warp": bool}  # the fields of Pixels in a header


@dataclasses.dataclass(frozen=True)
class Header:
    """The checked contents of a header; `pixels` has the fields of PIXEL_TYPES."""

    variant: Variant
    classes: tuple[str, ...]
    pixels: dict


def build_header(trained: Trained) -> dict[str, str]:
    """The fields of a header; `description` is for people."""
    pixels = trained.pixels
    colors = "grey" if trained.architecture.channels == 1 else "RGB"
    return {
        "format": FORMAT,
        "description": f"{trained.variant.network} for images of {pixels.size} pixels, {colors} in "
        "grey levels of 0 to 255, minus pixels.mean, divided by pixels.divisor",
        "network": json.dumps(dataclasses.asdict(trained.variant)),
        "classes": json.dumps(trained.classes, ensure_ascii=False),
        "pixels": json.dumps({name: getattr(pixels, name) for name in PIXEL_TYPES}),
    }


@contextlib.contextmanager
def write_with_description(path: pathlib.Path, trained: Trained) -> Iterator[pathlib.Path]:
    """As atomic_write.atomic_path, and write a description to FILE.json beside the file.

    The description has the fields of the header, and `mean` and `divisor` as lists. Both files
    appear, or neither.
    """
    fields = build_header(trained)
    values = {name: json.loads(text) if name in FIELDS else text for name, text in fields.items()}
    values |= {name: getattr(trained.pixels, name).tolist() for name in ("mean", "divisor")}
    lines = [
        f"{json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}"
        for name, value in values.items()
    ]
    with (
        atomic_write.atomic_path(description_path(path)) as description,
        atomic_write.atomic_path(path) as partial,
    ):
        description.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
        yield partial


def description_path(path: pathlib.Path) -> pathlib.Path:
    """The file with the description of a file of weights that can't hold it itself."""
    return path.with_name(path.name + ".json")


def check_format(fields: Mapping[str, str], file: str) -> None:
    """Raise UserError where a header is not one of this program."""
    if fields.get("format") != FORMAT:
        raise UserError(
            f"{file} is not a file of weights of this program, or one of a newer version: expected "
            f"the format {FORMAT} in its header, found {fields.get('format', 'none')}."
        )


def read_header(fields: Mapping[str, str], file: str) -> Header:
    """The contents of a header; raises UserError where a field is missing or damaged."""
    try:
        values = {field: json.loads(fields[field]) for field in FIELDS}
        variant = Variant(**values["network"])
        classes, pixels = values["classes"], values["pixels"]
        architecture = variant.architecture()
    except KeyError as error:
        raise _damaged(file, f"it has no {error}") from error
    except (ValueError, TypeError, OverflowError, RecursionError, UserError) as error:
        raise _damaged(file, str(error).rstrip(".")) from error
    if (
        not isinstance(classes, list)
        or not classes
        or not all(isinstance(name, str) for name in classes)
    ):
        raise _damaged(file, "its classes are not a list of names")
    types = isinstance(pixels, dict) and {key: type(pixels[key]) for key in pixels}
    if types != PIXEL_TYPES or pixels["size"] < architecture.input_size:
        raise _damaged(file, f"its pixels are {pixels}")
    return Header(variant, tuple(classes), pixels)


def trained_from(
    file: str,
    header: Header,
    *,
    parameters: HostParameters,
    mean: np.ndarray,
    divisor: np.ndarray,
) -> Trained:
    """A Trained of the contents of a file.

    Raises UserError for an array that is missing, unknown, or of another shape or dtype.
    """
    architecture = header.variant.architecture()
    shapes = architecture.parameter_shapes(len(header.classes))
    _check_parameters(file, header.variant.network, shapes, parameters)
    _check_pixels(file, architecture, header.pixels, {"mean": mean, "divisor": divisor})
    return Trained(
        name=file,
        variant=header.variant,
        classes=header.classes,
        parameters=parameters,
        pixels=Pixels(mean=mean, divisor=divisor, **header.pixels),
    )


def _check_parameters(
    file: str,
    network: str,
    expected: Mapping[str, Mapping[str, Shape]],
    parameters: HostParameters,
) -> None:
    """Raise UserError for the first array that is missing, unknown or of another shape or dtype."""
    shapes = {f"{layer}.{kind}": list(shape) for layer, kinds in expected.items()
              for kind, shape in kinds.items()}  # fmt: skip
    arrays = {f"{layer}.{kind}": array for layer, kinds in parameters.items()
              for kind, array in kinds.items()}  # fmt: skip
    for name in [*shapes, *arrays]:
        if name not in arrays:
            reason = f"it lacks {name}"
        elif name not in shapes:
            reason = f"it also holds {name}"
        elif list(arrays[name].shape) != shapes[name]:
            reason = f"{name} is {list(arrays[name].shape)}, expected {shapes[name]}"
        elif arrays[name].dtype != np.float32:
            reason = f"{name} is {arrays[name].dtype}, expected float32"
        else:
            continue
        raise UserError(
            f"{file} does not hold the weights of {network} that its header describes ({reason}): "
            "convert them anew."
        )


def _check_pixels(
    file: str, architecture: Architecture, pixels: dict, arrays: dict[str, np.ndarray]
) -> None:
    """Raise UserError where the mean or the divisor has another shape or dtype."""
    crop, channels = architecture.input_size, architecture.channels
    side = pixels["size"] if pixels["mean_at_crop"] else crop
    shapes = {"mean": [(), (channels,), (side, side, channels)], "divisor": [(), (channels,)]}
    for kind, array in arrays.items():
        if array.shape not in shapes[kind] or array.dtype != np.float32:
            expected = " or ".join(str(list(shape)) for shape in shapes[kind])
            raise UserError(
                f"{file} holds a pixels.{kind} of {array.dtype} {list(array.shape)}, expected "
                f"float32 {expected}: convert the weights anew."
            )


def _damaged(file: str, reason: str) -> UserError:
    return UserError(f"{file} has a damaged header ({reason}): convert the weights anew.")
