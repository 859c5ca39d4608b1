"""The one exception whose message is meant for the person at the terminal, and exit codes."""

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130  # by Ctrl-C
EXIT_PEER_LOST = 3  # another process of the run ended, failed or is silent
EXIT_DIVERGED = 4  # a loss or gradient was not finite; the newest checkpoint is from before
EXIT_PREEMPTED = 75  # SIGTERM came and a checkpoint was saved: the same command goes on


class UserError(Exception):
    """A mistake in a command, a config or the data: one sentence that names it and the remedy."""


class Preempted(Exception):
    """All processes saved their state and end since one was asked to; the text says where."""


class Diverged(Exception):
    """All processes end since training diverged; the text names the step and its images."""
