"""A network as JSON: how a run keeps the list of layers of a network of the user's own."""

import dataclasses
import json
import typing
from typing import Any

from alexnet_jax.model.architecture import Architecture
from alexnet_jax.model.layers import LAYER_KINDS, Layer, Output, Weighted
from alexnet_jax.model.low_resolution import LowResolution
from alexnet_jax.runtime.errors import UserError

_kinds: dict[str, type] = {kind.__name__: kind for kind in LAYER_KINDS}
_BUILT_IN = {kind.__name__ for kind in LAYER_KINDS}
# What JSON may have for a field of a type.
_TYPES: dict[Any, tuple[type, ...]] = {int: (int,), float: (int, float), str: (str,), bool: (bool,)}
_FIELDS = ("name", "input_size", "channels", "towers", "num_classes")


def register_layer(kind: type) -> type:
    """Make a kind of layer known by its class name, so that runs with it can be opened; returns it.

    A frozen dataclass whose fields JSON can hold: derived from model.layers.Activation or
    Elementwise if it has no parameters, else from TowerLayer. UserError where that is not so, or
    where this project has a layer of that name.
    """
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
        raise UserError(
            f"The layer {getattr(kind, '__name__', kind)} can't be registered: expected a class "
            "with @dataclasses.dataclass(frozen=True)."
        )
    if kind.__name__ in _BUILT_IN:
        raise UserError(
            f"The layer {kind.__name__} can't be registered: this project has a layer of that "
            "name; choose another."
        )
    _kinds[kind.__name__] = kind
    return kind


def to_json(architecture: Architecture) -> str:
    """The network as JSON; UserError where it is not sound or has a layer that isn't registered."""
    check(architecture)
    layers = [_layer_to_json(layer, architecture.name) for layer in architecture.layers]
    fields = {name: getattr(architecture, name) for name in _FIELDS}
    return json.dumps(fields | {"layers": layers})


def from_json(text: str) -> Architecture:
    """The network that `to_json` wrote; UserError for anything else.

    A layer that is not known is named: the Python file that registers it has to be read before.
    """
    try:
        values = json.loads(text)
        layers = tuple(_layer_from_json(value) for value in values.pop("layers"))
        if set(values) != set(_FIELDS):
            raise ValueError(f"it has the fields {', '.join(sorted(values))}")
        architecture = Architecture(**values, layers=layers)
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise UserError(
            f"The list of layers of this network is damaged ({type(error).__name__}: {error}): "
            "expected the JSON that a run or a converted file keeps."
        ) from error
    check(architecture)
    return architecture


def check(architecture: Architecture) -> None:
    """UserError, in a sentence, for a network that can't be built."""
    name = architecture.name
    problem = _problem(architecture)
    if not problem:
        try:
            shapes = architecture.parameter_shapes(architecture.num_classes)
            sizes = [layer for layer, shape in architecture.shapes() if min(shape) < 1]
        except Exception as error:  # of a layer of the user's own, too
            problem = f"its shapes can't be computed ({type(error).__name__}: {error})"
        else:
            flat = [size for kinds in shapes.values() for shape in kinds.values() for size in shape]
            if sizes or min(flat) < 1:
                place = _name_of(sizes[0]) if sizes else "a layer"
                problem = f"nothing is left of the image before {place}"
    if problem:
        raise UserError(f"The network {name} can't be built: {problem}.")


def _problem(architecture: Architecture) -> str:
    """What is wrong with the list itself; empty if nothing is."""
    counts = {name: getattr(architecture, name) for name in _FIELDS[1:]}
    for name, count in counts.items():
        if type(count) is not int or count < 1:
            return f"{name} is {count!r}, expected a whole number above 0"
    layers, towers = architecture.layers, architecture.towers
    if not layers or not isinstance(layers[-1], Output):
        return "its last layer is not an Output"
    names: list[str] = []
    for index, layer in enumerate(layers):
        if isinstance(layer, Output) and index + 1 < len(layers):
            return f"the Output {layer.name} is not its last layer"
        if isinstance(layer, Weighted | Output):
            if not isinstance(layer.name, str) or not layer.name.isidentifier():
                return f"a layer is called {layer.name!r}, expected a name such as conv1"
            if layer.name in names:
                return f"two layers are called {layer.name}"
            names.append(layer.name)
        for field in ("filters", "units"):
            count = getattr(layer, field, towers)
            if type(count) is int and count % towers:
                return (
                    f"the {count} {field} of {_name_of(layer)} are not divisible by {towers} towers"
                )
    return ""


def _name_of(layer: Layer) -> str:
    return getattr(layer, "name", type(layer).__name__)


def _layer_to_json(layer: Any, network: str) -> dict:
    """The class name as "type", and the fields that differ from their defaults."""
    kind = type(layer)
    if _kinds.get(kind.__name__) is not kind:
        raise UserError(
            f"The network {network} has a layer of the kind {kind.__name__}, which is not "
            "registered: write @alexnet_jax.register_layer above its class."
        )
    values = {}
    for field in dataclasses.fields(layer):
        value = getattr(layer, field.name)
        if value != field.default:
            low = isinstance(value, LowResolution)
            values[field.name] = dataclasses.asdict(value) if low else value
    try:
        json.dumps(values, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"The layer {_name_of(layer)} of {network} can't be kept as JSON ({error}): use "
            "numbers, words and True or False alone."
        ) from error
    return {"type": kind.__name__, **values}


def _layer_from_json(value: dict) -> Layer:
    values = dict(value)
    name = values.pop("type")
    if name not in _kinds:
        raise UserError(
            f"This network has a layer of the kind {name}, which is not one of this project's: "
            "name the Python file that registers it with --code=FILE.py, or import it."
        )
    kind = _kinds[name]
    hints = typing.get_type_hints(kind)
    for field, given in values.items():
        if isinstance(given, dict):
            values[field] = LowResolution(**given)
        else:
            expected = _TYPES.get(hints.get(field), ())
            if expected and type(given) not in expected:
                raise ValueError(f"{field} of a {name} is {given!r}")
    return kind(**values)
