"""What all commands do alike: one sentence for a mistake, pages, output files, XLA set up first.

Their flags are parsed in command_flags. Importing this imports neither jax nor NumPy, so that
--help answers at once.
"""

import difflib
import os
import signal
import sys
import threading
from collections.abc import Callable, Collection
from typing import NoReturn

from alexnet_jax.runtime.errors import (
    EXIT_DIVERGED,
    EXIT_INTERRUPTED,
    EXIT_USER_ERROR,
    Diverged,
    Stopped,
    UserError,
)
from alexnet_jax.runtime.optional_imports import missing_library

HELP_FLAGS = ("--help", "-help", "-h")


def answer(action: Callable[[], None], interrupted: str = "Stopped by Ctrl-C.") -> None:
    """Run a command; the errors that are meant for people become one sentence and an exit code.

    `interrupted` is the sentence after Ctrl-C.
    """
    try:
        if sys.platform == "win32":
            raise UserError(
                "Windows is not supported, since TensorFlow has no wheel there: use WSL."
            )
        action()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        _exit(EXIT_USER_ERROR)
    except ModuleNotFoundError as error:
        sentence = missing_library(error)
        if not sentence:
            raise
        print(f"error: {sentence}", file=sys.stderr, flush=True)
        _exit(EXIT_USER_ERROR)
    except Diverged as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(EXIT_DIVERGED)
    except Stopped as stop:
        print(stop, file=sys.stderr, flush=True)
        sys.exit(stop.code)
    except KeyboardInterrupt:
        print(interrupted, file=sys.stderr, flush=True)
        sys.exit(EXIT_INTERRUPTED)


def _exit(code: int) -> None:
    """End without waiting for threads that a failure left hanging, such as those of a save."""
    sys.stdout.flush()
    if any(not thread.daemon for thread in threading.enumerate()[1:]):
        os._exit(code)
    sys.exit(code)


def choose(what: str, argv: list[str], usage: str, names: Collection[str]) -> tuple[str, list[str]]:
    """(first word, argv without it) of `argv`, whose first entry is the program.

    `what` is chosen by the first word: "command" or "page". With a flag for help instead, `usage`
    is printed. UserError with the nearest name where the word is none of the `names`.
    """
    word = argv[1] if len(argv) > 1 else ""
    if word in HELP_FLAGS:
        print_help(usage)
    if word not in names:
        problem = f"There is no {what} '{word}'" if word else f"No {what} was named"
        near = difflib.get_close_matches(word, names, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UserError(f"{problem}: {hint}The first word is one of {', '.join(names)}.")
    return word, [f"{argv[0]} {word}", *argv[2:]]


def print_help(text: str) -> NoReturn:
    """Print and exit with 0; a pipe that is closed early, as by head, ends it in silence."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    print(text, flush=True)
    sys.exit(0)


def check_output(flag: str, file: str | None) -> None:
    """UserError if the file that a flag names can't be written; before the work is done."""
    if file and (os.path.isdir(file) or not os.access(os.path.dirname(file) or ".", os.W_OK)):
        raise UserError(f"--{flag}={file} can't be written: name a file in a folder that exists.")


def alone(action: Callable[[], None]) -> None:
    """Set up XLA and run `action` in this process alone."""
    from alexnet_jax.runtime import xla_flags

    xla_flags.configure_xla()
    silence_echoes()
    action()


def silence_echoes() -> None:
    """Orbax logs pages of what it raises anyway, and TensorStore of what comes after that."""
    import logging

    from absl import logging as absl_logging

    absl_logging.set_verbosity(absl_logging.FATAL)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    shown = sys.unraisablehook

    def show(unraisable) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            shown(unraisable)

    sys.unraisablehook = show
