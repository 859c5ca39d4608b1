"""Exceptions whose messages are printed for the user, and the exit codes of commands."""

EXIT_USER_ERROR = 2
EXIT_PEER_LOST = 3  # another process of the run ended, failed or is silent
EXIT_DIVERGED = 4  # a loss or gradient was not finite; the newest checkpoint is from before
EXIT_STUCK = 5  # the watchdog saw no step finish for too long
EXIT_PREEMPTED = 75  # by SIGTERM; nothing is lost: the same command goes on
EXIT_INTERRUPTED = 130  # by Ctrl-C, where there is nothing to resume


class UserError(Exception):
    """A mistake in a command, a config or the data: one sentence that names it and the remedy."""


class Diverged(Exception):
    """All processes end since training diverged; the text names the step and its images."""


class Stopped(BaseException):
    """A signal has stopped the run, which has saved its state; the text says which and where.

    `code` is the exit code. `agreed` says that all processes of the run stop at the same place.
    Like KeyboardInterrupt it is a BaseException, so that no `except Exception` catches it.
    """

    def __init__(self, sentence: str, code: int, agreed: bool):
        super().__init__(sentence)
        self.code, self.agreed = code, agreed


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """UserError if `value` is none of the choices."""
    if value not in choices:
        raise UserError(f"{name} is '{value}': expected {' or '.join(choices)}.")
