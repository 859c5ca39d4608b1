"""Packages that only some kinds of files need, and that may not be installed."""

from alexnet_jax.errors import UserError


def missing(package: str, needed_for: str) -> UserError:
    """The error to raise where the package can't be imported, with the command that installs it."""
    return UserError(
        f"{needed_for} needs the package {package}, which is not installed: pip install {package}."
    )
