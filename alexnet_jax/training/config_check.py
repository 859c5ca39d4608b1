"""Refuses a config that can't be run, in a sentence, before anything costly starts."""

import jax
from ml_collections import ConfigDict

from alexnet_jax.model.architecture import Architecture
from alexnet_jax.runtime.errors import UserError, check_choice
from alexnet_jax.training import custom_optimizers, defaults
from alexnet_jax.training.field_names import check_fields
from alexnet_jax.training.layouts import LAYOUTS, layout_conflict, num_tower_devices
from alexnet_jax.training.plan import operations_of

VIEWS = ("center", "ten", "all")
CHOICES = {
    "model.dtype": ("float32", "bfloat16", "float64"),
    "model.param_dtype": ("float32", "float64"),
    "data.resize": ("crop", "warp"),
    "data.on_bad_image": ("replace", "stop"),
    "data.mean": ("image", "scalar", "channel", "none"),
    "data.mean_at": ("center", "crop"),
    "data.units": ("grey_levels", "min_max", "standardise"),
    "data.colour_noise_by": ("deviations", "eigenvalues"),
    "guards.on_divergence": ("stop", "rollback", "skip"),
    "evaluate.views": VIEWS,
    "optimizer.unit": ("epochs", "steps"),
    "optimizer.schedule": ("stepped", "plateau", "cosine", "exponential"),
    "parallel.layout": LAYOUTS,
}
MINIMUMS = {
    "batch_size": 1,
    "grad_accum_steps": 1,
    "data.prefetch": 1,
    "data.augmentation_group_size": 1,
    "log.every_steps": 1,
    "checkpoint.keep": 1,
    "checkpoint.keep_best": 0,
    "guards.rollback_factor": 1,
    "guards.rollback_times": 0,
    "guards.watchdog_minutes": 0,
}


def check_config(config: ConfigDict, architecture: Architecture, num_devices: int) -> None:
    """UserError for fields that don't exist, values that can't be and impossible combinations.

    Looks at no data.
    """
    check_fields(config.to_dict(), defaults.get_config().to_dict(), "The config")
    for name, choices in CHOICES.items():
        check_choice(name, _field(config, name), choices)
    operations_of(config.kernels)
    _check_resized_crop(config.data)
    _check_pixels(config.data, config.model.network, architecture.channels)
    _check_rule(config.optimizer, config.parallel.layout)
    has_float64 = jax.dtypes.canonicalize_dtype("float64") == "float64"
    if "float64" in (config.model.param_dtype, config.model.dtype) and not has_float64:
        raise UserError("float64 needs JAX_ENABLE_X64=1 in the environment: set it or use float32.")
    if (config.num_steps if config.num_steps is not None else config.num_epochs) in (None, 0):
        raise UserError(
            f"num_epochs={config.num_epochs} and num_steps={config.num_steps} give the run no "
            "length: set one of them above 0."
        )
    for name, least in MINIMUMS.items():
        if _field(config, name) < least:
            raise UserError(f"{name}={_field(config, name)} must be at least {least}.")
    _check_devices(config, architecture, num_devices)
    if config.data.image_size < architecture.input_size:
        raise UserError(
            f"data.image_size={config.data.image_size} is smaller than the "
            f"{architecture.input_size} pixels that {config.model.network} sees: store larger "
            "images."
        )


def _check_devices(config: ConfigDict, architecture: Architecture, num_devices: int) -> None:
    """Refuse a layout or a batch that the devices can't share."""
    layout, accum_steps = config.parallel.layout, config.grad_accum_steps
    reason = layout_conflict(layout, architecture, num_devices)
    if reason:
        raise UserError(f"parallel.layout is '{layout}', but {reason}: use 'data'.")
    groups = num_devices // num_tower_devices(layout, architecture.towers)
    if config.batch_size % (groups * accum_steps):
        parts = f", times grad_accum_steps={accum_steps} parts," if accum_steps > 1 else ""
        raise UserError(
            f"batch_size={config.batch_size} is not divisible by the {groups} groups of "
            f"devices{parts} that share it: choose a multiple."
        )


