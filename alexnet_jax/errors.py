"""The one exception whose message is meant for the person at the terminal."""

EXIT_USER_ERROR = 2


class UserError(Exception):
    """A mistake in a command, a config or the data: one sentence that names it and the remedy."""
