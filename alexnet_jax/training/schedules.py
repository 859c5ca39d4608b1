"""The learning rates that a config's `optimizer` section asks for, by steps."""

import math
from collections.abc import Collection, Iterable

from ml_collections import ConfigDict

from alexnet_jax.model.architecture import Architecture
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.training.optimizer import Group, Plateau, Schedule, StepRates

# The field of the config with the learning rates of each kind of parameter.
FIELDS = {"weights": "learning_rate", "biases": "bias_learning_rate"}


def groups(
    optimizer: ConfigDict,
    architecture: Architecture,
    *,
    unit: float,
    num_steps: int,
    new_layers: Collection[str] = (),
) -> dict[str, Group]:
    """Learning rates and decay of "weights", "biases" and of single layers' that differ from them.

    `unit` is the number of steps in the unit of the config's pairs, an epoch or a step.
    `new_layers` are those of a fine-tuned network that it didn't take from another run. UserError
    for a layer or a field that does not exist and for rates that can't be.
    """
    common = {kind: optimizer[field] for kind, field in FIELDS.items()}
    decays = {"weights": optimizer.weight_decay, "biases": optimizer.bias_decay}
    names = [layer.name for layer in architecture.layers if hasattr(layer, "name")]
    freeze = names_in(optimizer.freeze)
    _check_layers(optimizer.layers, freeze, names)

    def group(field: str, kind: str, pairs: Iterable, decay: float, factor: float = 1.0) -> Group:
        rates = _step_rates(field, pairs, unit)
        if optimizer.schedule != "stepped" and any(rate for _, rate in rates[1:]):
            raise UserError(
                f"optimizer.schedule={optimizer.schedule} lowers the rates by itself, but {field} "
                "has steps of its own: give one pair, or later ones with rate 0 that freeze it."
            )
        if optimizer.schedule == "exponential":
            rates = _exponential(rates, optimizer.exponential[FIELDS[kind]], num_steps)
        return Group(tuple((start, factor * rate) for start, rate in rates), decay)

    result = {
        kind: group(f"optimizer.{FIELDS[kind]}", kind, pairs, decays[kind])
        for kind, pairs in common.items()
    }
    for layer in names:
        settings = optimizer.layers.get(layer, {})
        default = optimizer.new_layers_factor if layer in new_layers else 1.0
        factor = _factor(layer, settings.get("factor", default))
        for kind, pairs in common.items():
            field, decay = FIELDS[kind], decays[kind]
            if kind == "weights":
                decay = settings.get("weight_decay", decay)
            if layer in freeze:
                result[f"{layer}.{kind}"] = Group(((0, 0.0),))
            elif field in settings or decay != decays[kind] or factor != 1:
                name, pairs = f"optimizer.layers.{layer}.{field}", settings.get(field, pairs)
                result[f"{layer}.{kind}"] = group(name, kind, pairs, decay, factor)
    return result


def late_pairs(optimizer: ConfigDict, unit: float, num_steps: int) -> list[str]:
    """The config's pairs of learning rates that begin after the run's last step, for a warning."""
    fields = {field: optimizer[field] for field in FIELDS.values()}
    for layer, settings in optimizer.layers.items():
        fields |= {
            f"layers.{layer}.{field}": settings[field]
            for field in FIELDS.values()
            if field in settings
        }
    return [
        f"optimizer.{field} from {when:g} {optimizer.unit}"
        for field, pairs in fields.items()
        for when, _ in pairs
        if steps_of(when, unit) >= num_steps
    ]


def names_in(field: Iterable[str]) -> tuple[str, ...]:
    """The names in a field of several; a flag gives "conv1,conv2" as one of them."""
    return tuple(name for part in field for name in part.split(",") if name)


def schedule(optimizer: ConfigDict, warmup: int, num_steps: int) -> Schedule:
    """The factor on all learning rates over a run of `num_steps` with so many of warm-up."""
    if warmup >= num_steps:
        raise UserError(
            f"The warm-up of {warmup:,} steps is as long as the run of {num_steps:,}: shorten "
            "optimizer.warmup_epochs or train longer."
        )
    return Schedule(warmup, num_steps if optimizer.schedule == "cosine" else 0)


def plateau(optimizer: ConfigDict, evaluates: bool) -> Plateau | None:
    """The plateau rule if it is chosen; `evaluates` says whether the run ever evaluates."""
    if optimizer.schedule != "plateau":
        return None
    if not evaluates:
        raise UserError(
            "optimizer.schedule=plateau watches the validation error, but the run never evaluates: "
            "set evaluate.every_epochs."
        )
    rule = optimizer.plateau
    if rule.patience < 1 or rule.factor <= 1 or rule.times < 0:
        raise UserError(
            f"optimizer.plateau has patience={rule.patience}, factor={rule.factor}, "
            f"times={rule.times}: expected at least 1, more than 1 and at least 0."
        )
    return Plateau(rule.patience, rule.factor, rule.times)


def steps_of(epochs: float, steps_per_epoch: float) -> int:
    """The first step at or after so many epochs."""
    return math.ceil(round(epochs * steps_per_epoch, 6))


def _check_layers(layers: ConfigDict, freeze: Iterable[str], names: Collection[str]) -> None:
    named = {**{f"layers.{layer}": layer for layer in layers}, **{f"freeze={n}": n for n in freeze}}
    for field, layer in named.items():
        if layer not in names:
            raise UserError(
                f"optimizer.{field}: the network has no such layer, only {', '.join(names)}."
            )
    for layer, fields in layers.items():
        for field in fields:
            if field not in (*FIELDS.values(), "weight_decay", "factor"):
                raise UserError(
                    f"optimizer.layers.{layer} has a field '{field}': expected "
                    "learning_rate, bias_learning_rate, weight_decay or factor."
                )


def _factor(layer: str, factor: float) -> float:
    if not isinstance(factor, int | float) or factor <= 0:
        raise UserError(
            f"The factor on the rates of layer {layer} is {factor!r}: expected a number above 0 "
            "(optimizer.freeze makes a layer stand still)."
        )
    return factor


def _step_rates(name: str, pairs: Iterable, unit: float) -> StepRates:
    try:
        rates = tuple((steps_of(when, unit), float(rate)) for when, rate in pairs)
    except (TypeError, ValueError):
        rates = ()
    starts = [start for start, _ in rates]
    if not rates or starts[0] != 0 or starts != sorted(starts) or min(r for _, r in rates) < 0:
        raise UserError(
            f"{name} is {pairs!r}: expected pairs (from when, rate) in ascending order, the first "
            "from 0, such as ((0, 0.01), (25, 0.001))."
        )
    return rates


def _exponential(rates: StepRates, how: Iterable, num_steps: int) -> StepRates:
    """(factor, count): so many rates of equal length, in equal ratios down to 1 / factor.

    The authors' automatic schedule of 2013: `dexp` of cuda-convnet2 (lr.cu). Freezing pairs stay.
    """
    try:
        factor, count = how
        sound = factor > 0 and count >= 2
    except (TypeError, ValueError):
        sound = False
    if not sound:
        raise UserError(
            f"optimizer.exponential has {how!r}: expected (divide by, number of rates) with a "
            "divisor above 0 and at least two rates, such as (250, 4)."
        )
    falling = [
        (math.ceil(num_steps * index / count), rates[0][1] * factor ** (-index / (count - 1)))
        for index in range(count)
    ]
    frozen = rates[1:]
    return (*(pair for pair in falling if not frozen or pair[0] < frozen[0][0]), *frozen)
