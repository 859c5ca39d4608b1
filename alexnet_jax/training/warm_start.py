"""What a run takes of the run that it starts from besides parameters: network, pixels, mean image.

A field of `model` or `data` that has a value in configs/default.py but is unset in a config, as
in configs/finetune.py, is that of the run that init.from_run names.
"""

import pathlib

from ml_collections import ConfigDict

from alexnet_jax.data.statistics import Statistics
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.training import checkpoint, initial_parameters, run_folder

# Unset they mean what the network says, so they go with its name.
WITH_THE_NETWORK = ("towers", "activation", "dropout_scales")
PIXELS = ("size", "resize", "mean", "mean_at", "channel_mean", "units", "scale")


def completed(config: ConfigDict, before: dict | None) -> ConfigDict:
    """The config with every unset field filled in; `before` are the facts of a run that goes on.

    UserError where there is no run to take them from.
    """
    missing = _unset(config)
    if not missing:
        return config
    facts = before
    if facts is None and config.init.from_run is None:
        network = ("model", "network")
        first = ".".join(network if network in missing else missing[0])
        raise UserError(
            f"{first} is unset, since this config takes it from a trained run: name the folder of "
            "one with --config.init.from_run=RUN."
        )
    if facts is None:
        facts = _facts(config)
    theirs, config = run_folder.config_of(facts), config.copy_and_resolve_references()
    for section, name in missing:
        value = theirs[section][name]
        config[section][name] = tuple(value) if isinstance(value, list) else value
    return config


def other_pixels(config: ConfigDict) -> list[str]:
    """In what the network will see images otherwise than in the run that it starts from."""
    facts = _facts(config)
    if "config" not in facts:
        return []
    ours, theirs = config.data, run_folder.config_of(facts).data
    return [
        f"data.{name} is {ours[name]} here and {theirs[name]} there"
        for name in PIXELS
        if ours[name] != (tuple(theirs[name]) if name == "channel_mean" else theirs[name])
    ]


def statistics(config: ConfigDict, channels: int) -> Statistics:
    """Those that the run was trained with; UserError where they are missing or of another size."""
    folder, _ = initial_parameters.find(pathlib.Path(config.init.from_run))
    size = run_folder.config_of(_facts(config)).data.image_size
    if size != config.data.image_size:
        raise UserError(
            f"init.statistics takes the mean image of {folder.parent}, whose side is {size} "
            f"pixels, but data.image_size={config.data.image_size}: set one of them otherwise."
        )
    return run_folder.statistics_of(folder.parent, size, channels)


def _facts(config: ConfigDict) -> dict:
    return checkpoint.facts_at(*initial_parameters.find(pathlib.Path(config.init.from_run)))


def _unset(config: ConfigDict) -> list[tuple[str, str]]:
    from alexnet_jax.training import defaults

    missing = [
        (section, name)
        for section in ("model", "data")
        for name, value in defaults.get_config()[section].items()
        if value is not None and config[section][name] is None
    ]
    if config.model.network is None:
        missing += [("model", n) for n in WITH_THE_NETWORK if config.model[n] is None]
    return missing
