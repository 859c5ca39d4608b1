"""Packages that only some kinds of files need, and the messages of their exceptions."""

import contextlib
from collections.abc import Iterator

from alexnet_jax.runtime.errors import UserError


@contextlib.contextmanager
def require_package(package: str, purpose: str) -> Iterator[None]:
    """Around an import: raises UserError with the command that installs a missing package.

    `purpose` begins the sentence: "Reading FILE".
    """
    try:
        yield
    except ImportError as error:
        raise UserError(
            f"{purpose} needs the library {package}, which is not installed: pip install {package}."
        ) from error


def first_line(error: Exception) -> str:
    """The first line of an exception's message, at most 100 characters, or its type's name."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:100]
