"""What all commands do alike: flags, one sentence for a mistake, processes that end together.

Importing this imports neither jax nor NumPy, so that --help answers at once.
"""

import difflib
import os
import signal
import sys
import textwrap
import threading
from collections.abc import Callable, Iterable
from typing import NoReturn

from absl import flags

from alexnet_jax.runtime.errors import (
    EXIT_DIVERGED,
    EXIT_INTERRUPTED,
    EXIT_USER_ERROR,
    Diverged,
    Stopped,
    UserError,
)

HELP_FLAGS = ("--help", "-help", "-h")


def answer(action: Callable[[], None]) -> None:
    """Run a command; the errors that are meant for people become one sentence and an exit code."""
    try:
        action()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        _exit(EXIT_USER_ERROR)
    except Diverged as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(EXIT_DIVERGED)
    except Stopped as stop:
        print(stop, file=sys.stderr, flush=True)
        sys.exit(stop.code)
    except KeyboardInterrupt:
        print("Stopped by Ctrl-C.", file=sys.stderr, flush=True)
        sys.exit(EXIT_INTERRUPTED)


def parse(
    argv: list[str],
    usage: str,
    define: Callable[[], None],
    hint: str = "",
    arguments: bool = False,
) -> list[str]:
    """Fill flags.FLAGS from a command line, or print `usage` and all flags for --help.

    `define` defines the command's flags. What is no flag is returned if the command takes
    `arguments`. UserError for any mistake, with `hint` after it.
    """
    try:
        before = set(flags.FLAGS)
        define()
        if set(HELP_FLAGS) & set(argv[1:]):
            print_help(f"{usage}\n{_flag_help(sorted(set(flags.FLAGS) - before))}")
        rest = flags.FLAGS(argv)[1:]
    except (flags.Error, AttributeError, KeyError, ValueError, TypeError, OSError) as error:
        raise UserError(f"{_sentence(error)}{hint}") from error
    if rest and not arguments:
        raise UserError(f"'{rest[0]}' was not understood: flags look like --name=value.")
    return rest


def print_help(text: str) -> NoReturn:
    """Print and exit with 0; a pipe that is closed early, as by head, ends it in silence."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    print(text, flush=True)
    sys.exit(0)


def _flag_help(names: Iterable[str]) -> str:
    """Each flag with its choices, help and default."""
    lines = []
    for name in names:
        flag = flags.FLAGS[name]
        kind = getattr(flag.parser, "enum_values", None) or [flag.flag_type().upper()]
        no = "[no]" if flag.boolean else ""
        lines.append(f"  --{no}{name}" + ("" if flag.boolean else f"={'|'.join(kind)}"))
        default = "" if flag.default in (None, [], "") else f" (default: {flag.default_as_str})"
        lines += textwrap.wrap(f"{flag.help}{default}", 94, initial_indent=" " * 6,
                               subsequent_indent=" " * 6)  # fmt: skip
    return "\n".join(lines)


def check_word(what: str, word: str, known: Iterable[str], program: str) -> None:
    """UserError with the nearest of the known words unless `word` is one of them."""
    known = list(known)
    if word not in known:
        near = difflib.get_close_matches(word, known, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UserError(f"There is no {what} '{word}': {hint}{program} has {', '.join(known)}.")


def check_output(flag: str, file: str | None) -> None:
    """UserError if the file that a flag names can't be written; before the work is done."""
    if file and (os.path.isdir(file) or not os.access(os.path.dirname(file) or ".", os.W_OK)):
        raise UserError(f"--{flag}={file} can't be written: name a file in a folder that exists.")


def define_trained_flags() -> None:
    """The flags that name a trained network; opening.from_flags opens it."""
    flags.DEFINE_string("workdir", None, "Folder of a training run.")
    flags.DEFINE_string("step", None, "best, latest or a number; unset: best if it was kept.")
    flags.DEFINE_string("weights", None, "File of weights instead of a run.")


def alone(action: Callable[[], None]) -> None:
    """Set up XLA and run `action` in this process alone."""
    from alexnet_jax.runtime import xla_flags

    xla_flags.configure_xla()
    silence_echoes()
    action()


def _exit(code: int) -> None:
    """End without waiting for threads that a failure left hanging, such as those of a save."""
    sys.stdout.flush()
    if any(not thread.daemon for thread in threading.enumerate()[1:]):
        os._exit(code)
    sys.exit(code)


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