def _check_rule(optimizer: ConfigDict, layout: str) -> None:
    """Refuse numbers of the update rule that can't be, or a rule that this layout can't have."""
    if optimizer.velocity_dtype is not None:
        check_choice("optimizer.velocity_dtype", optimizer.velocity_dtype, ("bfloat16",))
    custom_optimizers.check_name(optimizer.rule)
    own = optimizer.rule in custom_optimizers.OWN_RULES
    if own and optimizer.arguments:
        raise UserError(
            f"optimizer.arguments={optimizer.arguments.to_dict()} are for rules of optax or of "
            f"your own, not for {optimizer.rule}: leave them out."
        )
    if not own and optimizer.velocity_dtype is not None:
        raise UserError(
            f"optimizer.velocity_dtype is for the rules {' and '.join(custom_optimizers.OWN_RULES)}"
            f", not for {optimizer.rule}: leave it unset."
        )
    if optimizer.rule in custom_optimizers.OF_WHOLE_ARRAYS and layout != "data":
        raise UserError(
            f"optimizer.rule={optimizer.rule} measures whole arrays, which parallel.layout="
            f"{layout} splits: use 'data'."
        )
    if optimizer.clip_norm is not None and optimizer.clip_norm <= 0:
        raise UserError(f"optimizer.clip_norm={optimizer.clip_norm:g} must be above 0, or unset.")
    if optimizer.rule == "lars" and layout == "hybrid":
        raise UserError(
            "optimizer.rule=lars measures a tower's whole weight matrices, but parallel.layout="
            "hybrid splits those of dense layers: use 'data' or 'towers'."
        )
    if optimizer.trust_coefficient <= 0:
        raise UserError(
            f"optimizer.trust_coefficient={optimizer.trust_coefficient} must be above 0."
        )
    for name in ("label_smoothing", "ema_decay"):
        if not 0 <= optimizer[name] < 1:
            raise UserError(f"optimizer.{name}={optimizer[name]} must be at least 0 and below 1.")


def _check_resized_crop(data: ConfigDict) -> None:
    areas = data.random_resized_crop
    if not areas:
        return
    numbers = all(isinstance(area, int | float) for area in areas)
    if len(areas) != 2 or not numbers or not 0 < areas[0] <= areas[1] <= 1:
        raise UserError(
            f"data.random_resized_crop={tuple(areas)}: expected the smallest and the largest share "
            "of the image's area, such as (0.08, 1.0), or () for the paper's crop."
        )
    if not data.random_crop or (data.mean == "image" and data.mean_at == "crop"):
        raise UserError(
            "data.random_resized_crop needs data.random_crop=True, and data.mean_at=center for the "
            "mean of an image, since the crop has another scale: set both."
        )


def _check_pixels(data: ConfigDict, network: str, channels: int) -> None:
    """Refuse conventions of pixels that contradict each other."""
    if data.mean == "channel" and len(data.channel_mean) not in (0, channels):
        raise UserError(
            f"data.channel_mean has {len(data.channel_mean)} numbers, but {network} sees "
            f"{channels} channel(s): give one for each, or none to have them measured."
        )
    mean = {"min_max": "none", "standardise": "channel"}.get(data.units, data.mean)
    if data.mean != mean or (data.units != "grey_levels" and data.scale != 1):
        raise UserError(
            f"data.units={data.units} goes with data.mean={mean} and data.scale=1, but they are "
            f"{data.mean} and {data.scale:g}: set both, or use data.units=grey_levels."
        )
    if data.scale <= 0:
        raise UserError(f"data.scale={data.scale:g} must be above 0: 1 leaves the pixels.")


def _field(config: ConfigDict, dotted: str):
    for part in dotted.split("."):
        config = config[part]
    return config
