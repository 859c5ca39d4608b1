"""Train a network: python -m alexnet_jax.main --config=configs/NAME.py [--workdir=DIR].

Any field of the config is a flag too, such as --config.batch=256. The same command goes on from
where it was stopped. Without --config the quickstart runs.
"""

import os
import pathlib
import sys

from absl import flags
from ml_collections import config_flags

from alexnet_jax.errors import UserError

ROOT = pathlib.Path(__file__).parent.parent
EXIT_USER_ERROR, EXIT_FAILURE = 2, 1

_CONFIG = config_flags.DEFINE_config_file(
    "config", str(ROOT / "configs/quickstart.py"), "Config file, with options after a colon."
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; by default runs/NAME.")
_COORDINATOR = flags.DEFINE_string(
    "coordinator", os.environ.get("COORDINATOR_ADDRESS"), "host:port of process 0, for several."
)
_PROCESSES = flags.DEFINE_integer(
    "processes", os.environ.get("NUM_PROCESSES"), "How many processes the run has."
)
_PROCESS = flags.DEFINE_integer(
    "process", os.environ.get("PROCESS_ID"), "Which of them this is, from 0."
)


def main() -> None:
    """Parse flags, then import the rest: --help and a wrong flag answer at once."""
    if {"--help", "-help", "-h"} & set(sys.argv[1:]):
        print(__doc__ + flags.FLAGS.main_module_help())
        return
    try:
        _parse_flags(sys.argv)
        _run()
    except UserError as error:
        _leave(f"error: {error}", EXIT_USER_ERROR)


def _parse_flags(argv: list[str]) -> None:
    try:
        rest = flags.FLAGS(argv)[1:]
    except (flags.Error, AttributeError, KeyError, ValueError, TypeError, OSError) as error:
        raise UserError(f"{_first_line(error)} (--help lists the flags)") from error
    if rest:
        raise UserError(f"'{rest[0]}' was not understood: flags look like --config=FILE.")


def _run() -> None:
    from alexnet_jax.parallel import platform

    platform.configure()
    from absl import logging

    logging.set_verbosity(logging.ERROR)
    from alexnet_jax.parallel import processes

    processes.initialize(_COORDINATOR.value, _PROCESSES.value, _PROCESS.value)
    from alexnet_jax.train import train_and_evaluate

    config = _CONFIG.value
    workdir = pathlib.Path(_WORKDIR.value or f"runs/{config.name}")
    with processes.ending_together():
        train_and_evaluate(config, workdir)


def _first_line(error: Exception) -> str:
    text = error.args[0] if error.args and isinstance(error.args[0], str) else str(error)
    return text.strip().split("\n")[0].strip("\"'")


def _leave(message: str, code: int) -> None:
    print(message, file=sys.stderr, flush=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
