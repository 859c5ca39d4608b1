"""Train a network: python -m alexnet_jax.main --config=configs/NAME.py [--workdir=DIR].

Any field of the config is a flag too, such as --config.batch=256. The same command goes on from
where it was stopped. Without --config the quickstart runs.
"""

import os
import pathlib
import sys

from absl import flags
from ml_collections import ConfigDict, config_flags

from alexnet_jax.errors import UserError

CONFIGS = pathlib.Path(__file__).parent.parent / "configs"
DEFAULT_CONFIG = CONFIGS / "quickstart.py"
EXIT_USER_ERROR = 2


def main() -> None:
    """Parse flags, then import the rest: --help and a wrong flag answer at once."""
    try:
        config = _parse_flags(sys.argv)
        _run(config)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(EXIT_USER_ERROR)


def _parse_flags(argv: list[str]) -> ConfigDict:
    """The config with the flags' changes, flags.FLAGS filled; UserError for any mistake."""
    _check_config_exists(argv)
    try:
        # Already here ml_collections reads the command line and complains of unknown fields.
        config_flags.DEFINE_config_file(
            "config", str(DEFAULT_CONFIG), "Config file, with options after a colon."
        )
        _define_flags()
        if {"--help", "-help", "-h"} & set(argv[1:]):
            print(__doc__ + flags.FLAGS.main_module_help())
            sys.exit(0)
        rest = flags.FLAGS(argv)[1:]
        config = flags.FLAGS.config
    except (flags.Error, AttributeError, KeyError, ValueError, TypeError, OSError) as error:
        raise UserError(f"{_sentence(error)} (all fields stand in configs/default.py)") from error
    if rest:
        raise UserError(f"'{rest[0]}' was not understood: flags look like --config=FILE.")
    return config


def _define_flags() -> None:
    variables = os.environ.get
    flags.DEFINE_string("workdir", None, "Folder of the run; by default runs/NAME.")
    flags.DEFINE_string(
        "coordinator", variables("COORDINATOR_ADDRESS"), "host:port of process 0, for several."
    )
    flags.DEFINE_integer("processes", variables("NUM_PROCESSES"), "How many processes the run has.")
    flags.DEFINE_integer("process", variables("PROCESS_ID"), "Which of them this is, from 0.")


def _run(config: ConfigDict) -> None:
    from alexnet_jax.parallel import platform

    platform.configure()
    from absl import logging

    logging.set_verbosity(logging.ERROR)
    from alexnet_jax.parallel import processes

    given = flags.FLAGS
    processes.initialize(given.coordinator, given.processes, given.process)
    with processes.ending_together():
        from alexnet_jax.train import train_and_evaluate

        train_and_evaluate(config, pathlib.Path(given.workdir or f"runs/{config.name}"))


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


def _sentence(error: BaseException) -> str:
    """One line of what went wrong first; the libraries wrap it several times."""
    flag = str(error).split(":")[0] + ": " if isinstance(error, flags.Error) else ""
    while error.__context__ is not None and not isinstance(error.__context__, KeyError):
        error = error.__context__
    if isinstance(error, flags.Error):
        flag = ""
    text = str(error)
    if isinstance(error, AttributeError):
        flag, text = "the config has no field ", str(getattr(error.args[0], "args", [text])[0])
    return flag + " ".join(text.split())


if __name__ == "__main__":
    main()
