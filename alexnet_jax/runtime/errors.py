"""The exceptions whose messages are meant for the person at the terminal, and exit codes."""

EXIT_USER_ERROR = 2
EXIT_PEER_LOST = 3  # another process of the run ended, failed or is silent
EXIT_DIVERGED = 4  # a loss or gradient was not finite; the newest checkpoint is from before
EXIT_STUCK = 5  # the watchdog saw no step finish for too long
EXIT_PREEMPTED = 75  # SIGTERM came and nothing is lost: the same command goes on
EXIT_INTERRUPTED = 130  # by Ctrl-C, where there is nothing to go on with


class UserError(Exception):
    """A mistake in a command, a config or the data: one sentence that names it and the remedy."""


class Diverged(Exception):
    """All processes end since training diverged; the text names the step and its images."""


class Stopped(BaseException):
    """The run was asked to end and has saved what there was; the text says by what and where.

    `code` is its exit code. It is `agreed` if all processes end here together. As with
    KeyboardInterrupt nobody takes it for a failure, since it is no Exception.
    """

    def __init__(self, sentence: str, code: int, agreed: bool):
        super().__init__(sentence)
        self.code, self.agreed = code, agreed


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """UserError if `value` is none of the choices."""
    if value not in choices:
        raise UserError(f"{name} is '{value}': expected {' or '.join(choices)}.")
