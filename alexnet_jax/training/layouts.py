"""How a step is divided over devices: by examples, by towers, or by units of dense layers."""

from alexnet_jax.model.architecture import Architecture
from alexnet_jax.model.layers import Dense

LAYOUTS = ("data", "towers", "hybrid")


def num_tower_devices(layout: str, num_towers: int) -> int:
    """Length of the mesh axis "model": how many devices the towers are split over."""
    return num_towers if layout == "towers" else 1


def layout_conflict(layout: str, architecture: Architecture, num_devices: int) -> str:
    """Why a network can't be divided over so many devices in this layout; empty if it can."""
    towers = architecture.towers
    if layout == "towers" and towers == 1:
        return "the network has one tower"
    if layout == "towers" and num_devices % towers:
        return f"the {num_devices} device(s) of this run can't be shared by {towers} towers"
    if layout == "hybrid":
        dense_layers = [layer for layer in architecture.layers if isinstance(layer, Dense)]
        if not dense_layers:
            return "the network has no dense layer before its softmax"
        for layer in dense_layers:
            units = layer.units // towers
            if units % num_devices:
                return (
                    f"the {units:,} units of a tower in {layer.name} are not divisible by the "
                    f"{num_devices} devices"
                )
    return ""
