"""What a run takes of another run that it starts from: parameters, network, pixels, mean image.

A field of `model` or `data` that has a value in defaults.py but is unset in a config, as in
configs/finetune.py, is that of the run that init.from_run names.
"""

import pathlib
from collections.abc import Iterable, Mapping, Sequence

import jax
from ml_collections import ConfigDict

from alexnet_jax.data.statistics import Statistics
from alexnet_jax.model.architecture import Parameters
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.training import checkpoint, defaults, run_folder

# Unset they mean what the network says, so they go with its name.
WITH_THE_NETWORK = ("towers", "activation", "dropout_scales")
PIXELS = ("image_size", "resize", "mean", "mean_at", "channel_mean", "units", "scale")


def find_checkpoint(path: pathlib.Path) -> tuple[pathlib.Path, int]:
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
    if step is None or step not in steps:
        raise UserError(f"init.from_run={path}: there is no complete checkpoint in {folder}.")
    return folder, step


def chosen_layers(names: Iterable[str], layers: Sequence[str], skip: Sequence[str]) -> list[str]:
    """Those of `names` that are among `layers`, or any if that is empty, and not in `skip`."""
    return [name for name in names if (not layers or name in layers) and name not in skip]


def check_parameters(
    path: pathlib.Path, shapes: Mapping, *, layers: Sequence[str], skip: Sequence[str] = ()
) -> None:
    """The errors of `load_parameters`, before any parameter is read."""
    stored = checkpoint.shapes_at(*find_checkpoint(path))
    _check_layers(path, stored, shapes, layers=layers, skip=skip)


def load_parameters(
    path: pathlib.Path, shapes: Mapping, *, layers: Sequence[str], skip: Sequence[str] = ()
) -> tuple[Parameters, str]:
    """Parameters of `layers` (all if empty) but `skip`, and the name of their checkpoint.

    `path` is the run's folder, whose newest checkpoint counts, or a checkpoint in it. `shapes` are
    those of this run. UserError where there is no checkpoint, no such layer, or another shape.
    """
    folder, step = find_checkpoint(path)
    stored = checkpoint.shapes_at(folder, step)
    _check_layers(path, stored, shapes, layers=layers, skip=skip)
    chosen = chosen_layers(stored, layers, skip)
    wanted = {
        layer: shapes[layer] if layer in chosen else jax.tree.map(_as_stored, kinds)
        for layer, kinds in stored.items()
    }
    parameters = checkpoint.parameters_at(folder, step, wanted)
    return {layer: parameters[layer] for layer in chosen}, str(folder / str(step))


def complete_config(config: ConfigDict, facts: dict | None) -> ConfigDict:
    """The config with every unset field filled in; `facts` are those of a run that goes on.

    UserError where there is no run to take them from.
    """
    missing = _unset_fields(config)
    if not missing:
        return config
    if facts is None and config.init.from_run is None:
        network = ("model", "network")
        first = ".".join(network if network in missing else missing[0])
        raise UserError(
            f"{first} is unset, since this config takes it from a trained run: name the folder of "
            "one with --config.init.from_run=RUN."
        )
    stored = run_folder.config_of(_facts_of(config) if facts is None else facts)
    config = config.copy_and_resolve_references()
    for section, name in missing:
        value = stored[section][name]
        config[section][name] = tuple(value) if isinstance(value, list) else value
    return config


def pixel_differences(config: ConfigDict) -> list[str]:
    """In what the network will see images otherwise than in the run that it starts from."""
    facts = _facts_of(config)
    if "config" not in facts:
        return []
    data, stored = config.data, run_folder.config_of(facts).data
    return [
        f"data.{name} is {data[name]} here and {stored[name]} there"
        for name in PIXELS
        if data[name] != (tuple(stored[name]) if name == "channel_mean" else stored[name])
    ]


def stored_statistics(config: ConfigDict, channels: int) -> Statistics:
    """Those that the run was trained with; UserError where they are missing or of another size."""
    folder, _ = find_checkpoint(pathlib.Path(config.init.from_run))
    size = run_folder.config_of(_facts_of(config)).data.image_size
    if size != config.data.image_size:
        raise UserError(
            f"init.statistics takes the mean image of {folder.parent}, whose side is {size} "
            f"pixels, but data.image_size={config.data.image_size}: set one of them otherwise."
        )
    return run_folder.statistics_of(folder.parent, size, channels)


def _facts_of(config: ConfigDict) -> dict:
    return checkpoint.facts_at(*find_checkpoint(pathlib.Path(config.init.from_run)))


def _unset_fields(config: ConfigDict) -> list[tuple[str, str]]:
    missing = [
        (section, name)
        for section in ("model", "data")
        for name, value in defaults.get_config()[section].items()
        if value is not None and config[section][name] is None
    ]
    if config.model.network is None:
        missing += [("model", name) for name in WITH_THE_NETWORK if config.model[name] is None]
    return missing


def _check_layers(
    path: pathlib.Path,
    stored: Mapping,
    shapes: Mapping,
    *,
    layers: Sequence[str],
    skip: Sequence[str],
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
    for layer in chosen_layers(layers or known, layers, skip):
        if layer not in common:
            raise UserError(
                f"init.from_run={path}: layer {layer} is not in both networks: name the layers to "
                f"take with --config.init.layers, out of {', '.join(common) or 'none'}, or leave "
                f"it out with --config.init.skip={layer}."
            )
        for kind, wanted in shapes[layer].items():
            shape = tuple(stored[layer][kind].shape)
            if shape != wanted.shape:
                raise UserError(
                    f"init.from_run={path}: {layer}.{kind} has the shape {shape} there and "
                    f"{wanted.shape} here: leave the layer out with --config.init.skip={layer}."
                )


def _as_stored(metadata) -> jax.ShapeDtypeStruct:
    sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(metadata.shape, metadata.dtype, sharding=sharding)
