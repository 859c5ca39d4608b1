"""Train a network: python -m alexnet_jax.main --config=configs/NAME.py [--workdir=DIR].

Any field of the config is a flag too, such as --config.batch_size=256. The same command goes on
from where it was stopped. Without --config the quickstart runs.
"""

import argparse
import pathlib
import sys
from collections.abc import Sequence

from alexnet_jax.parallel import launch
from alexnet_jax.runtime import cli, command_flags
from alexnet_jax.runtime.errors import UserError

CONFIGS = pathlib.Path(__file__).parent.parent / "configs"
DEFAULT_CONFIG = CONFIGS / "quickstart.py"
FIELDS_HINT = " (all fields stand in alexnet_jax/training/defaults.py)"
# Names that other programs have for fields of the config.
FIELDS = {
    name: f"config.{field}"
    for field, names in {
        "seed": ("seed", "random_seed"),
        "batch_size": ("batch", "batch_size", "bs", "b", "global_batch_size"),
        "grad_accum_steps": ("accumulate", "accum_steps", "gradient_accumulation_steps"),
        "num_epochs": ("epochs", "num_epochs", "max_epochs", "num_train_epochs"),
        "num_steps": ("steps", "num_steps", "max_steps", "num_train_steps", "max_iter"),
        "model.network": ("network", "model", "arch", "architecture", "net"),
        "model.num_classes": ("classes", "num_classes"),
        "model.param_dtype": ("param_dtype",),
        "model.dtype": ("dtype", "compute_dtype", "precision"),
        "data.path": ("path", "data", "data_dir", "data_path", "dataset"),
        "data.num_workers": ("workers", "num_workers", "threads"),
        "data.prefetch": ("ahead", "prefetch", "prefetch_factor"),
        "data.image_size": ("size", "image_size", "resolution"),
        "data.augmentation_group_size": ("shared_by",),
        "optimizer.learning_rate": ("lr", "learning_rate", "base_lr", "weights"),
        "optimizer.bias_learning_rate": ("bias_lr", "biases"),
        "optimizer.momentum": ("momentum",),
        "optimizer.weight_decay": ("wd", "weight_decay", "decay"),
        "optimizer.ema_decay": ("average", "ema", "ema_decay"),
        "optimizer.label_smoothing": ("label_smoothing", "smoothing"),
        "init.from_run": ("pretrained", "finetune", "init_from"),
    }.items()
    for name in names
}


def main() -> None:
    """Parse flags, then import the rest: --help and a wrong flag answer at once."""
    cli.answer(lambda: _run(_parse_flags(sys.argv)))


def _parse_flags(argv: Sequence[str]) -> argparse.Namespace:
    """The flags with the config as the fields' flags change it; UserError for any mistake."""
    _check_config_exists(argv)
    args, _ = command_flags.parse(argv, __doc__, _define_flags, hint=FIELDS_HINT, synonyms=FIELDS)
    return args


def _define_flags(flags: command_flags.Flags) -> None:
    flags.config("config", str(DEFAULT_CONFIG), "Config file, with options after a colon.")
    flags.string("workdir", None, "Folder of the run; by default runs/NAME.")
    launch.define_process_flags(flags)


def _run(args: argparse.Namespace) -> None:
    def train() -> None:
        from alexnet_jax.training.loop import train_and_evaluate

        workdir = pathlib.Path(args.workdir or f"runs/{args.config.name}")
        train_and_evaluate(args.config, workdir)

    launch.in_processes(train, args, saves=True)


def _check_config_exists(argv: Sequence[str]) -> None:
    for word in argv[1:]:
        name, _, value = word.lstrip("-").partition("=")
        file = pathlib.Path(value.split(":")[0])
        if name == "config" and value and not file.is_file():
            known = sorted(path.stem for path in CONFIGS.glob("[!_]*.py"))
            raise UserError(
                f"There is no config file '{file}': expected configs/NAME.py with one of the names "
                f"{', '.join(known)}, or a file of your own."
            )


if __name__ == "__main__":
    main()
