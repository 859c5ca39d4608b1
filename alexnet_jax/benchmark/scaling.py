"""Step time and efficiency of each layout on many devices, from one device's speed.

The forward pass runs layer by layer, the backward pass from the last layer to the first, and the
exchanges of activations stand in their way. The sums of a layer's gradients wait for that layer
alone. Between two bounds: they run one after another beside the rest of the backward pass and cost
it nothing (`beside`), or only after all of it (`after`).
"""

import dataclasses

from alexnet_jax.benchmark.cluster import Cluster, Cost
from alexnet_jax.benchmark.traffic import (
    BACKWARD,
    FORWARD,
    GRADIENT,
    REDUCE_SCATTER,
    Transfer,
    transfers,
)
from alexnet_jax.model import summary
from alexnet_jax.model.architecture import Architecture
from alexnet_jax.runtime.errors import UserError

FORWARD_SHARE = 1 / 3  # of a step; backward has two products where forward has one


@dataclasses.dataclass(frozen=True)
class LayerTime:
    """Seconds that a layer computes on each device."""

    layer: str
    forward: float
    backward: float


@dataclasses.dataclass(frozen=True)
class Prediction:
    """A step of `batch` images (global) on so many devices.

    Seconds: `compute`, `exchanges` (activations, always waited for), `gradients` (their sums), and
    the whole step in the two bounds. Bytes are those that a device sends within its node and out of
    it. Efficiencies are images a second by devices times those of one device.
    """

    layout: str
    devices: int
    batch: int
    inside_bytes: float
    between_bytes: float
    compute: float
    exchanges: float
    gradients: float
    beside: float
    after: float
    efficiency_beside: float
    efficiency_after: float


def layer_times(
    architecture: Architecture, num_classes: int, *, images_per_second: float, images: float
) -> list[LayerTime]:
    """How long each layer with weights computes for `images` images of a device.

    The time is shared out by multiply-adds, so element-wise layers and the update lie within.
    """
    layers = [row for row in summary.summarize(architecture, num_classes) if row.multiply_adds]
    total = sum(layer.multiply_adds for layer in layers)
    times = []
    for layer in layers:
        seconds = images / images_per_second * layer.multiply_adds / total
        forward, backward = FORWARD_SHARE * seconds, (1 - FORWARD_SHARE) * seconds
        times.append(LayerTime(layer.name, forward, backward))
    return times


def timeline(layers: list[LayerTime], sent: list[tuple[Transfer, Cost]]) -> tuple[float, float]:
    """Seconds of a step in the two bounds, `beside` and `after`."""

    def seconds(phase: str, layer: str | None = None) -> list[tuple[Transfer, float]]:
        return [
            (one, cost.seconds)
            for one, cost in sent
            if one.phase == phase and layer in (None, one.layer)
        ]

    clock = sum(layer.forward for layer in layers) + sum(time for _, time in seconds(FORWARD))
    free = 0.0  # when the link for gradients is
    for layer in reversed(layers):
        exchanges = seconds(BACKWARD, layer.layer)
        # A gather brings what the layer needs; a scatter takes away what it has computed.
        clock += sum(time for one, time in exchanges if one.kind != REDUCE_SCATTER)
        clock += layer.backward
        for _, time in seconds(GRADIENT, layer.layer):
            free = max(free, clock) + time
        clock += sum(time for one, time in exchanges if one.kind == REDUCE_SCATTER)
    return max(clock, free), clock + sum(time for _, time in seconds(GRADIENT))


def predict(
    architecture: Architecture,
    num_classes: int,
    layout: str,
    *,
    devices: int,
    batch_size: int,
    images_per_second: float,
    cluster: Cluster,
    width: int = 4,
) -> Prediction:
    """One step of `batch_size` images, global; UserError where the layout does not fit the devices.

    `images_per_second` are those of a training step on one device, `width` the bytes of an
    activation.
    """
    model = 2 if layout == "towers" else 1
    if devices % model:
        raise UserError(
            "Layout towers has one tower on each device of a pair: use an even number of devices."
        )
    data = devices // model
    cluster.check(data, model)
    sent = [
        (transfer, cluster.cost(transfer, data, model))
        for transfer in transfers(
            architecture, num_classes, layout,
            data=data, model=model, batch_size=batch_size, width=width,
        )
    ]  # fmt: skip
    images = batch_size / devices
    layers = layer_times(
        architecture, num_classes, images_per_second=images_per_second, images=images
    )
    beside, after = timeline(layers, sent)
    ideal = batch_size / (devices * images_per_second)
    gradients = sum(cost.seconds for one, cost in sent if one.phase == GRADIENT)
    return Prediction(
        layout=layout,
        devices=devices,
        batch=batch_size,
        inside_bytes=sum(cost.inside for _, cost in sent),
        between_bytes=sum(cost.between for _, cost in sent),
        compute=ideal,
        exchanges=sum(cost.seconds for _, cost in sent) - gradients,
        gradients=gradients,
        beside=beside,
        after=after,
        efficiency_beside=ideal / beside,
        efficiency_after=ideal / after,
    )
