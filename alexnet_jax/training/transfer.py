"""Parameters of one run as the start of another: all of them, or those of some layers."""

import pathlib
from collections.abc import Sequence

import jax

from alexnet_jax.errors import UserError
from alexnet_jax.training import checkpoint


def check_parameters(
    path: pathlib.Path, shapes: dict, layers: Sequence[str]
) -> tuple[pathlib.Path, int]:
    """Folder and step of the checkpoint that `load_parameters` would take; the same errors."""
    folder, step = path / "checkpoints", None
    if path.name.isdigit() and not folder.is_dir():
        folder, step = path.parent, int(path.name)
    if not folder.is_dir():
        raise UserError(
            f"init.from_run={path} is not the folder of a run: expected one that holds "
            "checkpoints/, or one of its checkpoints/STEP."
        )
    steps = checkpoint.steps_in(folder)
    step = steps[-1] if step is None and steps else step
    if step not in steps:
        raise UserError(f"init.from_run={path}: there is no complete checkpoint in {folder}.")
    _check_layers(path, checkpoint.shapes_at(folder, step), shapes, layers)
    return folder, step


def load_parameters(path: pathlib.Path, shapes: dict, layers: Sequence[str]) -> tuple[dict, str]:
    """Parameters of `layers` (all if empty) from another run: ({layer: ...}, which checkpoint).

    `path` is the run's folder, whose newest checkpoint counts, or a checkpoint in it. `shapes` are
    those of this run. UserError where there is no checkpoint, no such layer, or another shape.
    """
    folder, step = check_parameters(path, shapes, layers)
    stored = checkpoint.shapes_at(folder, step)
    wanted = {
        layer: shapes[layer] if layer in (layers or stored) else jax.tree.map(_as_stored, kinds)
        for layer, kinds in stored.items()
    }
    found = checkpoint.parameters_at(folder, step, wanted)
    return {layer: found[layer] for layer in (layers or stored)}, str(folder / str(step))


def _check_layers(path: pathlib.Path, stored: dict, shapes: dict, layers: Sequence[str]) -> None:
    common = [layer for layer in stored if layer in shapes]
    for layer in layers or sorted({*stored, *shapes}):
        if layer not in common:
            raise UserError(
                f"init.from_run={path}: layer {layer} is not in both networks: name the layers to "
                f"take with --config.init.layers, out of {', '.join(common) or 'none'}."
            )
        for kind, wanted in shapes[layer].items():
            there = tuple(stored[layer][kind].shape)
            if there != wanted.shape:
                raise UserError(
                    f"init.from_run={path}: {layer}.{kind} has the shape {there} there and "
                    f"{wanted.shape} here: name the other layers with --config.init.layers."
                )


def _as_stored(metadata) -> jax.ShapeDtypeStruct:
    sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(metadata.shape, metadata.dtype, sharding=sharding)
