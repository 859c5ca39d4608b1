"""Parameters of one run as the start of another: of all layers, of some, or of all but some."""

import pathlib
from collections.abc import Iterable, Sequence

import jax

from alexnet_jax.runtime.errors import UserError
from alexnet_jax.training import checkpoint


def find(path: pathlib.Path) -> tuple[pathlib.Path, int]:
    """Folder of checkpoints and step that `path` names: a run's newest one, or that of the step.

    UserError where there is none.
    """
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
    return folder, step


def taken(names: Iterable[str], layers: Sequence[str], skip: Sequence[str]) -> list[str]:
    """Those of `names` that are among `layers`, or any if that is empty, and not in `skip`."""
    return [name for name in names if (not layers or name in layers) and name not in skip]


def check_parameters(
    path: pathlib.Path, shapes: dict, layers: Sequence[str], skip: Sequence[str] = ()
) -> None:
    """The errors of `load_parameters`, before any parameter is read."""
    _check_layers(path, checkpoint.shapes_at(*find(path)), shapes, layers, skip)


def load_parameters(
    path: pathlib.Path, shapes: dict, layers: Sequence[str], skip: Sequence[str] = ()
) -> tuple[dict, str]:
    """Parameters of `layers` (all if empty) but `skip`: ({layer: ...}, which checkpoint).

    `path` is the run's folder, whose newest checkpoint counts, or a checkpoint in it. `shapes` are
    those of this run. UserError where there is no checkpoint, no such layer, or another shape.
    """
    folder, step = find(path)
    stored = checkpoint.shapes_at(folder, step)
    _check_layers(path, stored, shapes, layers, skip)
    chosen = taken(stored, layers, skip)
    wanted = {
        layer: shapes[layer] if layer in chosen else jax.tree.map(_as_stored, kinds)
        for layer, kinds in stored.items()
    }
    found = checkpoint.parameters_at(folder, step, wanted)
    return {layer: found[layer] for layer in chosen}, str(folder / str(step))


def _check_layers(
    path: pathlib.Path, stored: dict, shapes: dict, layers: Sequence[str], skip: Sequence[str]
) -> None:
    common = [layer for layer in stored if layer in shapes]
    known = sorted({*stored, *shapes})
    for layer in skip:
        if layer not in known:
            raise UserError(
                f"init.from_run={path}: init.skip names {layer}, but the networks have the layers "
                f"{', '.join(known)}: name one of them."
            )
        if layer in layers:
            raise UserError(
                f"init.from_run={path}: layer {layer} is to be taken by init.layers and left out "
                "by init.skip or init.softmax=False: decide."
            )
    for layer in taken(layers or known, layers, skip):
        if layer not in common:
            raise UserError(
                f"init.from_run={path}: layer {layer} is not in both networks: name the layers to "
                f"take with --config.init.layers, out of {', '.join(common) or 'none'}, or leave "
                f"it out with --config.init.skip={layer}."
            )
        for kind, wanted in shapes[layer].items():
            there = tuple(stored[layer][kind].shape)
            if there != wanted.shape:
                raise UserError(
                    f"init.from_run={path}: {layer}.{kind} has the shape {there} there and "
                    f"{wanted.shape} here: leave the layer out with --config.init.skip={layer}."
                )


def _as_stored(metadata) -> jax.ShapeDtypeStruct:
    sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(metadata.shape, metadata.dtype, sharding=sharding)
