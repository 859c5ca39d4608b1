"""Libraries that only some kinds of files need."""

import contextlib
from collections.abc import Iterator

from alexnet_jax.runtime.errors import UserError


@contextlib.contextmanager
def require_package(name: str, what_for: str) -> Iterator[None]:
    """Around the import of a library: UserError with its remedy where that is missing."""
    try:
        yield
    except ImportError as error:
        raise UserError(
            f"{what_for} needs the library {name}, which is not installed: pip install {name}."
        ) from error
