"""Train a network: python -m alexnet_jax.main --config=configs/NAME.py [--workdir=DIR].

Any field of the config is a flag too, such as --config.batch_size=256. The same command goes on from
where it was stopped. Without --config the quickstart runs.
"""

import pathlib
import sys

from absl import flags
from ml_collections import ConfigDict, config_flags

from alexnet_jax.parallel import launch
from alexnet_jax.runtime import cli
from alexnet_jax.runtime.errors import UserError

CONFIGS = pathlib.Path(__file__).parent.parent / "configs"
DEFAULT_CONFIG = CONFIGS / "quickstart.py"


def main() -> None:
    """Parse flags, then import the rest: --help and a wrong flag answer at once."""
    cli.answer(lambda: _run(_parse_flags(sys.argv)))


def _parse_flags(argv: list[str]) -> ConfigDict:
    """The config with the flags' changes, flags.FLAGS filled; UserError for any mistake."""
    _check_config_exists(argv)
    cli.parse(
        argv, __doc__, _define_flags, " (all fields stand in alexnet_jax/training/defaults.py)"
    )
    return flags.FLAGS.config


def _define_flags() -> None:
    # Already here ml_collections reads the command line and complains of unknown fields.
    config_flags.DEFINE_config_file(
        "config", str(DEFAULT_CONFIG), "Config file, with options after a colon."
    )
    flags.DEFINE_string("workdir", None, "Folder of the run; by default runs/NAME.")
    launch.define_process_flags()
    flags.adopt_module_key_flags(launch)


def _run(config: ConfigDict) -> None:
    def train() -> None:
        from alexnet_jax.training.loop import train_and_evaluate

        train_and_evaluate(config, pathlib.Path(flags.FLAGS.workdir or f"runs/{config.name}"))

    launch.in_processes(train, saves=True)


def _check_config_exists(argv: list[str]) -> None:
    for word in argv[1:]:
        name, _, value = word.lstrip("-").partition("=")
        file = pathlib.Path(value.split(":")[0])
        if name == "config" and value and not file.is_file():
            known = sorted(path.stem for path in CONFIGS.glob("[!_]*.py") if path.stem != "default")
            raise UserError(
                f"There is no config file '{file}': expected configs/NAME.py with one of the names "
                f"{', '.join(known)}, or a file of your own."
            )


if __name__ == "__main__":
    main()
