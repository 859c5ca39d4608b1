"""Fields of the config by name: which ones exist, and which one is meant by another name."""

import difflib
from collections.abc import Iterator, Mapping

from alexnet_jax.runtime.errors import UserError

# What other programs call a field.
SYNONYMS = {
    "lr": "optimizer.learning_rate",
    "learning_rate": "optimizer.learning_rate",
    "base_lr": "optimizer.learning_rate",
    "wd": "optimizer.weight_decay",
    "weight_decay": "optimizer.weight_decay",
    "momentum": "optimizer.momentum",
    "warmup_epochs": "optimizer.warmup_epochs",
    "label_smoothing": "optimizer.label_smoothing",
    "ema": "optimizer.ema_decay",
    "ema_decay": "optimizer.ema_decay",
    "batch": "batch_size",
    "bs": "batch_size",
    "global_batch_size": "batch_size",
    "per_device_batch_size": "batch_size",
    "epochs": "num_epochs",
    "max_epochs": "num_epochs",
    "steps": "num_steps",
    "max_steps": "num_steps",
    "num_train_steps": "num_steps",
    "accumulate": "grad_accum_steps",
    "accum_steps": "grad_accum_steps",
    "gradient_accumulation_steps": "grad_accum_steps",
    "num_workers": "data.num_workers",
    "workers": "data.num_workers",
    "prefetch": "data.prefetch",
    "data_dir": "data.path",
    "dataset": "data.name",
    "image_size": "data.image_size",
    "img_size": "data.image_size",
    "arch": "model.network",
    "model_name": "model.network",
    "network": "model.network",
    "num_classes": "model.num_classes",
    "classes": "model.num_classes",
    "dtype": "model.dtype",
    "compute_dtype": "model.dtype",
    "precision": "model.dtype",
    "param_dtype": "model.param_dtype",
    "random_seed": "seed",
    "rng_seed": "seed",
    "formulation": "kernels",
    "optimizer": "optimizer.rule",
    "grad_clip": "optimizer.clip_norm",
    "clip_grad": "optimizer.clip_norm",
    "max_grad_norm": "optimizer.clip_norm",
    "gradient_clipping": "optimizer.clip_norm",
}
# Dicts whose keys are names that the user chooses: of layers, and of what an update rule takes.
FREE = ("optimizer.layers", "optimizer.arguments")


def check_fields(config: Mapping, schema: Mapping, where: str) -> None:
    """UserError naming the first field of `config` that `schema` doesn't have.

    Both are nested dicts; `where` says whose fields they are, such as "The config".
    """
    for name in _names(config):
        if name not in set(_names(schema)):
            hint = meant(name, schema) or "."
            raise UserError(f"{where} has a field '{name}' that is not known{hint}")


def meant(name: str, schema: Mapping) -> str:
    """ ": did you mean ...?" with the field that is meant by `name`; empty if none is near."""
    known = set(_names(schema))
    last = name.rpartition(".")[2]
    by_last = {field.rpartition(".")[2]: field for field in sorted(known)}
    near = difflib.get_close_matches(last, by_last, n=1, cutoff=0.7)
    candidates = [SYNONYMS.get(name), SYNONYMS.get(last), *(by_last[word] for word in near)]
    field = next((field for field in candidates if field in known), None)
    return f": did you mean {field}?" if field else ""


def _names(config: Mapping, prefix: str = "") -> Iterator[str]:
    """Dotted names of all fields, sections before what is in them."""
    for name, value in config.items():
        yield prefix + name
        if isinstance(value, Mapping) and prefix + name not in FREE:
            yield from _names(value, f"{prefix}{name}.")
